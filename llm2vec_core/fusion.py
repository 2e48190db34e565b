"""Rankings out of scores, and one ranking out of several.

Belongs here: arithmetic over scores and positions, always with ties broken the same way. Does not belong here: where
the scores come from (``lexical``, ``encoder``) and what the positions mean (the callers).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int64

from llm2vec_core.errors import InputError

RRF_K = 60
"""The constant of reciprocal rank fusion; the paper found 60 near-optimal and the choice not critical."""


def reciprocal_rank_fusion(rankings: Sequence[Iterable[int]], *, k: int = RRF_K) -> list[tuple[int, float]]:
    """Fuse rankings of the same documents: each adds ``1 / (k + rank)``, the first rank being 1.

    Only positions count, so legs whose scores have different units (BM25 and cosine) fuse without tuning.

    Args:
        rankings: Best first; each a list or array of document numbers. A document missing from a ranking gets nothing
            from it; one that stands in a ranking twice counts at its better rank.
        k: How much the first ranks are flattened; zero or more.

    Returns:
        (document number, fused score), best first; ties by document number. The order of the rankings is of no matter.

    Raises:
        InputError: If ``k`` is negative.

    Source: Cormack, Clarke, Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
    Methods", SIGIR 2009, section 2.
    """
    if k < 0:
        raise InputError(f"The constant of reciprocal rank fusion was {k}, zero or more was expected.", hint="Use 60.")
    shares: dict[int, list[float]] = {}
    for ranking in rankings:
        distinct = dict.fromkeys(int(document) for document in ranking)
        for rank, document in enumerate(distinct, start=1):
            shares.setdefault(document, []).append(1.0 / (k + rank))
    fused = [(document, math.fsum(parts)) for document, parts in shares.items()]  # fsum: exact in any order
    return sorted(fused, key=lambda pair: (-pair[1], pair[0]))


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
