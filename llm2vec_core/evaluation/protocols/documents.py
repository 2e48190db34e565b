"""Similarities of queries with the documents of a ranking, also with documents that have training texts.

A document with training texts (:class:`~llm2vec_core.evaluation.tasks.expansion.Expansion`) is as similar as the three
texts of it that the query is nearest to. One text of a document would make every stray title a match; the mean of all
would drown the right one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from llm2vec_core.evaluation.protocols.encode_once import EncodeOnce
from llm2vec_core.evaluation.tasks.expansion import Expansion

NEAREST = 3
"""Number of a document's texts that count."""


class DocumentVectors:
    """Unit vectors of documents and of their training texts.

    Args:
        encoder: The encoder.
        documents: Title and text of each document.
        expansion: Training texts; None: a document is its own text only.
    """

    def __init__(
        self, encoder: EncodeOnce, documents: Sequence[tuple[str, str]], *, expansion: Expansion | None = None
    ) -> None:
        """Encode all texts."""
        # mteb joins title and text this way for encoders (_corpus_to_dict); all systems read the same text
        texts = [f"{title} {text}".strip() for title, text in documents]
        self._own = normalise(encoder.encode(texts))
        added = [expansion.added(title, text) for title, text in documents] if expansion is not None else []
        self._expanded = np.array([at for at, anchors in enumerate(added) if anchors], dtype=np.int64)
        flat = [anchor for anchors in added for anchor in anchors]
        self._added = normalise(encoder.encode(flat)) if flat else self._own[:0]
        self._places = _padded([len(anchors) for anchors in added if anchors])

    def cosines(self, queries: Float[np.ndarray, "queries dim"]) -> Float[np.ndarray, "queries documents"]:
        """Similarity of every document to unit vectors of queries."""
        similar: Float[np.ndarray, "queries documents"] = queries @ self._own.T
        if not len(self._expanded):
            return similar
        for own, added in zip(similar, queries @ self._added.T, strict=True):
            of_texts = np.append(added, -np.inf).astype(own.dtype)[self._places]
            together = np.concatenate([own[self._expanded, None], of_texts], axis=1)
            count = np.minimum(np.isfinite(together).sum(axis=1), NEAREST)
            nearest = -np.partition(-together, min(NEAREST, together.shape[1]) - 1, axis=1)[:, :NEAREST]
            own[self._expanded] = np.where(np.isfinite(nearest), nearest, 0.0).sum(axis=1) / count
        return similar


def _padded(lengths: Sequence[int]) -> Int[np.ndarray, "documents longest"]:
    """Positions of each document's texts in one list of all; the missing ones point behind its end."""
    places = np.full((len(lengths), max(lengths, default=0)), sum(lengths), dtype=np.int64)
    start = 0
    for row, length in zip(places, lengths, strict=True):
        row[:length] = np.arange(start, start + length)
        start += length
    return places


def normalise(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors to length one; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalised: np.ndarray = vectors / np.where(lengths > 0, lengths, 1.0).astype(vectors.dtype)
    return normalised
