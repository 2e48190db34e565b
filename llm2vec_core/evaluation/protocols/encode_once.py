"""An encoder that is loaded for the first text, and encodes each text once.

Systems and tasks share texts: the same corpus ranked by a dense and a hybrid system, the same sentence in two test
sets. With one ``EncodeOnce`` per encoder and evaluation, each distinct text and prompt is encoded once. Encoders that
differ only in pooling share a forward pass (:func:`share_passes`).
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32

from llm2vec_core.encoding.result import Encoding
from llm2vec_core.errors import CoreError

MAX_REMEMBERED_BYTES = 4 << 30
"""Maximum bytes of cached vectors; a larger corpus is encoded again for the next task that uses it."""


class TextEncoder(Protocol):
    """Encodes texts; implemented by ``llm2vec_core.encoding.encoder.Encoder``."""

    @property
    def embedding_dim(self) -> int:
        """Length of a vector."""

    def encode_with_counts(
        self, texts: Sequence[str], *, prompt: str | None = None, pool_prompt: bool = True
    ) -> Encoding:
        """One vector per text, in the order of the texts, with the number of tokens."""

    def encode_words(
        self, sentences: Sequence[Sequence[str]], *, label_shift: bool = False
    ) -> Float32[np.ndarray, "num_words dim"]:
        """One vector per word, sentence by sentence."""


@dataclass(frozen=True)
class EncodingCost:
    """Cost of encoding so far.

    Attributes:
        num_texts: Distinct texts (or sentences of words) that went through the encoder.
        num_tokens: Number of their tokens; for sentences of words, the number of words.
        seconds: Wall time, without loading.
        num_cut_tokens: Tokens of the texts that were cut.
    """

    num_texts: int = 0
    num_tokens: int = 0
    seconds: float = 0.0
    num_cut_tokens: int = 0

    def __add__(self, other: EncodingCost) -> EncodingCost:
        """The sum of both costs."""
        return EncodingCost(*map(operator.add, astuple(self), astuple(other)))

    def __sub__(self, other: EncodingCost) -> EncodingCost:
        """The cost since an earlier measurement."""
        return EncodingCost(*map(operator.sub, astuple(self), astuple(other)))


class EncodeOnce:
    """Encodes each distinct text once per prompt, during its lifetime.

    Args:
        fingerprint: Identity of weights, tokenizer and settings: equal fingerprints give equal vectors.
        load: Returns the encoder; called for new texts each time, so that a caller with many encoders decides how many
            stay in memory.
        max_bytes: Maximum bytes of cached vectors.

    Attributes:
        cost: Cost of encoding so far.
    """

    def __init__(
        self, fingerprint: str, load: Callable[[], TextEncoder], *, max_bytes: int = MAX_REMEMBERED_BYTES
    ) -> None:
        """Load nothing yet."""
        self.fingerprint = fingerprint
        self.cost = EncodingCost()
        self._load = load
        self._group: tuple[EncodeOnce, ...] = (self,)
        self._encode_together: EncodeTogether = _encode_alone
        self._room = max_bytes
        self._vectors: dict[tuple[str | None, str], Float32[np.ndarray, " dim"]] = {}

    @property
    def embedding_dim(self) -> int:
        """Length of a vector."""
        return self._load().embedding_dim

    def encode(self, texts: Sequence[str], *, prompt: str | None = None) -> Float32[np.ndarray, "num_texts dim"]:
        """Vectors of texts, in their order. Only uncached texts reach the encoder, in one call.

        Args:
            texts: Any number of texts.
            prompt: Put before every text; its tokens are not pooled.

        Raises:
            CoreError: The encoder returned non-finite vectors, so no score would be reliable.
        """
        if not texts:
            return np.empty((0, self.embedding_dim), dtype=np.float32)
        new = [text for text in dict.fromkeys(texts) if (prompt, text) not in self._vectors]
        fresh: dict[str, Float32[np.ndarray, " dim"]] = {}
        if new:
            encoders, start = [each._load() for each in self._group], time.perf_counter()
            encodings = self._encode_together(encoders, new, prompt=prompt, pool_prompt=not prompt)
            for each, encoding in zip(self._group, encodings, strict=True):
                vectors = dict(zip(new, each._require_finite(encoding.vectors), strict=True))
                each._remember(prompt, vectors)
                if each is self:
                    num_cut = 0 if encoding.cut_tokens is None else int(encoding.cut_tokens.sum())
                    self.cost += EncodingCost(len(new), encoding.num_tokens, time.perf_counter() - start, num_cut)
                    fresh, whole = vectors, encoding.vectors
            if len(new) == len(texts):
                return whole  # a new corpus is not copied
        return np.stack([fresh[text] if text in fresh else self._vectors[prompt, text] for text in texts])

    def encode_words(
        self, sentences: Sequence[Sequence[str]], *, label_shift: bool = False
    ) -> Float32[np.ndarray, "num_words dim"]:
        """One vector per word, sentence by sentence; not cached, because no two tasks share word sentences."""
        encoder, start = self._load(), time.perf_counter()
        vectors = encoder.encode_words(sentences, label_shift=label_shift)
        self.cost += EncodingCost(len(sentences), len(vectors), time.perf_counter() - start)
        return self._require_finite(vectors)

    def _require_finite(self, vectors: Float32[np.ndarray, "rows dim"]) -> Float32[np.ndarray, "rows dim"]:
        if not np.isfinite(vectors).all():
            raise CoreError(
                f"The encoder {self.fingerprint} returned vectors with NaN or infinity.",
                hint="Check the training that made it; the loss may have diverged.",
            )
        return vectors

    def _remember(self, prompt: str | None, vectors: Mapping[str, Float32[np.ndarray, " dim"]]) -> None:
        """Cache vectors if all of them fit into the memory limit."""
        size = sum(vector.nbytes for vector in vectors.values())
        if size <= self._room:
            self._room -= size
            self._vectors.update(((prompt, text), vector) for text, vector in vectors.items())


class EncodeTogether(Protocol):
    """Encodes texts by several encoders at once; implemented by ``llm2vec_core.encoding.views.encode_together``."""

    def __call__(
        self, encoders: Sequence[Any], texts: Sequence[str], *, prompt: str | None = None, pool_prompt: bool = True
    ) -> Sequence[Encoding]:
        """One encoding of all texts per encoder."""


def share_passes(encoders: Sequence[EncodeOnce], encode_together: EncodeTogether) -> None:
    """Let encoders that differ only in pooling encode new texts in one forward pass.

    The first encoder that is called encodes for all of them, and is charged the cost.

    Args:
        encoders: Encoders that one forward pass can serve.
        encode_together: Encodes texts by all of them.
    """
    for encoder in encoders:
        encoder._group, encoder._encode_together = tuple(encoders), encode_together


def _encode_alone(
    encoders: Sequence[Any], texts: Sequence[str], *, prompt: str | None = None, pool_prompt: bool = True
) -> Sequence[Encoding]:
    return [encoder.encode_with_counts(texts, prompt=prompt, pool_prompt=pool_prompt) for encoder in encoders]
