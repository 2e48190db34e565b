"""``l2v evaluate``: its exit codes, and its JSON object."""

import json
from pathlib import Path

import pytest

from data.store.base import LocalStore
from data.vectors.pointer import read_pointer
from tests.flows.cli.conftest import call


def test_evaluate_without_names_sets_the_recipe_s_encoder_beside_its_base(capsys, served_night):
    code, result, _ = call(capsys, "evaluate", "--config", str(served_night.config), "--profile", "tiny")
    assert code == 0
    names = [system["name"] for system in result["systems"]]
    assert names == ["BM25", "base, before training", "LLM2Vec, unsupervised", "hybrid"]
    assert result["reason"]


def test_evaluate_by_name_reports_every_task(capsys, served_night):
    code, result, _ = call(
        capsys,
        *("evaluate", "--checkpoint", "bm25", "--checkpoint", f"{served_night.base_model}+causal+mean"),
        *("--config", str(served_night.config), "--profile", "tiny"),
    )
    assert code == 0
    assert result["systems"][0]["name"] == "BM25"
    for system in result["systems"]:
        score = system["tasks"]["SmallRetrieval"]
        assert 0 <= score["main_score"] <= 100
        assert set(score) >= {"main_score", "ci_low", "ci_high", "seconds"}


class TestEvaluate:
    """What ``l2v evaluate`` promises a script: its exit code and one JSON object."""

    @staticmethod
    def evaluate(capsys, night, *arguments: str) -> tuple[int, dict]:
        config = ("--config", str(night.config), "--profile", "tiny")
        code, result, _ = call(capsys, "evaluate", *arguments, *config)
        return code, result

    def test_every_score_has_its_interval_and_is_computed_once(self, capsys, served_night):
        names = ("--checkpoint", "bm25", "--checkpoint", f"{served_night.base_model}+last")
        code, first = self.evaluate(capsys, served_night, *names)
        assert (code, first["computed"], first["reused"]) == (0, 1, 1)
        for system in first["systems"]:
            score = system["tasks"]["SmallRetrieval"]
            assert all(isinstance(score[name], float) for name in ("main_score", "ci_low", "ci_high", "seconds"))
            assert score["ci_low"] <= score["main_score"] <= score["ci_high"]
        code, second = self.evaluate(capsys, served_night, *names)
        assert (code, second["computed"], second["reused"]) == (0, 0, 2)
        assert (second["systems"], second["report"]) == (first["systems"], first["report"])

    def test_an_encoder_against_itself_passes(self, capsys, served_night):
        name = f"{served_night.base_model}+causal+mean"
        for gate in ([], ["--gate"]):
            code, result = self.evaluate(capsys, served_night, "--checkpoint", name, "--against", name, *gate)
            assert (code, result["refused"], len(result["systems"])) == (0, False, 1)
            assert "in no category worse" in result["reason"]
            assert result["findings"][0].startswith("Retrieval: +0.0 points")

    def test_a_worse_candidate_is_refused_and_the_report_kept(self, capsys, served_night):
        last = f"{served_night.base_model}+last"
        code, result = self.evaluate(capsys, served_night, "--checkpoint", last, "--against", "bm25", "--gate")
        assert (code, set(result)) == (3, {"error", "hint", "refused"})
        assert f"{served_night.base_model.name} Uni, last is worse than BM25 in Retrieval" in result["error"]
        report = Path(result["hint"].removeprefix("The report: "))
        assert result["error"].split(" Retrieval: ")[0] in report.read_text()
        latest = json.loads((served_night.home / "reports" / "latest.json").read_text())
        assert latest == {"report": report.parent.name}

    def test_a_better_candidate_passes(self, capsys, served_night):
        base = str(served_night.base_model)
        code, result = self.evaluate(capsys, served_night, "--checkpoint", "bm25", "--against", base, "--gate")
        assert (code, result["refused"]) == (0, False)

    def test_a_gate_alone_compares_with_what_is_served(self, capsys, served_night):
        served = read_pointer(LocalStore(served_night.home)).checkpoint
        code, result = self.evaluate(capsys, served_night, "--checkpoint", served[:12], "--gate")
        assert (code, result["refused"]) == (0, False)
        code, result = self.evaluate(capsys, served_night, "--checkpoint", "bm25", "--gate")
        assert (code, result["refused"]) == (0, False)
        title = result["systems"][1]["name"]
        assert result["systems"][1]["fingerprint"] == served
        code, result = self.evaluate(capsys, served_night, "--checkpoint", f"{served_night.base_model}+last", "--gate")
        assert (code, f"is worse than {title} in Retrieval" in result["error"]) == (3, True)

    def test_a_gate_with_nothing_to_compare_is_a_mistake(self, capsys, small_night):
        code, result = self.evaluate(capsys, small_night, "--checkpoint", "bm25", "--gate")
        assert (code, "Nothing is served" in result["error"]) == (2, True)
        code, result = self.evaluate(capsys, small_night, "--gate")
        assert (code, "no encoder to compare" in result["error"]) == (2, True)
        assert not (small_night.home / "evaluations").exists()

    def test_an_unknown_task_is_a_mistake_that_lists_the_tasks(self, capsys, small_night):
        code, result = self.evaluate(capsys, small_night, "--checkpoint", "bm25", "--tasks", "SmallTask")
        assert (code, "'SmallTask'" in result["error"], "SmallRetrieval" in result["hint"]) == (2, True, True)
        assert not (small_night.home / "evaluations").exists()

    def test_other_unknown_names_are_mistakes_that_list_what_there_is(self, capsys, small_night):
        known = ("--checkpoint", "bm25")
        code, result = self.evaluate(capsys, small_night, "--checkpoint", f"{small_night.base_model}+medium")
        assert (code, "'medium'" in result["error"], "weighted_mean" in result["hint"]) == (2, True, True)
        code, result = self.evaluate(capsys, small_night, *known, "--benchmark", "MTEB(klingon)")
        assert (code, "MTEB(klingon)" in result["error"], "MTEB(eng, v2)" in result["hint"]) == (2, True, True)
        code, result = self.evaluate(capsys, small_night, *known, "--tasks-dir", str(small_night.folder / "absent"))
        assert (code, "absent" in result["error"]) == (2, True)
        assert not (small_night.home / "evaluations").exists()

    def test_a_benchmark_out_of_reach_says_what_is_missing(self, capsys, small_night, monkeypatch):
        cache = small_night.folder / "cache"
        monkeypatch.setattr("llm2vec_core.evaluation.tasks.benchmarks._hub_answers", lambda dataset: False)
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
        asked = ("--checkpoint", "bm25", "--benchmark", "MTEB(eng, v2)")
        code, result = self.evaluate(capsys, small_night, *asked)
        assert (code, set(result)) == (2, {"error", "hint"})
        assert f"the hub is unreachable, and its cache {cache} lacks 41 of 41 tasks" in result["error"]
        assert "HF_HOME" in result["hint"]
        code, result = self.evaluate(capsys, small_night, *asked, "--tasks", "STS12", "--tasks", "ArguAna")
        assert (code, "2 of 2 tasks" in result["error"]) == (2, True)
        assert "STS12" in result["error"] and "ArguAna" in result["error"]

    def test_results_in_mteb_s_own_format_are_read_by_mteb(self, capsys, served_night):
        import mteb

        folder = served_night.folder / "mteb"
        names = ("--checkpoint", "bm25", "--checkpoint", str(served_night.base_model))
        code, result = self.evaluate(capsys, served_night, *names, "--mteb-results", str(folder))
        assert code == 0
        cache = mteb.ResultCache(folder)
        assert len(cache.load_results().model_results) == 2
        for system, name in zip(result["systems"], ("BM25", f"{served_night.base_model.name}"), strict=True):
            (found,) = folder.glob(f"results/*/{system['fingerprint']}/SmallRetrieval.json")
            assert name.replace("_", "-") in found.parts[-3]
            model = found.parts[-3].replace("__", "/")
            task_result = cache.load_task_result("SmallRetrieval", model, system["fingerprint"])
            assert 100 * task_result.get_score() == pytest.approx(system["tasks"]["SmallRetrieval"]["main_score"])
