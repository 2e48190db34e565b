"""What a base model will need, from its configuration alone: parameters, memory, FLOPs, time and cost.

Belongs here: sizes of a base model without its weights, the formulas, and the table that shows them. Does not belong
here: training and encoding themselves, and measuring how near the formulas are (``benchmarks/plan_accuracy.py``).

Memory is planned as this project trains: frozen weights in fp32, LoRA in fp32 with AdamW, and with bf16
as autocast the weights of the linear layers in bf16.
Activations are what autograd keeps for the backward pass, after Korthikanti et al. 2022 (Reducing Activation
Recomputation in Large Transformer Models, section 4), with terms of our own for gated MLPs, grouped-query attention,
frozen weights and adapters. FLOPs are two for each multiply-add of a matrix product, after Kaplan et al. 2020 (Scaling
Laws for Neural Language Models, section 2.1); everything between the matrix products is left out.
"""

from __future__ import annotations

import functools
import importlib.resources
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from llm2vec_core.errors import BaseModelError, InputError
from llm2vec_core.model.lora import LoraSettings, lora_config
from llm2vec_core.model.modes import Precision
from llm2vec_core.training.settings import (
    MntpSettings,
    Recipe,
    SimcseSettings,
    Stage,
    StageSettings,
    SupervisedSettings,
)

USABLE_SHARE = 0.9
"""Share of a GPU's memory that a plan fills; the rest is for the CUDA context and for what the allocator cannot use."""

_FP32, _BF16 = 4, 2

EMBED_TOKENS = 4096
"""Tokens of a batch while documents are embedded; the default ``token_budget`` of the embed settings."""

_LLAMA = {"model_type": "llama", "tie_word_embeddings": False}
_PUBLISHED: dict[str, dict[str, Any]] = {
    "princeton-nlp/Sheared-LLaMA-1.3B": _LLAMA
    | {
        "hidden_size": 2048,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "intermediate_size": 5504,
        "vocab_size": 32000,
        "dtype": "float32",
    },
    "meta-llama/Llama-2-7b-chat-hf": _LLAMA
    | {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "intermediate_size": 11008,
        "vocab_size": 32000,
        "dtype": "float16",
    },
    "mistralai/Mistral-7B-Instruct-v0.2": {
        "model_type": "mistral",
        "tie_word_embeddings": False,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 32000,
        "sliding_window": None,
        "dtype": "bfloat16",
    },
    "meta-llama/Meta-Llama-3-8B-Instruct": _LLAMA
    | {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 14336,
        "vocab_size": 128256,
        "dtype": "bfloat16",
    },
    "bundled:smollm2-135m": _LLAMA
    | {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
        "dtype": "float32",
    },
    "bundled:all-minilm-l6-v2": {
        "model_type": "bert",
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "vocab_size": 30522,
        "dtype": "float32",
    },
}
"""Configurations as published, as far as they decide sizes: planning with these needs neither network nor files."""

