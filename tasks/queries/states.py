"""States that a rollback can go to, and the stored checkpoints. Never imports prefect."""

from __future__ import annotations

from typing import Any

from data.outputs.maintenance import what_to_keep
from data.schema import KINDS, DocumentKind
from data.snapshots.manifest import manifest_record
from data.snapshots.tombstones import current_id
from data.store.base import Store
from data.vectors.pointer import Pointer, read_pointer, rollback_states
from tasks.encoders.checkpoints import stored_checkpoints
from tasks.encoders.pins import pinned_snapshots
from tasks.encoders.retention import StoredCheckpoint, list_checkpoints
from tasks.run.settings import Settings


def former_states(settings: Settings) -> list[dict[str, Any]]:
    """The served state, then the states that one, two, … rollbacks go to, with date and what was served."""
    store = settings.store()
    current = read_pointer(store)
    if current is None:
        return []
    labels = {record.fingerprint: record.label for record in stored_checkpoints(store)}
    return [
        {
            "rollbacks": number,
            "promoted_at": state.promoted_at.isoformat(),
            "run_id": state.run_id,
            "generation": state.generation,
            "checkpoint": state.checkpoint,
            "label": labels.get(state.checkpoint),
            "documents": {kind: _num_documents(store, kind, state) for kind in KINDS},
        }
        for number, state in enumerate([current, *rollback_states(store)])
    ]


def _num_documents(store: Store, kind: DocumentKind, state: Pointer) -> int | None:
    """Number of documents of a state; None if its snapshot is gone."""
    manifest = manifest_record(kind, current_id(store, kind, state.snapshots[kind])).read(store)
    return None if manifest is None else manifest.num_documents


def checkpoints(settings: Settings) -> list[StoredCheckpoint]:
    """All stored checkpoints, newest first, with the reasons why maintenance keeps them."""
    store = settings.store()
    kept = what_to_keep(store, settings.retention, pinned=pinned_snapshots(store))
    return list_checkpoints(store, settings, kept)
