"""Training: pin what is trained on, run the recipe, keep the checkpoint.

A recipe is trained once for the snapshots and judgments that were the latest then; a new night's documents do not train
anything. ``l2v train`` asks for the newest.
"""

from __future__ import annotations

import itertools
import shutil
import time
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from data.documents.judgments import Judgment, judgments_sha256, read_judgments, sample_judgments
from data.errors import InputError
from data.schema import KINDS, encoded_text, sha256_json
from data.snapshots.build import latest_snapshot, open_snapshot
from data.store.base import Store
from llm2vec_core.model.base_models import base_content
from llm2vec_core.training.settings import UNSUPERVISED_STAGES, Recipe, StepLog, TrainingTriple, read_curves
from tasks.encoders.cards import write_model_card
from tasks.encoders.checkpoints import (
    base_models_dir,
    build_untrained,
    checkpoint_dir,
    find_checkpoint,
    store_checkpoint,
)
from tasks.ledger.usage import train_usage
from tasks.run.reports import CheckpointRef, TrainReport
from tasks.run.settings import Settings
from tasks.run.writing import lease_of
from tasks.ui.artifacts import progress
from tasks.ui.policies import STORAGE

_JUDGMENTS = "judgments"
"""Name of the judgments' identity beside the snapshots' ids."""


@task(task_run_name="pin training data", cache_policy=NO_CACHE, **STORAGE)
def pin_training_data(settings: Settings, *, newest: bool, is_ablation: bool = False) -> dict[str, str]:
    """What to train on: ids of the snapshots by kind, and the identity of the judgments where there are any.

    Args:
        settings: Settings of the run.
        newest: Take the latest, even if the recipe was trained before.
        is_ablation: Look at what an ablation was pinned to, not at the night's recipe of the same settings.

    Raises:
        InputError: Nothing was ingested yet, or judgments cannot be read.
    """
    store = settings.store()
    pinned = store.read(_pin_key(settings, is_ablation=is_ablation))
    if pinned is not None and not newest:
        return _parse_pin(pinned)
    latest: dict[str, str] = {}
    if settings.train.reads_documents:
        latest = {kind: found.manifest.id for kind in KINDS if (found := latest_snapshot(store, kind)) is not None}
        if not latest:
            raise InputError("There is nothing to train on: no snapshot yet.", hint="Run `l2v ingest` first.")
    if _is_supervised(settings):
        latest[_JUDGMENTS] = judgments_sha256(_judgments(settings))
    return latest


def find_trained(settings: Settings) -> CheckpointRef | None:
    """The checkpoint that the recipe made, if it was ever trained to the end."""
    store = settings.store()
    pinned = store.read(_pin_key(settings))
    record = store.read(_record_key(_recipe_key(settings, _parse_pin(pinned)))) if pinned is not None else None
    return None if record is None else CheckpointRef.model_validate_json(record)


def find_unsupervised(settings: Settings) -> CheckpointRef | None:
    """The checkpoint of a supervised recipe without that stage, if it was trained by itself; None for other recipes."""
    stages = tuple(stage for stage in settings.train.stages if stage in UNSUPERVISED_STAGES)
    if not stages or stages == settings.train.stages:
        return None
    recipe = settings.train.model_copy(update={"stages": stages})
    return find_trained(settings.model_copy(update={"train": recipe}))


@task(task_run_name="train {settings.train.base_model}", cache_policy=NO_CACHE)
def train_recipe(settings: Settings, pinned: dict[str, str], *, run_id: str, is_ablation: bool = False) -> TrainReport:
    """Run the recipe on the pinned training data, or find its checkpoint.

    Killed in the middle, the next call continues from the last save.

    Args:
        settings: Settings of the run.
        pinned: Of :func:`pin_training_data`.
        run_id: Run that holds the lease.
        is_ablation: Leave what the night's recipe of the same settings is pinned to as it is.

    Raises:
        InputError: The judgments are no longer those that were pinned.
        BaseModelError: The base model cannot be found, or ignores the bidirectional switch.
        TrainingError: Too little text, or a loss that is not finite.
    """
    started = time.monotonic()
    store, recipe = settings.store(), settings.train
    recipe_key = _recipe_key(settings, pinned)
    record_key = _record_key(recipe_key)
    known = store.read(record_key)
    if known is not None:
        ref = find_checkpoint(store, CheckpointRef.model_validate_json(known).fingerprint)
        return TrainReport(checkpoint=ref, recipe_key=recipe_key, steps=0, tokens=0, seconds=0.0)

    from llm2vec_core.training.recipe import train_encoder

    triples = _triples(settings, pinned)
    lease = lease_of(store, run_id)
    lease.check()
    # Before the first step: a killed run continues on what it began with.
    _pin(store, settings, pinned, is_ablation=is_ablation)
    work_dir = store.machine.local_path(f"training/{recipe_key[:32]}")
    begun = _begun(settings, pinned)
    num_steps = sum(getattr(recipe, stage).steps for stage in (recipe.stages[-1:] if begun else recipe.stages))
    with progress("train", num_steps) as advance:

        def on_step(step: StepLog) -> None:
            rate = step.tokens / step.seconds if step.seconds else 0.0
            advance(1, note=f"{step.stage} loss {step.loss:.3f} lr {step.learning_rate:.1e} {rate:,.0f} tokens/s")

        trained = train_encoder(
            recipe,
            _training_texts(store, recipe, pinned),
            recipe_key=recipe_key,
            work_dir=work_dir,
            cache_dir=base_models_dir(store),
            training_snapshots={kind: pinned[kind] for kind in KINDS if kind in pinned},
            triples=triples,
            begun=begun,
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
        tokens=sum(curve.tokens for curve in read_curves(checkpoint_dir(store, ref.fingerprint))),
        usage=train_usage(settings, ref.fingerprint),
        seconds=time.monotonic() - started,
    )


