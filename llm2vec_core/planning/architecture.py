"""Sizes of a base model and of its adapter, counted from the configuration without weights."""

from __future__ import annotations

import copy
import functools
import importlib.resources
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from llm2vec_core.errors import BaseModelError, InputError
from llm2vec_core.model.lora import LoraSettings, lora_config
from llm2vec_core.training.settings import Recipe


class Frozen(BaseModel):
    """A record of a plan: immutable, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Architecture(Frozen):
    """Sizes of a base model."""

    model_type: str  # transformers' name of the architecture
    parameters: int  # all parameters; tied ones count once
    backbone_parameters: int  # parameters without the output layer, which an encoder does not have
    linear_parameters: int  # weights of the linear layers in the blocks; each is one multiply-add per token
    published_bytes: int  # size of the weights in the type that the configuration states
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    mlp_matrices: Literal[2, 3]  # 3 for a gated MLP (gate, up, down), 2 for a plain one
    has_hidden_dropout: bool  # whether a block has dropout before the residual stream, as BERT does
    output_width: int  # rows of the output layer: the vocabulary size, or 0 for an encoder-only model

    @property
    def query_width(self) -> int:
        """Width of all heads together."""
        return self.num_heads * self.head_dim


class AdapterSize(Frozen):
    """Sizes of a LoRA adapter."""

    trainable: int  # its parameters
    input_width: int  # sum of the input widths of the adapted layers; kept per token for A's gradient
    rank_width: int  # sum of the ranks; kept per token for B's gradient
    has_dropout: bool  # whether every adapted layer has its own dropout


@functools.cache
def _published() -> dict[str, dict[str, Any]]:
    text = importlib.resources.files("llm2vec_core.planning").joinpath("base_models.toml").read_text("utf-8")
    return tomllib.loads(text)


def read_config(base_model: str) -> Any:  # noqa: ANN401 - PretrainedConfig, which ships no types
    """Configuration of a base model, without its weights.

    Args:
        base_model: A base model of the paper (its name there or on the hub), a bundled name, a directory with
            ``config.json``, or an adapter of one of these. Other hub names need the network or a filled cache.

    Raises:
        BaseModelError: There is no such configuration, or its weights are quantised.
    """
    from transformers import AutoConfig

    from llm2vec_core.model.architectures import transformer_directory
    from llm2vec_core.model.base_models import trained_from
    from llm2vec_core.model.weights import refuse_quantised

    base_model = trained_from(base_model)
    papers = {entry["paper"]: name for name, entry in _published().items() if "paper" in entry}
    published = _published().get(papers.get(base_model, base_model))
    if published is not None:
        return AutoConfig.for_model(**{name: value for name, value in published.items() if name != "paper"})
    known = f"Known without a network: {', '.join([*papers, *_published()])}."
    directory = Path(base_model).expanduser()
    try:
        if directory.is_dir():
            config = AutoConfig.from_pretrained(transformer_directory(directory), local_files_only=True)
        elif not base_model.startswith("bundled:"):
            config = AutoConfig.from_pretrained(base_model)
        else:
            raise BaseModelError(f"'{base_model}' is not a bundled model.", hint=known)
    except (OSError, ValueError) as error:
        raise BaseModelError(
            f"'{base_model}' gave no configuration that transformers can read ({type(error).__name__}).", hint=known
        ) from error
    refuse_quantised(config.to_dict(), name=base_model)
    return config


def require_trainable(config: Any, recipe: Recipe, *, name: str) -> None:  # noqa: ANN401
    """Refuse what a training stage would refuse: its attention, its adapters, a decoder that mntp cannot train.

    Raises:
        BaseModelError: The recipe's attention, mntp, or LoRA's dropout does not go with the model.
    """
    from llm2vec_core.model.architectures import is_encoder_only, require_trainable_attention, require_transformer

    require_trainable_attention(config, recipe.attention, name=name)
    model = _meta_model(config)
    if "mntp" in recipe.stages and not is_encoder_only(config):
        require_transformer(model, name=name)
    for stage in recipe.stages:
        lora_config(getattr(recipe, stage).lora, model)


def with_layers(config: Any, num_layers: int) -> Any:  # noqa: ANN401
    """The configuration of a model with its first layers only."""
    changed = copy.deepcopy(config)
    changed.num_hidden_layers = num_layers
    if getattr(changed, "layer_types", None):
        changed.layer_types = changed.layer_types[:num_layers]
    return changed


def count_architecture(config: Any) -> Architecture:  # noqa: ANN401
    """Sizes of the model with this configuration.

    Raises:
        BaseModelError: The formulas do not apply, because the blocks are not dense attention and a dense MLP (for
            example a mixture of experts).
    """
    import torch

    unfit = BaseModelError(
        f"The blocks of a {config.model_type} model are not four attention matrices and an MLP of two or three; the "
        "formulas of a plan apply only to those.",
        hint="Plan with a dense decoder such as Llama, Mistral or Qwen, or with an encoder such as BERT.",
    )
    if not all(hasattr(config, name) for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")):
        raise unfit
    model = _meta_model(config)
    linear_parameters = sum(
        module.weight.numel()
        for name, module in model.base_model.named_modules()
        if isinstance(module, torch.nn.Linear) and _is_in_block(name)
    )
    num_heads = int(config.num_attention_heads)
    head_dim = int(getattr(config, "head_dim", None) or config.hidden_size // num_heads)
    num_kv_heads = int(getattr(config, "num_key_value_heads", None) or num_heads)
    intermediate_size = int(getattr(config, "intermediate_size", None) or 0)
    attention = 2 * config.hidden_size * head_dim * (num_heads + num_kv_heads)
    mlp = linear_parameters / config.num_hidden_layers - attention
    mlp_matrices = mlp / (config.hidden_size * intermediate_size) if intermediate_size else 0
    if mlp_matrices not in (2, 3):
        raise unfit
    output = model.get_output_embeddings()
    dtype = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Architecture(
        model_type=config.model_type,
        parameters=parameters,
        backbone_parameters=sum(parameter.numel() for parameter in model.base_model.parameters()),
        linear_parameters=linear_parameters,
        published_bytes=parameters * dtype.itemsize,
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        intermediate_size=intermediate_size,
        mlp_matrices=3 if mlp_matrices == 3 else 2,
        has_hidden_dropout=getattr(config, "hidden_dropout_prob", 0) > 0,
        output_width=output.weight.shape[0] if output is not None else 0,
    )


def count_adapter(config: Any, settings: LoraSettings) -> AdapterSize:  # noqa: ANN401
    """Sizes of the adapter that peft would add to the model of a configuration.

    Raises:
        InputError: The targets match no layer of the model.
    """
    import torch
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    model = _meta_model(config)
    try:
        with torch.device("meta"):
            adapted = PeftModel(model, lora_config(settings, model))
    except ValueError as error:
        raise InputError(
            f"LoRA's targets {settings.targets!r} name no linear layer of a {config.model_type} model.",
            hint="Use 'all-linear', or names such as q_proj and v_proj.",
        ) from error
    layers = [module for module in adapted.modules() if isinstance(module, LoraLayer)]
    return AdapterSize(
        trainable=sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad),
        input_width=sum(layer.in_features for layer in layers),
        rank_width=settings.rank * len(layers),
        has_dropout=settings.dropout > 0,
    )


def _is_in_block(name: str) -> bool:
    """Whether a module is part of a block: the stack of blocks is the only list of a transformer."""
    return any(part.isdigit() for part in name.split("."))


def _meta_model(config: Any) -> Any:  # noqa: ANN401
    """The model of a configuration on torch's meta device, which has shapes but no storage."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM

    from llm2vec_core.model.architectures import is_encoder_only

    try:
        with torch.device("meta"):
            return (AutoModel if is_encoder_only(config) else AutoModelForCausalLM).from_config(config)
    except ValueError as error:
        raise BaseModelError(
            f"transformers has no decoder and no encoder of the architecture {config.model_type}.",
            hint="Plan with a decoder such as Llama, Mistral or Qwen, or with an encoder such as BERT.",
        ) from error
