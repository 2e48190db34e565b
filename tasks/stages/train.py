"""Training: pin the training data, run the recipe, store the checkpoint.

A recipe is trained once, on the snapshots and judgments that were the latest at that time. New documents do not start a
training; ``l2v train`` uses the newest data.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from data.documents.judgments import Judgment, judgments_sha256, sample_judgments
from data.errors import InputError
from data.schema import KINDS, encoded_text
from data.snapshots.snapshot import Snapshot, latest_snapshot, open_snapshot
from data.store.base import Store
from llm2vec_core.model.modes import Stage
from llm2vec_core.training.settings import Recipe, StepLog, TrainingTriple, read_curves
from tasks.encoders.cards import write_model_card
from tasks.encoders.checkpoints import (
    base_models_dir,
    build_untrained,
    checkpoint_dir,
    find_checkpoint,
    store_checkpoint,
)
from tasks.encoders.judged import read_all_judgments, without_evaluated
from tasks.encoders.pins import JUDGMENTS, TrainingPin, find_made, read_pin, recipe_key, record_key, write_pin
from tasks.ledger.usage import train_usage
from tasks.run.context import Run
from tasks.run.reports import CheckpointRef, TrainReport
from tasks.run.settings import Settings
from tasks.run.stage_task import stage_task
from tasks.ui.artifacts import progress

logger = logging.getLogger(__name__)


@stage_task("pin training data")
def pin_training_data(run: Run, *, newest: bool, of_ablation: bool = False) -> TrainingPin:
    """Choose the training data: the newest, or the data that the recipe was trained on before.

    Args:
        run: The run.
        newest: Use the newest data, even if the recipe was trained before.
        of_ablation: Use the pin of an ablation, not the night's pin of the same recipe.

    Raises:
        InputError: Nothing was ingested yet, or judgments cannot be read.
    """
    store, settings = run.store, run.settings
    pinned = read_pin(store, settings, of_ablation=of_ablation)
    if pinned is not None and not newest:
        return pinned
    latest: dict[str, str] = {}
    if settings.train.reads_documents:
        latest = {kind: found.manifest.id for kind in KINDS if (found := latest_snapshot(store, kind)) is not None}
        if not latest:
            raise InputError("There is nothing to train on: no snapshot yet.", hint="Run `l2v ingest` first.")
    if settings.train.reads_judgments:
        latest[JUDGMENTS] = judgments_sha256(_judgments(settings)[0])
    return TrainingPin(identities=latest, of_ablation=of_ablation)


@stage_task("train {run.settings.train.base_model}", retried=False)
def train_recipe(run: Run, pinned: TrainingPin) -> TrainReport:
    """Run the recipe on the pinned training data, or find its checkpoint.

    If a training is killed, the next call resumes from the last save.

    Args:
        run: The run; its settings hold the recipe.
        pinned: Data to train on, from :func:`pin_training_data`.

    Raises:
        InputError: The judgments differ from the pinned ones.
        BaseModelError: The base model cannot be found, or ignores the bidirectional switch.
        TrainingError: Too little text, or a loss that is not finite.
    """
    started = time.monotonic()
    store, settings, recipe = run.store, run.settings, run.settings.train
    key = recipe_key(settings, pinned)
    known = find_made(store, settings, pinned)
    if known is not None:
        if pinned.former:
            logger.warning("this encoder was trained before the method was corrected; `l2v train` trains it anew")
        ref = find_checkpoint(store, known.fingerprint)
        return TrainReport(checkpoint=ref, recipe_key=key, steps=0, tokens=0, seconds=0.0)

    from llm2vec_core.training.recipe import train_encoder

    triples, left_out = _triples(settings, pinned)
    run.lease.check()
    # Pin before the first step, so that a killed run resumes with the same data.
    write_pin(store, settings, pinned)
    work_dir = _work_dir(store, key)
    begun = _begun(store, settings, pinned)
    with progress("train", sum(_steps(recipe, begun).values())) as advance:

        def on_step(step: StepLog) -> None:
            rate = step.tokens / step.seconds if step.seconds else 0.0
            advance(1, note=f"{step.stage} loss {step.loss:.3f} lr {step.learning_rate:.1e} {rate:,.0f} tokens/s")

        trained = train_encoder(
            recipe,
            _training_texts(store, recipe, pinned.snapshots),
            recipe_key=key,
            work_dir=work_dir,
            cache_dir=base_models_dir(store),
            training_snapshots=pinned.snapshots,
            triples=triples,
            begun=begun,
            on_step=on_step,
        )
    run.lease.check()
    ref = store_checkpoint(store, work_dir / "checkpoint")
    write_model_card(store, ref.fingerprint)
    store.put_if_absent(record_key(key), ref.model_dump_json().encode())
    shutil.rmtree(work_dir)
    return TrainReport(
        checkpoint=ref,
        recipe_key=key,
        steps=trained.steps_run,
        tokens=sum(curve.tokens for curve in read_curves(checkpoint_dir(store, ref.fingerprint))),
        usage=train_usage(run, ref.fingerprint),
        left_out=left_out,
        seconds=time.monotonic() - started,
    )


class TrainingPlan(BaseModel):
    """Training that a night would do.

    Attributes:
        checkpoint: The recipe's checkpoint, if it exists: then nothing is trained.
        steps: Optimizer updates by stage.
        is_resumed: Whether a killed training left its state on this machine, so that fewer steps are to do.
    """

    model_config = ConfigDict(frozen=True)

    checkpoint: CheckpointRef | None
    steps: dict[Stage, int]
    is_resumed: bool = False


def plan_training(run: Run, pinned: TrainingPin) -> TrainingPlan:
    """Training that :func:`train_recipe` would do.

    Raises:
        InputError: The judgments differ from the pinned ones.
    """
    store, settings = run.store, run.settings
    known = find_made(store, settings, pinned)
    if known is not None:
        return TrainingPlan(checkpoint=known, steps={})
    _triples(settings, pinned)
    steps = _steps(settings.train, _begun(store, settings, pinned))
    is_resumed = _work_dir(store, recipe_key(settings, pinned)).is_dir()
    return TrainingPlan(checkpoint=None, steps=steps, is_resumed=is_resumed)


def _steps(recipe: Recipe, begun: Path | None) -> dict[Stage, int]:
    """Optimizer updates by stage: of the last stage alone, if the others are done."""
    return {stage: getattr(recipe, stage).steps for stage in (recipe.stages[-1:] if begun else recipe.stages)}


def _work_dir(store: Store, key: str) -> Path:
    """Directory for the state of an unfinished training of a recipe key."""
    return store.machine.local_path(f"training/{key[:32]}")


def _begun(store: Store, settings: Settings, pinned: TrainingPin) -> Path | None:
    """The checkpoint of the recipe without its last stage, trained on the same data, if there is one."""
    stages = settings.train.stages
    without_last = settings.model_copy(update={"train": settings.train.model_copy(update={"stages": stages[:-1]})})
    known = find_made(store, without_last, pinned) if len(stages) > 1 else None
    return None if known is None else checkpoint_dir(store, find_checkpoint(store, known.fingerprint).fingerprint)


@stage_task("untrained base")
def build_base(run: Run) -> CheckpointRef:
    """The recipe's untrained base model: causal, with its best pooling."""
    return build_untrained(run.store, run.settings, run.settings.train.base_model)