_PAPER_NAMES = {
    "S-LLaMA-1.3B": "princeton-nlp/Sheared-LLaMA-1.3B",
    "LLaMA-2-7B": "meta-llama/Llama-2-7b-chat-hf",
    "Mistral-7B": "mistralai/Mistral-7B-Instruct-v0.2",
    "Meta-LLaMA-3-8B": "meta-llama/Meta-Llama-3-8B-Instruct",
}
"""What the LLM2Vec paper calls its base models."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Gpu(_Frozen):
    """What a GPU can do, as published; see ``gpus.toml`` for units."""

    memory_gb: float = Field(gt=0)
    half_tflops: float = Field(gt=0)
    fp32_tflops: float = Field(gt=0)
    native_bf16: bool = True
    source: str

    def flops_per_s(self, precision: Precision) -> float:
        """Peak of dense matrix products."""
        return 1e12 * (self.half_tflops if precision == "bf16" else self.fp32_tflops)

    @property
    def usable_bytes(self) -> float:
        """Memory that a plan may fill."""
        return USABLE_SHARE * 1e9 * self.memory_gb


class Architecture(_Frozen):
    """Sizes of a base model.

    Attributes:
        model_type: transformers' name of the architecture.
        parameters: All parameters; tied ones count once.
        backbone_parameters: Those of the transformer without output layer, which is what becomes an encoder.
        linear_parameters: Weights of the linear layers within the blocks; each is one multiply-add per token.
        published_bytes: Size of the weights in the type that the configuration states.
        mlp_matrices: 3 for a gated MLP (gate, up, down), 2 for a plain one.
        has_hidden_dropout: Whether a block drops out what it adds to the residual stream, as BERT does.
        output_width: Rows of the output layer: the vocabulary, or 0 for an encoder-only model.
    """

    model_type: str
    parameters: int
    backbone_parameters: int
    linear_parameters: int
    published_bytes: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    mlp_matrices: Literal[2, 3]
    has_hidden_dropout: bool
    output_width: int

    @property
    def query_width(self) -> int:
        """Width of all heads together."""
        return self.num_heads * self.head_dim


class AdapterSize(_Frozen):
    """Sizes of a LoRA adapter.

    Attributes:
        trainable: Its parameters.
        input_width: Sum of the widths that the adapted layers read: what is kept of a token for A's gradient.
        rank_width: Sum of the ranks: what is kept of a token for B's gradient.
        has_dropout: Whether every adapted layer draws a dropout of its own.
    """

    trainable: int
    input_width: int
    rank_width: int
    has_dropout: bool


class Execution(_Frozen):
    """How a training step is computed.

    Attributes:
        precision: bf16 is autocast, with the frozen weights of linear layers in bf16.
        gradient_checkpointing: Keep only what enters a block, and compute the rest again.
        attention: sdpa is a kernel that never writes the attention weights; eager writes and keeps them.
        padded: Texts of a batch differ in length, so attention needs a mask.
        device: On a CPU torch keeps dropout as fp32 factors, on a GPU as one byte.
    """

    precision: Precision = "fp32"
    gradient_checkpointing: bool = False
    attention: Literal["sdpa", "eager"] = "sdpa"
    padded: bool = False
    device: Literal["cuda", "cpu"] = "cuda"


class Memory(_Frozen):
    """Memory of a training step by part, in bytes.

    Attributes:
        weights: Frozen weights.
        weight_casts: bf16 copies of fp32 weights that autocast makes and autograd keeps: LoRA's, and those of an output
            layer that are the embeddings.
        adapter: LoRA's weights, fp32.
        gradients: LoRA's gradients, fp32.
        optimizer: AdamW's two moments of LoRA's weights, fp32.
        activations: What is kept for the backward pass, of all tokens of a micro batch.
        logits: Scores of the masked positions at the peak: log-probabilities and two gradients, fp32.
        working: What the backward pass of one block holds beyond what was kept; with gradient checkpointing also the
            block computed anew.
    """

    weights: int
    weight_casts: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    working: int

    @property
    def total(self) -> int:
        """Peak of the step; logits and a block's backward pass are never there at the same time."""
        lasting = self.weights + self.weight_casts + self.adapter + self.gradients + self.optimizer + self.activations
        return lasting + max(self.logits, self.working)


class Flops(_Frozen):
    """FLOPs per token."""

    forward: float
    training: float


class StagePlan(_Frozen):
    """What one training stage will need.

    Attributes:
        stage: Name of the stage.
        execution: How its steps are computed.
        trainable: Parameters of the adapter.
        trainable_share: Share of them in all parameters of the base model.
        tokens: Tokens of the whole stage; for simcse at most, since sentences are shorter than ``max_tokens``.
        flops: FLOPs per token.
        seconds: Time of the whole stage at the plan's utilisation.
        cost: In the currency of the price; None without a price.
        micro_batch_size: As the recipe has it.
        memory: Memory of a step with it, by part.
        total_bytes: Peak of the step.
        fits: Whether that is within the memory that a plan may fill.
        largest_micro_batch_size: Largest divisor of the batch size that fits; 0 if none does.
    """

    stage: Stage
    execution: Execution
    trainable: int
    trainable_share: float
    tokens: int
    flops: Flops
    seconds: float
    cost: float | None
    micro_batch_size: int
    memory: Memory
    total_bytes: int
    fits: bool
    largest_micro_batch_size: int


