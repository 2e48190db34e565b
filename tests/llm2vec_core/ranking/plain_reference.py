"""Ranking in plain Python: a frozen reference with the results from before the ranking functions were unified."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence


def best(scores: Sequence[float], k: int) -> list[int]:
    """Positions of the largest scores; ties by position."""
    return sorted(range(len(scores)), key=lambda at: (-scores[at], at))[:k]


def sharing_words(bm25: Sequence[float], k: int) -> list[int]:
    """As :func:`best`, without documents that share no word with the query."""
    return [at for at in best(bm25, k) if bm25[at] > 0]


def by_rank(rankings: Sequence[Iterable[int]], *, k: int = 5, votes: int = 4) -> list[tuple[int, float]]:
    """Reciprocal rank fusion, with more votes for the first ranking: ties by rank in it, then by document number."""
    shares: dict[int, list[float]] = {}
    distinct = [list(dict.fromkeys(ranking)) for ranking in rankings]
    for number, ranking in enumerate(distinct):
        for rank, document in enumerate(ranking, start=1):
            shares.setdefault(document, []).append((1 if number else votes) * (1.0 / (k + rank)))
    fused = {document: math.fsum(parts) for document, parts in shares.items()}
    settling = {document: rank for rank, document in enumerate(distinct[0] if distinct else ())}
    order = sorted(fused, key=lambda document: (-fused[document], settling.get(document, len(settling)), document))
    return [(document, fused[document]) for document in order]


def by_weight(cosines: Mapping[int, float], bm25: Mapping[int, float], *, weight: float) -> list[tuple[int, float]]:
    """Convex combination of scaled scores: ties by document number."""
    greatest_cosine, greatest_bm25 = max(cosines.values(), default=-1.0), max(bm25.values(), default=0.0)

    def fused(document: int) -> float:
        dense = (cosines[document] + 1.0) / (greatest_cosine + 1.0) if greatest_cosine > -1.0 else 0.0
        lexical = bm25[document] / greatest_bm25 if greatest_bm25 > 0.0 else 0.0
        return weight * dense + (1 - weight) * lexical

    return sorted(((document, fused(document)) for document in cosines), key=lambda pair: (-pair[1], pair[0]))
