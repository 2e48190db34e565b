"""Stored outcomes are found again, bit for bit, under a key of everything that affects them."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.sample.eval_tasks import write_sample_tasks
from data.sample.outcomes import OUTCOMES_DIR
from data.store.base import LocalStore
from llm2vec_core.encoding.result import Encoding
from llm2vec_core.evaluation.protocols.encode_once import EncodeOnce
from llm2vec_core.evaluation.protocols.registry import ScorableTask
from llm2vec_core.evaluation.protocols.scoring import Outcome
from llm2vec_core.evaluation.results import TaskScore
from llm2vec_core.evaluation.statistics.stats import Estimate
from llm2vec_core.evaluation.systems import System, SystemTraits
from llm2vec_core.evaluation.tasks.folders import EvalTask, load_eval_task
from llm2vec_core.evaluation.tasks.types import WORD_TASK_TYPE, EvalTaskType
from tasks.encoders.outcomes import OutcomeStore, outcome_key

UNTRAINED = SystemTraits(base_model="tiny", attention="causal", pooling_mode="mean")
AFTER_MNTP = UNTRAINED.model_copy(update={"stages": ("mntp",)})
WORDS = ("nurse", "chef", "driver", "teacher", "cloud", "garden")


class WordVectors:
    """A text is the sum of random vectors of its words."""

    embedding_dim = 16

    def encode_with_counts(
        self, texts: Sequence[str], *, prompt: str | None = None, pool_prompt: bool = True
    ) -> Encoding:
        vectors = np.stack([sum(map(_vector, text.split())) for text in texts]).astype(np.float32)
        return Encoding(vectors, num_tokens=len(texts), num_padded_tokens=len(texts), num_truncated=0)

    def encode_words(self, sentences: Sequence[Sequence[str]], *, label_shift: bool = False) -> np.ndarray:
        return np.stack([_vector(word) for words in sentences for word in words]).astype(np.float32)


def _vector(word: str) -> np.ndarray:
    return np.random.default_rng(list(hashlib.sha256(word.encode()).digest()[:4])).standard_normal(16)


def dense(fingerprint: str = "a" * 64, traits: SystemTraits | None = UNTRAINED) -> System:
    return System("encoder", "dense", EncodeOnce(fingerprint, WordVectors), traits)


@dataclass(frozen=True)
class NamedTask:
    """A task that only a counting stand-in of the scoring looks at."""

    name: str = "Task"
    type: EvalTaskType = "STS"
    main_score: str = "cosine_spearman"
    content_sha256: str = "c0ffee"
    is_official: bool = False

    def mteb_task(self) -> Any:
        raise AssertionError("a stand-in scores this task")


@dataclass
class Counted:
    """In the place of the scoring: counts, and dies at one of the calls if it is told to."""

    calls: list[tuple[str, str]] = field(default_factory=list)
    dies_at: int | None = None

    def __call__(self, system: System, eval_task: ScorableTask) -> Outcome:
        if len(self.calls) + 1 == self.dies_at:
            raise KeyboardInterrupt
        self.calls.append((system.fingerprint, eval_task.name))
        score = TaskScore(
            task=eval_task.name,
            type=eval_task.type,
            main_score_name=eval_task.main_score,
            main_score=float(len(self.calls)),
            metrics={},
            seconds=0.0,
            num_items=1,
            num_texts=1,
            content_sha256=eval_task.content_sha256,
            system_fingerprint=system.fingerprint,
        )
        return Outcome(score, Estimate(score.main_score, None))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "home")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    stand_in = Counted()
    monkeypatch.setattr("tasks.encoders.outcomes.evaluate_task", stand_in)
    return stand_in


def write_folder(folder: Path, *, task_type: str, main_score: str, files: dict[str, Sequence[object]]) -> Path:
    folder.mkdir()
    (folder / "task.json").write_text(json.dumps({"name": folder.name, "type": task_type, "main_score": main_score}))
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def load_task(tmp_path: Path) -> Callable[[str], EvalTask]:
    """A small task of a type, from its folder."""

    def load(task_type: str) -> EvalTask:
        files: dict[str, Sequence[object]]
        if task_type == "Retrieval":
            main_score, files = (
                "ndcg_at_10",
                {
                    "corpus": [{"_id": f"d{n}", "title": word, "text": "wanted"} for n, word in enumerate(WORDS)],
                    "queries": [{"_id": f"q{n}", "text": f"{word} wanted"} for n, word in enumerate(WORDS)],
                },
            )
        elif task_type == "STS":
            main_score, files = (
                "cosine_spearman",
                {"pairs": [{"sentence1": f"{n}", "sentence2": word, "score": n} for n, word in enumerate(WORDS)]},
            )
        else:
            sentences = [{"tokens": [word, "works"], "tags": ["NOUN", "VERB"]} for word in WORDS]
            main_score, files = "accuracy", {"train": sentences, "test": sentences[:3]}
        folder = write_folder(tmp_path / task_type, task_type=task_type, main_score=main_score, files=files)
        judgments = "".join(f"q{n}\td{n}\t1\n" for n in range(len(WORDS)))
        (folder / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judgments}")
        return load_eval_task(folder)

    return load


def require_equal(found: Outcome, expected: Outcome) -> None:
    assert (found.score, found.task_result) == (expected.score, expected.task_result)
    assert found.estimate.score == expected.estimate.score
    pairs = [(found.estimate.deviations, expected.estimate.deviations)]
    assert (found.queries is None) == (expected.queries is None)
    if found.queries is not None and expected.queries is not None:
        assert list(found.queries.first) == list(expected.queries.first)
        assert list(found.queries.metrics) == list(expected.queries.metrics)
        pairs += [(found.queries.metrics[name], values) for name, values in expected.queries.metrics.items()]
    for one, other in pairs:
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert (one.dtype, one.tobytes()) == (other.dtype, other.tobytes())


@pytest.mark.parametrize(
    ("task_type", "has_queries", "has_task_result"),
    [("Retrieval", True, True), ("STS", False, True), (WORD_TASK_TYPE, False, False)],
)
def test_what_was_computed_is_read_back_to_the_bit(
    store: LocalStore,
    load_task: Callable[[str], EvalTask],
    monkeypatch: pytest.MonkeyPatch,
    task_type: str,
    has_queries: bool,
    has_task_result: bool,
) -> None:
    eval_task, first, second = load_task(task_type), OutcomeStore(store), OutcomeStore(store)
    computed = first.find_or_compute(dense(), eval_task)
    assert computed.estimate.deviations is not None
    assert (computed.by_item is not None, computed.task_result is not None) == (has_queries, has_task_result)

    def no_scoring(*_: object) -> Outcome:
        raise AssertionError("what is known was scored again")

    monkeypatch.setattr("tasks.encoders.outcomes.evaluate_task", no_scoring)
    require_equal(second.find_or_compute(dense(), eval_task), computed)
    assert (first.computed, first.reused, second.computed, second.reused) == (1, 0, 0, 1)


def test_a_score_whose_items_are_not_known_has_no_interval_when_read_back(store: LocalStore, counted: Counted) -> None:
    computed = OutcomeStore(store).find_or_compute(dense(), NamedTask())
    found = OutcomeStore(store).find_or_compute(dense(), NamedTask())
    require_equal(found, computed)
    assert (found.estimate.interval(), len(counted.calls)) == (None, 1)


def test_everything_that_decides_a_score_decides_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = dense().encoder
    keys = {
        outcome_key(dense(), NamedTask()),
        outcome_key(dense("b" * 64), NamedTask()),
        outcome_key(System("encoder", "hybrid", encoder, UNTRAINED), NamedTask()),
        outcome_key(System("encoder", "lexical"), NamedTask()),
        outcome_key(replace(dense(), instructed=True), NamedTask()),
        outcome_key(dense(), NamedTask(content_sha256="decaf")),
        outcome_key(dense(), NamedTask(), dtype="bfloat16"),
    }
    monkeypatch.setattr("tasks.encoders.outcomes.importlib.metadata.version", lambda name: f"another {name}")
    keys.add(outcome_key(dense(), NamedTask()))
    assert len(keys) == 8


def test_what_a_report_calls_a_system_or_a_task_does_not_decide_the_key() -> None:
    assert outcome_key(replace(dense(), name="base, before training"), NamedTask(name="Renamed", is_official=True)) == (
        outcome_key(dense(), NamedTask())
    )


def test_the_label_shift_decides_the_key_of_word_tasks_alone() -> None:
    """The same vectors, read one token earlier after MNTP: only words are scored otherwise then."""
    words = NamedTask(type=WORD_TASK_TYPE, main_score="accuracy")
    assert outcome_key(dense(traits=AFTER_MNTP), words) != outcome_key(dense(traits=UNTRAINED), words)
    assert outcome_key(dense(traits=AFTER_MNTP), NamedTask()) == outcome_key(dense(traits=UNTRAINED), NamedTask())


def test_missing_scores_are_counted_before_they_are_computed(store: LocalStore, counted: Counted) -> None:
    outcomes, task = OutcomeStore(store), NamedTask()
    systems = [dense(), dense(), dense("b" * 64)]
    assert outcomes.count_missing(systems, [task]) == 2, "equal systems have one score"
    outcomes.find_or_compute(dense(), task)
    assert outcomes.count_missing(systems, [task]) == 1
    assert outcomes.count_missing([], [task]) == 0


def test_encoders_of_different_weights_never_share(store: LocalStore, counted: Counted) -> None:
    outcomes = OutcomeStore(store)
    found = [outcomes.find_or_compute(dense(fingerprint), NamedTask()) for fingerprint in ("a" * 64, "b" * 64) * 2]
    assert [outcome.score.system_fingerprint[0] for outcome in found] == ["a", "b", "a", "b"]
    assert (outcomes.computed, outcomes.reused, len(counted.calls)) == (2, 2, 2)


@pytest.mark.parametrize("lost", [[".json"], [".npz"], [".json", ".npz"], [".json", ".mteb.json"]])
def test_a_half_written_outcome_is_computed_again(
    store: LocalStore, load_task: Callable[[str], EvalTask], lost: list[str]
) -> None:
    eval_task = load_task("STS")
    computed = OutcomeStore(store).find_or_compute(dense(), eval_task)
    key = outcome_key(dense(), eval_task)
    for suffix in lost:
        store.delete(f"{key}{suffix}")
    for counts in ((1, 0), (0, 1)):
        outcomes = OutcomeStore(store)
        again = outcomes.find_or_compute(dense(), eval_task)
        assert (outcomes.computed, outcomes.reused) == counts
        assert again.score.metrics == computed.score.metrics
        np.testing.assert_array_equal(again.estimate.deviations, computed.estimate.deviations)
    assert {path.removeprefix(key) for path in store.list("evaluations")} == {".json", ".npz", ".mteb.json"}


def test_an_outcome_is_not_known_before_its_last_part_is_written(
    store: LocalStore, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = LocalStore.put_if_absent

    def killed(self: LocalStore, key: str, content: bytes | Path) -> bool:
        if key.endswith(".json"):
            raise KeyboardInterrupt
        return put(self, key, content)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(LocalStore, "put_if_absent", killed)
        OutcomeStore(store).find_or_compute(dense(), NamedTask())
    assert OutcomeStore(store).find_or_compute(dense(), NamedTask()).score.main_score == 2.0
    assert len(counted.calls) == 2


def test_a_killed_evaluation_goes_on_behind_its_last_outcome(store: LocalStore, counted: Counted) -> None:
    eval_tasks = [NamedTask(name, content_sha256=name) for name in ("first", "second", "third")]
    counted.dies_at = 3
    killed = OutcomeStore(store)
    with pytest.raises(KeyboardInterrupt):
        for eval_task in eval_tasks:
            killed.find_or_compute(dense(), eval_task)
    counted.dies_at = None
    again = OutcomeStore(store)
    found = [again.find_or_compute(dense(), eval_task).score.task for eval_task in eval_tasks]
    assert found == ["first", "second", "third"]
    assert [name for _, name in counted.calls] == found
    assert (killed.computed, again.reused, again.computed) == (2, 2, 1)


def test_a_writer_that_lost_its_lease_keeps_nothing(store: LocalStore, counted: Counted) -> None:
    def fenced() -> None:
        raise PermissionError("another writer took over")

    with pytest.raises(PermissionError):
        OutcomeStore(store, fence=fenced).find_or_compute(dense(), NamedTask())
    assert not list(store.list("evaluations"))


BUNDLED = sorted(OUTCOMES_DIR.glob("*/*[0-9a-f].json"))


def test_outcomes_of_four_fixed_encoders_are_bundled() -> None:
    assert len({path.parent.name for path in BUNDLED if not path.name.endswith(".mteb.json")}) == 4


@pytest.mark.parametrize(
    "path", [path for path in BUNDLED if not path.name.endswith(".mteb.json")], ids=lambda p: p.parent.name[:8]
)
def test_a_bundled_outcome_has_the_key_of_todays_task_and_is_not_scored_again(
    path: Path, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a change of the task, the scoring or mteb, make them again with ``tools/reference_outcomes.py``."""
    record = TaskScore.model_validate_json(path.read_bytes())
    (folder,) = write_sample_tasks(tmp_path / "tasks", [record.task])
    task = load_eval_task(folder)
    monkeypatch.setattr("tasks.encoders.outcomes.evaluate_task", lambda *_: pytest.fail("it was scored"))
    outcomes = OutcomeStore(store)
    found = outcomes.find_or_compute(dense(path.parent.name), task)
    assert (found.score.content_sha256, found.score.system_fingerprint) == (task.content_sha256, path.parent.name)
    assert found.score.ci_low < found.score.main_score < found.score.ci_high
    assert found.queries is not None
    assert found.task_result is not None
    assert (outcomes.computed, outcomes.reused, outcomes.count_missing([dense(path.parent.name)], [task])) == (0, 1, 0)


def test_a_home_has_its_own_outcome_before_the_bundled_one(store: LocalStore) -> None:
    path = next(path for path in BUNDLED if not path.name.endswith(".mteb.json"))
    key = f"evaluations/{path.parent.name}/{path.name}"
    outcomes = OutcomeStore(store)
    assert outcomes._read(key) == path.read_bytes()
    store.put_if_absent(key, b"own")
    assert outcomes._read(key) == b"own"
