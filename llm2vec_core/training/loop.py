"""Shared parts of all stages: trainer arguments, order of examples, progress, resuming, merging the adapter."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AutoModel, AutoTokenizer, PrinterCallback, ProgressCallback, TrainerCallback, TrainingArguments
from transformers.modeling_layers import GradientCheckpointingLayer

from llm2vec_core.device.precision import products_in
from llm2vec_core.errors import TrainingError
from llm2vec_core.model.architectures import apply_attention, prepare_padding, seeded_missing_weights
from llm2vec_core.model.layered import write_layers
from llm2vec_core.model.lora import cast_frozen_linears
from llm2vec_core.model.saved import require_saved_transformer, transformer_outputs
from llm2vec_core.model.weights import merge_adapter, require_whole_weights
from llm2vec_core.training.job import StageJob
from llm2vec_core.training.settings import StageCurve, StageSettings, StepLog

logger = logging.getLogger(__name__)

Arguments = TypeVar("Arguments", bound=TrainingArguments)

_STATE_NAME = "trainer_state.json"
_SECONDS = "seconds"


def num_processes() -> int:
    """Number of processes that share an update, as set by ``accelerate launch`` and ``torchrun``."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this process writes the results of all processes."""
    return int(os.environ.get("RANK", "0")) == 0


