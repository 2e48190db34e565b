"""Attention over texts of different lengths in one row, without padding and without a mask.

The tokens of a batch lie in one row, and the kernel gets the borders of the texts. On CUDA in half precision this is
torch's variable-length FlashAttention, which has no dropout; elsewhere it is one call for each text, which is exact but
slow. All other layers work on single tokens, so every state is that of a padded batch.

Source: Dao et al. 2022, FlashAttention; Krell et al. 2021, Efficient Sequence Packing without Cross-contamination.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "llm2vec_varlen"
"""The name by which transformers knows this attention. Transformers makes no mask for it."""


def can_pack(model: Any, *, longest: int) -> bool:  # noqa: ANN401 - a transformers model, which ships no types
    """Whether a decoder reads packed texts as it reads padded ones.

    It must take positions, leave attention to transformers' interface without a cap on its scores, and not cut the
    texts by a sliding window.

    Args:
        model: A decoder without its output layer.
        longest: Tokens of the longest text.
    """
    config = model.config
    window = getattr(config, "sliding_window", None)
    return (
        getattr(model, "_supports_attention_backend", False)
        and not getattr(config, "attn_logit_softcapping", None)
        and "position_ids" in inspect.signature(model.forward).parameters
        and (window is None or 2 * longest <= window)
    )


def packed_states(
    model: Any,  # noqa: ANN401
    input_ids: Int[Tensor, " tokens"],
    lengths: Sequence[int],
    *,
    causal: bool,
) -> Float[Tensor, "tokens hidden"]:
    """Last states of texts that lie one after another.

    Args:
        model: A decoder for which :func:`can_pack` holds.
        input_ids: Tokens of all texts, on the model's device.
        lengths: Tokens of each text.
        causal: Whether a token attends to earlier ones only.
    """
    ends = torch.tensor([0, *lengths]).cumsum(0)
    positions = torch.arange(int(ends[-1])) - ends[:-1].repeat_interleave(torch.tensor(lengths))
    with _attention(model):
        output = model(
            input_ids=input_ids.unsqueeze(0),
            position_ids=to_device(positions, input_ids.device).unsqueeze(0),
            use_cache=False,
            varlen_ends=to_device(ends.int(), input_ids.device),
            varlen_longest=max(lengths),
            varlen_causal=causal,
        )
    states: Tensor = output.last_hidden_state[0]
    return states


@contextlib.contextmanager
def _attention(model: Any) -> Iterator[None]:  # noqa: ANN401
    config = model.config
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the host to a device without waiting for it."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _varlen_attention(
    module: Any,  # noqa: ANN401 - an attention layer of transformers
    query: Float[Tensor, "1 heads tokens width"],
    key: Float[Tensor, "1 kv_heads tokens width"],
    value: Float[Tensor, "1 kv_heads tokens width"],
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    varlen_ends: Int[Tensor, " texts_and_one"],
    varlen_longest: int,
    varlen_causal: bool,
    **_: Any,  # noqa: ANN401
) -> tuple[Float[Tensor, "1 tokens heads width"], None]:
    """Attention within each text, in the form that transformers calls."""
    if torch.is_autocast_enabled(query.device.type):
        kind = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(kind), key.to(kind), value.to(kind)
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    has_groups = key.shape[1] != query.shape[1]
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16) and not dropout:
        out = varlen_attn(
            query.contiguous(),
            key.contiguous(),
            value.contiguous(),
            varlen_ends,
            varlen_ends,
            varlen_longest,
            varlen_longest,
            scale=scaling,
            window_size=(-1, 0) if varlen_causal else (-1, -1),
            enable_gqa=has_groups,
        )
        assert isinstance(out, Tensor)
        return out.unsqueeze(0), None
    texts = [slice(start, stop) for start, stop in pairwise(varlen_ends.tolist())]
    parts = []
    for text in texts:
        own, keys, values = (states[text].transpose(0, 1).unsqueeze(0) for states in (query, key, value))
        attended = scaled_dot_product_attention(
            own, keys, values, dropout_p=dropout, is_causal=varlen_causal, scale=scaling, enable_gqa=has_groups
        )
        parts.append(attended[0].transpose(0, 1))
    return torch.cat(parts).unsqueeze(0), None


AttentionInterface.register(NAME, _varlen_attention)