def _begun(settings: Settings, pinned: dict[str, str]) -> Path | None:
    """The checkpoint of the recipe without its last stage, trained on the same data, if there is one."""
    store, recipe = settings.store(), settings.train
    without_last = settings.model_copy(update={"train": recipe.model_copy(update={"stages": recipe.stages[:-1]})})
    known = store.read(_record_key(_recipe_key(without_last, pinned))) if len(recipe.stages) > 1 else None
    if known is None:
        return None
    return checkpoint_dir(
        store, find_checkpoint(store, CheckpointRef.model_validate_json(known).fingerprint).fingerprint
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
    chosen = np.random.default_rng(recipe.sampling_seed).choice(len(texts), recipe.max_documents, replace=False)
    return [texts[index] for index in sorted(chosen)]


def _is_supervised(settings: Settings) -> bool:
    return "supervised" in settings.train.stages


def _judgments(settings: Settings) -> list[Judgment]:
    chosen = settings.judgments
    if not chosen.sources:
        raise InputError(
            "The recipe has a supervised stage, and no judgments are named.",
            hint="Set judgments.sources to JSONL files, bundled:sample or bundled:esco-titles.",
        )
    read = itertools.chain.from_iterable(read_judgments(source) for source in chosen.sources)
    return sample_judgments(read, max_per_source=chosen.max_per_source, seed=settings.train.supervised.seed)


def _triples(settings: Settings, pinned: dict[str, str]) -> list[TrainingTriple]:
    """The pinned judgments as the core takes them."""
    if not _is_supervised(settings):
        return []
    judgments = _judgments(settings)
    if judgments_sha256(judgments) != pinned[_JUDGMENTS]:
        raise InputError(
            "The judgments are no longer those that this recipe was pinned to.",
            hint="Restore them, or run `l2v train`, which takes the newest.",
        )
    return [TrainingTriple(each.anchor, each.positive, each.negatives, each.source) for each in judgments]


def _recipe_key(settings: Settings, pinned: dict[str, str]) -> str:
    snapshots: dict[str, str] = {kind: pinned[kind] for kind in KINDS if kind in pinned}
    return settings.train.key(snapshots, pinned.get(_JUDGMENTS), base_content(settings.train.base_model))


def _pin(store: Store, settings: Settings, pinned: dict[str, str], *, is_ablation: bool = False) -> None:
    key = _pin_key(settings, is_ablation=is_ablation)
    content = "\n".join(f"{name} {identity}" for name, identity in sorted(pinned.items())).encode()
    store.compare_and_swap(key, expected=store.read(key), content=content)


def pinned_snapshots(store: Store) -> frozenset[str]:
    """Snapshots that recipes are pinned to."""
    pins = [store.read(key) or b"" for key in store.list("recipes/pinned")]
    return frozenset(pin[kind] for pin in map(_parse_pin, pins) for kind in KINDS if kind in pin)


def _parse_pin(content: bytes) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in content.decode().splitlines())


def _record_key(recipe_key: str) -> str:
    return f"recipes/{recipe_key}.json"


def _pin_key(settings: Settings, *, is_ablation: bool = False) -> str:
    recipe = settings.train.settings_key()
    if _is_supervised(settings):
        recipe = sha256_json([recipe, settings.judgments.model_dump()])
    return f"recipes/pinned/{'ablation-' if is_ablation else ''}{recipe}.txt"
