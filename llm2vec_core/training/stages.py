"""The trainer of each stage.

CONTRIBUTING.md, "Adding", says how to add a training stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from llm2vec_core.device.memory import device_errors
from llm2vec_core.device.precision import default_device, settle_precision, stored_parameters
from llm2vec_core.model.modes import Stage
from llm2vec_core.training.distil import train_distil
from llm2vec_core.training.job import StageJob
from llm2vec_core.training.loop import is_main_process
from llm2vec_core.training.mntp import train_mntp
from llm2vec_core.training.settings import StageCurve
from llm2vec_core.training.simcse import train_simcse
from llm2vec_core.training.supervised import train_supervised

TRAINERS: Mapping[Stage, Callable[[StageJob], tuple[Path, StageCurve]]] = {
    "mntp": train_mntp,
    "simcse": train_simcse,
    "distil": train_distil,
    "supervised": train_supervised,
}
"""The trainer of each stage: it returns the directory of the trained transformer, and the curve."""


def train_stage(job: StageJob) -> tuple[Path, StageCurve]:
    """Train one stage in this process; a finished stage is not trained again.

    Returns:
        Directory of the trained transformer, and the curve.

    Raises:
        BaseModelError: The stage cannot train this base model.
        DeviceError: There is a GPU that torch cannot use, or it was lost.
        DeviceMemoryError: A step does not fit into the device.
        InputError: A large model would be trained in fp32 without being asked to; or a Matryoshka dimension is greater
            than the encoder's.
        TrainingError: There are too few examples, or the loss is not finite.
    """
    finished = job.finished()
    if finished is not None:
        return finished
    settings = job.settings
    settle_precision(
        None if settings.bf16 is None else settings.precision,
        default_device(),
        num_parameters=stored_parameters(job.base),
        name=f"{job.recipe.base_model} ({job.stage})",
    )
    job.work_dir.mkdir(parents=True, exist_ok=True)
    hint = (
        f"Lower train.{job.stage}.micro_batch_size, or set train.{job.stage}.gradient_checkpointing = true; `l2v plan` "
        "says what fits. The last save is intact."
    )
    with device_errors(f"train {job.stage}", hint=hint):
        merged, curve = TRAINERS[job.stage](job)
    if is_main_process():
        job.finish(curve)
    return merged, curve