def trainer_arguments(
    kind: type[Arguments],
    settings: StageSettings,
    *,
    output_dir: Path,
    num_examples: int,
    **own: Any,  # noqa: ANN401
) -> Arguments:
    """The arguments of a trainer.

    A process trains on one device. If it saw several, the trainer would spread each forward pass over them and multiply
    the batch; use ``num_processes`` for several devices.

    Args:
        kind: ``TrainingArguments`` or a subclass.
        settings: Settings of the stage.
        output_dir: Directory of the saves.
        num_examples: Distinct examples of the stage, the length of an epoch.
        own: Arguments only for this trainer.
    """
    arguments: Arguments = kind(
        output_dir=str(output_dir),
        max_steps=settings.steps,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        **_schedule(settings, num_examples),
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,
        seed=settings.seed,
        bf16=settings.precision == "bf16",
        use_cpu=not torch.accelerator.is_available(),  # without it, a CPU refuses bf16
        activation_checkpointing=settings.gradient_checkpointing,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to="none",
        # Whole batches are drawn, and every process takes its share. So updates do not depend on the number of
        # processes.
        accelerator_config={"split_batches": True},
        ddp_find_unused_parameters=False,
        **own,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # all code that counts devices reads it; there is no public setter
    return arguments


def _schedule(settings: StageSettings, num_examples: int) -> dict[str, Any]:
    """Arguments of the learning rate's schedule: a line to zero at the last step, or at the end of ``schedule_epochs``.

    The longer line is transformers' polynomial of degree one, which ends at the rate that the line has at the last
    step. It never reaches zero before that step.
    """
    if settings.schedule_epochs is None:
        return {"lr_scheduler_type": "linear"}
    whole = settings.schedule_epochs * -(-num_examples // settings.batch_size)
    left = max(0, whole - settings.steps) / max(1, whole - settings.warmup_steps)
    rate = settings.learning_rate * left
    return {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": rate, "power": 1.0}}


def resumable_save(output_dir: Path) -> Path | None:
    """Newest complete save below ``output_dir``. Removes incomplete saves of a run that was killed while saving.

    The trainer writes its state file last, so a save with a readable one is complete.
    """
    saves = sorted(output_dir.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]), reverse=True)
    for save in saves:
        try:
            json.loads((save / _STATE_NAME).read_text())
        except (OSError, ValueError):
            if is_main_process():
                logger.warning("removing the incomplete save %s", save.name)
                shutil.rmtree(save)
        else:
            return save
    return None


def train_and_merge(
    trainer: Any,  # noqa: ANN401 - transformers' or sentence-transformers' trainer, which ship no types
    job: StageJob,
    *,
    tokens_per_step: float,
    architecture: Any = AutoModel,  # noqa: ANN401
) -> tuple[Path, StageCurve]:
    """Train to the last step, from the last complete save if there is one, and merge the adapter into the base.

    Args:
        trainer: Trainer of a model with its adapter.
        job: The stage.
        tokens_per_step: Mean number of tokens of one optimizer update, without padding.
        architecture: Auto class of the merged transformer, with or without an output layer.

    Returns:
        Directory of the merged transformer, and the curve.

    Raises:
        TrainingError: The loss is no longer finite.
    """
    curve = _train(trainer, job, tokens_per_step)
    if is_main_process():
        _save_merged(trainer.model, job, architecture)
    return job.merged_dir, curve


def _train(trainer: Any, job: StageJob, tokens_per_step: float) -> StageCurve:  # noqa: ANN401
    save = resumable_save(job.saves_dir)
    if save is not None:
        logger.info("%s resumes from step %s", job.stage, save.name.rsplit("-", 1)[1])
    # The trainer's own callbacks would write a dictionary per step to stdout.
    for callback in list(trainer.callback_handler.callbacks):
        if isinstance(callback, (PrinterCallback, ProgressCallback)):
            trainer.remove_callback(callback)
    trainer.add_callback(_StepCallback(job, tokens_per_step))
    is_mixed = job.settings.precision == "bf16" and trainer.args.device.type == "cuda"
    with _attention_kernel(trainer.args.device), products_in("tf32" if is_mixed else "fp32"):
        trainer.train(resume_from_checkpoint=str(save) if save else None)
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    return StageCurve(
        stage=job.stage,
        num_steps=trainer.state.global_step,
        tokens=round(tokens_per_step * trainer.state.global_step),
        seconds=sum(entry.get(_SECONDS, 0.0) for entry in steps),
        losses=[entry["loss"] for entry in steps],
        learning_rates=[entry["learning_rate"] for entry in steps],
    )


def _save_merged(model: Any, job: StageJob, architecture: Any) -> None:  # noqa: ANN401
    """Save the adapter of a trained model, and a directory that loads as its base with the adapter merged in fp32."""
    adapter, attention = job.work_dir / "adapter", job.recipe.attention
    model.save_pretrained(str(adapter), create_model_card=False)
    name = job.recipe.base_model
    with seeded_missing_weights(), require_whole_weights(name):
        plain = architecture.from_pretrained(job.base, dtype=torch.float32, local_files_only=True)
    apply_attention(plain.base_model, attention, name=name)
    plain.config.save_pretrained(adapter)  # states the attention of the adapter's training
    merge_adapter(plain, adapter, name=f"of the stage {job.stage}")
    write_layers(job.merged_dir, base=job.base, adapter=adapter)
    plain.config.architectures = [type(plain).__name__]
    plain.config.save_pretrained(job.merged_dir)
    tokenizer = AutoTokenizer.from_pretrained(job.base, local_files_only=True)
    prepare_padding(tokenizer)
    tokenizer.save_pretrained(job.merged_dir)
    kind, expected = type(plain), transformer_outputs(plain, tokenizer)
    del plain  # two copies of a large model may not fit
    require_saved_transformer(job.merged_dir, kind, expected, name=f"The model after {job.stage}")


def _attention_kernel(device: torch.device) -> AbstractContextManager[None]:
    """Use attention by plain matrix products on a CPU.

    On a CPU, the backward pass of torch's fused kernel takes 40 % of an update on texts of 12 tokens, and gains nothing
    at 128 tokens (torch 2.15).
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def draw_order(job: StageJob, examples: Sequence[object], *, unit: str) -> list[int]:
    """Index of the example of every draw of a stage; see :func:`example_order`.

    Args:
        job: The stage.
        examples: Its examples.
        unit: Name of an example, for the message.

    Raises:
        TrainingError: There are fewer examples than one batch. The message has both numbers.
    """
    settings = job.settings
    if len(examples) < settings.batch_size:
        raise TrainingError(
            f"{job.stage} found {len(examples)} {unit} to train on, but one update needs {settings.batch_size}.",
            hint=f"Ingest more documents, or lower train.{job.stage}.batch_size.",
        )
    num_draws = settings.steps * settings.batch_size
    return example_order(len(examples), num_draws=num_draws, batch_size=settings.batch_size, seed=settings.seed)


def example_order(num_examples: int, *, num_draws: int, batch_size: int, seed: int) -> list[int]:
    """Index of the example of every draw: seeded passes over all examples, in whole batches.

    The whole order is drawn at the start, so that a resumed run sees the same examples as an uninterrupted one. No
    example appears twice in one batch.

    Args:
        num_examples: Number of examples.
        num_draws: Number of draws, a multiple of ``batch_size``.
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
    """Size of the micro batches of all processes together, and how many of them make ``batch_size``.

    Raises:
        TrainingError: ``batch_size`` is not a multiple of it.
    """
    share = process_share(settings)
    micro = min(settings.micro_batch_size, share)
    if share % micro:
        raise TrainingError(
            f"The batch of {share} per process is not a multiple of micro_batch_size {micro}.",
            hint="Choose a micro_batch_size that divides the batch_size (and the share of each process).",
        )
    return micro * num_processes(), share // micro


def process_share(settings: StageSettings) -> int:
    """Number of texts of an update for each process.

    Raises:
        TrainingError: ``batch_size`` cannot be divided among the processes.
    """
    if settings.batch_size % num_processes():
        raise TrainingError(
            f"batch_size {settings.batch_size} cannot be divided among {num_processes()} processes.",
            hint="Choose a batch_size that is a multiple of train.num_processes.",
        )
    return settings.batch_size // num_processes()


def cast_and_compile(model: torch.nn.Module, settings: StageSettings) -> None:
    """Prepare a model with its adapter for training, according to ``bf16`` and ``compile_blocks``."""
    if settings.precision == "bf16":
        cast_frozen_linears(model)
    if settings.compile_blocks:
        compile_blocks(model)


def compile_blocks(model: torch.nn.Module) -> None:
    """Compile the blocks of a transformer. They are alike, so one compilation serves them all."""
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.compile()


class _StepCallback(TrainerCallback):  # type: ignore[misc]
    """Reports every update, and stops a run whose loss is not finite."""

    def __init__(self, job: StageJob, tokens_per_step: float) -> None:
        self._job = job
        self._tokens_per_step = tokens_per_step
        self._last = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:  # noqa: ANN401
        if logs is None or "loss" not in logs:
            return
        stage = self._job.stage
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"The loss of {stage} became {logs['loss']} at step {state.global_step}.",
                hint=f"Lower train.{stage}.learning_rate; the last save is intact.",
            )
        now = time.monotonic()
        state.log_history[-1][_SECONDS] = now - self._last  # the trainer saves it for a resumed run
        step = StepLog(
            stage=stage,
            step=state.global_step,
            num_steps=state.max_steps,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            tokens=round(self._tokens_per_step),
            seconds=now - self._last,
        )
        self._last = now
        logger.debug("%s", step)
        if self._job.on_step is not None:
            self._job.on_step(step)
