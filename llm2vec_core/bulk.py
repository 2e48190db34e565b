"""Matching in bulk: exact nearest neighbours both ways from one blocked product, and two rankings fused by block.

Belongs here: arithmetic over arrays whose size a block bounds. Does not belong here: BM25 (``lexical``), and single
queries (``fusion``, ``hybrid``), whose results are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int64

_NONE = np.iinfo(np.int64).min
_GROUPS_PER_RESULT = 3


class RunningTopK:
    """The ``k`` best candidates of each row among all that were offered so far; ties go to the lower number.

    A candidate is one integer, score above number, so that one partition settles scores and ties alike.
    """

    def __init__(self, num_rows: int, k: int) -> None:
        """Start with no candidates: 8 bytes for each of ``k`` in each row."""
        self._k = k
        # The first of a row is its least, where a partition leaves it; the others are in no order.
        self._keys: Int64[np.ndarray, "rows k"] = np.full((num_rows, k), _NONE, np.int64)

    def offer(self, scores: Float32[np.ndarray, "rows candidates"], *, first_row: int, first_candidate: int) -> None:
        """Take in the scores of a block of candidates for a block of rows, which must be finite."""
        num_rows, num_candidates = scores.shape
        enough = self._enough(slice(first_row, first_row + num_rows), lambda: _lower_bounds(scores, self._k))
        places = np.flatnonzero(scores >= enough[:, None])
        rows = places // num_candidates
        keys = _keys_of(scores.ravel()[places], places - rows * num_candidates + first_candidate)
        self._merge(first_row, np.bincount(rows), keys)

    def offer_columns(
        self, scores: Float32[np.ndarray, "candidates rows"], *, first_row: int, first_candidate: int
    ) -> None:
        """The same for a block whose columns are the rows; it is not turned, which would take longer than making it."""
        num_rows = scores.shape[1]
        enough = self._enough(slice(first_row, first_row + num_rows), lambda: _lower_bounds(scores.T, self._k))
        places = np.flatnonzero(scores >= enough)
        candidates = places // num_rows
        rows = places - candidates * num_rows
        keys = _keys_of(scores.ravel()[places], candidates + first_candidate)
        by_row = np.argsort(rows.astype(np.min_scalar_type(num_rows)), kind="stable")  # by radix, being short
        self._merge(first_row, np.bincount(rows), keys[by_row])

    def _enough(self, rows: slice, bounds: Callable[[], np.ndarray]) -> Float32[np.ndarray, " rows"]:
        """What a score must reach to be among the best: the k-th best so far, or a bound until there are so many."""
        held = _scores_of(self._keys[rows, 0])
        return held if np.isfinite(held).all() else np.maximum(held, bounds())

    def _merge(self, first_row: int, counts: Int64[np.ndarray, " rows"], keys: Int64[np.ndarray, " keys"]) -> None:
        """Keep the best of what rows have and of as many keys as ``counts`` says for each, which lie row after row."""
        touched = np.flatnonzero(counts)
        if not len(touched):
            return
        counts = counts[touched]
        merged = np.full((len(touched), self._k + int(counts.max())), _NONE, np.int64)
        merged[:, : self._k] = self._keys[first_row + touched]
        merged[:, self._k :][np.arange(merged.shape[1] - self._k) < counts[:, None]] = keys
        merged.partition(merged.shape[1] - self._k, axis=1)
        self._keys[first_row + touched] = merged[:, -self._k :]

    def best(self, rows: slice) -> tuple[Int64[np.ndarray, "rows k"], Float32[np.ndarray, "rows k"]]:
        """Candidates of some rows, best first, and their scores; number -1 and score -inf where there are fewer."""
        keys = np.sort(self._keys[rows], axis=1)[:, ::-1]
        numbers = np.where(keys == _NONE, -1, 0xFFFFFFFF - (keys & 0xFFFFFFFF))
        return numbers, _scores_of(keys)


def nearest_both_ways(
    left: Float32[np.ndarray, "left dim"],
    right: Float32[np.ndarray, "right dim"],
    *,
    k: int,
    block_rows: int,
    on_block: Callable[[int], object] = lambda rows: None,
) -> tuple[RunningTopK, RunningTopK]:
    """The ``k`` rows of highest dot product, exactly, for every row of either side; each product is computed once.

    Args:
        left: Vectors; may be mapped from a file, as they are read block by block.
        right: Vectors of the same length.
        k: How many for each.
        block_rows: Rows of a block on either side: ``block_rows`` squared products are in memory at once.
        on_block: Told after each block how many rows of ``left`` are done with.

    Returns:
        Neighbours of ``left`` among ``right``, and the other way round.
    """
    of_left, of_right = RunningTopK(len(left), k), RunningTopK(len(right), k)
    for top in range(0, len(left), block_rows):
        rows = np.ascontiguousarray(left[top : top + block_rows])
        for start in range(0, len(right), block_rows):
            products = rows @ right[start : start + block_rows].T
            of_left.offer(products, first_row=top, first_candidate=start)
            of_right.offer_columns(products, first_row=start, first_candidate=top)
        on_block(len(rows))
    return of_left, of_right


def nearest_of(
    rows: Int64[np.ndarray, " rows"],
    left: Float32[np.ndarray, "left dim"],
    right: Float32[np.ndarray, "right dim"],
    *,
    k: int,
    block_rows: int,
) -> RunningTopK:
    """The ``k`` rows of ``right`` of highest dot product, exactly, for some rows of ``left`` only.

    Args:
        rows: Which; the first row of the result is that of the first of them.
        left: Vectors; may be mapped from a file.
        right: Vectors of the same length; may be mapped, too.
        k: How many for each.
        block_rows: Rows of a block on either side.
    """
    found = RunningTopK(len(rows), k)
    for top in range(0, len(rows), block_rows):
        block = left[rows[top : top + block_rows]]
        for start in range(0, len(right), block_rows):
            found.offer(block @ right[start : start + block_rows].T, first_row=top, first_candidate=start)
    return found


@dataclass(frozen=True)
class Fused:
    """Rankings of a block of queries, best first; a row may hold fewer documents than there are columns.

    Attributes:
        documents: Numbers of documents, -1 where there is none.
        scores: Fused score of each.
        dense_ranks: Rank in the dense leg, the first being 1; 0 where that leg did not bring the document.
        lexical_ranks: The same of the lexical leg.
    """

    documents: Int64[np.ndarray, "queries limit"]
    scores: Float32[np.ndarray, "queries limit"]
    dense_ranks: Int64[np.ndarray, "queries limit"]
    lexical_ranks: Int64[np.ndarray, "queries limit"]

    @property
    def is_hit(self) -> Bool[np.ndarray, "queries limit"]:
        """Where there is a document."""
        found: Bool[np.ndarray, "queries limit"] = self.documents >= 0
        return found


def fuse_block(
    dense: Int[np.ndarray, "queries dense"], lexical: Int[np.ndarray, "queries lexical"], *, limit: int, rrf_k: int
) -> Fused:
    """Reciprocal rank fusion of a block of queries: what ``fusion.reciprocal_rank_fusion`` gives for each.

    Args:
        dense: Numbers of documents of each query, best first; -1 where there are no more.
        lexical: The same of the other leg.
        limit: Documents kept of each query.
        rrf_k: Constant of reciprocal rank fusion.
    """
    legs = _Legs.merged(dense, lexical)
    shares = np.where(legs.numbers >= 0, 1.0 / (rrf_k + legs.ranks), 0.0)
    row, second = np.nonzero(legs.is_again)
    shares[row, second - 1] += shares[row, second]
    return legs.best(np.where(legs.is_candidate, shares, -np.inf), limit)


def weigh_block(
    dense: Int[np.ndarray, "queries dense"],
    lexical: Int[np.ndarray, "queries lexical"],
    *,
    cosines: Float32[np.ndarray, "queries candidates"],
    bm25: Float32[np.ndarray, "queries candidates"],
    weight: float,
    limit: int,
) -> Fused:
    """Convex combination of the scores of a block of queries: what ``hybrid.weigh_legs`` gives for each.

    Args:
        dense: Numbers of documents of each query, best first; -1 where there are no more.
        lexical: The same of the other leg.
        cosines: Of the candidates of the dense leg, then of those of the lexical one.
        bm25: The same.
        weight: Of the dense leg, 0 to 1.
        limit: Documents kept of each query.
    """
    legs = _Legs.merged(dense, lexical)
    fused = np.zeros(legs.numbers.shape)
    for scores, minimum, share in ((cosines, -1.0, weight), (bm25, 0.0, 1 - weight)):
        scores = np.where(legs.is_candidate, np.take_along_axis(scores, legs.order, axis=1).astype(float), minimum)
        span = scores.max(axis=1, keepdims=True, initial=minimum) - minimum
        fused += share * np.divide(scores - minimum, span, out=np.zeros(scores.shape), where=span > 0)
    return legs.best(np.where(legs.is_candidate, fused, -np.inf), limit)


@dataclass(frozen=True)
class _Legs:
    """The candidates of both legs of a block of queries, by number; a document that both bring stands there twice.

    Attributes:
        numbers: Of the documents, -1 where there is none.
        order: Where each stood in the two legs side by side.
        ranks: Its rank in the leg that it is of.
        dense_ranks: Its rank in the dense leg, 0 where that did not bring it.
        lexical_ranks: The same of the lexical leg; the first mention of a document has the ranks of both.
        is_again: Second mentions.
    """

    numbers: Int64[np.ndarray, "queries width"]
    order: Int64[np.ndarray, "queries width"]
    ranks: Int64[np.ndarray, "queries width"]
    dense_ranks: Int64[np.ndarray, "queries width"]
    lexical_ranks: Int64[np.ndarray, "queries width"]
    is_again: Bool[np.ndarray, "queries width"]

    @classmethod
    def merged(cls, dense: Int[np.ndarray, "queries dense"], lexical: Int[np.ndarray, "queries lexical"]) -> _Legs:
        width = dense.shape[1] + lexical.shape[1]
        ranks = np.concatenate([np.arange(1, leg.shape[1] + 1) for leg in (dense, lexical)])
        is_dense = np.arange(width) < dense.shape[1]
        numbers = np.concatenate([dense, lexical], axis=1)
        order = np.argsort(numbers, axis=1, kind="stable")  # both mentions side by side, the dense one first
        numbers = np.take_along_axis(numbers, order, axis=1)
        dense_ranks, lexical_ranks = (np.where(leg[order], ranks[order], 0) for leg in (is_dense, ~is_dense))
        again = np.zeros(numbers.shape, bool)
        again[:, 1:] = (numbers[:, 1:] == numbers[:, :-1]) & (numbers[:, 1:] >= 0)
        row, second = np.nonzero(again)
        lexical_ranks[row, second - 1] = lexical_ranks[row, second]
        return cls(numbers, order, ranks[order], dense_ranks, lexical_ranks, again)

    @property
    def is_candidate(self) -> Bool[np.ndarray, "queries width"]:
        """First mentions of documents."""
        first: Bool[np.ndarray, "queries width"] = (self.numbers >= 0) & ~self.is_again
        return first

    def best(self, fused: Float[np.ndarray, "queries width"], limit: int) -> Fused:
        """The documents of the highest scores, ties by number; minus infinity is none."""
        best = np.argsort(-fused, axis=1, kind="stable")[:, :limit]
        scores = np.take_along_axis(fused, best, axis=1)
        found = np.isfinite(scores)
        return Fused(
            documents=np.where(found, np.take_along_axis(self.numbers, best, axis=1), -1),
            scores=np.where(found, scores, 0.0).astype(np.float32),
            dense_ranks=np.where(found, np.take_along_axis(self.dense_ranks, best, axis=1), 0),
            lexical_ranks=np.where(found, np.take_along_axis(self.lexical_ranks, best, axis=1), 0),
        )


def _lower_bounds(scores: Float32[np.ndarray, "rows candidates"], k: int) -> Float32[np.ndarray, " rows"]:
    """For each row a bound that its k-th best score reaches: the k-th best of the maxima of some groups.

    Far fewer maxima than scores are partitioned, and few scores beyond the k best reach the bound.
    """
    groups = min(_GROUPS_PER_RESULT * k, scores.shape[1])
    if groups < k:
        return np.full(len(scores), -np.inf, np.float32)
    size = scores.shape[1] // groups
    # Each group is a stripe of the block, whichever way that lies in memory.
    maxima = scores[:, :groups].copy()
    for start in range(groups, size * groups, groups):
        np.maximum(maxima, scores[:, start : start + groups], out=maxima)
    bounds: Float32[np.ndarray, " rows"] = np.partition(maxima, groups - k, axis=1)[:, groups - k]
    return bounds


def _keys_of(scores: Float32[np.ndarray, " n"], numbers: Int[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Integers in the order of the scores, equal scores in the order of descending numbers."""
    bits = (scores + np.float32(0)).view(np.int32)  # adding zero makes one zero of two
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)
    keys: Int64[np.ndarray, " n"] = (ordered << 32) + (0xFFFFFFFF - numbers)
    return keys


def _scores_of(keys: Int64[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """The scores in :func:`_keys_of`'s integers; minus infinity where there is no candidate."""
    ordered = (keys >> 32).astype(np.int32)
    scores = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(np.float32)
    return np.where(keys == _NONE, np.float32(-np.inf), scores)
