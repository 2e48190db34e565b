"""Exact nearest neighbours between two sets of vectors, both ways, from one tiled product.

Belongs here: vector search of bulk matching, with memory bounded by the tile size. Does not belong here: BM25
(``lexical``), fusion (``fusion``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import numpy as np
from jaxtyping import Float32, Int, Int64
from threadpoolctl import threadpool_info, threadpool_limits

_NONE = np.iinfo(np.int64).min

TILE_ROWS = 2048
"""Rows of a tile on either side; each thread has 16 MB of products. Smaller tiles would fit a core's cache, but their
lower bounds would admit more candidates, which costs more than the cache saves."""


class Neighbours:
    """Nearest candidates of each row."""

    def __init__(self, num_rows: int, k: int) -> None:
        """Start without candidates. Memory: 8 bytes for each of the ``k`` candidates per row."""
        self.keys: Int64[np.ndarray, "rows k"] = np.full((num_rows, k), _NONE, np.int64)

    def best(self, rows: slice) -> tuple[Int64[np.ndarray, "rows k"], Float32[np.ndarray, "rows k"]]:
        """Candidates of some rows, best first, and their scores; -1 and -inf if a row has fewer than ``k``."""
        keys = np.sort(self.keys[rows], axis=1)[:, ::-1]
        numbers = np.where(keys == _NONE, -1, 0xFFFFFFFF - (keys & 0xFFFFFFFF))
        return numbers, _scores_of(keys)


class StoredNeighbours(Neighbours):
    """Nearest candidates that lie in several arrays, each with candidates of some rows.

    Only the rows that are asked for are read, so the arrays may be mapped from files.
    """

    def __init__(self, parts: Sequence[tuple[int, Int64[np.ndarray, "rows k"]]]) -> None:
        """Keep the arrays.

        Args:
            parts: First row and candidates of each array. A row may have candidates in several.
        """
        self._parts = parts

    def best(self, rows: slice) -> tuple[Int64[np.ndarray, "rows k"], Float32[np.ndarray, "rows k"]]:
        """As :meth:`Neighbours.best`: the best among the candidates of all arrays."""
        k = self._parts[0][1].shape[1]
        merged = Neighbours(rows.stop - rows.start, k)
        for first, keys in self._parts:
            start, stop = max(rows.start, first), min(rows.stop, first + len(keys))
            if start < stop:
                into = slice(start - rows.start, stop - rows.start)
                both = np.concatenate([merged.keys[into], keys[start - first : stop - first]], axis=1)
                both.partition(k, axis=1)
                merged.keys[into] = both[:, -k:]
        return merged.best(slice(None))


class RunningTopK:
    """The ``k`` best candidates of each row among all blocks so far; ties by number, as in ``fusion.top_k``.

    A candidate is one integer with the score in its high bits and the number in its low bits. So one partition orders
    scores and ties, and the order of the blocks does not matter. Candidates that reach the k-th best score of the last
    merge are buffered for the next merge.
    """

    def __init__(self, keys: Int64[np.ndarray, "rows k"]) -> None:
        """Keep the candidates in ``keys``, which are rows of a :class:`Neighbours`."""
        self._keys = keys
        self._enough = np.full(len(keys), -np.inf, np.float32)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._num_waiting = 0
        self._lock = Lock()

    def offer(self, scores: Float32[np.ndarray, "*block"], *, axis: int, first_candidate: int) -> None:
        """Add a block of candidates. Scores must be finite. Threads may call this at the same time.

        Args:
            scores: Scores of all rows, which are along ``axis``, with candidates along the other axis.
            axis: 0 or 1. (Transposing the scores would take longer than computing them.)
            first_candidate: Number of the first candidate of the block.
        """
        if np.isneginf(self._enough[0]):
            with self._lock:  # a second thread finds a bound already set
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
        """Merge the buffered candidates."""
        with self._lock:
            self._merge()

    def _merge(self) -> None:
        """Keep the best of the current and the buffered candidates of each row."""
        if not self._num_waiting:
            return
        rows, keys = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        by_row = np.argsort(
            rows.astype(np.min_scalar_type(len(self._keys))), kind="stable"
        )  # short integers use radix sort
        counts = np.bincount(rows, minlength=len(self._keys))
        k = self._keys.shape[1]
        merged = np.full((len(self._keys), k + int(counts.max())), _NONE, np.int64)
        merged[:, :k] = self._keys
        merged[:, k:][np.arange(merged.shape[1] - k) < counts[:, None]] = keys[by_row]
        merged.partition(merged.shape[1] - k, axis=1)
        self._keys[:] = merged[:, -k:]
        self._enough = np.maximum(self._enough, _scores_of(self._keys[:, 0]))  # where a partition puts the smallest
        self._waiting, self._num_waiting = [], 0


def nearest_both_ways(
    left: Float32[np.ndarray, "left dim"],
    right: Float32[np.ndarray, "right dim"],
    *,
    k: int,
    ranked: tuple[int, int] | None = None,
    first_left: int = 0,
    tile_rows: int = TILE_ROWS,
    on_rows: Callable[[int], object] = lambda rows: None,
) -> tuple[Neighbours, Neighbours]:
    """Find the ``k`` rows with the highest dot product, exactly, for every row of both sides.

    Each product is computed once and used for both directions.

    Args:
        left: Vectors, read tile by tile; may be mapped from a file.
        right: Vectors of the same length; may be mapped from a file.
        k: Number of neighbours of each row.
        ranked: How many of the first rows of ``left`` and ``right`` may be neighbours (default: all of them).
        first_left: Number of the first row of ``left`` among the candidates of ``right``, where ``left`` is a part of
            a larger set.
        tile_rows: Rows of either side to multiply at once; does not change the result.
        on_rows: Called with the number of rows of ``left`` that were just finished.

    Returns:
        Neighbours of ``left`` among ``right``, and of ``right`` among ``left``.
    """
    of_left, of_right = Neighbours(len(left), k), Neighbours(len(right), k)
    ranked_left, ranked_right = (len(left), len(right)) if ranked is None else ranked
    tiles = _tiles(len(right), tile_rows)
    running = [RunningTopK(of_right.keys[tile]) for tile in tiles]

    def search(rows: slice) -> None:
        of_rows = RunningTopK(of_left.keys[rows])
        space = np.empty((rows.stop - rows.start) * tile_rows, np.float32)  # reused, because allocation costs time
        for tile, of_tile in zip(tiles, running, strict=True):
            to_rows, to_tile = max(ranked_right - tile.start, 0), max(ranked_left - rows.start, 0)
            if not to_rows and not to_tile:
                continue
            products = _multiply(left[rows], right[tile], space)
            if to_rows:
                of_rows.offer(products[:, :to_rows], axis=0, first_candidate=tile.start)
            if to_tile:
                of_tile.offer(products[:to_tile], axis=1, first_candidate=first_left + rows.start)
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
    """Find the ``k`` rows of ``right`` with the highest dot product, exactly, for some rows of ``left``.

    Args:
        rows: Numbers of the rows of ``left``; results are in this order.
        left: Vectors; may be mapped from a file.
        right: Vectors of the same length; may be mapped from a file.
        k: Number of neighbours of each row.
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
    """Search tiles in as many threads as a matrix product would use, and yield each finished tile.

    Each product uses one thread, because scanning its scores uses one thread too.
    """
    num_threads = max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(num_threads) as threads:
        for tile, _ in zip(tiles, threads.map(search, tiles), strict=True):
            yield tile


