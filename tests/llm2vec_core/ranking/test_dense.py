"""Matrix products of whole tables find the exact nearest neighbours, including ties."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from llm2vec_core.ranking.dense import Neighbours, RunningTopK, StoredNeighbours, nearest_both_ways, nearest_of
from llm2vec_core.ranking.dense_device import nearest_both_ways_on
from llm2vec_core.ranking.fusion import top_k


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


@pytest.mark.parametrize("ranked", [(0, 5), (25, 0), (9, 12), (13, 30), (25, 30)])
def test_only_the_first_rows_are_neighbours_where_the_caller_says_so(ranked):
    lefts, rights = small_integers(0, 25, 3), small_integers(1, 30, 3)
    of_left, of_right = nearest_both_ways(lefts, rights, k=4, ranked=ranked, tile_rows=8)
    for found, queries, candidates in ((of_left, lefts, rights[: ranked[1]]), (of_right, rights, lefts[: ranked[0]])):
        expected = nearest_of(np.arange(len(queries)), queries, candidates, k=4)
        for a, b in zip(found.best(slice(None)), expected.best(slice(None)), strict=True):
            assert np.array_equal(a, b)


@given(
    seed=st.integers(0, 99),
    left=st.integers(1, 40),
    right=st.integers(1, 40),
    k=st.integers(1, 12),
    tile=st.integers(1, 50),
)
def test_a_device_gives_the_ranks_of_the_cpu_with_ties_by_number(seed, left, right, k, tile):
    lefts, rights = small_integers(seed, left, 3), small_integers(seed + 1, right, 3)
    ranked = (left * 2 // 3, right // 2)
    expected = nearest_both_ways(lefts, rights, k=k, ranked=ranked, first_left=7)
    on_cpu = torch.device("cpu")
    found = nearest_both_ways_on(on_cpu, lefts, rights, k=k, ranked=ranked, first_left=7, tile_rows=tile)
    for one, other in zip(found, expected, strict=True):
        for ours, theirs in zip(one.best(slice(None)), other.best(slice(None)), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@given(
    seed=st.integers(0, 99),
    left=st.integers(1, 60),
    right=st.integers(1, 40),
    k=st.integers(1, 12),
    stripe=st.integers(1, 70),
)
def test_stripes_of_one_side_give_the_candidates_of_one_pass(seed, left, right, k, stripe):
    lefts, rights = small_integers(seed, left, 3), small_integers(seed + 1, right, 3)
    expected = nearest_both_ways(lefts, rights, k=k)
    starts = range(0, left, stripe)
    parts = [nearest_both_ways(lefts[start : start + stripe], rights, k=k, first_left=start) for start in starts]
    of_left = StoredNeighbours([(start, part.keys) for start, (part, _) in zip(starts, parts, strict=True)])
    of_right = StoredNeighbours([(0, part.keys) for _, part in parts])
    for one, whole, rows in ((of_left, expected[0], left), (of_right, expected[1], right)):
        for part in (slice(0, rows // 2), slice(rows // 2, rows)):
            for ours, theirs in zip(one.best(part), whole.best(part), strict=True):
                np.testing.assert_array_equal(ours, theirs)
