"""The encoder: texts in, vectors out.

One path for every model that sentence-transformers can load: our checkpoints, MiniLM, any other directory. Vectors
equal those of ``SentenceTransformer.encode``; what is ours is the batching (token budget, sorted by length, equal
texts encoded once) and that nothing happens silently (truncation is counted, the attention is probed).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float32

from llm2vec_core.batching import LENGTH_MULTIPLE, padded_length, plan_batches
from llm2vec_core.bidirectional import require_attention, stated_attention
from llm2vec_core.checkpoint import RECORD_NAME, fingerprint, read_record, require_encoder_directory
from llm2vec_core.errors import CheckpointError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

DEFAULT_TOKEN_BUDGET = 4096
"""Padded tokens per forward pass: enough to keep two cores busy at under 1 GB for a model of 135M parameters."""


@dataclass(frozen=True)
class Encoding:
    """What one call of :meth:`Encoder.encode_counted` made and what it cost.

    Attributes:
        vectors: One row per text, in the order of the texts.
        num_tokens: Tokens of the distinct texts that went through the model.
        num_padded_tokens: The same with padding.
        num_truncated: Texts that were cut at the encoder's ``max_tokens``.
    """

    vectors: Float32[np.ndarray, "num_texts embedding_dim"]
    num_tokens: int
    num_padded_tokens: int
    num_truncated: int


class Encoder:
    """Encodes texts with a sentence-transformers model.

    Args:
        model: Loaded model: a transformer, a pooling module, and whatever follows.
        fingerprint: Identity of the checkpoint; vectors of different fingerprints must never be compared.
        token_budget: Padded tokens of one forward pass, at most.
    """

    def __init__(
        self, model: SentenceTransformer, *, fingerprint: str, token_budget: int = DEFAULT_TOKEN_BUDGET
    ) -> None:
        """Take a loaded model; :meth:`load` is the usual way."""
        self._model = model.eval()
        self._tokenizer = model.tokenizer
        self.fingerprint = fingerprint
        self.token_budget = token_budget
        self.embedding_dim: int = model.get_embedding_dimension()
        self.max_tokens: int = min(model.max_seq_length or 512, 100_000)

    @classmethod
    def load(cls, directory: Path, *, token_budget: int = DEFAULT_TOKEN_BUDGET, device: str | None = None) -> Encoder:
        """Load a checkpoint or any other sentence-transformers directory.

        Raises:
            CheckpointError: The directory is incomplete.
            BaseModelError: Its configuration states an attention that the loaded model does not show.
        """
        require_encoder_directory(directory)
        from sentence_transformers import SentenceTransformer

        try:
            model = SentenceTransformer(str(directory), local_files_only=True, device=device)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{directory} could not be loaded as an encoder: {str(error).splitlines()[0]}",
                hint="Restore the directory, or build the checkpoint again.",
            ) from error
        transformer = model[0].model
        if hasattr(transformer.config, "is_causal"):
            require_attention(transformer, stated_attention(transformer.config), name=str(directory.name))
        identity = read_record(directory).fingerprint if (directory / RECORD_NAME).is_file() else fingerprint(directory)
        return cls(model, fingerprint=identity, token_budget=token_budget)

    def encode(
        self, texts: str | Sequence[str], *, prompt: str | None = None, normalize: bool = False
    ) -> Float32[np.ndarray, "num_texts embedding_dim"]:
        """Encode texts; one string is one text.

        Args:
            texts: Any number of texts, in any order.
            prompt: Put before every text, as it is.
            normalize: Scale every vector to length one.
        """
        return self.encode_counted(
            [texts] if isinstance(texts, str) else texts, prompt=prompt, normalize=normalize
        ).vectors

    @torch.inference_mode()
    def encode_counted(
        self,
        texts: Sequence[str],
        *,
        prompt: str | None = None,
        normalize: bool = False,
        on_progress: Callable[[int], None] | None = None,
    ) -> Encoding:
        """Encode texts and count what it took.

        Args:
            texts: Any number of texts, in any order; equal texts are encoded once.
            prompt: Put before every text, as it is.
            normalize: Scale every vector to length one.
            on_progress: Called with the number of distinct texts just finished.
        """
        distinct = list(dict.fromkeys(texts))
        token_ids, num_truncated = self._tokenize([f"{prompt or ''}{text}" for text in distinct])
        lengths = [len(ids) for ids in token_ids]
        vectors = np.empty((len(distinct), self.embedding_dim), dtype=np.float32)
        num_padded_tokens = 0
        for batch in plan_batches(lengths, token_budget=self.token_budget):
            vectors[batch] = self._forward([token_ids[index] for index in batch])
            num_padded_tokens += len(batch) * padded_length(lengths[batch[0]])
            if on_progress is not None:
                on_progress(len(batch))
        if normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        row_of = {text: row for row, text in enumerate(distinct)}
        return Encoding(vectors[[row_of[text] for text in texts]], sum(lengths), num_padded_tokens, num_truncated)

    def _tokenize(self, texts: list[str]) -> tuple[list[list[int]], int]:
        """Token ids of each text, cut at ``max_tokens``, and how many had to be cut."""
        if not texts:
            return [], 0
        token_ids: list[list[int]] = self._tokenizer(texts, truncation=False, verbose=False)["input_ids"]
        too_long = [index for index, ids in enumerate(token_ids) if len(ids) > self.max_tokens]
        for index in too_long:
            # Tokenised again, not cut: a tokenizer may close a text with a special token.
            cut = self._tokenizer(texts[index], truncation=True, max_length=self.max_tokens)
            token_ids[index] = cut["input_ids"]
        # A text without any token gets one, so that no row of a batch is empty.
        fallback = [self._tokenizer.eos_token_id or self._tokenizer.pad_token_id or 0]
        return [ids or fallback for ids in token_ids], len(too_long)

    def _forward(self, token_ids: list[list[int]]) -> Float32[np.ndarray, "batch embedding_dim"]:
        features = self._tokenizer.pad(
            {"input_ids": token_ids}, padding=True, pad_to_multiple_of=LENGTH_MULTIPLE, return_tensors="pt"
        )
        features = {name: tensor.to(self._model.device) for name, tensor in features.items()}
        return np.asarray(self._model(features)["sentence_embedding"].float().cpu().numpy(), dtype=np.float32)
