"""The training settings of the LLM2Vec paper, by model.

``Recipe.paper`` reads them here. The profiles ``full``, ``s-llama-1.3b``, ``llama-2-7b``, ``mistral-7b`` and
``llama-3-8b`` of the command line have the same values; a test compares them.

Source: BehnamGhader et al. 2024, LLM2Vec, appendix D. The length of the schedule and the chat templates are those of
its code.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Literal, get_args

from llm2vec_core.training.overlay import merge

PaperModel = Literal["s-llama-1.3b", "llama-2-7b", "mistral-7b", "llama-3-8b"]
PAPER_MODELS: tuple[PaperModel, ...] = get_args(PaperModel)

_SHARED: dict[str, Any] = {
    "max_tokens": 512,
    "schedule_epochs": 3,
    "mntp": {
        "steps": 1000,
        "batch_size": 32,
        "micro_batch_size": 32,
        "chunk_tokens": 512,
        "learning_rate": 5e-5,
        "save_steps": 200,
        "bf16": True,
        "gradient_checkpointing": True,
    },
    "simcse": {
        "steps": 1000,
        "batch_size": 128,
        "micro_batch_size": 128,
        "max_tokens": 128,
        "simcse_dropout": 0.3,
        "learning_rate": 3e-5,
        "save_steps": 200,
        "bf16": True,
        "gradient_checkpointing": True,
    },
}

# Micro batches do not affect the result. These fit on one GPU of 80 GB.
_SEVEN_BILLION: dict[str, Any] = {"mntp": {"micro_batch_size": 8}, "simcse": {"micro_batch_size": 32}}

_CHAT: dict[str, Any] = {"chat_template": True}

_BY_MODEL: Mapping[PaperModel, tuple[dict[str, Any], ...]] = {
    "s-llama-1.3b": ({"base_model": "princeton-nlp/Sheared-LLaMA-1.3B"},),
    "llama-2-7b": ({"base_model": "meta-llama/Llama-2-7b-chat-hf"}, _CHAT, _SEVEN_BILLION),
    "mistral-7b": (
        {"base_model": "mistralai/Mistral-7B-Instruct-v0.2"},
        _CHAT,
        _SEVEN_BILLION,
        {"mntp": {"mask_policy": "all_mask", "mask_probability": 0.8}},
    ),
    "llama-3-8b": ({"base_model": "meta-llama/Meta-Llama-3-8B-Instruct"}, _CHAT, _SEVEN_BILLION),
}


def paper_settings(name: PaperModel) -> dict[str, Any]:
    """Settings of the paper's recipe for a model."""
    return functools.reduce(merge, _BY_MODEL[name], _SHARED)
