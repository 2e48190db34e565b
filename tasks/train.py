"""Training: pin the snapshots, run the recipe, keep the checkpoint.

A recipe is trained once for the snapshots that were the latest then; a new night's documents do not train anything.
``l2v train`` asks for the newest snapshots.
"""

from __future__ import annotations

import shutil
import time

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from data.errors import InputError
from data.schema import KINDS, encoded_text
from data.snapshot import latest_snapshot, open_snapshot
from data.store import Store
from llm2vec_core.training.settings import Recipe, StepLog
from tasks.artifacts import progress
from tasks.cards import write_model_card
from tasks.checkpoints import base_models_dir, build_untrained, find_checkpoint, read_curves, store_checkpoint
from tasks.policies import STORAGE
from tasks.refs import CheckpointRef, TrainReport
from tasks.settings import Settings
from tasks.writing import lease_of


@task(task_run_name="pin training snapshots", cache_policy=NO_CACHE, **STORAGE)
def pin_snapshots(settings: Settings, *, newest: bool) -> dict[str, str]:
    """Ids of the snapshots to train on, by kind.

    Args:
        settings: Settings of the run.
        newest: Take the latest snapshots, even if the recipe was trained before.

    Raises:
        InputError: Nothing was ingested yet.
    """
    store = settings.store()
    pinned = store.read(_pin_key(settings.train))
    if pinned is not None and not newest:
        return _parse_pin(pinned)
    latest: dict[str, str] = {
        kind: snapshot.manifest.id for kind in KINDS if (snapshot := latest_snapshot(store, kind)) is not None
    }
    if not latest:
        raise InputError("There is nothing to train on: no snapshot yet.", hint="Run `l2v ingest` first.")
    return latest


def find_trained(settings: Settings) -> CheckpointRef | None:
    """The checkpoint that the recipe made, if it was ever trained to the end."""
    store = settings.store()
    pinned = store.read(_pin_key(settings.train))
    record = store.read(_record_key(settings.train.key(_parse_pin(pinned)))) if pinned is not None else None
    return None if record is None else CheckpointRef.model_validate_json(record)


@task(task_run_name="train {settings.train.base_model}", cache_policy=NO_CACHE)
def train_recipe(settings: Settings, snapshots: dict[str, str], *, run_id: str) -> TrainReport:
    """Run the recipe on the pinned snapshots, or find its checkpoint.

    Killed in the middle, the next call continues from the last save.

    Raises:
        BaseModelError: The base model cannot be found, or ignores the bidirectional switch.
        TrainingError: Too little text, or a loss that is not finite.
    """
    started = time.monotonic()
    store, recipe = settings.store(), settings.train
    recipe_key = recipe.key(snapshots)
    record_key = _record_key(recipe_key)
    known = store.read(record_key)
    if known is not None:
        ref = find_checkpoint(store, CheckpointRef.model_validate_json(known).fingerprint)
        return TrainReport(checkpoint=ref, recipe_key=recipe_key, steps=0, tokens=0, seconds=0.0)

    from llm2vec_core.training.recipe import train_encoder

    lease = lease_of(store, run_id)
    lease.check()
    _pin(store, recipe, snapshots)  # before the first step: a killed run continues on what it began with
    work_dir = store.local_path(f"training/{recipe_key[:32]}")
    num_steps = sum(getattr(recipe, stage).steps for stage in recipe.stages)
    with progress(f"train {recipe.base_model}", num_steps) as advance:

        def on_step(step: StepLog) -> None:
            rate = step.tokens / step.seconds if step.seconds else 0.0
            advance(1, note=f"{step.stage} loss {step.loss:.3f} lr {step.learning_rate:.1e} {rate:,.0f} tokens/s")

        trained = train_encoder(
            recipe,
            _training_texts(store, recipe, snapshots),
            recipe_key=recipe_key,
            work_dir=work_dir,
            cache_dir=base_models_dir(store),
            training_snapshots=snapshots,
            on_step=on_step,
        )
    ref = store_checkpoint(store, work_dir / "checkpoint", fence=lease.check)
    write_model_card(store, ref.fingerprint)
    store.put_if_absent(record_key, ref.model_dump_json().encode())
    shutil.rmtree(work_dir)
    return TrainReport(
        checkpoint=ref,
        recipe_key=recipe_key,
        steps=trained.steps_run,
        tokens=sum(curve.tokens for curve in read_curves(store, ref.fingerprint)),
        seconds=time.monotonic() - started,
    )


@task(task_run_name="untrained base", cache_policy=NO_CACHE, **STORAGE)
def build_base(settings: Settings) -> CheckpointRef:
    """The recipe's base model as it comes: causal, with its best pooling."""
    return build_untrained(settings, settings.train.base_model)


def _training_texts(store: Store, recipe: Recipe, snapshots: dict[str, str]) -> list[str]:
    """Texts of the pinned snapshots, each content once; a seeded sample where there are more than the recipe takes."""
    texts = [
        encoded_text(row["title"], row["text"])
        for kind in KINDS
        if kind in snapshots
        for batch in open_snapshot(store, kind, snapshots[kind]).batches(["title", "text", "duplicate_of"])
        for row in batch.to_pylist()
        if row["duplicate_of"] is None
    ]
    if len(texts) <= recipe.max_documents:
        return texts
    chosen = np.random.default_rng(recipe.mntp.seed).choice(len(texts), recipe.max_documents, replace=False)
    return [texts[index] for index in sorted(chosen)]


def _pin(store: Store, recipe: Recipe, snapshots: dict[str, str]) -> None:
    key = _pin_key(recipe)
    content = "\n".join(f"{kind} {snapshot}" for kind, snapshot in sorted(snapshots.items())).encode()
    store.compare_and_swap(key, expected=store.read(key), content=content)


def _parse_pin(content: bytes) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in content.decode().splitlines())


def _record_key(recipe_key: str) -> str:
    return f"recipes/{recipe_key}.json"


def _pin_key(recipe: Recipe) -> str:
    return f"recipes/pinned/{recipe.settings_key()}.txt"
