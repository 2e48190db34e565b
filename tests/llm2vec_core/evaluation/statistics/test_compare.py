"""Comparison of systems: averages, pairwise comparisons, and the spread over queries."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import pytest

from llm2vec_core.evaluation.protocols.scoring import Outcome
from llm2vec_core.evaluation.results import ALL_SCOPE, WORD_SCOPE, ResultRecord, SystemReport, TaskScore
from llm2vec_core.evaluation.statistics import stats
from llm2vec_core.evaluation.statistics.compare import ScoredSystem, SideBySide, category_estimates, compare_systems
from llm2vec_core.evaluation.statistics.observations import MeanOfItems
from llm2vec_core.evaluation.statistics.stats import Estimate, estimate
from llm2vec_core.evaluation.tasks.queries import QueryScores
from llm2vec_core.evaluation.tasks.types import WORD_TASK_TYPE, EvalTaskType


@pytest.fixture(autouse=True)
def _fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "NUM_RESAMPLES", 200)


def _values(seed: int, *, shift: float = 0.0) -> np.ndarray:
    """Sixty items of one difficulty for all systems, and what one system adds."""
    return np.random.default_rng(0).uniform(20, 70, 60) + np.random.default_rng(seed).normal(shift, 3, 60)


def _outcome(
    task: str,
    values: np.ndarray,
    *,
    kind: EvalTaskType = "STS",
    content: str = "",
    is_known_by_item: bool = True,
    by_query: bool = False,
) -> Outcome:
    score, content_sha256 = float(values.mean()), hashlib.sha256((content or task).encode()).hexdigest()
    record = TaskScore(
        task=task,
        type=kind,
        main_score_name="metric",
        main_score=score,
        metrics={"metric": score},
        seconds=1.0,
        num_items=len(values),
        num_texts=len(values),
        content_sha256=content_sha256,
        system_fingerprint="any",
    )
    parts = [MeanOfItems(values)] if is_known_by_item else []
    queries = QueryScores({"metric": values}, [""] * len(values)) if by_query else None
    return Outcome(record, estimate(score, parts, content_sha256=content_sha256), queries)


def _system(name: str, *outcomes: Outcome) -> ScoredSystem:
    scores = tuple(outcome.score for outcome in outcomes)
    return ScoredSystem(SystemReport(name=name, fingerprint=name, mode="dense", scores=scores), outcomes)


def _scopes_of(found: SideBySide) -> dict[str, set[str]]:
    """Scope to the systems that have an average in it."""
    scopes: dict[str, set[str]] = {}
    for average in found.averages:
        scopes.setdefault(average.scope, set()).add(average.system)
    return scopes


def test_only_a_system_that_did_all_tasks_of_a_scope_has_its_average() -> None:
    whole = _system(
        "whole", *(_outcome(task, _values(1)) for task in "ab"), _outcome("r", _values(1), kind="Retrieval")
    )
    part = _system("part", _outcome("a", _values(2)), _outcome("r", _values(2), kind="Retrieval"))
    found = compare_systems([whole, part])
    assert _scopes_of(found) == {"STS": {"whole"}, "Retrieval": {"whole", "part"}, ALL_SCOPE: {"whole"}}
    assert {average.scope: average.num_tasks for average in found.averages if average.system == "whole"} == {
        "STS": 2,
        "Retrieval": 1,
        ALL_SCOPE: 3,
    }
    # compared where both have a score: the shared task alone, and the category that both did
    assert sorted(comparison.scope for comparison in found.comparisons) == ["Retrieval", "a", "r"]


def test_an_average_weighs_tasks_and_not_items() -> None:
    long, short = np.full(90, 40.0), np.array([70.0, 90.0])
    found = compare_systems([_system("one", _outcome("long", long), _outcome("short", short))])
    (average,) = [each for each in found.averages if each.scope == "STS"]
    assert average.score == pytest.approx(60)
    assert average.ci_low is not None and average.ci_high is not None
    assert average.ci_low < 60 < average.ci_high


def test_word_level_tasks_stand_apart() -> None:
    both = [
        _system(name, _outcome("s", _values(seed)), _outcome("w", _values(seed), kind=WORD_TASK_TYPE))
        for seed, name in enumerate(("one", "other"), start=1)
    ]
    found = compare_systems(both)
    assert set(_scopes_of(found)) == {"STS", ALL_SCOPE, WORD_SCOPE}
    assert {average.num_tasks for average in found.averages} == {1}
    only_words = compare_systems([_system("one", _outcome("w", _values(1), kind=WORD_TASK_TYPE))])
    assert set(_scopes_of(only_words)) == {WORD_SCOPE}


def test_equal_names_with_other_content_never_meet() -> None:
    one = _system("one", _outcome("same", _values(1), content="first"))
    other = _system("other", _outcome("same", _values(2, shift=9), content="second"))
    found = compare_systems([one, other])
    assert found.comparisons == ()
    assert found.averages == ()  # neither did all that the other did


def test_every_pair_is_compared_in_every_scope_that_both_did() -> None:
    systems = [
        _system(name, _outcome("s", _values(seed)), _outcome("r", _values(seed, shift=seed), kind="Retrieval"))
        for seed, name in enumerate("abc", start=1)
    ]
    found = compare_systems(systems)
    pairs = {frozenset("ab"), frozenset("ac"), frozenset("bc")}
    for scope in ("STS", "Retrieval", ALL_SCOPE, "s", "r"):
        met = [{each.better, each.worse} for each in found.comparisons if each.scope == scope]
        assert len(met) == 3 and {frozenset(pair) for pair in met} == pairs, scope
    (clearest,) = [each for each in found.comparisons if each.scope == "r" and {each.better, each.worse} == {*"ac"}]
    assert clearest.better == "c" and clearest.is_significant
    assert clearest.difference == pytest.approx(
        systems[2].outcomes[1].estimate.score - systems[0].outcomes[1].estimate.score
    )


def test_a_score_without_items_has_an_average_but_no_interval_and_no_comparison() -> None:
    known = _system("known", _outcome("s", _values(1)))
    unknown = _system("unknown", _outcome("s", _values(2), is_known_by_item=False))
    found = compare_systems([known, unknown])
    assert found.comparisons == ()
    assert {average.system: average.ci_low is None for average in found.averages if average.scope == ALL_SCOPE} == {
        "known": False,
        "unknown": True,
    }


def test_distributions_say_how_queries_spread() -> None:
    values = np.array([0.0] * 25 + list(np.linspace(1, 100, 75)))
    spread = _outcome("r", values, kind="Retrieval", by_query=True)
    found = compare_systems([_system("one", spread, _outcome("s", _values(1)))])
    (distribution,) = found.distributions
    assert (distribution.task, distribution.system, distribution.metric) == ("r", "one", "metric")
    assert len(distribution.quantiles) == 21
    assert list(distribution.quantiles) == sorted(distribution.quantiles)
    assert (distribution.quantiles[0], distribution.quantiles[-1]) == (0, 100)
    assert distribution.quantiles[10] == pytest.approx(np.median(values))
    assert distribution.share_zero == 0.25


def test_nothing_comes_of_nothing() -> None:
    assert compare_systems([]) == SideBySide((), (), ())


def _four_systems() -> list[ScoredSystem]:
    """Four systems, of which one lacks a task and one has a single task."""
    kinds: dict[str, EvalTaskType] = {"r": "Retrieval"}

    def outcomes(seed: int, tasks: Sequence[str]) -> list[Outcome]:
        return [
            _outcome(task, _values(10 * seed + number, shift=seed), kind=kinds.get(task, "STS"), by_query=task == "r")
            for number, task in enumerate(tasks)
        ]

    done = {"a": ("s", "t", "r"), "b": ("s", "t", "r"), "c": ("s", "r"), "d": ("t",)}
    return [_system(name, *outcomes(seed, tasks)) for seed, (name, tasks) in enumerate(done.items(), start=1)]


def _listed(records: Sequence[ResultRecord]) -> list[str]:
    """Records in an order of their own, their numbers without the last bits (which sums in another order change)."""
    return sorted(re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.6f}", repr(record)) for record in records)


def test_the_order_of_systems_changes_no_finding() -> None:
    systems = _four_systems()
    expected = compare_systems(systems)
    assert expected.averages and expected.comparisons and expected.distributions
    for order in (systems[::-1], [*systems[2:], *systems[:2]]):
        found = compare_systems(order)
        assert _listed(found.averages) == _listed(expected.averages)
        assert _listed(found.comparisons) == _listed(expected.comparisons)
        assert _listed(found.distributions) == _listed(expected.distributions)


def test_categories_are_averaged_over_the_asked_content_only() -> None:
    outcomes = [_outcome("a", np.full(5, 10.0)), _outcome("b", np.full(5, 30.0)), _outcome("c", np.full(5, 90.0))]
    asked = {outcome.score.content_sha256: outcome for outcome in outcomes[:2]}
    ((tasks, mean),) = category_estimates(outcomes, among=asked).values()
    assert tasks == ["a", "b"]
    assert isinstance(mean, Estimate) and mean.score == pytest.approx(20)
