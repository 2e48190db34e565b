"""Evaluation in a nightly run: nothing is scored twice, cards show scores, the gate protects the served encoder."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

from data.errors import GateRefusedError, InputError
from data.store.base import LocalStore
from data.vectors.pointer import read_pointer
from flows.ablate import ablate
from flows.cli import run
from flows.evaluate import evaluate
from flows.ingest import ingest
from flows.nightly import nightly
from flows.train import train
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.evaluation.protocols.registry import ScorableTask
from llm2vec_core.evaluation.protocols.scoring import Outcome, evaluate_task
from llm2vec_core.evaluation.results import Decision
from llm2vec_core.evaluation.statistics.stats import NUM_RESAMPLES, Estimate
from llm2vec_core.evaluation.systems import System
from llm2vec_core.model.checkpoint import fingerprint, read_record
from tasks.queries.search import search

NEW_ENCODERS = {"train.simcse.steps": 3, "evaluate.base_pooling": "mean"}
"""A recipe that shares no encoder with the first night's: whichever was served, it has to be defended."""


def scoring(main_score: float) -> Callable[[System, ScorableTask], Outcome]:
    """Scoring that gives whatever is scored anew the same score on every item; scores that are kept stay."""

    def score(system: System, eval_task: ScorableTask) -> Outcome:
        found = evaluate_task(system, eval_task)
        certain = Estimate(main_score, np.zeros(NUM_RESAMPLES, dtype=np.float32))
        record = {"main_score": main_score, "ci_low": main_score, "ci_high": main_score}
        return replace(found, score=found.score.model_copy(update=record), estimate=certain)

    return score


def add_pairs_task(folder: Path) -> None:
    """A second evaluation task, which nothing was scored on yet."""
    target = folder / "tasks" / "SmallPairs"
    target.mkdir()
    header = {"name": "SmallPairs", "type": "STS", "main_score": "cosine_spearman"}
    (target / "task.json").write_text(json.dumps(header))
    pairs = [{"sentence1": "a nurse", "sentence2": f"a nurse {'or a chef' * n}", "score": 5 - n} for n in range(4)]
    (target / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))


def has_scores(directory: Path) -> bool:
    return "model-index" in ModelCard.load(directory / "README.md").data.to_dict()


def test_a_killed_evaluation_goes_on_and_cards_get_their_scores(small_night, monkeypatch):
    ingest(small_night.request)
    trained = train(small_night.request, newest=False).checkpoint
    directory = small_night.home / "checkpoints" / trained.fingerprint
    assert not has_scores(directory), "the card is there after training, and claims nothing"

    scored = []

    def killed(system: System, eval_task: ScorableTask) -> Outcome:
        if len(scored) == 2:
            raise RuntimeError("killed")
        scored.append(system.name)
        return evaluate_task(system, eval_task)

    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="killed"):
        patched.setattr("tasks.encoders.outcomes.evaluate_task", killed)
        evaluate(small_night.request)
    assert scored == ["BM25", "base, before training"]
    assert not has_scores(directory)
    assert not (small_night.home / "reports").exists()

    finished = evaluate(small_night.request)
    assert (finished.computed, finished.reused) == (2, 2)
    report = json.loads((small_night.home / "reports" / finished.report / "report.json").read_text())
    assert set(report["not_run"]) == {"LLM2Vec, supervised", "all-minilm-l6-v2", "hybrid + re-ranking"}
    assert not any("job descriptions" in note for note in report["notes"]), "a note on a task that was not scored"
    assert has_scores(directory)
    assert fingerprint(directory) == trained.fingerprint == read_record(directory).fingerprint
    cards = [path.read_bytes() for path in sorted((small_night.home / "checkpoints").glob("*/README.md"))]
    again = evaluate(small_night.request)
    assert (again.computed, again.reused, again.report) == (0, 4, finished.report)
    assert [path.read_bytes() for path in sorted((small_night.home / "checkpoints").glob("*/README.md"))] == cards


