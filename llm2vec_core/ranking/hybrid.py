"""Two legs, one ranking: dense and lexical hits fused, with what each leg said kept beside the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from llm2vec_core.errors import InputError
from llm2vec_core.ranking.fusion import RRF_K, convex_combination, reciprocal_rank_fusion, top_k

Ranking = Sequence[tuple[int, float]]
"""Document numbers with their scores, best first."""


@dataclass(frozen=True)
class Hit:
    """One document of a ranking.

    Attributes:
        index: Number of the document.
        score: What it is ranked by: the fused score, or the score of the only leg.
        dense_score: Cosine with the query; None where the dense leg did not bring the document.
        dense_rank: Its rank in the dense leg, the first being 1.
        lexical_score: BM25 score; None where the lexical leg did not bring the document.
        lexical_rank: Its rank in the lexical leg.
    """

    index: int
    score: float
    dense_score: float | None = None
    dense_rank: int | None = None
    lexical_score: float | None = None
    lexical_rank: int | None = None


def fuse_legs(*, dense: Ranking | None, lexical: Ranking | None, limit: int, rrf_k: int = RRF_K) -> list[Hit]:
    """Fuse the legs that there are; the dense one settles ties.

    Args:
        dense: Ranking by cosine, or None without that leg.
        lexical: Ranking by BM25, or None without that leg.
        limit: Number of hits, at most.
        rrf_k: Constant of reciprocal rank fusion; of no effect with one leg.

    Raises:
        InputError: There is no leg.
    """
    legs = [leg for leg in (dense, lexical) if leg is not None]
    if not legs:
        raise InputError("A ranking needs a dense leg, a lexical leg, or both; there was none.")
    if len(legs) == 2:
        fused: Ranking = reciprocal_rank_fusion([[index for index, _ in leg] for leg in legs], k=rrf_k)
    else:
        fused = legs[0]
    return _hits(fused[:limit], dense=dense, lexical=lexical)


def weigh_legs(
    *,
    dense: Ranking,
    lexical: Ranking,
    cosines: Mapping[int, float],
    bm25: Mapping[int, float],
    weight: float,
    limit: int,
) -> list[Hit]:
    """Fuse two legs by their scores: ``weight`` of the dense one, the rest of the lexical one.

    Args:
        dense: Ranking by cosine.
        lexical: Ranking by BM25.
        cosines: Cosine of every document of either leg.
        bm25: BM25 of every document of either leg; zero where it is not named.
        weight: 0 to 1.
        limit: Number of hits, at most.
    """
    documents = sorted(cosines)
    fused = convex_combination(
        np.array([cosines[document] for document in documents]),
        np.array([bm25.get(document, 0.0) for document in documents]),
        weight=weight,
    )
    best = [(documents[at], float(fused[at])) for at in top_k(fused, limit)]
    return _hits(best, dense=dense, lexical=lexical)


def either_leg(
    cosines: Float[np.ndarray, " documents"], bm25: Float[np.ndarray, " documents"], *, limit: int
) -> Int64[np.ndarray, " candidates"]:
    """Positions of the documents that one leg or the other brings, in order; BM25 brings none without a shared word."""
    lexical = top_k(bm25, limit)
    found: Int64[np.ndarray, " candidates"] = np.union1d(top_k(cosines, limit), lexical[bm25[lexical] > 0])
    return found


def _hits(fused: Ranking, *, dense: Ranking | None, lexical: Ranking | None) -> list[Hit]:
    places_dense, places_lexical = _places(dense), _places(lexical)
    hits = []
    for index, score in fused:
        dense_rank, dense_score = places_dense.get(index, (None, None))
        lexical_rank, lexical_score = places_lexical.get(index, (None, None))
        hits.append(Hit(index, score, dense_score, dense_rank, lexical_score, lexical_rank))
    return hits


def _places(leg: Ranking | None) -> dict[int, tuple[int, float]]:
    return {index: (rank, score) for rank, (index, score) in enumerate(leg or (), start=1)}
