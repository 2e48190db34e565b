"""The forward pass: batches of tokens in, pooled vectors out.

Encoders that differ only in pooling share one pass. Does not belong here: tokens, and the choice of pooled ones
(``tokenizing``), the pooling itself (``model.pooling``), long texts (``chunking``).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32

from llm2vec_core.device.memory import CPU_TOKENS, batch_tokens_for, device_errors
from llm2vec_core.device.varlen import can_pack, packed_states, to_device
from llm2vec_core.encoding.batching import ENOUGH_TOKENS, padded_length, plan_batches
from llm2vec_core.encoding.pipeline import MEMORY_HINT, InFlight, padded_ahead, tokenized_ahead
from llm2vec_core.encoding.result import Encoding
from llm2vec_core.encoding.tokenizing import TextTokenizer, TokenizedTexts
from llm2vec_core.errors import DeviceMemoryError
from llm2vec_core.model.architectures import is_encoder_only
from llm2vec_core.model.bidirectional import stated_attention
from llm2vec_core.model.modes import PoolingMode
from llm2vec_core.model.pooling import pooled_mask, pooling_position, require_pooling

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

WINDOW_TEXTS = 4096
"""Texts that are tokenized at once for a device, while it encodes the texts before them."""

_BATCHES_IN_FLIGHT = 2
"""Batches whose vectors may be on their way from a device. Their copies are waited for only when more are."""


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

    def fitting_tokens(self) -> int:
        """Padded tokens of a batch that the device's free memory holds."""
        module = self._before_pooling[0] if self._before_pooling else None
        config = getattr(getattr(module, "model", None), "config", None)
        if not hasattr(config, "hidden_size"):
            return CPU_TOKENS
        return batch_tokens_for(config, self.model.device, itemsize=self.model.dtype.itemsize)

    @property
    def packs(self) -> bool:
        """Whether texts are read without padding: by a decoder on CUDA in half precision."""
        is_half = self.model.device.type == "cuda" and self.model.dtype in (torch.bfloat16, torch.float16)
        return is_half and self._may_pack

    @property
    def _may_pack(self) -> bool:
        """Whether the transformer is a decoder whose padded and packed states are equal."""
        if len(self._before_pooling) != 1 or not hasattr(self._before_pooling[0], "model"):
            return False
        transformer = self._before_pooling[0].model
        return not is_encoder_only(transformer.config) and can_pack(transformer, longest=self.max_tokens)

    def padded(self, token_ids: list[list[int]]) -> dict[str, Any]:
        """A padded batch in host memory; for a GPU the memory is pinned, so that copies need not be waited for."""
        length = padded_length(max(map(len, token_ids)))
        padded = self.model.tokenizer.pad(
            {"input_ids": token_ids}, padding="max_length", max_length=length, return_tensors="pt"
        )
        pins = self.model.device.type == "cuda"
        return {name: tensor.pin_memory() if pins else tensor for name, tensor in padded.items()}

    def token_states(self, token_ids: list[list[int]]) -> dict[str, Any]:
        """Hidden states (fp32, ``[batch, seq, hidden]``) and attention mask of a batch."""
        return self.states_of(self.padded(token_ids))

    def states_of(self, padded: dict[str, Any], *, packs: bool = False) -> dict[str, Any]:
        """Hidden states (fp32, ``[batch, seq, hidden]``) and attention mask of a padded batch.

        Args:
            padded: Result of :meth:`padded`.
            packs: Drop the padding in the transformer. The states of padding are then zero.
        """
        features: dict[str, Any] = {
            name: tensor.to(self.model.device, non_blocking=True) for name, tensor in padded.items()
        }
        if packs:
            transformer = self._before_pooling[0].model
            mask = padded["attention_mask"]
            slots = to_device(mask.flatten().nonzero().flatten(), self.model.device)
            states = packed_states(
                transformer,
                features["input_ids"].flatten()[slots],
                mask.sum(dim=1).tolist(),
                causal=stated_attention(transformer.config) == "causal",
            ).float()
            flat = states.new_zeros((mask.numel(), states.shape[-1]))
            features["token_embeddings"] = flat.index_copy_(0, slots, states).view(*mask.shape, -1)
            return features
        for module in self._before_pooling:
            features = module(features)
        features["token_embeddings"] = features["token_embeddings"].float()
        return features

    def pool(self, states: dict[str, Any], pooled: list[range]) -> torch.Tensor:
        """Pool the states of a batch into vectors (fp32) on the device; the states are not changed.

        Args:
            states: Result of :meth:`token_states`.
            pooled: Tokens of each text that are pooled.
        """
        features = dict(states)
        if self._from_pooling:
            features["attention_mask"] = pooled_mask(features["attention_mask"], pooled)
        for module in self._from_pooling:
            features = module(features)
        vectors: torch.Tensor = features["sentence_embedding"].float()
        return vectors


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
    on_device = not is_cpu(first.model)
    vectors = [np.empty((len(distinct), each.model.get_embedding_dimension()), dtype=np.float32) for each in passes]
    lengths, num_cut = np.zeros(len(distinct), np.int32), np.zeros(len(distinct), np.int32)
    num_padded_tokens = num_truncated = 0
    queue: deque[InFlight] = deque()

    def land(most: int) -> None:
        """Copy finished vectors to their rows until at most ``most`` batches are in flight."""
        while len(queue) > most:
            done = queue.popleft()
            done.wait()
            for rows, found in zip(vectors, done.vectors, strict=True):
                rows[done.rows] = found.numpy()
            if on_progress is not None:
                on_progress(len(done.rows))

    window = WINDOW_TEXTS if on_device else len(distinct)
    packs = first.packs
    enough = batch_tokens if packs else max(ENOUGH_TOKENS, batch_tokens // 8) if on_device else ENOUGH_TOKENS
    with ThreadPoolExecutor(2, thread_name_prefix="ahead") as ahead:
        for numbers, tokenized in tokenized_ahead(
            ahead, first.texts, distinct, window=window, prompt=prompt or "", pool_prompt=pools_prompt
        ):
            of_window = [len(ids) for ids in tokenized.token_ids]
            lengths[numbers], num_cut[numbers] = of_window, tokenized.num_cut
            num_truncated += tokenized.num_truncated
            batches = plan_batches(of_window, batch_tokens=batch_tokens, enough_tokens=enough)
            num_padded_tokens += sum(len(batch) * padded_length(of_window[batch[0]]) for batch in batches)
            for batch, padded in padded_ahead(ahead if on_device else None, first.padded, tokenized.token_ids, batches):
                for part, found in _pooled(passes, tokenized, batch, padded, packs=packs):
                    queue.append(InFlight.start([numbers[index] for index in part], found))
                    land(_BATCHES_IN_FLIGHT if on_device else 0)
    land(0)
    row_of = {text: row for row, text in enumerate(distinct)}
    order = [row_of[text] for text in texts]
    return [
        Encoding(
            rows[order],
            int(lengths.sum()),
            num_padded_tokens,
            num_truncated,
            read_tokens=lengths[order],
            cut_tokens=num_cut[order],
        )
        for rows in vectors
    ]


def _pooled(
    passes: Sequence[ForwardPass], tokenized: TokenizedTexts, batch: list[int], padded: dict[str, Any], *, packs: bool
) -> Iterator[tuple[list[int], list[torch.Tensor]]]:
    """Vectors of a batch, one tensor for each pass. A batch that does not fit into the device's memory is halved.

    Raises:
        DeviceMemoryError: A single text does not fit.
        DeviceError: The device was lost.
    """
    first = passes[0]
    try:
        with device_errors(f"encode a batch of {len(batch)} texts", hint=MEMORY_HINT):
            states = first.states_of(padded, packs=packs)
            pooled = [tokenized.pooled[index] for index in batch]
            found = [each.pool(states, pooled) for each in passes]
    except DeviceMemoryError:
        if len(batch) == 1:
            raise
        found = []
    if found:
        yield batch, found
        return
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
    logger.warning(
        "a batch of %d texts does not fit into the memory of %s; it is halved", len(batch), first.model.device
    )
    for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
        again = first.padded([tokenized.token_ids[index] for index in half])
        yield from _pooled(passes, tokenized, half, again, packs=packs)


def is_cpu(model: SentenceTransformer) -> bool:
    """Whether a model computes in this process, so that nothing is gained by working ahead of it."""
    return bool(model.device.type == "cpu")


def to_numpy(tensor: torch.Tensor) -> Float32[np.ndarray, "batch dim"]:
    """Copy a tensor of any device and precision to an fp32 array."""
    return np.asarray(tensor.float().cpu().numpy(), dtype=np.float32)