class EmbedPlan(_Frozen):
    """What embedding the documents will need.

    Attributes:
        num_documents: Documents to embed.
        tokens: Tokens of all of them, cut at the recipe's ``max_tokens``; padding is not counted.
        flops_per_token: FLOPs of the forward pass.
        seconds: Time at the plan's utilisation.
        cost: In the currency of the price; None without a price.
        total_bytes: Weights, and what the forward pass of a batch of :data:`EMBED_TOKENS` holds.
        fits: Whether that is within the memory that a plan may fill.
    """

    num_documents: int
    tokens: int
    flops_per_token: float
    seconds: float
    cost: float | None
    total_bytes: int
    fits: bool


class Plan(_Frozen):
    """What a recipe will need with one base model on one GPU."""

    base_model: str
    architecture: Architecture
    gpu_name: str
    gpu: Gpu
    utilisation: float
    price_per_hour: float | None
    stages: tuple[StagePlan, ...]
    embed: EmbedPlan
    notes: tuple[str, ...]


@functools.cache
def known_gpus() -> dict[str, Gpu]:
    """GPUs by name, as ``gpus.toml`` has them."""
    table = tomllib.loads(importlib.resources.files("llm2vec_core.planning").joinpath("gpus.toml").read_text("utf-8"))
    return {name: Gpu.model_validate(entry) for name, entry in table.items()}


def read_config(base_model: str) -> Any:  # noqa: ANN401 - PretrainedConfig, which ships no types
    """Configuration of a base model; no weights are read.

    Args:
        base_model: One of the paper's base models by its name there or on the hub, a bundled name, a directory with
            ``config.json``, any other hub name (which needs the network or a filled cache), or an adapter of one of
            these.

    Raises:
        BaseModelError: There is no such configuration.
    """
    from transformers import AutoConfig

    from llm2vec_core.model.architectures import transformer_directory
    from llm2vec_core.model.base_models import trained_from

    base_model = trained_from(base_model)
    published = _PUBLISHED.get(_PAPER_NAMES.get(base_model, base_model))
    if published is not None:
        return AutoConfig.for_model(**published)
    known = f"Known without a network: {', '.join([*_PAPER_NAMES, *_PUBLISHED])}."
    directory = Path(base_model).expanduser()
    try:
        if directory.is_dir():
            return AutoConfig.from_pretrained(transformer_directory(directory), local_files_only=True)
        if not base_model.startswith("bundled:"):
            return AutoConfig.from_pretrained(base_model)
    except (OSError, ValueError) as error:
        raise BaseModelError(
            f"'{base_model}' gave no configuration that transformers can read ({type(error).__name__}).", hint=known
        ) from error
    raise BaseModelError(f"'{base_model}' is no bundled model.", hint=known)


