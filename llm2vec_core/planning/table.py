"""The table of a plan, in readable units."""

from __future__ import annotations

from llm2vec_core.planning.plan import EmbedPlan, Plan, StagePlan

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


def render_plan(plan: Plan) -> list[tuple[str, str]]:
    """Rows of (part, value); costs in dollars, if the plan has a price."""
    sizes, card = plan.architecture, plan.gpu
    return [
        ("base model", f"{plan.base_model} ({sizes.model_type})"),
        ("parameters", f"{sizes.parameters / 1e9:.3f} billion"),
        ("weights as published", _gb(sizes.published_bytes)),
        ("GPU", f"{plan.gpu_name}, {card.memory_gb:g} GB, at {plan.utilisation:.0%} of its peak"),
        *((f"{stage.stage}: {part}", value) for stage in plan.stages for part, value in _stage_rows(stage)),
        *((f"embed: {part}", value) for part, value in _embed_rows(plan.embed)),
        ("disk", f"{_gb(plan.disk.at_rest)} at rest, {_gb(plan.disk.peak)} while it is trained"),
        *(("note", note) for note in plan.notes),
    ]


def _stage_rows(stage: StagePlan) -> list[tuple[str, str]]:
    checkpointing = ", gradient checkpointing" if stage.execution.gradient_checkpointing else ""
    memory = f"{_gb(stage.total_bytes)} with micro batches of {stage.micro_batch_size}: {_fits(stage.fits)}"
    return [
        ("precision", stage.execution.precision + checkpointing),
        ("trainable", f"{stage.trainable / 1e6:.2f} million ({stage.trainable_share:.2%})"),
        ("memory", memory),
        *([("to set", stage.remedy)] if stage.remedy else []),
        ("memory of the host", _gb(stage.host_bytes)),
        ("largest micro batch", str(stage.largest_micro_batch_size or "none")),
        *((f"memory, {name}", _gb(getattr(stage.memory, field))) for field, name in _MEMORY_PARTS.items()),
        ("FLOPs per token", f"{stage.flops.training / 1e9:.2f} GFLOP (forward {stage.flops.forward / 1e9:.2f})"),
        ("tokens", f"{stage.tokens / 1e6:.2f} million" + (" at most" if stage.stage == "simcse" else "")),
        *_time_rows(stage.seconds, stage.cost),
    ]


def _embed_rows(embed: EmbedPlan) -> list[tuple[str, str]]:
    return [
        ("documents", f"{embed.num_documents:,}, {embed.tokens / 1e6:.2f} million tokens"),
        ("memory", f"{_gb(embed.total_bytes)}: {_fits(embed.fits)}"),
        *([("to set", embed.remedy)] if embed.remedy else []),
        ("FLOPs per token", f"{embed.flops_per_token / 1e9:.2f} GFLOP"),
        *_time_rows(embed.seconds, embed.cost),
    ]


def _time_rows(duration_s: float, cost: float | None) -> list[tuple[str, str]]:
    rows = [("time", _duration(duration_s))]
    return rows if cost is None else [*rows, ("cost", f"${cost:,.2f}")]


def _fits(fits: bool) -> str:
    return "fits" if fits else "does not fit"


def _gb(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.2f} GB"


def _duration(duration_s: float) -> str:
    for unit, seconds in (("d", 86400), ("h", 3600), ("min", 60)):
        if duration_s >= 2 * seconds:
            return f"{duration_s / seconds:.1f} {unit}"
    return f"{duration_s:.1f} s"
