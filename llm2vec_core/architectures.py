"""What differs between transformer architectures: which of them are encoders, and where their attention dropout is set.

A decoder is made bidirectional by a switch in its configuration; an encoder-only model (BERT, RoBERTa, MiniLM) looks
both ways as it comes and has no such switch. Does not belong here: the switch and the probe (``bidirectional``), and
finding a base model (``base_models``).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn, random

from llm2vec_core.bidirectional import require_attention, switch_attention
from llm2vec_core.errors import BaseModelError
from llm2vec_core.modes import Attention

# transformers calls the dropout on attention weights by one of these names.
_ATTENTION_DROPOUT_NAMES = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")


def is_encoder_only(config: Any) -> bool:  # noqa: ANN401 - PretrainedConfig, which ships no types
    """Whether a model of this configuration looks both ways as it comes and knows no causal switch.

    That is so where transformers gives the architecture an output layer for masked words, and the configuration does
    not turn it into a decoder. (A causal output layer says nothing: BERT has one, too.) The answer is a statement about
    the configuration; :func:`apply_attention` measures what the loaded model does.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    is_decoder = getattr(config, "is_decoder", False) or getattr(config, "is_encoder_decoder", False)
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not is_decoder


def holds_encoder_only(directory: Path) -> bool:
    """Whether the model of a directory, or of the transformer in a sentence-transformers directory, is encoder-only."""
    from transformers import AutoConfig

    return is_encoder_only(AutoConfig.from_pretrained(transformer_directory(directory), local_files_only=True))


def apply_attention(model: nn.Module, attention: Attention, *, name: str) -> None:
    """Make a loaded transformer attend as asked, and prove it.

    A decoder is switched and states the attention in its configuration from then on. An encoder-only model is left as
    it is: where a switch reaches it at all (through torch's attention kernel), it holds for unpadded batches only.

    Args:
        model: A transformer without head.
        attention: What it shall do.
        name: Base model's name, for messages.

    Raises:
        BaseModelError: The architecture ignores the switch, or an encoder-only model was asked to be causal.
    """
    if is_encoder_only(model.config):
        require_attention(model, attention, name=name)
    else:
        switch_attention(model, attention, name=name)


def attention_dropout_overrides(config: Any, dropout: float) -> dict[str, float]:  # noqa: ANN401
    """Configuration keys that set the dropout on attention weights to ``dropout``; other dropouts stay as they are.

    Raises:
        BaseModelError: The architecture has no such dropout, so SimCSE would see two equal views.
    """
    names = [name for name in _ATTENTION_DROPOUT_NAMES if hasattr(config, name)]
    if not names:
        raise BaseModelError(
            f"A {config.model_type} model has no attention dropout in its configuration "
            f"(expected one of {', '.join(_ATTENTION_DROPOUT_NAMES)}), which SimCSE needs for two different views.",
            hint="Choose another base model, or train without the SimCSE stage.",
        )
    return dict.fromkeys(names, dropout)


def transformer_directory(base: Path) -> Path:
    """Where the transformer of a base model lies: ``base``, or its folder in a sentence-transformers directory.

    Raises:
        BaseModelError: A sentence-transformers directory whose first module is no transformer.
    """
    modules_path = base / "modules.json"
    if not modules_path.is_file():
        return base
    directory = base / str(json.loads(modules_path.read_text())[0]["path"])
    if not (directory / "config.json").is_file():
        raise BaseModelError(
            f"{base} is a sentence-transformers directory whose first module holds no config.json, so it is no "
            "transformer that could be trained.",
            hint="Choose a base model that is a transformer.",
        )
    return directory


@contextlib.contextmanager
def seeded_missing_weights() -> Iterator[None]:
    """Load a model so that weights which its directory lacks are the same every time.

    BERT's pooler is such a part: published without weights as a rule, drawn at random while loading, used by none of
    our poolings, but saved with the rest. Unseeded, every build of the same encoder would have another fingerprint.
    """
    with random.fork_rng(devices=[]):
        random.manual_seed(0)
        yield
