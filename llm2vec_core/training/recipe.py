"""Running a recipe: the resumable chain of stages from a base model to a checkpoint."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from llm2vec_core.errors import TrainingError
from llm2vec_core.model.architectures import transformer_directory
from llm2vec_core.model.base_models import fetch_base_model
from llm2vec_core.model.checkpoint import CURVES_NAME, CheckpointRecord, write_checkpoint
from llm2vec_core.training.launch import launch_stage
from llm2vec_core.training.settings import (
    OnStep,
    Recipe,
    StageCurve,
    StepLog,
    TrainingTriple,
    read_curves,
)
from llm2vec_core.training.stages import StageInput, run_stage

_CALIBRATION_TEXTS = 512
"""Training texts that a standardisation is measured on, at most."""


class TrainedEncoder(BaseModel):
    """What :func:`train_encoder` made."""

    model_config = ConfigDict(frozen=True)

    record: CheckpointRecord
    curves: list[StageCurve]
    steps_run: int


def train_encoder(
    recipe: Recipe,
    texts: Sequence[str],
    *,
    recipe_key: str,
    work_dir: Path,
    cache_dir: Path,
    triples: Sequence[TrainingTriple] = (),
    training_snapshots: dict[str, str] | None = None,
    begun: Path | None = None,
    on_step: OnStep | None = None,
) -> TrainedEncoder:
    """Run the stages of a recipe and write ``work_dir/checkpoint``.

    Killed in the middle, the next call continues: finished stages are kept, a begun one goes on from its last save.

    Args:
        recipe: What to do.
        texts: Training texts, the same for every call with this key.
        recipe_key: Key of the recipe, recorded in the checkpoint.
        work_dir: Keeps the state between calls; the caller removes it when the checkpoint is stored.
        cache_dir: Where converted base models are kept.
        triples: What the supervised stage learns from, the same for every call with this key.
        training_snapshots: Ids of the snapshots that the texts are from, by kind; recorded in the checkpoint.
        begun: Checkpoint of the same recipe, on the same texts, without its last stage; only that one is then trained.
        on_step: Called after every update.

    Raises:
        BaseModelError: The base model cannot be found, ignores the switch to the recipe's attention, or is encoder-only
            and the recipe has the stage mntp.
        InputError: The supervised stage asks for more dimensions than the encoder has.
        TrainingError: Too little text, no triples for the supervised stage, or a loss that is not finite.
    """
    if "supervised" in recipe.stages and not triples:
        raise TrainingError(
            "The recipe has the stage supervised, and no triples came with it; at least one batch was expected.",
            hint="Name sources of judgments, or leave supervised out of train.stages.",
        )
    backbone = transformer_directory(begun or fetch_base_model(recipe.base_model, cache_dir=cache_dir))
    curves = read_curves(begun) if begun is not None else []
    steps_run = 0

    def counted(step: StepLog) -> None:
        nonlocal steps_run
        steps_run += 1
        if on_step is not None:
            on_step(step)

    for stage in recipe.stages[len(curves) :]:
        given = StageInput(base=backbone, texts=texts, triples=triples)
        run = run_stage if recipe.num_processes == 1 else launch_stage
        backbone, curve = run(stage, recipe, given, work_dir=work_dir / stage, on_step=counted)
        curves.append(curve)
    target = work_dir / "checkpoint"
    shutil.rmtree(target, ignore_errors=True)
    record = write_checkpoint(
        target,
        backbone=backbone,
        base_model=recipe.base_model,
        attention=recipe.attention,
        pooling_mode=recipe.pooling_mode,
        max_tokens=recipe.max_tokens,
        stages=recipe.stages,
        recipe_key=recipe_key,
        recipe=recipe.decisive_settings(),
        training_snapshots=training_snapshots,
        calibration=_calibration(recipe, texts, triples) if recipe.standardised else (),
    )
    (target / CURVES_NAME).write_text(json.dumps([curve.model_dump(mode="json") for curve in curves], indent=2))
    return TrainedEncoder(record=record, curves=curves, steps_run=steps_run)


def _calibration(recipe: Recipe, texts: Sequence[str], triples: Sequence[TrainingTriple]) -> list[str]:
    """A sample of what the recipe trains on: documents, or without them what the judgments hold to be found."""
    distinct = list(dict.fromkeys(texts or [triple.positive for triple in triples]))
    return random.Random(recipe.sampling_seed).sample(distinct, min(_CALIBRATION_TEXTS, len(distinct)))
