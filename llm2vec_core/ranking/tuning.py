"""Tune the weight of a fusion by scores on judged queries.

Belongs here: the weight and its confidence interval. Does not belong here: fusing by it (``fusion``), reading judgments
(the callers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from llm2vec_core.errors import InputError
from llm2vec_core.ranking.fusion import convex_combination

MIN_JUDGED_QUERIES = 50
"""Minimum number of judged queries. A weight tuned on fewer would be mostly noise."""

WEIGHTS = np.linspace(0.0, 1.0, 21)
"""Weights of the dense leg to try. At 0 and 1, only one leg counts."""

_JUDGED_RANKS = 10
_RESAMPLES = 2000


@dataclass(frozen=True)
class JudgedQuery:
    """Candidates of a query and their relevance.

    Attributes:
        dense: Cosine of each candidate of either leg.
        lexical: BM25 of each candidate.
        relevance: Judgment of each candidate; zero without one.
    """

    dense: Float[np.ndarray, " candidates"]
    lexical: Float[np.ndarray, " candidates"]
    relevance: Float[np.ndarray, " candidates"]


@dataclass(frozen=True)
class TunedWeight:
    """Tuned weight of the dense leg, with its confidence interval.

    Attributes:
        weight: 0 (words only) to 1 (vectors only).
        low: Lower end of the 95 % interval over resampled queries.
        high: Upper end of the interval.
    """

    weight: float
    low: float
    high: float


def score_weights(queries: Sequence[JudgedQuery]) -> Float[np.ndarray, "queries weights"]:
    """NDCG@10 of each query with each of :data:`WEIGHTS`. Ties count as the mean over their orders.

    The ideal order is that of the candidates: no weight can add other documents. A query whose candidates are equally
    relevant scores 1 with every weight. Judgments below zero, which some collections use for junk, count as zero.
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
    """Choose the weight with the highest mean score; among equals, the one closest to one half.

    Args:
        scores: Result of :func:`score_weights`.
        seed: Seed for resampling queries.

    Raises:
        InputError: There are fewer than :data:`MIN_JUDGED_QUERIES` queries.
    """
    if len(scores) < MIN_JUDGED_QUERIES:
        raise InputError(
            f"{len(scores)} judged queries were given; tuning needs {MIN_JUDGED_QUERIES} or more.",
            hint="Judge more queries, or fuse by rank.",
        )
    probabilities = np.full(len(scores), 1 / len(scores))
    draws = np.random.default_rng(seed).multinomial(len(scores), probabilities, size=_RESAMPLES)
    low, high = np.quantile(_best_weights(draws @ scores), [0.025, 0.975], method="nearest")
    return TunedWeight(float(_best_weights(scores.sum(axis=0, keepdims=True))[0]), float(low), float(high))


def cross_fit_weights(scores: Float[np.ndarray, "queries weights"], *, seed: int) -> Float[np.ndarray, " queries"]:
    """Tune on two random halves of the queries, and give each query the weight tuned on the other half.

    Raises:
        InputError: A half has fewer than :data:`MIN_JUDGED_QUERIES` queries.
    """
    weights = np.empty(len(scores))
    halves = np.array_split(np.random.default_rng(seed).permutation(len(scores)), 2)
    for half, other in (halves, halves[::-1]):
        weights[half] = tune_weight(scores[other], seed=seed).weight
    return weights


def _best_weights(scores: Float[np.ndarray, "rows weights"]) -> Float[np.ndarray, " rows"]:
    order = np.argsort(np.abs(WEIGHTS - 0.5), kind="stable")
    # Rounded, because sums of the same numbers in another order count as equal.
    best: Float[np.ndarray, " rows"] = WEIGHTS[order][np.argmax(np.round(scores[:, order], 9), axis=1)]
    return best
