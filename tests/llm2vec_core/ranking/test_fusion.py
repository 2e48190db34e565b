"""Fusion equals the plain Python reference, for one query and for many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from llm2vec_core.errors import InputError
from llm2vec_core.ranking.fusion import (
    DENSE_VOTES,
    RRF_K,
    Weighted,
    convex_combination,
    either_leg,
    fuse,
    lexical_leg,
    top_k,
)
from tests.llm2vec_core.ranking import plain_reference

scores = npst.arrays(np.float32, st.integers(0, 40), elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0, 7.25]))
WIDTH = 15
RANKING = st.lists(st.integers(0, 30), unique=True, max_size=WIDTH)
BLOCK = st.lists(st.tuples(RANKING, RANKING), min_size=1, max_size=5)


def padded(*legs):
    """Legs of a block of queries as one array; -1 where a leg has no more documents."""
    return np.array([[*leg, *[-1] * (WIDTH - len(leg))] for leg in legs])


def fuse_one(dense, lexical, *, limit=2 * WIDTH):
    """Documents and scores of one query."""
    fused = fuse(padded(dense), padded(lexical), limit=limit)
    return list(zip(fused.documents[fused.is_hit].tolist(), fused.scores[fused.is_hit].tolist(), strict=True))


def test_the_formula() -> None:
    fused = dict(fuse_one([7, 3], [3, 9]))
    assert fused == {3: pytest.approx(4 / 7 + 1 / 6), 7: pytest.approx(4 / 6), 9: pytest.approx(1 / 7)}


def test_the_first_of_the_dense_leg_is_above_everything_in_the_middle_of_both() -> None:
    both = list(range(100, 200))
    order = [document for document, _ in fuse_one([0, *both][:WIDTH], [200, *both][:WIDTH])]
    assert order.index(0) == 1, "only the second of both is above"
    for rank in range(3, 101):
        assert (DENSE_VOTES + 1) / (RRF_K + rank) <= DENSE_VOTES / (RRF_K + 1)


def test_the_dense_leg_settles_ties() -> None:
    assert [document for document, _ in fuse_one([5, 2], [2, 5])] == [5, 2]
    assert [document for document, _ in fuse_one([5], [2])] == [5, 2]
    assert [document for document, _ in fuse_one([], [5, 2])] == [5, 2]
    assert [document for document, _ in plain_reference.by_rank([[], [2, 5], [5, 2]])] == [2, 5]


@given(RANKING, RANKING)
def test_every_document_appears_once_best_first(one: list[int], other: list[int]) -> None:
    fused = fuse_one(one, other)
    assert sorted(document for document, _ in fused) == sorted({*one, *other})
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)


@given(st.lists(st.integers(0, 2**62), unique=True, min_size=1, max_size=WIDTH))
def test_one_ranking_stays_as_it_is(ranking: list[int]) -> None:
    assert [document for document, _ in fuse_one(ranking, ranking)] == ranking


@given(BLOCK, st.integers(1, 2 * WIDTH))
def test_a_block_is_fused_by_rank_exactly_as_the_reference(legs: list[tuple[list[int], list[int]]], limit: int) -> None:
    fused = fuse(padded(*(dense for dense, _ in legs)), padded(*(lexical for _, lexical in legs)), limit=limit)
    for row, (dense, lexical) in enumerate(legs):
        expected = plain_reference.by_rank([dense, lexical])[:limit]
        hits = fused.is_hit[row]
        assert fused.documents[row][hits].tolist() == [document for document, _ in expected]
        assert fused.scores[row][hits].tolist() == [score for _, score in expected]
        for ranks, leg in ((fused.dense_ranks, dense), (fused.lexical_ranks, lexical)):
            at = [leg.index(document) + 1 if document in leg else 0 for document, _ in expected]
            assert ranks[row][hits].tolist() == at


def drawn(seed, *, queries=4, documents=24):
    """Cosines and BM25 of a block of queries: some tie, some documents share no word."""
    rng = np.random.default_rng(seed)
    cosines = np.where(rng.random((queries, documents)) < 0.5, rng.uniform(-1, 1, (queries, documents)), 0.25)
    bm25 = np.where(rng.random((queries, documents)) < 0.5, rng.exponential(3, (queries, documents)), 0.0)
    return cosines, np.where(rng.random(bm25.shape) < 0.3, 1.5, bm25)


def weigh(cosines, bm25, *, candidates, weight, limit):
    """Fuse a block of queries by the scores of all documents."""
    dense, lexical = top_k(cosines, candidates), lexical_leg(bm25, candidates)
    both = np.concatenate([dense, lexical], axis=1)
    of_both = (np.take_along_axis(each, both, axis=1) for each in (cosines, bm25))
    return fuse(dense, lexical, limit=limit, weighted=Weighted(weight, *of_both))


@given(st.integers(0, 9999), st.sampled_from([0.0, 0.25, 0.35, 0.5, 1.0]), st.integers(1, 26), st.integers(1, 60))
def test_a_block_is_fused_by_weight_exactly_as_the_reference(
    seed: int, weight: float, candidates: int, limit: int
) -> None:
    cosines, bm25 = drawn(seed)
    fused = weigh(cosines, bm25, candidates=candidates, weight=weight, limit=limit)
    for row, (of_dense, of_lexical) in enumerate(zip(cosines.tolist(), bm25.tolist(), strict=True)):
        legs = (plain_reference.best(of_dense, candidates), plain_reference.sharing_words(of_lexical, candidates))
        either = {*legs[0], *legs[1]}
        assert either_leg(cosines[row], bm25[row], limit=candidates).tolist() == sorted(either)
        expected = plain_reference.by_weight(
            {at: of_dense[at] for at in either}, {at: of_lexical[at] for at in either}, weight=weight
        )[:limit]
        hits = fused.is_hit[row]
        assert fused.documents[row][hits].tolist() == [document for document, _ in expected]
        assert fused.scores[row][hits].tolist() == [score for _, score in expected]
        for ranks, leg in zip((fused.dense_ranks, fused.lexical_ranks), legs, strict=True):
            at = [leg.index(document) + 1 if document in leg else 0 for document, _ in expected]
            assert ranks[row][hits].tolist() == at


@given(st.integers(0, 9999), st.sampled_from([None, 0.35]), st.sampled_from([np.float32, np.float64]))
def test_a_block_of_queries_is_so_many_blocks_of_one(seed: int, weight: float | None, precision: type) -> None:
    cosines, bm25 = (each.astype(precision) for each in drawn(seed))

    def fused(part: slice) -> object:
        if weight is not None:
            return weigh(cosines[part], bm25[part], candidates=9, weight=weight, limit=12)
        return fuse(top_k(cosines[part], 9), lexical_leg(bm25[part], 9), limit=12)

    together, alone = fused(slice(None)), [fused(slice(at, at + 1)) for at in range(len(cosines))]
    for name in ("documents", "scores", "dense_ranks", "lexical_ranks"):
        np.testing.assert_array_equal(getattr(together, name), np.concatenate([getattr(one, name) for one in alone]))


@given(scores, st.integers(0, 50))
def test_top_k_is_a_full_sort_cut_short(row: np.ndarray, k: int) -> None:
    expected = sorted(range(len(row)), key=lambda index: (-row[index], index))[:k]
    assert top_k(row, k).tolist() == expected


@pytest.mark.parametrize("width", [1, 40, 512, 513, 2000])
@pytest.mark.parametrize("k", [0, 1, 7, 100, 3000])
def test_top_k_of_a_block_is_that_of_its_rows(width: int, k: int) -> None:
    block = np.random.default_rng(width).integers(0, width, (3, width)).astype(np.float32)
    block[0, 0] = np.nan
    assert top_k(block, k).tolist() == [top_k(row, k).tolist() for row in block]
    assert top_k(block[1], k).tolist() == plain_reference.best(block[1].tolist(), k)


@given(scores, st.integers(0, 50))
def test_the_lexical_leg_ends_where_no_word_is_shared(row: np.ndarray, k: int) -> None:
    found = lexical_leg(row, k)
    assert found[found >= 0].tolist() == plain_reference.sharing_words(row.tolist(), k)
    assert (found[len(found[found >= 0]) :] == -1).all()


def test_top_k_of_rows() -> None:
    matrix = np.array([[1.0, 3.0, 3.0, 0.0], [0.0, 0.0, 0.0, 9.0]])
    assert top_k(matrix, 2).tolist() == [[1, 2], [3, 0]]
    assert top_k(np.empty((3, 0)), 2).shape == (3, 0)


def test_nan_comes_last() -> None:
    assert top_k(np.array([np.nan, 1.0, np.nan, -5.0]), 2).tolist() == [1, 3]


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="-2"):
        top_k(np.zeros(3), -2)


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
