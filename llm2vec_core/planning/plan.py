"""Plan memory, FLOPs, time and cost of a recipe and an embed job on one GPU, from the configuration only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from llm2vec_core.device.precision import stored_precision
from llm2vec_core.errors import BaseModelError, InputError
from llm2vec_core.model.modes import LongTexts, Precision, Stage
from llm2vec_core.planning.architecture import (
    AdapterSize,
    Architecture,
    Frozen,
    count_adapter,
    count_architecture,
    read_config,
    require_trainable,
    with_layers,
)
from llm2vec_core.planning.formulas import Execution, Flops, Memory, embed_bytes, flops_per_token, step_memory
from llm2vec_core.planning.gpus import Gpu, find_gpu
from llm2vec_core.training.settings import Recipe, StageSettings

_WORTHWHILE_SHARE = 0.95
"""A plan proposes other settings only if they need less than this share of the FLOPs."""


class Choice(Frozen):
    """The settings of a stage that fit and need the fewest FLOPs.

    A contrastive batch that does not fit is either split (GradCache: a second forward pass) or recomputed block by
    block (gradient checkpointing: another one). Both at once waste a third of the work.
    """

    micro_batch_size: int
    gradient_checkpointing: bool
    flops_share: float  # FLOPs per token over those of the recipe's own settings


class StagePlan(Frozen):
    """Plan of one training stage."""

    stage: Stage  # name of the stage
    execution: Execution  # execution of its steps
    trainable: int  # parameters of the adapter
    trainable_share: float  # the same as a share of all parameters of the base model
    tokens: int  # tokens of the whole stage; an upper bound for simcse, whose sentences are shorter than ``max_tokens``
    flops: Flops  # FLOPs per token
    seconds: float  # time of the whole stage at the plan's utilisation
    cost: float | None  # in the currency of the price; None without a price
    micro_batch_size: int  # from the recipe
    memory: Memory  # memory of a step with that size, by part
    total_bytes: int  # peak of the step
    fits: bool  # whether that is within the memory that a plan may use
    largest_micro_batch_size: int  # largest divisor of the batch size that fits; 0 if none does
    host_bytes: int  # memory of the host: the weights are loaded and merged there in fp32, and cast before they move
    cheapest: Choice | None  # settings that fit and need the fewest FLOPs; None if no settings fit
    remedy: str  # what to set, because the stage does not fit or would be cheaper; empty if nothing


class EmbedPlan(Frozen):
    """Plan of embedding the documents."""

    num_documents: int  # documents to embed
    tokens: int  # tokens of all documents that are read, without padding
    flops_per_token: float  # FLOPs of the forward pass
    seconds: float  # time at the plan's utilisation
    cost: float | None  # in the currency of the price; None without a price
    total_bytes: int  # peak with batches of :data:`~llm2vec_core.planning.formulas.EMBED_TOKENS` tokens
    fits: bool  # whether that is within the memory that a plan may use
    remedy: str  # what to set, because it does not fit; empty if it does


class DiskPlan(Frozen):
    """Disk that a recipe needs, in bytes."""

    base: int  # base model as published
    stages: int  # most that the stages need at once: adapters, two saves, and what keep_layers and merge write
    checkpoint: int  # the finished encoder; bf16 above a billion parameters that were trained in bf16
    at_rest: int  # what stays: base model and checkpoint
    peak: int  # most that is needed at once: all of them


class Plan(Frozen):
    """Plan of a recipe with one base model on one GPU."""

    base_model: str
    architecture: Architecture
    gpu_name: str
    gpu: Gpu
    utilisation: float
    price_per_hour: float | None
    stages: tuple[StagePlan, ...]
    embed: EmbedPlan
    disk: DiskPlan
    notes: tuple[str, ...]


def plan_recipe(
    base_model: str,
    recipe: Recipe,
    *,
    gpu: str,
    num_documents: int,
    tokens_per_document: int,
    embed_precision: Precision | None = None,
    long_texts: LongTexts = "cut",
    utilisation: float = 0.4,
    price_per_hour: float | None = None,
) -> Plan:
    """Plan a recipe and an embed job with a base model on one GPU.

    Args:
        base_model: As in :func:`~llm2vec_core.planning.architecture.read_config`; replaces that of the recipe.
        recipe: Stages and their settings.
        gpu: Name of a GPU in ``gpus.toml``; case does not matter.
        num_documents: Documents to embed.
        tokens_per_document: Mean number of tokens per document.
        embed_precision: Precision of embedding; the recipe sets that of training. Default of both: as the GPU decides.
        long_texts: Whether documents beyond the recipe's ``max_tokens`` are cut there, or read whole in pieces.
        utilisation: Expected share of the GPU's peak FLOP/s, in (0, 1].
        price_per_hour: Price of an hour of the GPU; None to omit costs.

    Raises:
        BaseModelError: The base model has no readable configuration, is quantised or cannot be trained by the recipe,
            the formulas do not hold for it, or it is encoder-only and the recipe has the stage mntp.
        InputError: The GPU is unknown, a number is out of range, or LoRA's targets match no layer.
    """
    gpu_name, card = find_gpu(gpu)
    _require_numbers(num_documents, tokens_per_document, utilisation=utilisation, price_per_hour=price_per_hour)
    if embed_precision is None:
        embed_precision = "bf16" if card.native_bf16 else "fp32"
    recipe = _on_gpu(recipe, card)
    architecture, works = _stage_works(base_model, recipe)
    machine = _Machine(card, utilisation, price_per_hour)
    return Plan(
        base_model=base_model,
        architecture=architecture,
        gpu_name=gpu_name,
        gpu=card,
        utilisation=utilisation,
        price_per_hour=price_per_hour,
        stages=tuple(work.plan(machine) for work in works),
        embed=_plan_embed(
            architecture,
            num_documents,
            tokens_per_document if long_texts != "cut" else min(tokens_per_document, recipe.max_tokens),
            recipe.max_tokens,
            embed_precision,
            machine,
        ),
        disk=_plan_disk(architecture, works, recipe),
        notes=_notes(recipe, card, gpu_name, embed_precision),
    )


def training_flops(base_model: str, recipe: Recipe) -> dict[Stage, tuple[Flops, Precision]]:
    """FLOPs per token in each training stage, and their precision. They do not depend on a GPU.

    Raises:
        BaseModelError: The formulas do not apply to the base model, as in :func:`plan_recipe`.
        InputError: LoRA's targets match no layer.
    """
    _, works = _stage_works(base_model, recipe)
    return {work.stage: (work.flops, work.settings.precision) for work in works}


@dataclass(frozen=True)
class _Machine:
    """A GPU, its utilisation, and its price."""

    gpu: Gpu
    utilisation: float
    price_per_hour: float | None

    def seconds(self, flops: float, precision: Precision) -> float:
        return flops / (self.gpu.flops_per_s(precision) * self.utilisation)

    def cost(self, duration_s: float) -> float | None:
        return None if self.price_per_hour is None else self.price_per_hour * duration_s / 3600

    def fits(self, size_bytes: int) -> bool:
        return size_bytes <= self.gpu.usable_bytes


@dataclass(frozen=True)
class _StageWork:
    """A training stage, as input of the formulas."""

    stage: Stage
    settings: StageSettings
    architecture: Architecture
    adapter: AdapterSize

    @property
    def execution(self) -> Execution:
        return Execution(
            precision=self.settings.precision,
            gradient_checkpointing=self.settings.gradient_checkpointing,
            padded=self.settings.views > 1,  # texts differ in length, unlike chunks
        )

    @property
    def flops(self) -> Flops:
        forward_passes = 2 if self._is_cached(self.settings.micro_batch_size) else 1
        return flops_per_token(self.architecture, self.adapter, **self._shape, forward_passes=forward_passes)

    def with_checkpointing(self, enabled: bool) -> _StageWork:
        """The stage with or without gradient checkpointing."""
        return replace(self, settings=self.settings.model_copy(update={"gradient_checkpointing": enabled}))

    def flops_with(self, micro_batch_size: int) -> Flops:
        """FLOPs per token with another micro batch."""
        return replace(self, settings=self.settings.model_copy(update={"micro_batch_size": micro_batch_size})).flops

    def choices(self, machine: _Machine) -> list[Choice]:
        """All settings that fit, the cheapest first, and of equal ones that with the largest micro batch."""
        batch_size, own = self.settings.batch_size, self.flops.training
        found = [
            Choice(
                micro_batch_size=size,
                gradient_checkpointing=enabled,
                flops_share=work.flops_with(size).training / own,
            )
            for enabled in (False, True)
            for work in [self.with_checkpointing(enabled)]
            for size in range(1, batch_size + 1)
            if batch_size % size == 0 and machine.fits(work.memory(size).total)
        ]
        return sorted(found, key=lambda choice: (choice.flops_share, -choice.micro_batch_size))

    def remedy(self, machine: _Machine, cheapest: Choice | None, *, fits: bool) -> str:
        """What to set; empty if the settings fit and are as cheap as any."""
        if cheapest is None:
            needed = self.with_checkpointing(True).memory(1).total
            if self.settings.precision == "fp32":
                half = replace(self, settings=self.settings.model_copy(update={"bf16": True}))
                if half.choices(machine):
                    return f"Set train.{self.stage}.bf16 = true."
            return f"No settings fit: take a GPU that has {needed / 0.9e9:.0f} GB, or a smaller base model."
        if fits and cheapest.flops_share > _WORTHWHILE_SHARE:
            return ""
        saved = f", for {1 - cheapest.flops_share:.0%} fewer FLOPs" if cheapest.flops_share < 1 else ""
        return (
            f"Set train.{self.stage}.micro_batch_size = {cheapest.micro_batch_size} and "
            f"gradient_checkpointing = {str(cheapest.gradient_checkpointing).lower()}{saved}."
        )

    def memory(self, micro_batch_size: int) -> Memory:
        # GradCache keeps one view of a micro batch at a time; a whole batch is kept with all its views.
        views = 1 if self._is_cached(micro_batch_size) else self.settings.views
        return step_memory(self.architecture, self.adapter, **self._shape, rows=views * micro_batch_size)

    def plan(self, machine: _Machine) -> StagePlan:
        settings, flops = self.settings, self.flops
        batch_size = settings.batch_size
        micro_batch_size = min(settings.micro_batch_size, batch_size)
        memory = self.memory(micro_batch_size)
        tokens = settings.views * settings.steps * batch_size * settings.sequence_tokens
        duration_s = machine.seconds(flops.training * tokens, settings.precision)
        divisors = (size for size in range(1, batch_size + 1) if batch_size % size == 0)
        fitting = (size for size in divisors if machine.fits(self.memory(size).total))
        fits = machine.fits(memory.total)
        cheapest = next(iter(self.choices(machine)), None)
        has_output = settings.scored_share > 0
        sizes = self.architecture
        return StagePlan(
            stage=self.stage,
            execution=self.execution,
            trainable=self.adapter.trainable,
            trainable_share=self.adapter.trainable / self.architecture.parameters,
            tokens=tokens,
            flops=flops,
            seconds=duration_s,
            cost=machine.cost(duration_s),
            micro_batch_size=micro_batch_size,
            memory=memory,
            total_bytes=memory.total,
            fits=fits,
            largest_micro_batch_size=max(fitting, default=0),
            host_bytes=4 * (sizes.parameters if has_output else sizes.backbone_parameters),
            cheapest=cheapest,
            remedy=self.remedy(machine, cheapest, fits=fits),
        )

    @property
    def _shape(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "sequence_tokens": settings.sequence_tokens,
            "execution": self.execution,
            "scored_share": settings.scored_share,
        }

    def _is_cached(self, micro_batch_size: int) -> bool:
        """Whether a contrastive batch is split (GradCache), at the cost of a second forward pass."""
        return self.settings.views > 1 and micro_batch_size < self.settings.batch_size


def _stage_works(base_model: str, recipe: Recipe) -> tuple[Architecture, list[_StageWork]]:
    """The architecture of the base model, and the stages. Equal adapters are counted once: peft takes seconds."""
    config = read_config(base_model)
    require_trainable(config, recipe, name=base_model)
    architecture = count_architecture(config)
    if not architecture.output_width and "mntp" in recipe.stages:
        raise BaseModelError(
            f"{base_model} is an encoder-only model, which the stage mntp cannot train.",
            hint="Leave mntp out of train.stages, or choose a decoder as base model.",
        )
    adapters: dict[str, AdapterSize] = {}
    works = []
    for stage in recipe.stages:
        if stage == recipe.pruned_before and recipe.keep_layers is not None:
            config = with_layers(config, recipe.keep_layers)
            architecture, adapters = count_architecture(config), {}
        settings: StageSettings = getattr(recipe, stage)
        lora = settings.lora.model_dump_json()
        if lora not in adapters:
            adapters[lora] = count_adapter(config, settings.lora)
        works.append(_StageWork(stage, settings, architecture, adapters[lora]))
    return architecture, works


def _plan_embed(
    architecture: Architecture,
    num_documents: int,
    tokens_per_document: int,
    max_tokens: int,
    precision: Precision,
    machine: _Machine,
) -> EmbedPlan:
    tokens, length = num_documents * tokens_per_document, min(tokens_per_document, max_tokens)
    flops = flops_per_token(architecture, None, sequence_tokens=length, execution=Execution()).forward
    duration_s = machine.seconds(flops * tokens, precision)
    total_bytes = embed_bytes(architecture, precision)
    return EmbedPlan(
        num_documents=num_documents,
        tokens=tokens,
        flops_per_token=flops,
        seconds=duration_s,
        cost=machine.cost(duration_s),
        total_bytes=total_bytes,
        fits=machine.fits(total_bytes),
        remedy="" if machine.fits(total_bytes) else _embed_remedy(architecture, precision, machine),
    )


def _embed_remedy(architecture: Architecture, precision: Precision, machine: _Machine) -> str:
    if precision == "fp32" and machine.fits(embed_bytes(architecture, "bf16")):
        return 'Set encode.precision = "bf16".'
    needed = embed_bytes(architecture, "bf16") / 0.9e9
    return f"No settings fit: take a GPU that has {needed:.0f} GB, or a smaller base model."


def _on_gpu(recipe: Recipe, card: Gpu) -> Recipe:
    """The recipe with the precision that the GPU decides on, where the recipe leaves it open."""
    stages: dict[str, Any] = {
        stage: getattr(recipe, stage).model_copy(update={"bf16": card.native_bf16})
        for stage in recipe.stages
        if getattr(recipe, stage).bf16 is None
    }
    return recipe.model_copy(update=stages)


def _plan_disk(architecture: Architecture, works: list[_StageWork], recipe: Recipe) -> DiskPlan:
    """Disk of a recipe: stages keep their adapters, and only a pruned or averaged transformer is written in fp32."""
    adapters = [4 * work.adapter.trainable for work in works]
    saves = max((2 * 3 * size for size in adapters), default=0)  # weights and two moments, twice
    last = works[-1].architecture if works else architecture
    is_half = bool(works) and stored_precision([work.settings.precision for work in works], last.parameters) == "bf16"
    checkpoint = (2 if is_half else 4) * last.backbone_parameters
    derived = 4 * last.backbone_parameters * ((recipe.keep_layers is not None) + bool(recipe.merge))
    stages = sum(adapters) + saves + derived
    return DiskPlan(
        base=architecture.published_bytes,
        stages=stages,
        checkpoint=checkpoint,
        at_rest=architecture.published_bytes + checkpoint,
        peak=architecture.published_bytes + stages + checkpoint,
    )


def _require_numbers(
    num_documents: int, tokens_per_document: int, *, utilisation: float, price_per_hour: float | None
) -> None:
    if not 0 < utilisation <= 1:
        raise InputError(
            f"The utilisation is {utilisation:g}; expected a share of the peak above 0 and up to 1.",
            hint="A good training loop reaches 0.4.",
        )
    if num_documents < 0 or tokens_per_document < 1 or (price_per_hour or 0) < 0:
        raise InputError(
            f"Found {num_documents} documents of {tokens_per_document} tokens and a price of {price_per_hour}; "
            "expected no negative number, and at least one token per document.",
            hint="Pass counts and a price of zero or more.",
        )


def _notes(recipe: Recipe, card: Gpu, gpu_name: str, embed_precision: Precision) -> tuple[str, ...]:
    precisions = {getattr(recipe, stage).precision for stage in recipe.stages}
    notes = [
        "Attention is planned as one fused kernel (sdpa), which keeps no attention weights.",
        "Weights are loaded, merged and cast in the memory of the host: loading needs no more of the GPU than a step.",
    ]
    if "simcse" in recipe.stages:
        notes.append("simcse is planned with every sentence at max_tokens; most are shorter.")
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
