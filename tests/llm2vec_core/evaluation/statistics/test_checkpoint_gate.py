"""The checkpoint gate: the mean decides, and no category may be significantly worse."""

import hashlib

import numpy as np
import pytest

from llm2vec_core.errors import InputError
from llm2vec_core.evaluation.protocols.scoring import Outcome
from llm2vec_core.evaluation.results import TaskScore
from llm2vec_core.evaluation.statistics.checkpoint_gate import choose_encoder, defend, judge_categories, succeed
from llm2vec_core.evaluation.statistics.observations import MeanOfItems
from llm2vec_core.evaluation.statistics.stats import Estimate, estimate
from llm2vec_core.evaluation.tasks.types import EvalTaskType

DIFFICULTY = np.random.default_rng(0).uniform(20, 80, size=200)


def _outcome(
    task: str,
    values: np.ndarray,
    *,
    kind: EvalTaskType = "STS",
    content: str = "",
    found: Estimate | None = None,
) -> Outcome:
    """The outcome of a task from the scores of its items; its name is its content unless told."""
    content_sha256 = hashlib.sha256((content or task).encode()).hexdigest()
    found = found or estimate(float(values.mean()), [MeanOfItems(values)], content_sha256=content_sha256)
    record = TaskScore(
        task=task,
        type=kind,
        main_score_name="metric",
        main_score=found.score,
        metrics={"metric": found.score},
        seconds=1.0,
        num_items=len(values),
        num_texts=len(values),
        content_sha256=content_sha256,
        system_fingerprint="any",
    )
    return Outcome(record, found)


def _shifted(by: float, *, noise: float = 3.0, seed: int = 1) -> np.ndarray:
    """Items that are easier by some points in the mean, exactly, and otherwise by chance."""
    chance = np.random.default_rng(seed).normal(0, noise, len(DIFFICULTY))
    return DIFFICULTY + by + chance - chance.mean()


OLD = [_outcome("sts", DIFFICULTY), _outcome("retrieval", DIFFICULTY, kind="Retrieval")]


def _new(*, sts: float, retrieval: float, noise: float = 3.0) -> list[Outcome]:
    return [
        _outcome("sts", _shifted(sts, noise=noise)),
        _outcome("retrieval", _shifted(retrieval, noise=noise, seed=2), kind="Retrieval"),
    ]


def _without_items(task: str, score: float) -> Outcome:
    return _outcome(task, DIFFICULTY, found=Estimate(score, None))


# --- choosing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gain", "min_gain", "served"),
    [(2.0, 0.0, "new"), (2.0, 1.0, "new"), (2.0, 3.0, "old"), (-0.1, 0.0, "old"), (0.1, 0.0, "new")],
)
def test_the_mean_must_be_higher_by_the_asked_gain(gain: float, min_gain: float, served: str) -> None:
    decision = choose_encoder(
        candidate=("new", _new(sts=gain, retrieval=gain)), incumbent=("old", OLD), min_gain=min_gain
    )
    assert decision.served == served
    assert (decision.candidate, decision.incumbent) == ("new", "old")
    assert "retrieval, sts" in decision.reason


def test_an_equal_encoder_changes_nothing() -> None:
    decision = choose_encoder(candidate=("new", OLD), incumbent=("old", OLD))
    assert decision.served == "old"
    assert "not beaten" in decision.reason


def test_a_better_mean_does_not_buy_a_worse_category() -> None:
    new = _new(sts=-5, retrieval=20)
    decision = choose_encoder(candidate=("new", new), incumbent=("old", OLD), margin=1)
    assert decision.served == "old"
    assert "better in the mean but worse in STS" in decision.reason
    assert "Retrieval" not in decision.reason.partition(", by the mean")[0]
    assert choose_encoder(candidate=("new", new), incumbent=("old", OLD), margin=8).served == "new"


def test_the_mean_is_of_shared_content_whatever_it_is_called() -> None:
    """One of two tasks of a name is shared: the other counts for nobody."""
    new = [_outcome("x", _shifted(-5), content="shared"), _outcome("x", _shifted(40), content="own")]
    old = [_outcome("x", DIFFICULTY, content="shared")]
    assert choose_encoder(candidate=("new", new), incumbent=("old", old), margin=50).served == "old"


# --- defending ------------------------------------------------------------------------------------------------------


def test_an_equal_encoder_passes() -> None:
    decision = defend(candidate=("new", OLD), incumbent=("old", OLD), margin=0)
    assert decision.served == "new"
    assert "in no category worse" in decision.reason
    assert [sentence.partition(":")[0] for sentence in decision.findings] == ["STS", "Retrieval"]


def test_a_much_worse_category_is_refused_by_name() -> None:
    decision = defend(candidate=("new", _new(sts=-6, retrieval=6)), incumbent=("old", OLD), margin=1)
    assert decision.served == "old"
    assert "worse than old in STS, by more than 1 points" in decision.reason
    by_category = {sentence.partition(":")[0]: sentence for sentence in decision.findings}
    assert "-6.0 points" in by_category["STS"] and "worse by more than the accepted 1" in by_category["STS"]
    assert "+6.0 points" in by_category["Retrieval"] and "not shown to be worse" in by_category["Retrieval"]


def test_a_certain_loss_within_the_margin_passes() -> None:
    new = _new(sts=-0.5, retrieval=-0.5, noise=0.1)
    assert defend(candidate=("new", new), incumbent=("old", OLD), margin=1).served == "new"
    assert defend(candidate=("new", new), incumbent=("old", OLD), margin=0.1).served == "old"


