"""Packing: several short texts in one row, instead of padding every text to the longest.

Titles and sentences differ so much in length that more than half of a padded batch is padding. Attention stays within a
text and its positions start at zero, so every state is the same as in a padded batch. In bf16 on a GPU all texts lie in
one row and the kernel gets their borders (``device.varlen``). Elsewhere, and with attention dropout, the mask is
transformers' own.

Source: Krell et al. 2021, Efficient Sequence Packing without Cross-contamination.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from sentence_transformers.base.modules import Transformer
from torch import Tensor
from transformers.masking_utils import create_causal_mask, packed_sequence_mask_function

from llm2vec_core.device.varlen import can_pack, packed_states
from llm2vec_core.model.architectures import ATTENTION_DROPOUT_NAMES
from llm2vec_core.model.bidirectional import stated_attention

_ROW_MULTIPLE = 64
"""The length of a row is a multiple of this: few shapes to compile, and few wasted slots."""

_MASKED_ATTENTION = ("sdpa", "eager")
"""Implementations of attention that accept a mask of rows and columns."""


class PackedTransformer(Transformer):  # type: ignore[misc]
    """The sentence-transformers module of a decoder, which packs its input and unpacks the states."""

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
        """States of a padded batch, in the form of the plain module.

        Args:
            features: ``input_ids`` and ``attention_mask``, both (batch, seq).
            kwargs: Passed to the plain module.
        """
        is_token: Bool[Tensor, "batch seq"] = features["attention_mask"].bool()
        lengths = is_token.sum(dim=1).tolist()
        if self.borders and can_pack(self.model, longest=max(lengths)):
            return self._in_one_row(features, is_token, lengths)
        row_length = -(-max(lengths) // _ROW_MULTIPLE) * _ROW_MULTIPLE
        starts, num_rows = pack_rows(lengths, row_length=row_length)
        if num_rows * row_length >= is_token.numel() or not _can_pack(self.model, longest=max(lengths)):
            padded: dict[str, Any] = super().forward(features, **kwargs)
            return padded
        positions = is_token.cumsum(dim=1) - 1
        slots = (torch.tensor(starts, device=is_token.device)[:, None] + positions) * is_token

        def packed(values: Tensor, *, empty: int = 0) -> Int64[Tensor, "rows slots"]:
            rows = values.new_full((num_rows * row_length,), empty)
            rows[slots[is_token]] = values[is_token]
            return rows.view(num_rows, row_length)

        text_of = packed(torch.arange(len(lengths), device=is_token.device)[:, None].expand_as(slots), empty=-1)
        of_tokens = {
            name: packed(values)
            for name, values in features.items()
            if isinstance(values, Tensor) and values.shape == is_token.shape
        }
        placed = {"position_ids": packed(positions), "attention_mask": _attention_within(text_of, self.model)}
        in_rows: dict[str, Any] = super().forward(features | of_tokens | placed, **kwargs)
        states: Float[Tensor, "rows slots dim"] = in_rows[self.module_output_name]
        features[self.module_output_name] = states.flatten(0, 1)[slots]
        return features

    @property
    def borders(self) -> bool:
        """Whether attention gets the borders of texts instead of a mask: on CUDA in bf16, without attention dropout."""
        has_dropout = self.training and any(getattr(self.model.config, name, 0) for name in ATTENTION_DROPOUT_NAMES)
        return bool(torch.is_autocast_enabled("cuda") and self.model.device.type == "cuda" and not has_dropout)

    def _in_one_row(
        self, features: dict[str, Any], is_token: Bool[Tensor, "batch seq"], lengths: list[int]
    ) -> dict[str, Any]:
        slots = is_token.flatten().nonzero().flatten()
        states = packed_states(
            self.model,
            features["input_ids"].flatten()[slots],
            lengths,
            causal=stated_attention(self.model.config) == "causal",
        )
        flat = states.new_zeros((is_token.numel(), states.shape[-1])).index_copy(0, slots, states)
        features[self.module_output_name] = flat.view(*is_token.shape, -1)
        return features


def pack_rows(lengths: Sequence[int], *, row_length: int) -> tuple[list[int], int]:
    """Place texts into rows: first fit, longest first.

    Args:
        lengths: Number of tokens of each text, none above ``row_length``.
        row_length: Slots of a row.

    Returns:
        The first slot of each text, counted over all rows, and the number of rows.
    """
    used: list[int] = []
    starts = [0] * len(lengths)
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        row = next((row for row, taken in enumerate(used) if taken + lengths[index] <= row_length), len(used))
        if row == len(used):
            used.append(0)
        starts[index] = row * row_length + used[row]
        used[row] += lengths[index]
    return starts, len(used)


def _can_pack(model: Any, *, longest: int) -> bool:  # noqa: ANN401 - a transformers model, which ships no types
    """Whether the model accepts packed rows: it takes positions and a mask, and its sliding window fits the texts."""
    window = getattr(model.config, "sliding_window", None)
    return (
        model.config._attn_implementation in _MASKED_ATTENTION
        and "position_ids" in inspect.signature(model.forward).parameters
        and (window is None or 2 * longest <= window)
    )


def _attention_within(
    text_of: Int64[Tensor, "rows slots"],
    model: Any,  # noqa: ANN401
) -> Tensor:
    """Attention mask of packed rows: tokens attend within their text, with the model's attention.

    Args:
        text_of: Number of the text in each slot; empty slots attend to each other.
        model: Its configuration states attention and implementation.
    """
    shape_alone = torch.empty(*text_of.shape, 1, dtype=model.dtype, device=text_of.device)
    mask: Tensor = create_causal_mask(
        config=model.config,
        inputs_embeds=shape_alone,
        attention_mask=None,
        past_key_values=None,
        and_mask_function=packed_sequence_mask_function(text_of),
    )
    return mask
