"""Bulk arithmetic gives what the plain definitions give, ties included."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from llm2vec_core.ranking.bulk import Neighbours, RunningTopK, fuse_block, nearest_both_ways, nearest_of, weigh_block
from llm2vec_core.ranking.fusion import reciprocal_rank_fusion, top_k
from llm2vec_core.ranking.hybrid import either_leg, weigh_legs


def small_integers(seed, rows, dim):
    """Vectors whose products are exact in float32, with many ties."""
    return np.random.default_rng(seed).integers(-2, 3, size=(rows, dim)).astype(np.float32)


@given(
    seed=st.integers(0, 999),
    left=st.integers(0, 40),
    right=st.integers(0, 40),
    k=st.integers(1, 12),
    tile=st.integers(1, 50),
)
def test_both_ways_are_the_exact_top_k_with_ties_by_number(seed, left, right, k, tile):
    lefts, rights = small_integers(seed, left, 3), small_integers(seed + 1, right, 3)
    of_left, of_right = nearest_both_ways(lefts, rights, k=k, tile_rows=tile)
    for state, products in ((of_left, lefts @ rights.T), (of_right, rights @ lefts.T)):
        numbers, scores = state.best(slice(None))
        kept = min(k, products.shape[1])
        expected = top_k(products, k)
        np.testing.assert_array_equal(numbers[:, :kept], expected)
        np.testing.assert_array_equal(scores[:, :kept], np.take_along_axis(products, expected, axis=1))
        assert (numbers[:, kept:] == -1).all()
        assert np.isneginf(scores[:, kept:]).all()


def test_the_size_of_a_tile_changes_nothing_on_real_numbers():
    rng = np.random.default_rng(0)
    lefts, rights = (rng.normal(size=(rows, 32)).astype(np.float32) for rows in (700, 500))
    for state, products in zip(
        nearest_both_ways(lefts, rights, k=20, tile_rows=128), (lefts @ rights.T, rights @ lefts.T), strict=True
    ):
        numbers, scores = state.best(slice(None))
        np.testing.assert_array_equal(numbers, top_k(products, 20))
        np.testing.assert_allclose(scores, np.sort(products, axis=1)[:, ::-1][:, :20], atol=1e-5)


@given(
    seed=st.integers(0, 999),
    num_rows=st.integers(1, 60),
    k=st.integers(1, 6),
    cuts=st.lists(st.integers(1, 59), unique=True, max_size=8),
)
def test_blocks_of_any_width_in_any_order_leave_the_same_best(seed, num_rows, k, cuts):
    products = small_integers(seed, num_rows, 60)
    blocks = np.split(np.arange(60), sorted(cuts))
    found = [Neighbours(num_rows, k), Neighbours(num_rows, k)]
    by_rows, by_columns = (RunningTopK(each.keys) for each in found)
    for at in np.random.default_rng(seed).permutation(len(blocks)):
        block = products[:, blocks[at]]
        by_rows.offer(block, axis=0, first_candidate=blocks[at][0])
        by_columns.offer(np.ascontiguousarray(block.T), axis=1, first_candidate=blocks[at][0])
    for running, neighbours in zip((by_rows, by_columns), found, strict=True):
        running.finish()
        numbers, scores = neighbours.best(slice(None))
        np.testing.assert_array_equal(numbers, top_k(products, k))
        np.testing.assert_array_equal(scores, np.take_along_axis(products, numbers, axis=1))


def test_threads_leave_what_one_leaves():
    vectors = small_integers(0, 3000, 8)
    with threadpool_limits(1):
        alone = nearest_both_ways(vectors, vectors[::-1], k=7, tile_rows=64)
    with threadpool_limits(4):
        together = nearest_both_ways(vectors, vectors[::-1], k=7, tile_rows=64)
    for one, many in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.best(slice(None))[0], many.best(slice(None))[0])


@pytest.mark.parametrize("tile_rows", [40, 700])
def test_some_rows_find_what_all_find(tile_rows):
    rng = np.random.default_rng(0)
    lefts, rights = small_integers(1, 2500, 4), small_integers(2, 2100, 4)
    rows = np.sort(rng.choice(len(lefts), 700, replace=False))
    numbers, scores = nearest_of(rows, lefts, rights, k=9).best(slice(None))
    expected = nearest_both_ways(lefts, rights, k=9, tile_rows=tile_rows)[0].best(slice(None))
    np.testing.assert_array_equal(numbers, expected[0][rows])
    np.testing.assert_array_equal(scores, expected[1][rows])


def test_progress_adds_up_to_the_left_side():
    told = []
    nearest_both_ways(small_integers(0, 25, 3), small_integers(1, 7, 3), k=2, tile_rows=10, on_rows=told.append)
    assert told == [10, 10, 5]


RANKING = st.lists(st.integers(0, 9), unique=True, max_size=6)


@given(
    legs=st.lists(st.tuples(RANKING, RANKING), min_size=1, max_size=5),
    limit=st.integers(1, 8),
    rrf_k=st.sampled_from([1, 60]),
)
def test_a_block_is_fused_as_each_of_its_queries(legs, limit, rrf_k):
    dense, lexical = (np.array([leg + [-1] * (6 - len(leg)) for leg in side]) for side in zip(*legs, strict=True))
    fused = fuse_block(dense, lexical, limit=limit, rrf_k=rrf_k)
    for row, (of_dense, of_lexical) in enumerate(legs):
        expected = reciprocal_rank_fusion([of_dense, of_lexical], k=rrf_k)[:limit]
        hits = fused.is_hit[row]
        assert fused.documents[row][hits].tolist() == [document for document, _ in expected]
        assert fused.scores[row][hits] == pytest.approx([score for _, score in expected])
        for ranks, leg in ((fused.dense_ranks, of_dense), (fused.lexical_ranks, of_lexical)):
            at = [leg.index(document) + 1 if document in leg else 0 for document, _ in expected]
            assert ranks[row][hits].tolist() == at


@given(seed=st.integers(0, 999), weight=st.sampled_from([0.0, 0.25, 0.5, 1.0]), limit=st.integers(1, 9))
def test_a_block_is_weighed_as_each_of_its_queries(seed, weight, limit):
    rng = np.random.default_rng(seed)
    cosines = (rng.integers(-4, 5, size=(4, 8)) / 4).astype(np.float32)
    bm25 = rng.integers(0, 4, size=(4, 8)).astype(np.float32)
    dense, lexical = top_k(cosines, 5), top_k(bm25, 5)
    lexical[np.take_along_axis(bm25, lexical, axis=1) == 0] = -1
    both = np.concatenate([dense, lexical], axis=1)
    fused = weigh_block(
        dense,
        lexical,
        cosines=np.take_along_axis(cosines, both, axis=1),
        bm25=np.take_along_axis(bm25, both, axis=1),
        weight=weight,
        limit=limit,
    )
    for row in range(4):
        found = either_leg(cosines[row], bm25[row], limit=5)
        legs = [
            [(int(at), float(of[row, at])) for at in leg[row] if at >= 0]
            for leg, of in ((dense, cosines), (lexical, bm25))
        ]
        hits = weigh_legs(
            dense=legs[0],
            lexical=legs[1],
            cosines={int(at): float(cosines[row, at]) for at in found},
            bm25={int(at): float(bm25[row, at]) for at in found},
            weight=weight,
            limit=limit,
        )
        kept = fused.is_hit[row]
        assert fused.documents[row][kept].tolist() == [hit.index for hit in hits]
        assert fused.scores[row][kept] == pytest.approx([hit.score for hit in hits])
        for ranks, name in ((fused.dense_ranks, "dense_rank"), (fused.lexical_ranks, "lexical_rank")):
            assert ranks[row][kept].tolist() == [getattr(hit, name) or 0 for hit in hits]
