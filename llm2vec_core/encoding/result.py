"""The result of encoding: vectors and token counts.

This module does not load torch, so that code that only passes vectors stays light.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Int32


@dataclass(frozen=True)
class Encoding:
    """Vectors of texts, with token counts.

    Attributes:
        vectors: One row per text, in the order of the texts.
        num_tokens: Tokens of the distinct texts that went through the model.
        num_padded_tokens: The same, including padding.
        num_truncated: Distinct texts that were truncated to the encoder's ``max_tokens``.
        read_tokens: Tokens of each text that went through the model, in the order of the texts.
        cut_tokens: Tokens of each text that did not, because the text was truncated.
    """

    vectors: Float32[np.ndarray, "num_texts embedding_dim"]
    num_tokens: int
    num_padded_tokens: int
    num_truncated: int
    read_tokens: Int32[np.ndarray, " num_texts"] | None = None
    cut_tokens: Int32[np.ndarray, " num_texts"] | None = None


def scaled(encoding: Encoding) -> Encoding:
    """The encoding with vectors of length one; zero vectors are unchanged."""
    lengths = np.linalg.norm(encoding.vectors, axis=1, keepdims=True)
    return replace(encoding, vectors=encoding.vectors / np.maximum(lengths, np.finfo(np.float32).tiny))
