"""The forward pass: batches of tokens in, pooled vectors out.

Encoders that differ only in pooling share one pass. Does not belong here: tokens, and the choice of pooled ones
(``tokenizing``), the pooling itself (``model.pooling``), long texts (``chunking``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32

from llm2vec_core.encoding.batching import LENGTH_MULTIPLE, padded_length, plan_batches
from llm2vec_core.encoding.result import Encoding
from llm2vec_core.encoding.tokenizing import TextTokenizer
from llm2vec_core.model.modes import PoolingMode
from llm2vec_core.model.pooling import pooled_mask, pooling_position, require_pooling

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class ForwardPass:
    """A loaded model, split before its pooling module.

    Args:
        model: A transformer, a pooling module, and any further modules.
        name: Name of the model, for messages.
        pooling_mode: Mode of the pooling module; ``eos`` also appends an EOS token to every text.
        echo: Whether every text is read twice and only the second copy pooled.
        wording: Sentence around every text, of which the last token is pooled; empty: none.

    Attributes:
        texts: Tokenizes texts.
        max_tokens: Longer texts are truncated to this.

    Raises:
        CheckpointError: Echo or a wording, but the model has no pooling module.
        InputError: EOS pooling, but the tokenizer has no end token.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        name: str,
        pooling_mode: PoolingMode | None,
        echo: bool,
        wording: str = "",
    ) -> None:
        """Find the pooling module."""
        self.model = model.eval()
        position = require_pooling(model, name=name) if echo or wording else pooling_position(model)
        modules = list(model)
        self._before_pooling, self._from_pooling = modules[:position], [] if position is None else modules[position:]
        self.max_tokens: int = min(model.max_seq_length or 512, 100_000)
        # A directory can exclude prompts from pooling, as those of INSTRUCTOR do.
        self.pools_prompts: bool = position is None or model[position].include_prompt
        self.texts = TextTokenizer(
            model.tokenizer, max_tokens=self.max_tokens, pooling_mode=pooling_mode, echo=echo, wording=wording
        )
        self._tokens_as = (echo, pooling_mode == "eos", self.pools_prompts, wording)

    def is_shared_with(self, other: ForwardPass) -> bool:
        """Whether one pass serves both: same transformer, same tokens, same tokens pooled.

        EOS pooling needs its own pass, because all other tokens may attend to the added token.
        """
        is_same_transformer = bool(self._before_pooling) and self._before_pooling == other._before_pooling
        return is_same_transformer and self._tokens_as == other._tokens_as

    def token_states(self, token_ids: list[list[int]]) -> dict[str, Any]:
        """Hidden states (fp32, ``[batch, seq, hidden]``) and attention mask of a batch."""
        padded = self.model.tokenizer.pad(
            {"input_ids": token_ids}, padding=True, pad_to_multiple_of=LENGTH_MULTIPLE, return_tensors="pt"
        )
        features: dict[str, Any] = {name: tensor.to(self.model.device) for name, tensor in padded.items()}
        for module in self._before_pooling:
            features = module(features)
        features["token_embeddings"] = features["token_embeddings"].float()
        return features

    def pool(self, states: dict[str, Any], pooled: list[range]) -> Float32[np.ndarray, "batch embedding_dim"]:
        """Pool the states of a batch into vectors; the states are not changed.

        Args:
            states: Result of :meth:`token_states`.
            pooled: Tokens of each text that are pooled.
        """
        features = dict(states)
        if self._from_pooling:
            features["attention_mask"] = pooled_mask(features["attention_mask"], pooled)
        for module in self._from_pooling:
            features = module(features)
        return to_numpy(features["sentence_embedding"])


@torch.inference_mode()
def run_together(
    passes: Sequence[ForwardPass],
    texts: Sequence[str],
    *,
    batch_tokens: int,
    prompt: str | None = None,
    pool_prompt: bool = True,
    on_progress: Callable[[int], None] | None = None,
) -> list[Encoding]:
    """Encode texts, truncated to ``max_tokens``, and pool the states of one pass in several ways.

    Args:
        passes: One, or several that share their pass (:meth:`ForwardPass.is_shared_with`).
        texts: Any number of texts, in any order; equal texts are encoded once.
        batch_tokens: Maximum number of padded tokens in one batch.
        prompt: Put before every text.
        pool_prompt: Whether the tokens of the prompt are pooled.
        on_progress: Called with the number of distinct texts just finished.

    Returns:
        One encoding for each of ``passes``; their counts are those of the one pass.

    Raises:
        InputError: ``max_tokens`` leaves no room for two echo copies.
    """
    first = passes[0]
    distinct = list(dict.fromkeys(texts))
    # A directory that excludes prompts does not exclude the tokens in front of a text without a prompt.
    pools_prompt = pool_prompt and (first.pools_prompts or not prompt)
    tokenized = first.texts.texts(distinct, prompt=prompt or "", pool_prompt=pools_prompt)
    lengths = [len(ids) for ids in tokenized.token_ids]
    vectors = [np.empty((len(distinct), each.model.get_embedding_dimension()), dtype=np.float32) for each in passes]
    num_padded_tokens = 0
    for batch in plan_batches(lengths, batch_tokens=batch_tokens):
        states = first.token_states([tokenized.token_ids[index] for index in batch])
        pooled = [tokenized.pooled[index] for index in batch]
        for each, rows in zip(passes, vectors, strict=True):
            rows[batch] = each.pool(states, pooled)
        num_padded_tokens += len(batch) * padded_length(lengths[batch[0]])
        if on_progress is not None:
            on_progress(len(batch))
    row_of = {text: row for row, text in enumerate(distinct)}
    order = [row_of[text] for text in texts]
    read, cut = (np.array(counts, dtype=np.int32)[order] for counts in (lengths, tokenized.num_cut))
    return [
        Encoding(
            rows[order], sum(lengths), num_padded_tokens, tokenized.num_truncated, read_tokens=read, cut_tokens=cut
        )
        for rows in vectors
    ]


def to_numpy(tensor: torch.Tensor) -> Float32[np.ndarray, "batch dim"]:
    """Copy a tensor of any device and precision to an fp32 array."""
    return np.asarray(tensor.float().cpu().numpy(), dtype=np.float32)