def _training_texts(store: Store, recipe: Recipe, snapshots: dict[str, str]) -> list[str]:
    """Texts of the pinned snapshots without copies; a seeded sample if there are more than the recipe's maximum."""
    opened = [open_snapshot(store, kind, snapshots[kind]) for kind in KINDS if kind in snapshots]
    return recipe.sample_documents([text for snapshot in opened for text in _distinct_texts(snapshot)])


def _distinct_texts(snapshot: Snapshot) -> Iterator[str]:
    """Texts of a snapshot without equal and nearly equal ones.

    Snapshots of the first version give nearly equal ones, too: trainings that began with them go on as they began.
    """
    marks = ["duplicate_of", "near_duplicate_of"][: min(snapshot.manifest.schema_version, 2)]
    for batch in snapshot.batches(["title", "text", *marks]):
        for row in batch.to_pylist():
            if all(row[mark] is None for mark in marks):
                yield encoded_text(row["title"], row["text"])


def _judgments(settings: Settings) -> tuple[list[Judgment], dict[str, int]]:
    """The judgments to train on, and the number of those left out by evaluation task."""
    chosen = settings.judgments
    read, left_out = without_evaluated(read_all_judgments(chosen), chosen.leave_out)
    seed = settings.train.supervised.seed
    return sample_judgments(read, max_per_source=chosen.max_per_source, seed=seed), left_out


def _triples(settings: Settings, pinned: TrainingPin) -> tuple[list[TrainingTriple], dict[str, int]]:
    """The pinned judgments as training examples, and the number of those left out by evaluation task."""
    if not settings.train.reads_judgments:
        return [], {}
    judgments, left_out = _judgments(settings)
    if judgments_sha256(judgments) != pinned.judgments:
        raise InputError(
            "The judgments differ from those that this recipe was pinned to.",
            hint="Restore them, or run `l2v train`, which uses the newest.",
        )
    triples = [TrainingTriple(each.anchor, each.positive, each.negatives, each.source) for each in judgments]
    return triples, left_out
