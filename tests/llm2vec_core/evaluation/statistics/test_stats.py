"""Simulations and properties: intervals cover, p-values are uniform, and fast metrics equal those of the libraries."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, pearsonr, spearmanr
from sklearn.metrics import average_precision_score, v_measure_score

from benchmarks.interval_coverage import (
    CLUSTERED,
    NULL_PAIRS,
    POPULATIONS,
    coverage,
    equal_queries,
    estimate_of,
    null_p_values,
    sibling_queries,
)
from llm2vec_core.evaluation.statistics import stats
from llm2vec_core.evaluation.statistics.observations import (
    AveragePrecision,
    Clustering,
    Correlation,
    MeanOfItems,
    VMeasure,
    count_drawn,
    score_all,
)
from llm2vec_core.evaluation.statistics.stats import (
    Estimate,
    compare_all,
    estimate,
    holm,
    mean_estimate,
    probability_not_worse,
)

SIMULATIONS = 400


@pytest.fixture(autouse=True)
def _fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "NUM_RESAMPLES", 500)


@pytest.mark.parametrize("population", [*POPULATIONS, *CLUSTERED])
def test_intervals_cover_the_true_score(population: str) -> None:
    """93 to 97 % is the promise; so few simulations may miss it by two of their standard errors (1.1 points)."""
    assert 0.93 - 0.022 <= coverage(population, SIMULATIONS) <= 0.97 + 0.022


def test_items_drawn_one_by_one_would_cover_too_little() -> None:
    """The reason for clusters: with each item as an observation, the promise of 95 % fails by far."""
    true, covered = 50.0, 0
    for number in range(SIMULATIONS):
        observed, _ = sibling_queries(np.random.default_rng(number))
        low, high = estimate_of(observed, number).interval() or (0, 0)
        covered += low <= true <= high
    assert covered / SIMULATIONS < 0.85


@pytest.mark.parametrize(
    ("values", "clusters"), [([70.0, 30.0, 80.0], [0, 0, 0]), ([70.0], None)], ids=["one cluster", "one query"]
)
def test_a_single_observation_has_no_interval(values, clusters) -> None:
    drawn = None if clusters is None else np.array(clusters)
    found = estimate(60.0, [MeanOfItems(np.array(values))], content_sha256="0" * 64, clusters=drawn)
    assert (found.score, found.interval()) == (60.0, None)


@pytest.mark.parametrize("pair", NULL_PAIRS)
def test_p_values_are_uniform_where_there_is_no_difference(pair: str) -> None:
    p_values = np.array(null_p_values(pair, SIMULATIONS))
    assert kstest(p_values, "uniform").pvalue > 0.01
    assert np.mean(p_values < 0.05) == pytest.approx(0.05, abs=0.035)


def test_the_smallest_difference_is_found_four_times_in_five() -> None:
    found, promised = 0, []
    for number in range(SIMULATIONS):
        random = np.random.default_rng(number)
        hardness = 20 * random.normal(size=150)
        one = MeanOfItems(hardness + 10 * random.normal(size=150))
        # the difference is set to what a set of this kind promises to show: 2.8 standard errors
        other = MeanOfItems(hardness + 10 * random.normal(size=150) + 2.8 * math.sqrt(200 / 150))
        (comparison,) = compare_all("simulated", {"one": estimate_of(one, number), "other": estimate_of(other, number)})
        found += comparison.is_significant
        promised.append(comparison.smallest_difference)
    assert found / SIMULATIONS == pytest.approx(0.8, abs=0.06)
    assert np.mean(promised) == pytest.approx(2.8 * math.sqrt(200 / 150), rel=0.05)


# --- the same metrics as the libraries', resample by resample -------------------------------------------------------

_size = st.integers(5, 40)


@given(_size, st.integers(0, 2**32 - 1))
def test_resampled_metrics_are_the_libraries_own(size: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    items, draws = random.integers(size, size=(3, size)), np.zeros((3, 1), dtype=int)
    counts = count_drawn(items, size)
    gold, predicted = random.integers(6, size=size).astype(float), random.normal(size=size).round(1)
    labels = random.integers(2, size=size)
    groups, clusters = random.integers(3, size=size), random.integers(4, size=size)
    by_rank, by_value = Correlation(gold, predicted), Correlation(gold, predicted, by_rank=False)
    precision = AveragePrecision(labels, predicted)
    clustering = VMeasure([Clustering(np.arange(size), groups, clusters)], num_items=size)
    for row, drawn in enumerate(items):
        if len(set(gold[drawn])) > 1 and len(set(predicted[drawn])) > 1:
            expected = 100 * spearmanr(gold[drawn], predicted[drawn]).statistic
            assert by_rank.scores(counts, draws)[row] == pytest.approx(expected)
            expected = 100 * pearsonr(gold[drawn], predicted[drawn]).statistic
            assert by_value.scores(counts, draws)[row] == pytest.approx(expected)
        if labels[drawn].any():
            expected = 100 * average_precision_score(labels[drawn], predicted[drawn])
            assert precision.scores(counts, draws)[row] == pytest.approx(expected)
        expected = 100 * v_measure_score(groups[drawn], clusters[drawn])
        assert clustering.scores(counts, draws)[row] == pytest.approx(expected, abs=1e-6)


# --- comparisons and means ------------------------------------------------------------------------------------------


def test_a_system_compared_with_itself_does_not_differ() -> None:
    one = estimate_of(MeanOfItems(np.arange(50.0)), 1)
    (comparison,) = compare_all("itself", {"a": one, "b": one})
    assert (comparison.difference, comparison.p_value, comparison.is_significant) == (0, 1, False)
    assert "can't tell" in comparison.sentence()


def test_pairing_finds_what_two_intervals_hide() -> None:
    """A point more on every single query is certain, however far apart the queries are."""
    values = np.random.default_rng(0).uniform(0, 90, size=60)
    one, other = estimate_of(MeanOfItems(values), 1), estimate_of(MeanOfItems(values + 1 + 0.01 * values), 1)
    first, second = one.interval(), other.interval()
    assert first is not None and second is not None and first[1] > second[0]
    (comparison,) = compare_all("paired", {"one": one, "other": other})
    assert comparison.is_significant and comparison.better == "other"
    assert "differ" in comparison.sentence()


def test_equal_tasks_share_their_draws_and_others_do_not() -> None:
    values = MeanOfItems(np.arange(50.0))
    assert np.array_equal(estimate_of(values, 1).deviations, estimate_of(values, 1).deviations)  # type: ignore[arg-type]
    assert not np.array_equal(estimate_of(values, 1).deviations, estimate_of(values, 2).deviations)  # type: ignore[arg-type]


def test_a_mean_over_tasks_is_surer_than_each() -> None:
    random = np.random.default_rng(0)
    tasks = [estimate_of(MeanOfItems(random.uniform(0, 100, size=80)), number) for number in range(16)]
    mean = mean_estimate(tasks)
    assert mean.score == pytest.approx(np.mean([task.score for task in tasks]))
    assert np.std(mean.deviations) == pytest.approx(np.std(tasks[0].deviations) / 4, rel=0.25)  # type: ignore[arg-type]


def test_an_unknown_part_leaves_the_mean_without_interval() -> None:
    known = estimate_of(MeanOfItems(np.arange(50.0)), 1)
    mean = mean_estimate([known, Estimate(10.0, None)])
    assert mean.interval() is None
    assert mean.score == pytest.approx((known.score + 10) / 2)
    assert compare_all("unknown", {"known": known, "unknown": mean}) == []


def test_two_parts_are_drawn_from_apart() -> None:
    part = MeanOfItems(np.random.default_rng(0).uniform(0, 100, size=80))
    one = estimate(score_all(part), [part], content_sha256="1" * 64)
    two = estimate(score_all(part), [part, part], content_sha256="1" * 64)
    assert np.std(two.deviations) == pytest.approx(np.std(one.deviations) / math.sqrt(2), rel=0.15)  # type: ignore[arg-type]


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_holm_as_statsmodels_computes_it(p_values: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    assert holm(p_values) == multipletests(p_values, method="holm")[1].tolist()


def test_decisions_load_neither_statsmodels_nor_the_distributions_of_scipy() -> None:
    """A night without changes decides from stored scores. These libraries would take more time than it does."""
    code = (
        "import sys, numpy as np; from llm2vec_core.evaluation.statistics import stats;"
        "pair = {name: stats.Estimate(score, np.arange(9.0)) for name, score in (('a', 1.0), ('b', 2.0))};"
        "stats.compare_all('', pair | {'c': stats.Estimate(3.0, np.arange(9.0) ** 2)});"
        "stats.probability_not_worse(pair['a'], margin=1.0);"
        "sys.exit(', '.join({'statsmodels', 'scipy.stats', 'pandas'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("score", "margin", "p_value"), [(-3.0, 1.0, 0.0), (-0.5, 1.0, 1.0), (2.0, 0.0, 1.0)])
def test_a_certain_difference_needs_no_chance(score: float, margin: float, p_value: float) -> None:
    assert probability_not_worse(Estimate(score, np.zeros(10)), margin=margin) == p_value


def test_the_gate_refuses_an_equal_system_once_in_twenty() -> None:
    refused = 0
    for number in range(SIMULATIONS):
        one, other = (estimate_of(each, number) for each in equal_queries(np.random.default_rng(number)))
        refused += probability_not_worse(one - other, margin=0.0) < 0.05
    assert refused / SIMULATIONS == pytest.approx(0.05, abs=0.035)