@pytest.mark.parametrize(("noise", "served"), [(3.0, "old"), (80.0, "new")])
def test_a_refusal_needs_evidence(noise: float, served: str) -> None:
    """The same loss of four points: beyond chance where items agree, not where they scatter."""
    new = _new(sts=-4, retrieval=0, noise=noise)
    assert defend(candidate=("new", new), incumbent=("old", OLD), margin=1).served == served


@pytest.mark.parametrize(("margin", "served"), [(0.0, "old"), (2.0, "old"), (4.0, "new"), (20.0, "new")])
def test_the_margin_shifts_the_verdict(margin: float, served: str) -> None:
    new = _new(sts=-4, retrieval=0)
    assert defend(candidate=("new", new), incumbent=("old", OLD), margin=margin).served == served


def test_one_finding_among_many_must_be_clearer() -> None:
    """A one-sided p-value of 0.03 refuses alone, but not as one of four categories (Holm)."""
    one_point = np.array([1.0, -1.0] * 250)  # a standard error of one point
    kinds: tuple[EvalTaskType, ...] = ("STS", "Retrieval", "Clustering", "Reranking")
    old = [_outcome(kind, DIFFICULTY, kind=kind, found=Estimate(50, 0 * one_point)) for kind in kinds]
    new = [
        _outcome(kind, DIFFICULTY, kind=kind, found=Estimate(50 - 1.88 * (kind == "STS"), one_point)) for kind in kinds
    ]
    (alone,) = judge_categories(candidate=new[:1], incumbent=old, margin=0)
    assert alone.p_value == pytest.approx(0.03, abs=0.001) and alone.is_worse
    among_four = judge_categories(candidate=new, incumbent=old, margin=0)
    assert among_four[0].p_value == pytest.approx(0.12, abs=0.005) and not among_four[0].is_worse
    assert defend(candidate=("new", new[:1]), incumbent=("old", old), margin=0).served == "old"
    assert defend(candidate=("new", new), incumbent=("old", old), margin=0).served == "new"


@pytest.mark.parametrize(("score", "served"), [(48.0, "old"), (49.5, "new")])
def test_without_items_the_score_itself_decides(score: float, served: str) -> None:
    decision = defend(
        candidate=("new", [_without_items("sts", score)]), incumbent=("old", [_without_items("sts", 50)]), margin=1
    )
    assert decision.served == served
    assert "interval" not in decision.findings[0]


# --- succeeding -----------------------------------------------------------------------------------------------------


def test_a_gain_beyond_chance_replaces_the_served_encoder() -> None:
    decision = succeed(candidate=("new", _new(sts=2, retrieval=2)), incumbent=("old", OLD), margin=1)
    assert (decision.served, decision.refused) == ("new", False)
    assert "in no category worse than old" in decision.reason and "is better on the average" in decision.reason


@pytest.mark.parametrize("gain", [0.4, 0.0, -0.4])
def test_a_gain_within_chance_changes_nothing_and_alarms_nobody(gain: float) -> None:
    """A corpus would be encoded again for a difference that other items would not show."""
    new = _new(sts=gain, retrieval=gain, noise=40)
    decision = succeed(candidate=("new", new), incumbent=("old", OLD), margin=5)
    assert (decision.served, decision.refused) == ("old", False)
    assert "old stays, because new is not better beyond chance" in decision.reason


def test_a_gain_does_not_buy_a_worse_category() -> None:
    decision = succeed(candidate=("new", _new(sts=-6, retrieval=30)), incumbent=("old", OLD), margin=1)
    assert (decision.served, decision.refused) == ("old", True)
    assert "worse than old in STS" in decision.reason


def test_an_equal_encoder_replaces_the_served_one_once_in_twenty() -> None:
    replaced = 0
    for number in range(200):
        old, new = (
            [_outcome("t", DIFFICULTY + np.random.default_rng([number, seed]).normal(0, 9, 200), content=str(number))]
            for seed in (0, 1)
        )
        replaced += succeed(candidate=("new", new), incumbent=("old", old), margin=50).served == "new"
    assert replaced / 200 == pytest.approx(0.05, abs=0.05)


# --- what is compared at all ----------------------------------------------------------------------------------------


def test_only_tasks_of_both_are_compared() -> None:
    new = [*_new(sts=1, retrieval=1), _outcome("own", np.zeros(20))]
    findings = judge_categories(candidate=new, incumbent=OLD, margin=1)
    assert {finding.category: finding.tasks for finding in findings} == {"STS": ("sts",), "Retrieval": ("retrieval",)}
    assert {round(finding.difference.score, 6) for finding in findings} == {1.0}


def test_tasks_of_equal_name_and_other_content_are_not_compared() -> None:
    new = [_outcome("x", np.zeros(50), content="mine"), _outcome("y", _shifted(1))]
    old = [_outcome("x", np.full(50, 100.0), content="yours"), _outcome("y", DIFFICULTY)]
    for decision in (
        choose_encoder(candidate=("new", new), incumbent=("old", old)),
        defend(candidate=("new", new), incumbent=("old", old), margin=0),
    ):
        assert decision.served == "new"
        assert len(decision.findings) == 1 and "+1.0 points" in decision.findings[0]


def test_without_a_shared_task_there_is_no_decision() -> None:
    new, old = [_outcome("x", DIFFICULTY, content="mine")], [_outcome("x", DIFFICULTY, content="yours")]
    with pytest.raises(InputError, match="share no evaluation task") as caught:
        choose_encoder(candidate=("new", new), incumbent=("old", old))
    assert caught.value.hint
    with pytest.raises(InputError, match="share no evaluation task"):
        defend(candidate=("new", new), incumbent=("old", []), margin=1)