def _multiply(
    left: Float32[np.ndarray, "left dim"], right: Float32[np.ndarray, "right dim"], space: Float32[np.ndarray, " size"]
) -> Float32[np.ndarray, "left right"]:
    """Dot products of two tiles, written to existing memory."""
    shape = (len(left), len(right))
    return np.matmul(left, right.T, out=space[: shape[0] * shape[1]].reshape(shape))


def _reached_by(scores: Float32[np.ndarray, "*block"], k: int, *, axis: int) -> Float32[np.ndarray, " rows"]:
    """A score that at least ``k`` candidates of each row reach; minus infinity if there are fewer than ``k``.

    It is the k-th best maximum of 2k groups of candidates: slightly lower than the k-th best score, but found in an
    eighth of the time.
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
    """Integers in the order of the scores, and for equal scores by descending number."""
    bits = (scores + np.float32(0)).view(np.int32)  # adding zero turns -0 into 0
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)
    keys: Int64[np.ndarray, " n"] = (ordered << 32) + (0xFFFFFFFF - numbers)
    return keys


def _scores_of(keys: Int64[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Scores of the integers of :func:`_keys_of`; minus infinity where there is no candidate."""
    ordered = (keys >> 32).astype(np.int32)
    scores = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(np.float32)
    return np.where(keys == _NONE, np.float32(-np.inf), scores)