def test_a_recipe_s_own_base_is_defended_too_when_it_is_served(served_night, monkeypatch):
    """What is served may be one of the recipe's own two encoders: the other has to pass the gate all the same."""
    pointer = read_pointer(LocalStore(served_night.home))
    judged = []

    def prefer_the_trained(*, candidate, incumbent, **options):
        return Decision(served=candidate[0], reason="better in the mean")

    def refuse(*, candidate, incumbent, margin):
        judged.append((candidate[0], incumbent[0]))
        return Decision(served=incumbent[0], reason="worse in Retrieval.", refused=True)

    monkeypatch.setattr("tasks.stages.evaluate.choose_encoder", prefer_the_trained)
    monkeypatch.setattr("tasks.stages.evaluate.succeed", refuse)
    report = evaluate(served_night.request)
    assert judged == [("LLM2Vec, unsupervised", "base, before training")]
    assert (report.served, report.refused) == (pointer.checkpoint, True)
    assert report.reason.endswith("base, before training is served, not the encoder that the recipe trained.")


def test_a_night_serves_a_foreign_candidate_that_is_better_and_says_so(small_night, tiny_base, monkeypatch):
    """The candidate is stored like a checkpoint, so that tables can be made with it."""
    foreign = small_night.folder / "foreign"
    Encoder.from_base(tiny_base, pooling="last", max_tokens=48).save(foreign)
    (foreign / "checkpoint.json").unlink()
    ingest(small_night.request)
    train(small_night.request, newest=False)

    def best_with_last(system: System, eval_task: ScorableTask) -> Outcome:
        is_candidate = system.traits is not None and system.traits.pooling_mode == "last"
        return scoring(90.0 if is_candidate else 40.0)(system, eval_task)

    monkeypatch.setattr("tasks.encoders.outcomes.evaluate_task", best_with_last)
    named = small_night.request.model_copy(update={"overrides": {"evaluate.candidates": [str(foreign)]}})
    report = evaluate(named)
    assert f"{foreign} is served, not the encoder that the recipe trained." in report.reason
    assert not report.refused
    assert (small_night.home / "checkpoints" / report.served / "checkpoint.json").is_file()
    assert evaluate(named).served == report.served


class TestByName:
    """Systems by name, on the store that a night left."""

    def test_stages_name_the_encoder_that_the_night_trained(self, served_night):
        base, trained = served_night.base_model, f"{served_night.base_model}+mntp+simcse"
        report = evaluate(served_night.request, checkpoints=["bm25", f"{trained}+hybrid", trained, str(base)])
        names = [system["name"] for system in report.systems]
        title = f"{base.name} Bi + MNTP + SimCSE, mean"
        assert names == ["BM25", f"{title}, hybrid", title, f"{base.name} Uni, w. mean"]
        # The night scored all of them but one of the two fusions.
        assert report.computed <= 1
        assert report.computed + report.reused == 4
        assert (report.reason, report.refused) == ("", False)

    def test_a_comparison_without_gate_tells_and_lets_pass(self, served_night):
        report = evaluate(served_night.request, checkpoints=[f"{served_night.base_model}+last"], against="bm25")
        assert report.refused
        assert "Retrieval" in report.reason
        page = json.loads((served_night.home / "reports" / report.report / "report.json").read_text())
        assert page["decision"]["served"] == "BM25"

    def test_a_gate_without_a_candidate_is_a_mistake(self, small_night):
        for options in ({"gate": True}, {"against": "bm25"}):
            with pytest.raises(InputError, match="no encoder to compare"):
                evaluate(small_night.request, **options)

    def test_an_encoder_that_is_worse_in_one_category_is_refused_although_it_wins_another(
        self, served_night, monkeypatch
    ):
        add_pairs_task(served_night.folder)
        base, gain = str(served_night.base_model), {"Retrieval": 90.0, "STS": 10.0}

        def mixed(system: System, eval_task: ScorableTask) -> Outcome:
            is_candidate = system.traits is not None and system.traits.pooling_mode == "last"
            return scoring(gain[eval_task.type] if is_candidate else 40.0)(system, eval_task)

        monkeypatch.setattr("tasks.encoders.outcomes.evaluate_task", mixed)
        names = {"checkpoints": [f"{base}+last"], "against": f"{base}+mean"}
        with pytest.raises(GateRefusedError, match=r"worse than .* in STS, by more than 1 points") as caught:
            evaluate(served_night.request, **names, gate=True)
        assert "Retrieval: +50.0 points" in str(caught.value)
        tolerant = served_night.request.model_copy(update={"overrides": {"evaluate.gate_margin": 30}})
        assert not evaluate(tolerant, **names, gate=True).refused