def count_architecture(config: Any) -> Architecture:  # noqa: ANN401
    """Sizes of the model that a configuration describes, counted on a model without storage.

    Raises:
        BaseModelError: The blocks are not dense attention and a dense MLP (a mixture of experts, for example), so the
            formulas do not hold.
    """
    import torch

    unfit = BaseModelError(
        f"The blocks of a {config.model_type} model are not four attention matrices and an MLP of two or three, which "
        "is what the formulas of a plan hold for.",
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
    """Sizes of the adapter that peft would put on the model, counted on a model without storage.

    Raises:
        InputError: The targets name no layer of the model.
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


def flops_per_token(
    architecture: Architecture,
    adapter: AdapterSize | None,
    *,
    sequence_tokens: int,
    execution: Execution,
    scored_share: float = 0.0,
    forward_passes: int = 1,
) -> Flops:
    """FLOPs per token of a forward pass, and of a training step.

    Counted, in units of a forward pass: the forward passes, the gradient of the activations (once through the frozen
    weights, for which no gradient is made), the blocks' forward pass again with gradient checkpointing; LoRA's matrices
    twice on the way back; attention twice, and 2.5 times where the kernel computes its scores anew.

    Args:
        architecture: Sizes of the base model.
        adapter: Sizes of the adapter; None for an encoder without one.
        sequence_tokens: Tokens of a text; every one of them meets every other.
        execution: How the step is computed.
        scored_share: Share of the tokens that go through the output layer.
        forward_passes: Forward passes of a training step before its backward pass: 2 with GradCache.
    """
    linear = 2.0 * architecture.linear_parameters
    attention = 4.0 * architecture.num_layers * architecture.query_width * sequence_tokens
    lora = 2.0 * adapter.trainable if adapter else 0.0
    output = 2.0 * architecture.hidden_size * architecture.output_width * scored_share
    blocks = linear + attention + lora
    recomputed = blocks if execution.gradient_checkpointing else 0.0
    backward = linear + attention * (2.5 if execution.attention == "sdpa" else 2.0) + 2 * lora + output
    return Flops(forward=blocks + output, training=forward_passes * blocks + output + recomputed + backward)


def step_memory(
    architecture: Architecture,
    adapter: AdapterSize,
    *,
    rows: int,
    sequence_tokens: int,
    execution: Execution,
    scored_share: float = 0.0,
) -> Memory:
    """Memory of a training step by part.

    Args:
        architecture: Sizes of the base model.
        adapter: Sizes of the adapter.
        rows: Texts whose activations are kept at the same time.
        sequence_tokens: Tokens of each.
        execution: How the step is computed.
        scored_share: Share of the tokens that go through the output layer; 0 for a stage without one.
    """
    tokens, hidden = rows * sequence_tokens, architecture.hidden_size
    computed = _BF16 if execution.precision == "bf16" else _FP32
    block = _kept_per_token(architecture, adapter, sequence_tokens=sequence_tokens, execution=execution)
    # Gradients of the MLP's inner width, before and after dropout, and of the residual stream.
    working: float = 2 * computed * architecture.intermediate_size + _FP32 * hidden
    block_casts = output_casts = 0
    if execution.precision == "bf16":
        block_casts = _BF16 * adapter.trainable // architecture.num_layers
        is_tied = architecture.parameters == architecture.backbone_parameters
        output_casts = _BF16 * hidden * architecture.output_width if scored_share and is_tied else 0
    kept: float
    if execution.gradient_checkpointing:
        # A block keeps its input alone; the one whose backward pass runs is computed anew, in full.
        working, casts, kept = tokens * (working + block) + block_casts, output_casts, _FP32 * hidden
    else:
        working, casts, kept = tokens * working, output_casts + architecture.num_layers * block_casts, block
    return Memory(
        weights=_weight_bytes(architecture, execution.precision, with_output=scored_share > 0),
        weight_casts=casts,
        adapter=_FP32 * adapter.trainable,
        gradients=_FP32 * adapter.trainable,
        optimizer=2 * _FP32 * adapter.trainable,
        # Beside the blocks, the last norm keeps its input.
        activations=round(tokens * (architecture.num_layers * kept + _FP32 * hidden)),
        logits=round(3 * _FP32 * tokens * scored_share * architecture.output_width),
        working=round(working),
    )


def plan_recipe(
    base_model: str,
    recipe: Recipe,
    *,
    gpu: str,
    num_documents: int,
    tokens_per_document: int,
    embed_precision: Precision = "fp32",
    utilisation: float = 0.4,
    price_per_hour: float | None = None,
) -> Plan:
    """What a recipe and an embed job will need with a base model on one GPU.

    Args:
        base_model: As in :func:`read_config`; it takes the place of the recipe's.
        recipe: Stages and their settings.
        gpu: Name of a GPU in ``gpus.toml``; upper and lower case are the same.
        num_documents: Documents to embed.
        tokens_per_document: Tokens of a document in the mean.
        embed_precision: As the embed settings have it; that of training is the recipe's.
        utilisation: Share of the GPU's peak FLOP/s that is reached, in (0, 1].
        price_per_hour: Price of an hour of the GPU; without one there are no costs.

    Raises:
        BaseModelError: The base model has no readable configuration, the formulas do not hold for it, or it is
            encoder-only and the recipe has the stage mntp.
        InputError: The GPU is unknown, a number is out of range, or LoRA's targets name no layer.
    """
    gpu_name, card = _find_gpu(gpu)
    _require_numbers(num_documents, tokens_per_document, utilisation=utilisation, price_per_hour=price_per_hour)
    config = read_config(base_model)
    architecture = count_architecture(config)
    works = _works(base_model, recipe, architecture)
    machine = _Machine(card, utilisation, price_per_hour)
    return Plan(
        base_model=base_model,
        architecture=architecture,
        gpu_name=gpu_name,
        gpu=card,
        utilisation=utilisation,
        price_per_hour=price_per_hour,
        stages=tuple(
            _plan_stage(work, architecture, count_adapter(config, work.settings.lora), machine=machine)
            for work in works
        ),
        embed=_plan_embed(
            architecture,
            num_documents=num_documents,
            tokens_per_document=min(tokens_per_document, recipe.max_tokens),
            precision=embed_precision,
            machine=machine,
        ),
        notes=_notes(works, card, gpu_name, embed_precision=embed_precision),
    )


def training_flops(base_model: str, recipe: Recipe) -> dict[Stage, tuple[Flops, Precision]]:
    """FLOPs of a token in each training stage, and the precision that they are computed in. No GPU decides them.

    Args:
        base_model: As in :func:`read_config`; it takes the place of the recipe's.
        recipe: Stages and their settings.

    Raises:
        BaseModelError: The formulas do not hold for the base model, as in :func:`plan_recipe`.
        InputError: LoRA's targets name no layer.
    """
    config = read_config(base_model)
    architecture = count_architecture(config)
    return {
        work.stage: (work.flops(architecture, count_adapter(config, work.settings.lora)), work.execution.precision)
        for work in _works(base_model, recipe, architecture)
    }


def render_plan(plan: Plan, *, currency: str = "$") -> list[tuple[str, str]]:
    """Rows of (part, value) for a table, in units that people read.

    Args:
        plan: What is to be shown.
        currency: Sign of the price's currency; shown only where the plan has a price.
    """
    sizes, card = plan.architecture, plan.gpu
    rows = [
        ("base model", f"{plan.base_model} ({sizes.model_type})"),
        ("parameters", f"{sizes.parameters / 1e9:.3f} billion"),
        ("weights as published", _gb(sizes.published_bytes)),
        ("GPU", f"{plan.gpu_name}, {card.memory_gb:g} GB, at {plan.utilisation:.0%} of its peak"),
    ]
    for stage in plan.stages:
        memory = stage.memory
        fit = "fits" if stage.fits else "does not fit"
        checkpointing = ", gradient checkpointing" if stage.execution.gradient_checkpointing else ""
        parts = [
            ("precision", stage.execution.precision + checkpointing),
            ("trainable", f"{stage.trainable / 1e6:.2f} million ({stage.trainable_share:.2%})"),
            ("memory", f"{_gb(stage.total_bytes)} with micro batches of {stage.micro_batch_size}: {fit}"),
            ("largest micro batch", str(stage.largest_micro_batch_size or "none")),
            *((f"memory, {name}", _gb(getattr(memory, field))) for field, name in _MEMORY_PARTS.items()),
            ("FLOPs per token", f"{stage.flops.training / 1e9:.2f} GFLOP (forward {stage.flops.forward / 1e9:.2f})"),
            ("tokens", f"{stage.tokens / 1e6:.2f} million" + (" at most" if stage.stage == "simcse" else "")),
            ("time", _duration(stage.seconds)),
        ]
        rows += [(f"{stage.stage}: {part}", value) for part, value in [*parts, *_cost_row(stage.cost, currency)]]
    embed = plan.embed
    parts = [
        ("documents", f"{embed.num_documents:,}, {embed.tokens / 1e6:.2f} million tokens"),
        ("memory", f"{_gb(embed.total_bytes)}: {'fits' if embed.fits else 'does not fit'}"),
        ("FLOPs per token", f"{embed.flops_per_token / 1e9:.2f} GFLOP"),
        ("time", _duration(embed.seconds)),
    ]
    rows += [(f"embed: {part}", value) for part, value in [*parts, *_cost_row(embed.cost, currency)]]
    return rows + [("note", note) for note in plan.notes]


_MEMORY_PARTS = {
    "weights": "weights",
    "weight_casts": "bf16 copies of weights",
    "adapter": "adapter",
    "gradients": "gradients",
    "optimizer": "optimizer states",
    "activations": "activations",
    "logits": "logits (masked positions)",
    "working": "backward pass of a block",
}


@dataclass(frozen=True)
class _Machine:
    """A GPU, how well it is used, and what it costs."""

    gpu: Gpu
    utilisation: float
    price_per_hour: float | None

    def seconds(self, flops: float, precision: Precision) -> float:
        return flops / (self.gpu.flops_per_s(precision) * self.utilisation)

    def cost(self, duration_s: float) -> float | None:
        return None if self.price_per_hour is None else self.price_per_hour * duration_s / 3600


@dataclass(frozen=True)
class _Work:
    """A training stage as the formulas see it.

    Attributes:
        views: Texts that go through the model for each of a batch: 2 for simcse, 3 for supervised triples.
    """

    stage: Stage
    settings: StageSettings
    execution: Execution
    sequence_tokens: int
    scored_share: float
    views: int

    @property
    def tokens(self) -> int:
        return self.views * self.settings.steps * self.settings.batch_size * self.sequence_tokens

    @property
    def micro_batch_size(self) -> int:
        return min(self.settings.micro_batch_size, self.settings.batch_size)

    def flops(self, architecture: Architecture, adapter: AdapterSize) -> Flops:
        return flops_per_token(
            architecture,
            adapter,
            sequence_tokens=self.sequence_tokens,
            execution=self.execution,
            scored_share=self.scored_share,
            forward_passes=2 if self.is_cached(self.micro_batch_size) else 1,
        )

    def is_cached(self, micro_batch_size: int) -> bool:
        """Whether GradCache is used: a contrastive batch in parts, at the price of a second forward pass."""
        return self.views > 1 and micro_batch_size < self.settings.batch_size

    def memory(self, architecture: Architecture, adapter: AdapterSize, micro_batch_size: int) -> Memory:
        # GradCache goes through one view of a micro batch at a time; a whole batch is kept with all its views.
        views = 1 if self.is_cached(micro_batch_size) else self.views
        return step_memory(
            architecture,
            adapter,
            rows=views * micro_batch_size,
            sequence_tokens=self.sequence_tokens,
            execution=self.execution,
            scored_share=self.scored_share,
        )


def _works(base_model: str, recipe: Recipe, architecture: Architecture) -> list[_Work]:
    """The stages of a recipe."""
    if not architecture.output_width and "mntp" in recipe.stages:
        raise BaseModelError(
            f"{base_model} is an encoder-only model, which the stage mntp cannot train.",
            hint="Leave mntp out of train.stages, or choose a decoder as base model.",
        )
    work_of = {
        "mntp": lambda: _mntp_work(recipe.mntp),
        "simcse": lambda: _simcse_work(recipe.simcse),
        "supervised": lambda: _supervised_work(recipe.supervised),
    }
    return [work_of[stage]() for stage in recipe.stages]


def _mntp_work(settings: MntpSettings) -> _Work:
    return _Work("mntp", settings, _execution(settings), settings.chunk_tokens, settings.mask_probability, views=1)


def _simcse_work(settings: SimcseSettings) -> _Work:
    """Every sentence as long as it may be; a mask all the same, since in truth few are."""
    return _Work("simcse", settings, _execution(settings, padded=True), settings.max_tokens, scored_share=0, views=2)


def _supervised_work(settings: SupervisedSettings) -> _Work:
    """Anchor, positive and one negative, each as long as it may be."""
    return _Work(
        "supervised", settings, _execution(settings, padded=True), settings.max_tokens, scored_share=0, views=3
    )


def _execution(settings: StageSettings, *, padded: bool = False) -> Execution:
    return Execution(
        precision="bf16" if settings.bf16 else "fp32",
        gradient_checkpointing=settings.gradient_checkpointing,
        padded=padded,
    )


def _plan_stage(work: _Work, architecture: Architecture, adapter: AdapterSize, *, machine: _Machine) -> StagePlan:
    batch_size = work.settings.batch_size
    micro_batch_size = work.micro_batch_size
    memory = work.memory(architecture, adapter, micro_batch_size)
    flops = work.flops(architecture, adapter)
    duration_s = machine.seconds(flops.training * work.tokens, work.execution.precision)
    divisors = (size for size in range(1, batch_size + 1) if batch_size % size == 0)
    fitting = (size for size in divisors if work.memory(architecture, adapter, size).total <= machine.gpu.usable_bytes)
    return StagePlan(
        stage=work.stage,
        execution=work.execution,
        trainable=adapter.trainable,
        trainable_share=adapter.trainable / architecture.parameters,
        tokens=work.tokens,
        flops=flops,
        seconds=duration_s,
        cost=machine.cost(duration_s),
        micro_batch_size=micro_batch_size,
        memory=memory,
        total_bytes=memory.total,
        fits=memory.total <= machine.gpu.usable_bytes,
        largest_micro_batch_size=max(fitting, default=0),
    )


def _plan_embed(
    architecture: Architecture,
    *,
    num_documents: int,
    tokens_per_document: int,
    precision: Precision,
    machine: _Machine,
) -> EmbedPlan:
    tokens = num_documents * tokens_per_document
    flops = flops_per_token(architecture, None, sequence_tokens=tokens_per_document, execution=Execution()).forward
    duration_s = machine.seconds(flops * tokens, precision)
    total_bytes = _embed_bytes(architecture, precision)
    return EmbedPlan(
        num_documents=num_documents,
        tokens=tokens,
        flops_per_token=flops,
        seconds=duration_s,
        cost=machine.cost(duration_s),
        total_bytes=total_bytes,
        fits=total_bytes <= machine.gpu.usable_bytes,
    )


def _embed_bytes(architecture: Architecture, precision: Precision) -> int:
    """Weights, and the widest moment of a forward pass: an MLP's inner tensors beside the residual stream."""
    inner = architecture.mlp_matrices * architecture.intermediate_size + 3 * architecture.hidden_size
    return (_BF16 if precision == "bf16" else _FP32) * (architecture.backbone_parameters + EMBED_TOKENS * inner)


def _weight_bytes(architecture: Architecture, precision: Precision, *, with_output: bool) -> int:
    """Frozen weights, as ``lora.cast_frozen_linears`` leaves them."""
    parameters = architecture.parameters if with_output else architecture.backbone_parameters
    if precision == "fp32":
        return _FP32 * parameters
    linear = architecture.linear_parameters + parameters - architecture.backbone_parameters
    return _FP32 * (parameters - linear) + _BF16 * linear


def _kept_per_token(
    architecture: Architecture, adapter: AdapterSize, *, sequence_tokens: int, execution: Execution
) -> float:
    """Bytes that one block keeps of a token for its backward pass."""
    computed = _BF16 if execution.precision == "bf16" else _FP32
    hidden, query, inner = architecture.hidden_size, architecture.query_width, architecture.intermediate_size
    noise = _FP32 if execution.device == "cpu" else 1
    residual = 2 * hidden * (_FP32 + (noise if architecture.has_hidden_dropout else 0))
    read = adapter.input_width / architecture.num_layers
    if not adapter.has_dropout and execution.precision == "fp32":
        # Neither dropped out nor cast: layers that read the same tensor keep it once.
        read = min(read, 2 * hidden + query + inner)
    lora = (
        read * (computed + (noise if adapter.has_dropout else 0))
        + adapter.rank_width / architecture.num_layers * computed
    )
    # Eager attention and a mask need keys and values repeated for the heads that share them.
    is_repeated = execution.attention == "eager" or execution.padded
    key = query if is_repeated else architecture.num_kv_heads * architecture.head_dim
    attention = (query + 2 * key) * computed
    if execution.attention == "sdpa":
        attention += query * computed + architecture.num_heads * _FP32
    else:
        # The softmax is fp32; with bf16, its cast is kept, too.
        weights = _FP32 if execution.precision == "fp32" else _FP32 + _BF16
        attention += architecture.num_heads * sequence_tokens * weights
    # Gate, its activation, and up; or what a plain MLP's activation reads.
    mlp = (3 if architecture.mlp_matrices == 3 else 1) * inner * computed
    return residual + lora + attention + mlp


def _find_gpu(name: str) -> tuple[str, Gpu]:
    for known, gpu in known_gpus().items():
        if known.lower() == name.lower():
            return known, gpu
    raise InputError(f"'{name}' is no GPU that a plan knows.", hint=f"Known GPUs: {', '.join(known_gpus())}.")


def _require_numbers(
    num_documents: int, tokens_per_document: int, *, utilisation: float, price_per_hour: float | None
) -> None:
    if not 0 < utilisation <= 1:
        raise InputError(
            f"The utilisation is {utilisation:g}, and a share of the peak above 0 and up to 1 was expected.",
            hint="0.4 is what a good training loop reaches.",
        )
    if num_documents < 0 or tokens_per_document < 1 or (price_per_hour or 0) < 0:
        raise InputError(
            f"Found {num_documents} documents of {tokens_per_document} tokens and a price of {price_per_hour}; "
            "expected no negative number, and at least one token in a document.",
            hint="Give counts and a price of zero or more.",
        )


def _notes(works: list[_Work], card: Gpu, gpu_name: str, *, embed_precision: Precision) -> tuple[str, ...]:
    precisions = {work.execution.precision for work in works}
    notes = ["Attention is planned as one fused kernel (sdpa), which keeps no attention weights."]
    if any(work.stage == "simcse" for work in works):
        notes.append("simcse is planned with every sentence as long as its max_tokens allow, which few are.")
    if "fp32" in precisions:
        notes.append("A stage without bf16 is planned with the GPU's fp32 peak, outside its tensor cores.")
    if "bf16" in {*precisions, embed_precision} and not card.native_bf16:
        notes.append(
            f"{gpu_name} has no tensor cores for bf16: the figures are its fp16 peak, which bf16 will not reach."
        )
    notes.append(
        f"Embedding is planned with the GPU's {embed_precision} peak (encode.precision); padding is not counted."
    )
    return tuple(notes)


def _gb(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.2f} GB"


def _duration(duration_s: float) -> str:
    for unit, seconds in (("d", 86400), ("h", 3600), ("min", 60)):
        if duration_s >= 2 * seconds:
            return f"{duration_s / seconds:.1f} {unit}"
    return f"{duration_s:.1f} s"


def _cost_row(cost: float | None, currency: str) -> list[tuple[str, str]]:
    return [] if cost is None else [("cost", f"{currency}{cost:,.2f}")]


def _is_in_block(name: str) -> bool:
    """Whether a module's name lies within the stack of blocks, which is the one list that a transformer has."""
    return any(part.isdigit() for part in name.split("."))


def _meta_model(config: Any) -> Any:  # noqa: ANN401
    """The model of a configuration on torch's meta device: shapes without storage."""
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
