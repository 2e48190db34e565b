"""Cross-encoders, which read query and document together, rerank the first documents of a ranking.

Every pair costs a forward pass, because nothing can be precomputed. So they suit searches, not whole tables.
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
from llm2vec_core.model.weights import require_plain_weights, require_whole_weights
from llm2vec_core.ranking.fusion import top_k

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


_NO_CROSS_ENCODER = "Give a directory that CrossEncoder.save_pretrained wrote, or the name of such a model."

NUM_READ = 50
"""Number of hits of a hybrid search that the cross-encoder reads."""


class Reranker:
    """A cross-encoder of sentence-transformers, loaded for the first pair.

    Attributes:
        fingerprint: Identity of weights, tokenizer and configuration.
    """

    def __init__(self, directory: Path) -> None:
        """Hash the directory; load nothing yet."""
        self.fingerprint = fingerprint(directory)
        self._directory = directory

    def scores(self, query: str, texts: Sequence[str]) -> Float32[np.ndarray, " texts"]:
        """Score the relevance of each text for the query. Texts are truncated to the model's length.

        Raises:
            CheckpointError: The directory contains no cross-encoder with one score per pair.
        """
        if not texts:
            return np.empty(0, np.float32)
        from torch.nn import Identity

        pairs = [(query, text) for text in texts]
        # No sigmoid, the usual last step of such models, because it rounds high scores to equal ones.
        return np.asarray(self._model.predict(pairs, activation_fn=Identity(), show_progress_bar=False), np.float32)

    @cached_property
    def _model(self) -> CrossEncoder:
        from sentence_transformers import CrossEncoder

        require_plain_weights(self._directory, name=str(self._directory), error=CheckpointError)
        whole = require_whole_weights(
            str(self._directory), output_layer=True, error=CheckpointError, without_output=_NO_CROSS_ENCODER
        )
        try:
            with whole:
                model = CrossEncoder(str(self._directory), local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{self._directory} could not be loaded as a cross-encoder: {str(error).splitlines()[0]}",
                hint=_NO_CROSS_ENCODER,
            ) from error
        if model.config.num_labels != 1:
            raise CheckpointError(
                f"{self._directory} returns {model.config.num_labels} scores per pair; expected one.",
                hint="Use a cross-encoder that was trained to rank.",
            )
        return model


@dataclass(frozen=True)
class Reranking:
    """A cross-encoder and how many documents it reads.

    Attributes:
        reranker: The cross-encoder.
        num_read: Number of first documents of a ranking that it reads.
    """

    reranker: Reranker
    num_read: int = NUM_READ


def rerank(ranking: Sequence[tuple[int, float]], scores: Sequence[float]) -> list[tuple[int, float]]:
    """Reorder the first documents of a ranking by other scores; ties by number. The rest keeps its order.

    Args:
        ranking: Document numbers with their scores, best first.
        scores: Other scores, of the first documents only.

    Returns:
        Document numbers with descending scores: the other scores, then one less for each further document.
    """
    by_number = sorted((number, score) for (number, _), score in zip(ranking, scores, strict=False))
    first = [by_number[at] for at in top_k(np.array([score for _, score in by_number]), len(by_number))]
    floor = first[-1][1] if first else 0.0
    return first + [(number, floor - rank) for rank, (number, _) in enumerate(ranking[len(first) :], start=1)]
