"""Run a recipe, the resumable chain of stages from a base model to a checkpoint."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from llm2vec_core.device.precision import stored_parameters, stored_precision
from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.errors import TrainingError
from llm2vec_core.model.architectures import transformer_directory
from llm2vec_core.model.base_models import fetch_base_model
from llm2vec_core.model.checkpoint import CURVES_NAME, CheckpointRecord, EncoderSpec
from llm2vec_core.model.derived import average_weights, keep_first_layers
from llm2vec_core.training.job import StageJob
from llm2vec_core.training.launch import launch_stage
from llm2vec_core.training.settings import BASE, OnStep, Recipe, StageCurve, StepLog, TrainingTriple, read_curves
from llm2vec_core.training.stages import train_stage

_CALIBRATION_TEXTS = 512
"""Maximum number of training texts to measure a standardisation on."""


class TrainedEncoder(BaseModel):
    """Result of :func:`train_encoder`: the checkpoint's record, its curves, and the updates of this call."""

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

    If it is killed, the next call resumes: it keeps finished stages, and resumes a stage from its last save.

    Args:
        recipe: Stages and their settings.
        texts: Training texts, the same for every call with this key.
        recipe_key: Key of the recipe, recorded in the checkpoint.
        work_dir: Directory of the state between calls; the caller removes it after storing the checkpoint.
        cache_dir: Cache of converted base models.
        triples: Examples of the supervised stage, the same for every call with this key.
        training_snapshots: Ids of the snapshots of the texts, by kind; recorded in the checkpoint.
        begun: Checkpoint of the same recipe and texts without the last stage. Then only that stage is trained. Has no
            effect on a recipe with ``merge``, which needs the weights after each stage.
        on_step: Called after every update.

    Raises:
        BaseModelError: The base model cannot be found, ignores the switch to the recipe's attention, or is encoder-only
            and the recipe has the stage mntp.
        InputError: A Matryoshka dimension of the supervised stage is greater than the encoder's.
        TrainingError: There is too little text, no triples for the supervised stage, or a non-finite loss.
    """
    if recipe.reads_judgments and not triples:
        raise TrainingError(
            "The recipe has the stage supervised, but no triples were given; expected at least one batch.",
            hint="Name sources of judgments, or leave supervised out of train.stages.",
        )
    begun = None if recipe.merge else begun
    backbone = transformer_directory(begun or fetch_base_model(recipe.base_model, cache_dir=cache_dir))
    curves = read_curves(begun) if begun is not None else []
    steps_run = 0

    def counted(step: StepLog) -> None:
        nonlocal steps_run
        steps_run += 1
        if on_step is not None:
            on_step(step)

    weights = {BASE: backbone}
    for stage in recipe.stages[len(curves) :]:
        if stage == recipe.pruned_before and recipe.keep_layers is not None:
            backbone = keep_first_layers(backbone, recipe.keep_layers, target=work_dir / "pruned")
        job = StageJob(
            stage=stage,
            recipe=recipe,
            base=backbone,
            work_dir=work_dir / stage,
            texts=texts,
            triples=triples,
            on_step=counted,
        )
        backbone, curve = train_stage(job) if recipe.num_processes == 1 else launch_stage(job)
        curves.append(curve)
        weights[stage] = backbone
    if recipe.merge:
        backbone = average_weights(
            {weights[name]: share for name, share in recipe.merge.items()}, target=work_dir / "average"
        )
    target = work_dir / "checkpoint"
    shutil.rmtree(target, ignore_errors=True)
    record = write_checkpoint(
        target,
        backbone=backbone,
        spec=EncoderSpec(
            base_model=recipe.base_model,
            attention=recipe.attention,
            pooling_mode=recipe.pooling_mode,
            max_tokens=recipe.max_tokens,
            stages=recipe.stages,
            recipe_key=recipe_key,
            recipe=recipe.decisive_settings(),
            training_snapshots=training_snapshots,
            pools_prompt=not ("supervised" in recipe.stages and recipe.supervised.instruction),
            chat_template=recipe.chat_template,
        ),
        calibration=_calibration(recipe, texts, triples) if recipe.standardised else (),
        precision=stored_precision(
            [getattr(recipe, stage).precision for stage in recipe.stages], stored_parameters(backbone)
        ),
    )
    (target / CURVES_NAME).write_text(json.dumps([curve.model_dump(mode="json") for curve in curves], indent=2))
    return TrainedEncoder(record=record, curves=curves, steps_run=steps_run)


def _calibration(recipe: Recipe, texts: Sequence[str], triples: Sequence[TrainingTriple]) -> list[str]:
    """A sample of the training texts: documents, or without documents the positives of the judgments."""
    distinct = list(dict.fromkeys(texts or [triple.positive for triple in triples]))
    return random.Random(recipe.sampling_seed).sample(distinct, min(_CALIBRATION_TEXTS, len(distinct)))
