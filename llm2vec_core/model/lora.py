"""LoRA adapters on a transformer's linear layers, through peft.

Source: Hu et al. 2021, LoRA; LLM2Vec's settings: rank 16, alpha 32, dropout 0.05 on all linear layers of a block.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from llm2vec_core.errors import BaseModelError


class LoraSettings(BaseModel):
    """LoRA adapter that a training stage trains."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(16, ge=1, description="Rank of the adapter's matrices.")
    alpha: int = Field(32, ge=1, description="Scaling of the adapter's output, which is multiplied by alpha / rank.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Dropout on the adapter's input during training.")
    targets: str | list[str] = Field(
        "all-linear",
        description="Names of the adapted modules, or 'all-linear' for every linear layer except the output layer.",
    )


# BERT's pooler (for ALBERT a bare layer of that name): none of our poolings uses its output, so an adapter there
# would never be trained.
_POOLER = r"(.*\.)?pooler(\..*)?"


# What the matrices of an expert are called, one by one or fused. peft adapts fused ones as parameters, not as layers.
_EXPERT_MATRICES = {"w1", "w2", "w3", "gate_proj", "up_proj", "down_proj", "gate_up_proj"}


def lora_config(settings: LoraSettings, model: Any) -> Any:  # noqa: ANN401 - peft and transformers ship no types
    """Our settings as a peft ``LoraConfig`` for ``model``.

    Raises:
        BaseModelError: Dropout is asked for on the experts of a mixture, which peft adapts without one.
    """
    import torch.distributed.tensor  # noqa: F401 - peft looks it up without importing it
    from peft import LoraConfig
    from transformers.pytorch_utils import Conv1D

    if settings.dropout and _adapts_experts(settings, model):
        raise BaseModelError(
            f"A {model.config.model_type} model is a mixture of experts, whose adapters have no dropout; the recipe "
            f"asks for a LoRA dropout of {settings.dropout:g}.",
            hint="Set train.STAGE.lora.dropout = 0, or name targets outside the experts, such as q_proj and v_proj.",
        )
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.targets,
        # Only if there is one, because peft warns about an exclusion without a match.
        exclude_modules=_POOLER if hasattr(model, "pooler") else None,
        # GPT-2's linear layers keep their weights transposed.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        bias="none",
    )


def _adapts_experts(settings: LoraSettings, model: Any) -> bool:  # noqa: ANN401
    fused = any("experts" in name.split(".") and weight.ndim == 3 for name, weight in model.named_parameters())
    if not fused or isinstance(settings.targets, str):
        return fused and settings.targets == "all-linear"
    return bool(_EXPERT_MATRICES.intersection(settings.targets))


def cast_frozen_linears(model: Any) -> None:  # noqa: ANN401 - a transformers model, which ships no types
    """Keep the frozen weights of linear layers in bf16; autocast would cast them in every forward pass.

    Results are bit-identical, and these weights, nearly all of a large decoder, take half the memory.
    Everything else stays fp32: norms, the residual stream and so what is pooled, the weights of an adapter, and an
    output layer whose weights are the embeddings. Without autocast around it, the model no longer runs.

    Args:
        model: Transformer; changed in place, so an adapter is merged into a fresh load of its base.
    """
    cast_linears(model, only_frozen=True)


def cast_linears(model: Any, *, only_frozen: bool = False) -> None:  # noqa: ANN401
    """Cast the weights of linear layers to bf16, in place, layer by layer; see :func:`cast_frozen_linears`."""
    import torch
    from transformers.pytorch_utils import Conv1D

    embeddings = model.get_input_embeddings().weight
    for module in model.modules():
        is_meant = isinstance(module, torch.nn.Linear | Conv1D) and not (only_frozen and module.weight.requires_grad)
        if is_meant and module.weight is not embeddings:
            module.to(torch.bfloat16)
