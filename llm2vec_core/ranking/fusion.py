"""Rankings out of scores, and one ranking out of several.

Belongs here: arithmetic over scores and positions, always with ties broken the same way. Does not belong here: where
the scores come from (``lexical``, ``encoder``) and what the positions mean (the callers).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from llm2vec_core.errors import InputError

RRF_K = 60
"""The constant of reciprocal rank fusion; the paper found 60 near-optimal and the choice not critical."""

MIN_JUDGED_QUERIES = 50
"""Fewer judged queries tune no weight: it would follow their chance."""

WEIGHTS = np.linspace(0.0, 1.0, 21)
"""Weights of the dense leg that are tried; 0 and 1 leave a leg without any."""

_JUDGED_RANKS = 10
_RESAMPLES = 2000


def reciprocal_rank_fusion(rankings: Sequence[Iterable[int]], *, k: int = RRF_K) -> list[tuple[int, float]]:
    """Fuse rankings of the same documents: each adds ``1 / (k + rank)``, the first rank being 1.

    Only positions count, so legs whose scores have different units (BM25 and cosine) fuse without tuning.

    Args:
        rankings: Best first; each a list or array of document numbers. A document missing from a ranking gets nothing
            from it; one that stands in a ranking twice counts at its better rank. The first one settles ties: first and
            third in two rankings score as much as third and first.
        k: How much the first ranks are flattened; zero or more.

    Returns:
        (document number, fused score), best first; ties by rank in the first ranking, then by document number.

    Raises:
        InputError: If ``k`` is negative.

    Source: Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
    Methods", SIGIR 2009, section 2.
    """
    if k < 0:
        raise InputError(f"The constant of reciprocal rank fusion was {k}, zero or more was expected.", hint="Use 60.")
    shares: dict[int, list[float]] = {}
    distinct = [list(dict.fromkeys(int(document) for document in ranking)) for ranking in rankings]
    for ranking in distinct:
        for rank, document in enumerate(ranking, start=1):
            shares.setdefault(document, []).append(1.0 / (k + rank))
    fused = {document: math.fsum(parts) for document, parts in shares.items()}  # fsum: exact in any order
    settling = {document: rank for rank, document in enumerate(distinct[0] if distinct else ())}
    order = sorted(fused, key=lambda document: (-fused[document], settling.get(document, len(settling)), document))
    return [(document, fused[document]) for document in order]


@dataclass(frozen=True)
class JudgedQuery:
    """The candidates of a query, and how relevant they are.

    Attributes:
        dense: Cosine of each candidate of either leg.
        lexical: BM25 of each.
        relevance: Judgment of each; zero where there is none.
    """

    dense: Float[np.ndarray, " candidates"]
    lexical: Float[np.ndarray, " candidates"]
    relevance: Float[np.ndarray, " candidates"]


@dataclass(frozen=True)
class TunedWeight:
    """A weight of the dense leg, and how sure it is.

    Attributes:
        weight: 0 (words alone) to 1 (vectors alone).
        low: Lower end of the 95 % interval over resampled queries.
        high: Its upper end.
    """

    weight: float
    low: float
    high: float


def convex_combination(
    dense: Float[np.ndarray, " candidates"], lexical: Float[np.ndarray, " candidates"], *, weight: float
) -> Float[np.ndarray, " candidates"]:
    """Fuse the scores of a query's candidates: ``weight`` of the dense leg, the rest of the lexical one.

    Both are scaled to 0 to 1 first, from the least score that the leg can give at all (-1 for a cosine, 0 for BM25)
    to the greatest among the candidates, so that a leg without a good candidate does not look as if it had one.

    Args:
        dense: Cosine of every candidate of either leg.
        lexical: BM25 of the same candidates.
        weight: 0 to 1.

    Returns:
        Fused scores, 0 to 1.

    Raises:
        InputError: The weight is outside.

    Source: Bruch, Gai, Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", ACM Transactions on
    Information Systems 2023: TM2C2, the convex combination of scores with theoretical minimum and maximum scaling.
    """
    if not 0 <= weight <= 1:
        raise InputError(f"The weight of the dense leg was {weight}, 0 to 1 was expected.")
    return weight * _scaled(dense, minimum=-1.0) + (1 - weight) * _scaled(lexical, minimum=0.0)


def score_weights(queries: Sequence[JudgedQuery]) -> Float[np.ndarray, "queries weights"]:
    """NDCG of the first ten that each of :data:`WEIGHTS` gives each query; equal scores count as their mean.

    The ideal order is that of the candidates, as no weight can bring what is none of them. A query whose candidates
    are all alike scores the same with every weight. Judgments below zero, as some collections mark junk, count as zero.
    """
    from sklearn.metrics import ndcg_score

    scores = np.ones((len(queries), len(WEIGHTS)))
    for row, query in enumerate(queries):
        relevance = np.maximum(query.relevance, 0.0)
        if len(set(relevance.tolist())) < 2:
            continue
        for column, weight in enumerate(WEIGHTS):
            fused = convex_combination(query.dense, query.lexical, weight=float(weight))
            scores[row, column] = ndcg_score(relevance[None], fused[None], k=_JUDGED_RANKS)
    return scores


def tune_weight(scores: Float[np.ndarray, "queries weights"], *, seed: int) -> TunedWeight:
    """Choose the weight of the highest mean score; among equals the one that is nearest to one half.

    Args:
        scores: Of :func:`score_weights`.
        seed: Of the resampled queries.

    Raises:
        InputError: Fewer than :data:`MIN_JUDGED_QUERIES` queries.
    """
    if len(scores) < MIN_JUDGED_QUERIES:
        raise InputError(
            f"{len(scores)} judged queries were given; {MIN_JUDGED_QUERIES} or more tune a weight.",
            hint="Judge more queries, or fuse by rank.",
        )
    probabilities = np.full(len(scores), 1 / len(scores))
    draws = np.random.default_rng(seed).multinomial(len(scores), probabilities, size=_RESAMPLES)
    low, high = np.quantile(_best_weights(draws @ scores), [0.025, 0.975], method="nearest")
    return TunedWeight(float(_best_weights(scores.sum(axis=0, keepdims=True))[0]), float(low), float(high))


def cross_fit_weights(scores: Float[np.ndarray, "queries weights"], *, seed: int) -> Float[np.ndarray, " queries"]:
    """A weight for each query that it did not help to choose: that of the other of two random halves.

    Raises:
        InputError: A half has fewer than :data:`MIN_JUDGED_QUERIES` queries.
    """
    weights = np.empty(len(scores))
    halves = np.array_split(np.random.default_rng(seed).permutation(len(scores)), 2)
    for half, other in (halves, halves[::-1]):
        weights[half] = tune_weight(scores[other], seed=seed).weight
    return weights


def _scaled(scores: Float[np.ndarray, " candidates"], *, minimum: float) -> Float[np.ndarray, " candidates"]:
    span = float(scores.max(initial=minimum)) - minimum
    return (scores - minimum) / span if span > 0 else np.zeros(len(scores))


def _best_weights(scores: Float[np.ndarray, "rows weights"]) -> Float[np.ndarray, " rows"]:
    order = np.argsort(np.abs(WEIGHTS - 0.5), kind="stable")
    # Rounding: sums of the same numbers in another order are equal scores.
    best: Float[np.ndarray, " rows"] = WEIGHTS[order][np.argmax(np.round(scores[:, order], 9), axis=1)]
    return best


def top_k(scores: Float[np.ndarray, "*batch num_documents"], k: int) -> Int64[np.ndarray, "*batch k"]:
    """Positions of the ``k`` largest scores, largest first, ties by position; NaN comes last.

    Unlike a bare ``argpartition``, the answer does not depend on how the partition falls among equal scores.

    Args:
        scores: One row of scores, or a matrix with a row a query.
        k: How many; fewer come back when there are fewer scores.

    Returns:
        Positions along the last axis.

    Raises:
        InputError: If ``k`` is negative.
    """
    if k < 0:
        raise InputError(f"The number of results was {k}, zero or more was expected.", hint="Ask for one or more.")
    if scores.ndim == 1:
        return _top_k_row(scores, k)
    rows = scores.reshape(math.prod(scores.shape[:-1]), scores.shape[-1])
    kept = min(k, scores.shape[-1])
    found = np.empty((len(rows), kept), dtype=np.int64)
    for row, out in zip(rows, found, strict=True):
        out[:] = _top_k_row(row, k)
    return found.reshape(*scores.shape[:-1], kept)


def _top_k_row(scores: np.ndarray, k: int) -> np.ndarray:
    """``top_k`` of one row: partition for the k-th largest score, then sort only what is kept."""
    scores = np.where(np.isnan(scores), -np.inf, scores)
    if k >= len(scores):
        return np.argsort(-scores, kind="stable")
    if k == 0:
        return np.empty(0, dtype=np.int64)
    threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
    above = np.flatnonzero(scores > threshold)
    kept = np.concatenate([above, np.flatnonzero(scores == threshold)[: k - len(above)]])
    return kept[np.argsort(-scores[kept], kind="stable")]