class TestNights:
    """A new recipe meets the encoder that is served."""

    def test_a_refused_encoder_leaves_the_served_one_at_work(self, served_night, monkeypatch, capsys):
        config = ["--config", str(served_night.config), "--profile", "tiny", "--json"]
        overrides = [option for key, value in NEW_ENCODERS.items() for option in ("--set", f"{key}={value}")]
        before = read_pointer(LocalStore(served_night.home))
        jobs = served_night.read(served_night.jobs)
        jobs["j9"] = {"title": "Welder", "description": "Welds pipes in a shipyard by the sea."}
        served_night.write(served_night.jobs, jobs)
        monkeypatch.setattr("tasks.encoders.outcomes.evaluate_task", scoring(0.0))

        code = run(["nightly", *overrides, *config])
        night = json.loads(capsys.readouterr().out)
        assert code == 3
        assert "is worse than served until now in Retrieval" in night["refused"]
        assert night["stages"]["evaluate"]["refused"] is True
        assert night["training_steps"] == 5, "the new recipe was trained"
        assert (night["served_checkpoint"], night["encoded_documents"]) == (before.checkpoint, 1)
        after = read_pointer(LocalStore(served_night.home))
        assert (after.checkpoint, after.generation) == (before.checkpoint, before.generation)
        assert after.sequence == before.sequence + 1, "the new document is served"
        settings = served_night.request.settings()
        hits = search(settings, "shipyard welder", kind="job", mode="lexical")
        assert hits[0]["source_id"] == "j9"
        assert Path(night["report"]).is_file() and Path(night["exports"], "_SUCCESS").is_file()

        code = run(["nightly", *overrides, *config])
        again = json.loads(capsys.readouterr().out)
        assert (code, again["refused"], again["report"]) == (3, night["refused"], night["report"])
        assert (again["encoded_documents"], again["training_steps"]) == (0, 0)
        assert again["stages"]["evaluate"]["computed"] == 0

    def test_an_encoder_that_passes_the_gate_is_served(self, served_night, monkeypatch):
        before = read_pointer(LocalStore(served_night.home))
        add_pairs_task(served_night.folder)

        def better_than_served(system: System, eval_task: ScorableTask) -> Outcome:
            return scoring(10.0 if system.name == "served until now" else 100.0)(system, eval_task)

        monkeypatch.setattr("tasks.encoders.outcomes.evaluate_task", better_than_served)
        report = nightly(served_night.request.model_copy(update={"overrides": NEW_ENCODERS}))
        summary = report.summary()
        assert (report.evaluated.refused, summary["refused"]) == (False, None)
        assert "in no category worse than served until now" in report.evaluated.reason
        assert "is better on the average of the tasks" in report.evaluated.reason
        after = read_pointer(LocalStore(served_night.home))
        assert after.checkpoint == report.evaluated.served == summary["served_checkpoint"] != before.checkpoint
        assert summary["encoded_documents"] == 12, "another encoder's vectors are of no use"


@pytest.mark.slow
def test_an_ablation_trains_once_and_goes_on(small_night, monkeypatch):
    """Six trainings and 24 encoders: what SimCSE follows is the MNTP of before, and a second run computes nothing."""
    ingest(small_night.request)
    pins = small_night.home / "recipes" / "pinned"
    train(small_night.request, newest=False)
    pinned = {pin.name: pin.read_text() for pin in pins.iterdir()}
    first = ablate(small_night.request)
    assert {name: (pins / name).read_text() for name in pinned} == pinned, "the night goes on from what it learned from"
    assert len(first.systems) == 24
    assert len({system["fingerprint"] for system in first.systems}) == 24
    again = ablate(small_night.request)
    assert (again.computed, again.reused) == (0, first.computed)
    records = [read_record(path.parent) for path in (small_night.home / "checkpoints").glob("*/checkpoint.json")]
    assert len(records) == 7, "six trained encoders and their base"
    assert len({tuple(sorted((record.training_snapshots or {}).items())) for record in records if record.stages}) == 1
    page = (small_night.home / "reports" / first.report / "report.md").read_text()
    assert "Bi + MNTP + SimCSE" in page
