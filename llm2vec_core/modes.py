"""The closed sets that name an encoder (attention, pooling), and names such as ``bundled:smollm2-135m+causal+mean``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from llm2vec_core.errors import InputError

Attention = Literal["causal", "bidirectional"]
ATTENTIONS: tuple[Attention, ...] = get_args(Attention)

PoolingMode = Literal["mean", "weighted_mean", "last"]
POOLING_MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)


@dataclass(frozen=True)
class EncoderName:
    """An untrained encoder by name: a base model, and how it attends and pools.

    Attributes:
        base_model: Bundled name, directory, or hub name.
        attention: Causal, as decoders come, or bidirectional.
        pooling_mode: Weighted mean by default: the best pooling of an untrained decoder (LLM2Vec, table 5).
    """

    base_model: str
    attention: Attention = "causal"
    pooling_mode: PoolingMode = "weighted_mean"

    def __str__(self) -> str:
        """The name in the form that :func:`parse_encoder_name` reads."""
        return f"{self.base_model}+{self.attention}+{self.pooling_mode}"


def parse_encoder_name(name: str) -> EncoderName:
    """Read ``BASE[+ATTENTION][+POOLING]``.

    Raises:
        InputError: An unknown mode; the message lists the known ones.
    """
    base_model, *modes = name.split("+")
    attention: Attention = "causal"
    pooling_mode: PoolingMode = "weighted_mean"
    for mode in modes:
        if mode in ATTENTIONS:
            attention = mode
        elif mode in POOLING_MODES:
            pooling_mode = mode
        else:
            raise InputError(
                f"'{mode}' in '{name}' is no mode of an encoder.",
                hint=f"Attention: {', '.join(ATTENTIONS)}. Pooling: {', '.join(POOLING_MODES)}.",
            )
    return EncoderName(base_model, attention, pooling_mode)
