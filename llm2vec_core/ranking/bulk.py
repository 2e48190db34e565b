"""Matching in bulk: exact nearest neighbours both ways from one tiled product, and two rankings fused by block.

Belongs here: arithmetic over arrays whose size a tile or a block bounds. Does not belong here: BM25 (``lexical``), and
single queries (``fusion``, ``hybrid``), whose results are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int64
from threadpoolctl import threadpool_info, threadpool_limits

_NONE = np.iinfo(np.int64).min

TILE_ROWS = 2048
"""Rows of a tile on either side, so that each thread has 16 MB of products. Smaller ones stay in a core's cache, but
bounds that fewer scores give let more candidates through, which costs more than the cache saves."""


class Neighbours:
    """The nearest candidates of each of some rows."""

    def __init__(self, num_rows: int, k: int) -> None:
        """Start without candidates: 8 bytes for each of ``k`` in each row."""
        self.keys: Int64[np.ndarray, "rows k"] = np.full((num_rows, k), _NONE, np.int64)

    def best(self, rows: slice) -> tuple[Int64[np.ndarray, "rows k"], Float32[np.ndarray, "rows k"]]:
        """Candidates of some rows, best first, and their scores; number -1 and score -inf where there are fewer."""
        keys = np.sort(self.keys[rows], axis=1)[:, ::-1]
        numbers = np.where(keys == _NONE, -1, 0xFFFFFFFF - (keys & 0xFFFFFFFF))
        return numbers, _scores_of(keys)


class RunningTopK:
    """The ``k`` best candidates of each of some rows among all that were offered so far; ties go to the lower number.

    A candidate is one integer, score above number, so that one partition settles scores and ties alike, in whatever
    order blocks of candidates come. What reaches the k-th best of the last merge waits until there is enough for the
    next one.
    """

    def __init__(self, keys: Int64[np.ndarray, "rows k"]) -> None:
        """Start with the candidates in ``keys``, which are kept there: rows of :class:`Neighbours`."""
        self._keys = keys
        self._enough = np.full(len(keys), -np.inf, np.float32)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._num_waiting = 0
        self._lock = Lock()

    def offer(self, scores: Float32[np.ndarray, "*block"], *, axis: int, first_candidate: int) -> None:
        """Take in the scores of a block of candidates, which must be finite; threads may call this at the same time.

        Args:
            scores: Of all rows, which are along ``axis``; the candidates are along the other one.
            axis: 0 or 1. Scores are not turned, which would take longer than making them.
            first_candidate: Number of the first.
        """
        if np.isneginf(self._enough[0]):
            with self._lock:  # whoever comes second has a bound by then
                if np.isneginf(self._enough[0]):
                    self._enough = _reached_by(scores, self._keys.shape[1], axis=1 - axis)
        places = np.flatnonzero(scores >= (self._enough[:, None] if axis == 0 else self._enough))
        along = np.divmod(places, scores.shape[1])
        keys = _keys_of(scores.ravel()[places], along[1 - axis] + first_candidate)
        with self._lock:
            self._waiting.append((along[axis], keys))
            self._num_waiting += len(places)
            if self._num_waiting > self._keys.size // 2:
                self._merge()

    def finish(self) -> None:
        """Keep the best of what still waits, too."""
        with self._lock:
            self._merge()

    def _merge(self) -> None:
        """Keep the best of what rows have and of what waits."""
        if not self._num_waiting:
            return
        rows, keys = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        by_row = np.argsort(rows.astype(np.min_scalar_type(len(self._keys))), kind="stable")  # by radix, being short
        counts = np.bincount(rows, minlength=len(self._keys))
        k = self._keys.shape[1]
        merged = np.full((len(self._keys), k + int(counts.max())), _NONE, np.int64)
        merged[:, :k] = self._keys
        merged[:, k:][np.arange(merged.shape[1] - k) < counts[:, None]] = keys[by_row]
        merged.partition(merged.shape[1] - k, axis=1)
        self._keys[:] = merged[:, -k:]
        self._enough = np.maximum(self._enough, _scores_of(self._keys[:, 0]))  # where a partition leaves the least
        self._waiting, self._num_waiting = [], 0


def nearest_both_ways(
    left: Float32[np.ndarray, "left dim"],
    right: Float32[np.ndarray, "right dim"],
    *,
    k: int,
    tile_rows: int = TILE_ROWS,
    on_rows: Callable[[int], object] = lambda rows: None,
) -> tuple[Neighbours, Neighbours]:
    """The ``k`` rows of highest dot product, exactly, for every row of either side; each product is computed once.

    Args:
        left: Vectors; may be mapped from a file, as they are read tile by tile.
        right: Vectors of the same length; may be mapped, too.
        k: How many for each.
        tile_rows: Rows of either side that are multiplied at once; of no effect on the result.
        on_rows: Told after some rows of ``left`` how many more are done with.

    Returns:
        Neighbours of ``left`` among ``right``, and the other way round.
    """
    of_left, of_right = Neighbours(len(left), k), Neighbours(len(right), k)
    tiles = _tiles(len(right), tile_rows)
    running = [RunningTopK(of_right.keys[tile]) for tile in tiles]

    def search(rows: slice) -> None:
        of_rows = RunningTopK(of_left.keys[rows])
        space = np.empty((rows.stop - rows.start) * tile_rows, np.float32)  # reused, as fresh memory costs time
        for tile, of_tile in zip(tiles, running, strict=True):
            products = _multiply(left[rows], right[tile], space)
            of_rows.offer(products, axis=0, first_candidate=tile.start)
            of_tile.offer(products, axis=1, first_candidate=rows.start)
        of_rows.finish()

    for rows in _in_threads(search, _tiles(len(left), tile_rows)):
        on_rows(rows.stop - rows.start)
    for of_tile in running:
        of_tile.finish()
    return of_left, of_right


def nearest_of(
    rows: Int64[np.ndarray, " rows"],
    left: Float32[np.ndarray, "left dim"],
    right: Float32[np.ndarray, "right dim"],
    *,
    k: int,
) -> Neighbours:
    """The ``k`` rows of ``right`` of highest dot product, exactly, for some rows of ``left`` only.

    Args:
        rows: Which; the first row of the result is that of the first of them.
        left: Vectors; may be mapped from a file.
        right: Vectors of the same length; may be mapped, too.
        k: How many for each.
    """
    found = Neighbours(len(rows), k)

    def search(part: slice) -> None:
        vectors, of_part = left[rows[part]], RunningTopK(found.keys[part])
        space = np.empty(len(vectors) * TILE_ROWS, np.float32)
        for tile in _tiles(len(right), TILE_ROWS):
            of_part.offer(_multiply(vectors, right[tile], space), axis=0, first_candidate=tile.start)
        of_part.finish()

    for _ in _in_threads(search, _tiles(len(rows), TILE_ROWS)):
        pass
    return found


def _tiles(num_rows: int, tile_rows: int) -> list[slice]:
    return [slice(start, min(start + tile_rows, num_rows)) for start in range(0, num_rows, tile_rows)]


def _in_threads(search: Callable[[slice], None], tiles: Sequence[slice]) -> Iterator[slice]:
    """Search tiles in as many threads as a matrix product would take, each product taking one; told when done.

    Looking through a product takes one thread, whatever making it takes.
    """
    num_threads = max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(num_threads) as threads:
        for tile, _ in zip(tiles, threads.map(search, tiles), strict=True):
            yield tile


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

    The dense leg settles ties.

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
    settling = np.where(legs.dense_ranks > 0, legs.dense_ranks, np.iinfo(np.int64).max)
    return legs.best(np.where(legs.is_candidate, shares, -np.inf), limit, settling=settling)


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
    return legs.best(np.where(legs.is_candidate, fused, -np.inf), limit, settling=legs.numbers)


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

    def best(
        self, fused: Float[np.ndarray, "queries width"], limit: int, *, settling: Int64[np.ndarray, "queries width"]
    ) -> Fused:
        """The documents of the highest scores, ties by ``settling``, then by number; minus infinity is none."""
        best = np.lexsort((settling, -fused), axis=1)[:, :limit]
        scores = np.take_along_axis(fused, best, axis=1)
        found = np.isfinite(scores)
        return Fused(
            documents=np.where(found, np.take_along_axis(self.numbers, best, axis=1), -1),
            scores=np.where(found, scores, 0.0).astype(np.float32),
            dense_ranks=np.where(found, np.take_along_axis(self.dense_ranks, best, axis=1), 0),
            lexical_ranks=np.where(found, np.take_along_axis(self.lexical_ranks, best, axis=1), 0),
        )


def _multiply(
    left: Float32[np.ndarray, "left dim"], right: Float32[np.ndarray, "right dim"], space: Float32[np.ndarray, " size"]
) -> Float32[np.ndarray, "left right"]:
    """Dot products of two tiles, written to memory that is there already."""
    shape = (len(left), len(right))
    return np.matmul(left, right.T, out=space[: shape[0] * shape[1]].reshape(shape))


def _reached_by(scores: Float32[np.ndarray, "*block"], k: int, *, axis: int) -> Float32[np.ndarray, " rows"]:
    """A score that at least ``k`` of each row along an axis reach; minus infinity where there are fewer.

    The k-th best of the maxima of groups, twice as many groups as are needed: somewhat lower than the k-th best score,
    and found in an eighth of the time.
    """
    length = scores.shape[axis]
    if length < k:
        return np.full(scores.shape[1 - axis], -np.inf, np.float32)
    size = max(1, length // (2 * k))
    whole = scores[(slice(None),) * axis + (slice(length // size * size),)]
    maxima = whole.reshape(*scores.shape[:axis], size, -1, *scores.shape[axis + 1 :]).max(axis=axis)
    least: Float32[np.ndarray, " rows"] = np.partition(maxima, -k, axis=axis).take(-k, axis=axis)
    return least


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
