"""Tuned weights follow judged queries, and no query is scored with a weight that it helped to choose."""

import numpy as np
import pytest

from llm2vec_core.errors import InputError
from llm2vec_core.ranking.tuning import MIN_JUDGED_QUERIES, JudgedQuery, cross_fit_weights, score_weights, tune_weight


def test_judgments_below_zero_count_as_zero() -> None:
    junk = JudgedQuery(np.array([0.9, 0.1, 0.5]), np.array([0.0, 1.0, 2.0]), np.array([-1.0, 0.0, 1.0]))
    plain = JudgedQuery(junk.dense, junk.lexical, np.array([0.0, 0.0, 1.0]))
    np.testing.assert_array_equal(score_weights([junk]), score_weights([plain]))


def judged(count: int, *, dense_noise: float, lexical_noise: float, seed: int = 0) -> list[JudgedQuery]:
    """Queries with one relevant candidate of twenty, and legs that see it more or less clearly."""
    rng = np.random.default_rng(seed)
    queries = []
    for _ in range(count):
        relevance = np.zeros(20)
        relevance[rng.integers(20)] = 1
        dense = np.tanh(relevance + dense_noise * rng.normal(size=20))
        lexical = np.exp(relevance + lexical_noise * rng.normal(size=20))
        queries.append(JudgedQuery(dense, lexical, relevance))
    return queries


@pytest.mark.parametrize(("dense_noise", "lexical_noise", "low", "high"), [(0.1, 9, 0.5, 1), (9, 0.1, 0, 0.5)])
def test_the_leg_that_sees_more_gets_more_weight(
    dense_noise: float, lexical_noise: float, low: float, high: float
) -> None:
    found = tune_weight(score_weights(judged(60, dense_noise=dense_noise, lexical_noise=lexical_noise)), seed=1)
    assert low <= found.low <= found.weight <= found.high <= high
    assert found.weight != 0.5


def test_a_weight_beats_either_leg_where_both_see_something() -> None:
    means = score_weights(judged(200, dense_noise=0.6, lexical_noise=0.6)).mean(axis=0)
    assert means.max() > max(means[0], means[-1]) + 0.02


def test_where_no_weight_is_better_the_legs_share() -> None:
    assert tune_weight(np.ones((60, 21)), seed=0).weight == 0.5


def test_no_query_is_scored_by_a_weight_that_it_helped_to_choose() -> None:
    scores_of = score_weights(judged(101, dense_noise=0.6, lexical_noise=0.6))
    weights = cross_fit_weights(scores_of, seed=3)
    assert len(set(weights.tolist())) <= 2
    for query in range(0, 101, 17):
        changed = scores_of.copy()
        changed[query] = 100 * np.eye(21)[0]  # it would draw any weight to zero
        assert cross_fit_weights(changed, seed=3)[query] == weights[query]
        assert (cross_fit_weights(changed, seed=3) == 0).sum() >= 50


def test_few_judgments_tune_nothing() -> None:
    with pytest.raises(InputError, match="49 judged"):
        tune_weight(np.ones((MIN_JUDGED_QUERIES - 1, 21)), seed=0)
    with pytest.raises(InputError, match="49 judged"):
        cross_fit_weights(np.ones((2 * MIN_JUDGED_QUERIES - 1, 21)), seed=0)
