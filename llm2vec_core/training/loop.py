"""What all stages share: arguments of the trainer, order of the examples, progress, and resuming from the last save."""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

from llm2vec_core.errors import TrainingError
from llm2vec_core.training.settings import OnStep, Stage, StageCurve, StageSettings, StepLog

logger = logging.getLogger(__name__)

_STATE_NAME = "trainer_state.json"


def trainer_arguments(settings: StageSettings, *, output_dir: Path) -> dict[str, Any]:
    """Keyword arguments for ``TrainingArguments`` and its subclasses."""
    return {
        "output_dir": str(output_dir),
        "max_steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup_steps,
        "lr_scheduler_type": "linear",
        "save_strategy": "steps",
        "save_steps": settings.save_steps,
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "seed": settings.seed,
        "bf16": settings.bf16,
        "activation_checkpointing": settings.gradient_checkpointing,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "report_to": "none",
    }


def resumable_save(output_dir: Path) -> Path | None:
    """Newest complete save below ``output_dir``; incomplete ones (a run killed while saving) are removed.

    The trainer writes its state file last, so a save with a readable one is complete.
    """
    saves = sorted(output_dir.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]), reverse=True)
    for save in saves:
        try:
            json.loads((save / _STATE_NAME).read_text())
        except (OSError, ValueError):
            logger.warning("removing the incomplete save %s", save.name)
            shutil.rmtree(save)
        else:
            return save
    return None


def run_trainer(trainer: Trainer, *, stage: Stage, tokens_per_step: float, on_step: OnStep | None) -> StageCurve:
    """Train to the last step, from the last complete save if there is one.

    Args:
        trainer: Ready trainer; its ``output_dir`` holds the saves.
        stage: Name for logs and the curve.
        tokens_per_step: Mean number of tokens of one optimizer update, padding not counted.
        on_step: Called after every optimizer update.

    Raises:
        TrainingError: The loss is no longer finite.
    """
    save = resumable_save(Path(trainer.args.output_dir))
    if save is not None:
        logger.info("%s continues from step %s", stage, save.name.rsplit("-", 1)[1])
    # The trainer's own callbacks would write a dictionary per step to stdout.
    for callback in list(trainer.callback_handler.callbacks):
        if isinstance(callback, (PrinterCallback, ProgressCallback)):
            trainer.remove_callback(callback)
    trainer.add_callback(_StepCallback(stage, tokens_per_step, on_step))
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(save) if save else None)
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    return StageCurve(
        stage=stage,
        num_steps=trainer.state.global_step,
        tokens=round(tokens_per_step * trainer.state.global_step),
        seconds=time.monotonic() - started,
        losses=[entry["loss"] for entry in steps],
        learning_rates=[entry["learning_rate"] for entry in steps],
    )


def example_order(num_examples: int, *, num_draws: int, batch_size: int, seed: int) -> list[int]:
    """Which example is drawn when: seeded passes over all examples, whole batches only.

    The order is a list made beforehand, so that a resumed run sees what an uninterrupted one would have seen, and no
    example meets itself in one batch.

    Args:
        num_examples: Examples there are.
        num_draws: Examples needed, a multiple of ``batch_size``.
        batch_size: Examples of one update; at most ``num_examples``.
        seed: Seed of the permutations.
    """
    generator = np.random.default_rng(seed)
    whole = num_examples - num_examples % batch_size

    def passes() -> Iterator[int]:
        while True:
            yield from generator.permutation(num_examples)[:whole].tolist()

    draws = passes()
    return [next(draws) for _ in range(num_draws)]


def micro_batches(settings: StageSettings) -> tuple[int, int]:
    """Micro batch size and number of accumulation steps that give ``batch_size`` exactly.

    Raises:
        TrainingError: ``batch_size`` is no multiple of ``micro_batch_size``.
    """
    micro = min(settings.micro_batch_size, settings.batch_size)
    if settings.batch_size % micro:
        raise TrainingError(
            f"batch_size {settings.batch_size} is no multiple of micro_batch_size {micro}.",
            hint="Choose a micro_batch_size that divides the batch_size.",
        )
    return micro, settings.batch_size // micro


def require_examples(examples: Sequence[object], *, needed: int, stage: str, unit: str) -> None:
    """Refuse to train on fewer examples than one batch needs.

    Raises:
        TrainingError: Says how many there are and how many one update needs.
    """
    if len(examples) < needed:
        raise TrainingError(
            f"{stage} found {len(examples)} {unit} to train on, and one update needs {needed}.",
            hint="Ingest more documents, or lower train.{stage}.batch_size.".replace("{stage}", stage),
        )


class _StepCallback(TrainerCallback):  # type: ignore[misc]
    """Tells about every update and stops a run whose loss is no longer a number."""

    def __init__(self, stage: Stage, tokens_per_step: float, on_step: OnStep | None) -> None:
        self._stage = stage
        self._tokens_per_step = tokens_per_step
        self._on_step = on_step
        self._last = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:  # noqa: ANN401
        if logs is None or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"The loss of {self._stage} became {logs['loss']} at step {state.global_step}.",
                hint=f"Lower train.{self._stage}.learning_rate; the last save is intact.",
            )
        now = time.monotonic()
        step = StepLog(
            stage=self._stage,
            step=state.global_step,
            num_steps=state.max_steps,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            tokens=round(self._tokens_per_step),
            seconds=now - self._last,
        )
        self._last = now
        logger.debug("%s", step)
        if self._on_step is not None:
            self._on_step(step)
