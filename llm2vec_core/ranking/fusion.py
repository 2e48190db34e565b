"""Rankings from scores: top-k, the fusion of two legs, and the rule for ties.

The rule: equal scores are in the order of the document numbers; fused by rank, in the order of the dense leg. Search,
bulk matching, re-ranking and evaluation rank with these functions or by this rule. They take blocks of queries; a
single query is a block of one. A leg is what one retriever brings for a query: document numbers, best first.

- ``dense`` has its own top-k: it never holds all scores of a row. Its integer keys order ties by number, too.
- ``reranking`` and ``tasks.queries.search`` number documents first (by id), then call :func:`top_k`.
- ``tuning`` compares weights and returns no ranking. Its NDCG is the mean over the orders of ties, so that no weight
  wins by document numbers.

Belongs here: arithmetic over scores and ranks. Does not belong here: computing scores (``lexical``, ``dense``),
tuning a weight (``tuning``), and the meaning of document numbers (the callers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from llm2vec_core.errors import InputError

RRF_K, DENSE_VOTES = 5, 4
"""Constant of reciprocal rank fusion, and how many votes the dense leg has for each of the lexical leg.

The paper's 60, with one vote each, is made for many equal systems. For two unequal ones it puts a document of rank 61
in both legs above the first of the better leg, and loses up to 15 points of nDCG@10 against it
(``benchmarks/README.md``).
"""

_SORTED_WIDTH = 512
"""Maximum length of rows to sort fully, which is faster than one partition per row."""


@dataclass(frozen=True)
class Weighted:
    """Scores for fusing a block of queries by weight instead of by rank.

    Attributes:
        weight: Weight of the dense leg, 0 to 1. The lexical leg has the rest.
        cosines: Cosines of the candidates of the dense leg, then of the lexical leg.
        bm25: BM25 of the same candidates.
    """

    weight: float
    cosines: Float[np.ndarray, "queries candidates"]
    bm25: Float[np.ndarray, "queries candidates"]


@dataclass(frozen=True)
class Fused:
    """Rankings of a block of queries, best first. A row may have fewer documents than columns.

    Attributes:
        documents: Document numbers, -1 for none.
        scores: Fused scores, 0 without a document.
        dense_ranks: Rank in the dense leg, starting at 1; 0 if the leg does not contain the document.
        lexical_ranks: Rank in the lexical leg, likewise.
    """

    documents: Int64[np.ndarray, "queries limit"]
    scores: Float[np.ndarray, "queries limit"]
    dense_ranks: Int64[np.ndarray, "queries limit"]
    lexical_ranks: Int64[np.ndarray, "queries limit"]

    @property
    def is_hit(self) -> Bool[np.ndarray, "queries limit"]:
        """Where there is a document."""
        found: Bool[np.ndarray, "queries limit"] = self.documents >= 0
        return found


def fusion_name(weight: float | None) -> str:
    """Name of the fusion that makes a score: ``rrf``, or ``weighted`` with the weight of the dense leg."""
    return "rrf" if weight is None else f"weighted {weight:.2f}"


def fuse(
    dense: Int[np.ndarray, "queries dense"],
    lexical: Int[np.ndarray, "queries lexical"],
    *,
    limit: int,
    weighted: Weighted | None = None,
) -> Fused:
    """Fuse both legs of a block of queries: by their ranks, or by weighted scores.

    By rank, the lexical leg adds ``1 / (RRF_K + rank)`` to the score of a document and the dense leg
    :data:`DENSE_VOTES` times as much, so scores in different units need no tuning. Equal scores are in the order of
    the dense leg. By weight, the score is :func:`convex_combination`, and equal scores are in the order of the
    document numbers.

    Args:
        dense: Documents of the dense leg, without repeats, best first; padded with -1.
        lexical: Documents of the lexical leg, likewise.
        limit: Maximum number of documents for each query.
        weighted: Scores and weight. Default: fuse by rank.

    Source: Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
    Methods", SIGIR 2009, section 2.
    """
    numbers = np.concatenate([dense, lexical], axis=1)
    rank = np.concatenate([np.arange(1, leg.shape[1] + 1) for leg in (dense, lexical)])
    is_dense = np.arange(len(rank)) < dense.shape[1]
    dense_ranks, lexical_ranks = (np.tile(np.where(leg, rank, 0), (len(numbers), 1)) for leg in (is_dense, ~is_dense))

    by_number = np.argsort(numbers, axis=1, kind="stable")  # if both legs contain a document, the dense leg is first
    ordered = np.take_along_axis(numbers, by_number, axis=1)
    row, at = np.nonzero((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0))
    first, again = by_number[row, at], by_number[row, at + 1]
    lexical_ranks[row, first] = rank[again]
    is_candidate = numbers >= 0
    is_candidate[row, again] = False

    if weighted is None:
        shares = np.concatenate([[0.0], 1.0 / (RRF_K + np.arange(1, len(rank) + 1))])
        scores = np.where(is_candidate, DENSE_VOTES * shares[dense_ranks] + shares[lexical_ranks], -np.inf)
        best = top_k(scores, limit)
    else:
        cosines = np.where(is_candidate, weighted.cosines, _LEAST_COSINE)
        bm25 = np.where(is_candidate, weighted.bm25, _LEAST_BM25)
        scores = np.where(is_candidate, convex_combination(cosines, bm25, weight=weighted.weight), -np.inf)
        in_order = top_k(np.take_along_axis(scores, by_number, axis=1), limit)
        best = np.take_along_axis(by_number, in_order, axis=1)
    is_hit = np.take_along_axis(is_candidate, best, axis=1)
    return Fused(
        documents=np.where(is_hit, np.take_along_axis(numbers, best, axis=1), -1),
        scores=np.where(is_hit, np.take_along_axis(scores, best, axis=1), 0.0),
        dense_ranks=np.where(is_hit, np.take_along_axis(dense_ranks, best, axis=1), 0),
        lexical_ranks=np.where(is_hit, np.take_along_axis(lexical_ranks, best, axis=1), 0),
    )


def kept_hits(fused: Fused, is_kept: Bool[np.ndarray, "queries hits"], *, limit: int) -> Fused:
    """Rankings without some of their documents; the others move up, with the scores and ranks that they have.

    Args:
        fused: Rankings, best first.
        is_kept: Where a document stays.
        limit: Maximum number of documents for each query.
    """
    is_hit = fused.is_hit & is_kept
    order = np.argsort(~is_hit, axis=1, kind="stable")[:, :limit]
    is_left = np.take_along_axis(is_hit, order, axis=1)
    documents, scores, dense_ranks, lexical_ranks = (
        np.where(is_left, np.take_along_axis(values, order, axis=1), missing)
        for values, missing in (
            (fused.documents, -1),
            (fused.scores, 0),
            (fused.dense_ranks, 0),
            (fused.lexical_ranks, 0),
        )
    )
    return Fused(documents, scores, dense_ranks, lexical_ranks)


_LEAST_COSINE, _LEAST_BM25 = -1.0, 0.0


def convex_combination(
    cosines: Float[np.ndarray, "*queries candidates"], bm25: Float[np.ndarray, "*queries candidates"], *, weight: float
) -> Float[np.ndarray, "*queries candidates"]:
    """Fuse the scores of a query's candidates: ``weight`` of the cosines, the rest of BM25.

    Both are scaled first, so that 0 is the least possible score (-1 for a cosine, 0 for BM25) and 1 the greatest among
    the candidates. So a leg without a good candidate keeps low scores.

    Args:
        cosines: Cosine of every candidate of either leg.
        bm25: BM25 of the same candidates.
        weight: 0 to 1.

    Returns:
        Fused scores, 0 to 1.

    Raises:
        InputError: The weight is outside 0 to 1.

    Source: Bruch, Gai, Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", ACM Transactions on
    Information Systems 2023: TM2C2, the convex combination of scores with theoretical minimum and maximum scaling.
    """
    if not 0 <= weight <= 1:
        raise InputError(f"The weight of the dense leg was {weight}; expected 0 to 1.", hint="Use 0.5 for equal parts.")
    return weight * _scaled(cosines, _LEAST_COSINE) + (1 - weight) * _scaled(bm25, _LEAST_BM25)


def _scaled(
    scores: Float[np.ndarray, "*queries candidates"], minimum: float
) -> Float[np.ndarray, "*queries candidates"]:
    span = scores.max(axis=-1, keepdims=True, initial=minimum) - minimum
    scaled: Float[np.ndarray, "*queries candidates"] = np.zeros_like(scores)
    np.divide(scores - minimum, span, out=scaled, where=span > 0)
    return scaled


def lexical_leg(bm25: Float[np.ndarray, "*queries documents"], limit: int) -> Int64[np.ndarray, "*queries limit"]:
    """Documents with the highest BM25, best first; padded with -1 after the last that shares a word with the query."""
    best = top_k(bm25, limit)
    found: Int64[np.ndarray, "*queries limit"] = np.where(np.take_along_axis(bm25, best, axis=-1) > 0, best, -1)
    return found


def either_leg(
    cosines: Float[np.ndarray, " documents"], bm25: Float[np.ndarray, " documents"], *, limit: int
) -> Int64[np.ndarray, " candidates"]:
    """Documents of either leg, in the order of their numbers."""
    found: Int64[np.ndarray, " candidates"] = np.union1d(top_k(cosines, limit), lexical_leg(bm25, limit))
    return found[found >= 0]


def top_k(scores: Float[np.ndarray, "*batch num_documents"], k: int) -> Int64[np.ndarray, "*batch k"]:
    """Positions of the ``k`` largest scores, largest first; ties by position, NaN last.

    Args:
        scores: One row of scores, or a row for each query.
        k: Number of positions; fewer are returned when there are fewer scores.

    Returns:
        Positions along the last axis.

    Raises:
        InputError: ``k`` is negative.
    """
    if k < 0:
        raise InputError(f"The number of results was {k}; expected zero or more.", hint="Request one or more.")
    if scores.ndim == 1:
        return _top_k_row(scores, k)
    if scores.shape[-1] <= _SORTED_WIDTH:
        whole: Int64[np.ndarray, "*batch k"] = np.argsort(-_numbers(scores), axis=-1, kind="stable")[..., :k]
        return whole
    rows = scores.reshape(math.prod(scores.shape[:-1]), scores.shape[-1])
    kept = min(k, scores.shape[-1])
    found = np.empty((len(rows), kept), dtype=np.int64)
    for row, out in zip(rows, found, strict=True):
        out[:] = _top_k_row(row, k)
    return found.reshape(*scores.shape[:-1], kept)


def _top_k_row(scores: np.ndarray, k: int) -> np.ndarray:
    """``top_k`` of one row: find the k-th largest score by a partition, then sort only the best."""
    scores = _numbers(scores)
    if k >= len(scores):
        return np.argsort(-scores, kind="stable")
    if k == 0:
        return np.empty(0, dtype=np.int64)
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    above = np.flatnonzero(scores > threshold)
    kept = np.concatenate([above, np.flatnonzero(scores == threshold)[: k - len(above)]])
    return kept[np.argsort(-scores[kept], kind="stable")]


def _numbers(scores: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(scores), -np.inf, scores)
