"""Transformers that are made from saved ones without training: their first layers, or an average of their weights.

Source: Lu et al. 2024, L3Prune (the last layers of a decoder add little to a text encoder); Wortsman et al. 2022, Model
Soups, and WiSE-FT (averages of weights keep what training forgets).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llm2vec_core.errors import BaseModelError
from llm2vec_core.model.saved import require_saved_transformer, transformer_outputs
from llm2vec_core.model.weights import require_whole_weights

_COMPLETE = "tokenizer_config.json"
"""Written last, so a directory that has it is complete."""


def keep_first_layers(directory: Path, num_layers: int, *, target: Path) -> Path:
    """Save a transformer with its first layers only; a complete ``target`` is kept.

    Args:
        directory: Transformer with its tokenizer.
        num_layers: Number of layers to keep.
        target: Where the smaller transformer is saved, with the same tokenizer and without an output layer.

    Raises:
        BaseModelError: It has fewer layers, or its layers are not one list.
    """
    if (target / _COMPLETE).is_file():
        return target
    model, tokenizer = _load(directory)
    prune_layers(model, num_layers, name=directory.name)
    return _save(model, tokenizer, target)


def prune_layers(model: Any, num_layers: int, *, name: str) -> Any:  # noqa: ANN401 - transformers ship no types
    """Remove all but the first layers of a transformer, in place, and return it.

    Raises:
        BaseModelError: It has fewer layers, or its layers are not one list.
    """
    config = model.config
    found = config.num_hidden_layers
    if num_layers > found:
        raise BaseModelError(
            f"{name} has {found} layers, but {num_layers} are to be kept.", hint="Lower train.keep_layers."
        )
    lists = [
        (parent, child_name, child)
        for parent in model.modules()
        for child_name, child in parent.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == found
    ]
    if len(lists) != 1:
        raise BaseModelError(
            f"{name} has {len(lists)} lists of {found} layers; expected one, so that the last layers can be removed.",
            hint="Leave out train.keep_layers for this base model.",
        )
    parent, child_name, layers = lists[0]
    setattr(parent, child_name, layers[:num_layers])
    config.num_hidden_layers = num_layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:num_layers]
    return model


def average_weights(shares: Mapping[Path, float], *, target: Path) -> Path:
    """Save the weighted average of the weights of transformers of one shape; a complete ``target`` is kept.

    Args:
        shares: Directories of transformers, with their shares. Shares are divided by their sum.
        target: Where the average is saved, with the tokenizer of the last one and without an output layer.

    Raises:
        BaseModelError: The transformers have weights of different names or shapes.
    """
    if (target / _COMPLETE).is_file():
        return target
    total = math.fsum(shares.values())
    mean: dict[str, torch.Tensor] = {}
    for directory, share in shares.items():
        model, tokenizer = _load(directory)
        weights = model.state_dict()
        if mean and {name: weight.shape for name, weight in weights.items()} != {
            name: weight.shape for name, weight in mean.items()
        }:
            raise BaseModelError(
                f"{directory.name} and {next(iter(shares)).name} have different weights, so they have no average.",
                hint="Average checkpoints of one base model with the same number of layers.",
            )
        for name, weight in weights.items():
            mean[name] = mean.get(name, 0.0) + weight.double() * (share / total)
    model.load_state_dict({name: weight.float() for name, weight in mean.items()})
    return _save(model, tokenizer, target)


def _load(directory: Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    with require_whole_weights(directory.name):
        model = AutoModel.from_pretrained(directory, dtype=torch.float32, local_files_only=True)
    return model, AutoTokenizer.from_pretrained(directory, local_files_only=True)


def _save(model: Any, tokenizer: Any, target: Path) -> Path:  # noqa: ANN401
    model.save_pretrained(target)
    expected = transformer_outputs(model, tokenizer)
    tokenizer.save_pretrained(target)
    require_saved_transformer(target, type(model), expected, name=target.name)
    return target
