"""Which checkpoints are kept, and why; the removal of the others. Never imports prefect."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from data.errors import InputError
from data.outputs.maintenance import Kept, Removed, remove_item, size_below, touched_at
from data.schema import KINDS
from data.snapshots.tombstones import current_id
from data.store.base import Store
from data.vectors.generations import list_generations
from data.vectors.pointer import read_pointer
from llm2vec_core.evaluation.systems import LEXICAL_NAME
from llm2vec_core.model.checkpoint import CheckpointRecord
from llm2vec_core.model.modes import parse_encoder_name
from tasks.encoders.checkpoints import (
    find_checkpoint,
    find_trained_checkpoint,
    find_untrained,
    stored_at,
    stored_checkpoints,
)
from tasks.encoders.pins import find_trained, find_unsupervised, night_pins
from tasks.run.settings import Settings


class StoredCheckpoint(BaseModel):
    """A checkpoint of the store.

    Attributes:
        label: Readable name.
        stored_at: When it was stored, in UTC.
        kept_because: Reasons to keep it; without any, the next maintenance removes it.
    """

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    label: str
    stored_at: datetime
    size_bytes: int
    kept_because: tuple[str, ...]


def list_checkpoints(store: Store, settings: Settings, kept: Kept) -> list[StoredCheckpoint]:
    """All checkpoints of the store, newest first, with the reasons to keep them.

    Args:
        store: Where they are.
        settings: Name the recipe, the reference encoders and the number of checkpoints to keep.
        kept: The states to keep, from :func:`data.outputs.maintenance.what_to_keep`.
    """
    records = stored_checkpoints(store)
    at = {record.fingerprint: stored_at(store, record.fingerprint) for record in records}
    records.sort(key=lambda record: at[record.fingerprint], reverse=True)
    reasons: dict[str, list[str]] = {record.fingerprint: [] for record in records}
    for fingerprint, reason in _reasons(store, settings, kept, records, at):
        if fingerprint in reasons and reason not in reasons[fingerprint]:
            reasons[fingerprint].append(reason)
    return [
        StoredCheckpoint(
            fingerprint=record.fingerprint,
            label=record.label,
            stored_at=datetime.fromtimestamp(at[record.fingerprint], UTC),
            size_bytes=size_below(store, f"checkpoints/{record.fingerprint}"),
            kept_because=tuple(reasons[record.fingerprint]),
        )
        for record in records
    ]


def _reasons(
    store: Store, settings: Settings, kept: Kept, records: list[CheckpointRecord], at: Mapping[str, float]
) -> Iterator[tuple[str, str]]:
    """Fingerprints of checkpoints that are needed, each with a reason."""
    pointer = read_pointer(store)
    for state in kept.pointers:
        is_served = pointer is not None and state.checkpoint == pointer.checkpoint
        yield state.checkpoint, "served" if is_served else "a rollback can reach it"
    for generation in list_generations(store):
        yield generation.checkpoint, "a generation has its vectors"
    for made in (find_trained(store, settings), find_unsupervised(store, settings)):
        if made is not None:
            yield made.fingerprint, "the recipe made it"
    pins = [_followed(store, pin.snapshots) for pin in night_pins(store)]
    backfill = store.read("backfill.json") or b""
    named = [settings.train.base_model, *(record.base_model for record in records)]
    for record in records:
        if (
            record.stages
            and record.training_snapshots is not None
            and _followed(store, record.training_snapshots) in pins
        ):
            yield record.fingerprint, "a recipe is pinned to its data"
        if record.fingerprint.encode() in backfill:
            yield record.fingerprint, "a backfill encodes with it"
        if any(record.fingerprint in name for name in named):
            yield record.fingerprint, "another one was trained from it"
        if at[record.fingerprint] > kept.oldest:
            yield record.fingerprint, "younger than retention.grace_hours"
    for fingerprint in _named_by_settings(store, settings):
        yield fingerprint, "the settings name it"
    for record in [each for each in records if each.stages][: settings.retention.keep_checkpoints]:
        yield record.fingerprint, "among the newest"


def _followed(store: Store, snapshots: Mapping[str, str]) -> dict[str, str]:
    """Snapshots by kind, with the ids that erasures gave them."""
    return {kind: current_id(store, kind, snapshots[kind]) for kind in KINDS if kind in snapshots}


def _named_by_settings(store: Store, settings: Settings) -> Iterator[str]:
    """Fingerprints of the untrained base model and of the reference encoders."""
    bases = [settings.train.base_model]
    for reference in settings.evaluate.references:
        if reference.lower() == LEXICAL_NAME:
            continue
        name = parse_encoder_name(reference)
        bases.append(name.source)
        try:
            if name.stages:
                attention = name.view.attention or "bidirectional"
                yield find_trained_checkpoint(store, name.source, attention=attention, stages=name.stages).fingerprint
            else:
                yield find_checkpoint(store, name.source).fingerprint
        except InputError:  # the name of a base model, or of an encoder that is not in the store
            continue
    for base in bases:
        untrained = find_untrained(store, settings, base)
        if untrained is not None:
            yield untrained.fingerprint


def remove_checkpoints(store: Store, settings: Settings, kept: Kept) -> Removed:
    """Remove checkpoints that nothing needs, with the records that name them, and unfinished ones.

    Returns:
        Number of checkpoints, and the space that this freed.
    """
    listed = list_checkpoints(store, settings, kept)
    removed = Removed()
    for checkpoint in listed:
        if not checkpoint.kept_because:
            removed += _remove_checkpoint(store, checkpoint.fingerprint)
    known = {checkpoint.fingerprint for checkpoint in listed}
    unfinished = {key.split("/")[1] for key in store.list("checkpoints")} - known
    for name in sorted(unfinished):
        if touched_at(store, f"checkpoints/{name}") <= min(kept.oldest, time.time()):
            removed += remove_item(store, f"checkpoints/{name}")
    return removed


def _remove_checkpoint(store: Store, fingerprint: str) -> Removed:
    """Remove first what names the checkpoint: a record must not lead to one that is gone."""
    for prefix in ("recipes", "untrained"):
        for key in store.list(prefix):
            if key.endswith(".json") and fingerprint.encode() in (store.read(key) or b""):
                store.delete(key)
    store.delete(f"training_sources/{fingerprint}.json")
    return remove_item(store, f"checkpoints/{fingerprint}")
