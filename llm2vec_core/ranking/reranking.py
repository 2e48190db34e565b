"""Cross-encoders: query and document read together, for the few documents that a ranking begins with.

Nothing can be encoded beforehand, so that every pair costs a forward pass: for searches, not for whole tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from llm2vec_core.errors import CheckpointError
from llm2vec_core.model.checkpoint import fingerprint

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


class Reranker:
    """A cross-encoder of sentence-transformers, loaded when the first pair comes.

    Attributes:
        fingerprint: Identity of weights, tokenizer and configuration.
    """

    def __init__(self, directory: Path) -> None:
        """Hash the directory; load nothing yet."""
        self.fingerprint = fingerprint(directory)
        self._directory = directory

    def scores(self, query: str, texts: Sequence[str]) -> Float32[np.ndarray, " texts"]:
        """How well each text fits the query; what is beyond the model's length is cut off.

        Raises:
            CheckpointError: The directory holds no cross-encoder with one score a pair.
        """
        if not texts:
            return np.empty(0, np.float32)
        from torch.nn import Identity

        pairs = [(query, text) for text in texts]
        # A sigmoid, which such models often end with, makes equal scores of high ones.
        return np.asarray(self._model.predict(pairs, activation_fn=Identity(), show_progress_bar=False), np.float32)

    @cached_property
    def _model(self) -> CrossEncoder:
        from sentence_transformers import CrossEncoder

        try:
            model = CrossEncoder(str(self._directory), local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{self._directory} could not be loaded as a cross-encoder: {str(error).splitlines()[0]}",
                hint="Give a directory that CrossEncoder.save_pretrained wrote, or the name of such a model.",
            ) from error
        if model.config.num_labels != 1:
            raise CheckpointError(
                f"{self._directory} gives {model.config.num_labels} scores a pair; one was expected.",
                hint="Use a cross-encoder that was trained to rank.",
            )
        return model


@dataclass(frozen=True)
class Reranking:
    """A cross-encoder, and how much of a ranking it reads.

    Attributes:
        reranker: The cross-encoder.
        num_read: First documents of a fused ranking that it reads.
    """

    reranker: Reranker
    num_read: int


def rerank(ranking: Sequence[tuple[int, float]], scores: Sequence[float]) -> list[tuple[int, float]]:
    """Put the first documents of a ranking in the order of other scores; the rest follows as it was, below them.

    Args:
        ranking: Document numbers with their scores, best first.
        scores: Other scores of as many of its first documents as there are.
    """
    first = sorted(
        ((number, score) for (number, _), score in zip(ranking, scores, strict=False)),
        key=lambda pair: (-pair[1], pair[0]),
    )
    floor = first[-1][1] if first else 0.0
    return first + [(number, floor - rank) for rank, (number, _) in enumerate(ranking[len(first) :], start=1)]
