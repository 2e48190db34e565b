import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from llm2vec_core.errors import InputError
from llm2vec_core.ranking.fusion import (
    MIN_JUDGED_QUERIES,
    JudgedQuery,
    convex_combination,
    cross_fit_weights,
    reciprocal_rank_fusion,
    score_weights,
    top_k,
    tune_weight,
)

rankings = st.lists(st.lists(st.integers(0, 30), unique=True, max_size=15), max_size=4)
scores = npst.arrays(np.float32, st.integers(0, 40), elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0, 7.25]))


def test_the_formula_of_the_paper() -> None:
    fused = dict(reciprocal_rank_fusion([[7, 3], np.array([3, 9])]))
    assert fused == {3: pytest.approx(1 / 62 + 1 / 61), 7: pytest.approx(1 / 61), 9: pytest.approx(1 / 62)}


def test_the_first_ranking_settles_ties() -> None:
    assert [document for document, _ in reciprocal_rank_fusion([[5, 2], [2, 5]])] == [5, 2]
    assert [document for document, _ in reciprocal_rank_fusion([[5], [2]])] == [5, 2]
    assert [document for document, _ in reciprocal_rank_fusion([[], [2, 5], [5, 2]])] == [2, 5]


def test_a_repeated_document_counts_at_its_better_rank() -> None:
    assert reciprocal_rank_fusion([[4, 4, 8]], k=0) == [(4, 1.0), (8, 0.5)]


@given(rankings, st.randoms(use_true_random=False))
def test_the_order_of_the_legs_decides_no_score(legs: list[list[int]], random: object) -> None:
    shuffled = legs.copy()
    random.shuffle(shuffled)
    assert dict(reciprocal_rank_fusion(shuffled)) == dict(reciprocal_rank_fusion(legs))


@given(rankings)
def test_every_document_appears_once_best_first(legs: list[list[int]]) -> None:
    fused = reciprocal_rank_fusion(legs)
    assert sorted(document for document, _ in fused) == sorted({document for leg in legs for document in leg})
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)


@given(st.lists(st.integers(), unique=True, min_size=1))
def test_one_ranking_stays_as_it_is(ranking: list[int]) -> None:
    assert [document for document, _ in reciprocal_rank_fusion([ranking, ranking])] == ranking


@given(scores, st.integers(0, 50))
def test_top_k_is_a_full_sort_cut_short(row: np.ndarray, k: int) -> None:
    expected = sorted(range(len(row)), key=lambda index: (-row[index], index))[:k]
    assert top_k(row, k).tolist() == expected


def test_top_k_of_rows() -> None:
    matrix = np.array([[1.0, 3.0, 3.0, 0.0], [0.0, 0.0, 0.0, 9.0]])
    assert top_k(matrix, 2).tolist() == [[1, 2], [3, 0]]
    assert top_k(np.empty((3, 0)), 2).shape == (3, 0)


def test_nan_comes_last() -> None:
    assert top_k(np.array([np.nan, 1.0, np.nan, -5.0]), 2).tolist() == [1, 3]


def test_judgments_below_zero_count_as_zero() -> None:
    junk = JudgedQuery(np.array([0.9, 0.1, 0.5]), np.array([0.0, 1.0, 2.0]), np.array([-1.0, 0.0, 1.0]))
    plain = JudgedQuery(junk.dense, junk.lexical, np.array([0.0, 0.0, 1.0]))
    np.testing.assert_array_equal(score_weights([junk]), score_weights([plain]))


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="-1"):
        reciprocal_rank_fusion([[1]], k=-1)
    with pytest.raises(InputError, match="-2"):
        top_k(np.zeros(3), -2)


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


def test_scores_are_scaled_from_what_a_leg_can_give_at_least() -> None:
    fused = convex_combination(np.array([-1.0, 0.0, 0.6]), np.array([4.0, 0.0, 8.0]), weight=0.25)
    assert fused == pytest.approx([0.375, 0.25 * 1 / 1.6, 1.0])
    with pytest.raises(InputError, match=r"1\.5"):
        convex_combination(np.zeros(1), np.zeros(1), weight=1.5)


@given(scores, st.floats(0, 1), st.floats(0.1, 50))
def test_fused_scores_do_not_depend_on_the_unit_of_bm25(row: np.ndarray, weight: float, unit: float) -> None:
    lexical, dense = np.abs(row).astype(float), np.tanh(row).astype(float)
    fused = convex_combination(dense, lexical, weight=weight)
    assert fused == pytest.approx(convex_combination(dense, unit * lexical, weight=weight))
    assert ((fused >= 0) & (fused <= 1 + 1e-9)).all()


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
