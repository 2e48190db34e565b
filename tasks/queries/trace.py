"""Trace a served document back to its source. Never imports prefect."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data.errors import InputError
from data.schema import KINDS, DocumentKind
from data.snapshots.snapshot import Snapshot, open_snapshot
from data.store.base import Store
from data.store.records import LATEST_REPORT
from data.vectors.generations import list_generations
from data.vectors.pointer import Pointer
from data.vectors.shards import find_shard
from llm2vec_core.model.checkpoint import CheckpointRecord, read_record
from tasks.encoders.checkpoints import checkpoint_dir
from tasks.ledger.runs import read_summary
from tasks.queries.served import served, served_table
from tasks.run.settings import Settings

_DOC_ID = re.compile(r"[0-9a-f]{32}")
_COLUMNS = ["doc_id", "source", "source_id", "title", "content_sha256"]


def trace(settings: Settings, doc_id: str) -> dict[str, object]:
    """Find every step from a source to a served document and its vector.

    Raises:
        InputError: No served document has this id.
    """
    store = settings.store()
    pointer = served(store)
    kind, document = _find(store, pointer, doc_id)
    snapshot = open_snapshot(store, kind, pointer.snapshots[kind])
    first = _first_with(store, snapshot, doc_id, document["content_sha256"])
    (encode_keys,) = (each.encode_keys for each in list_generations(store) if each.generation == pointer.generation)
    shard = find_shard(
        store,
        fingerprint=pointer.checkpoint,
        encode_key=encode_keys[kind],
        content_sha256=document["content_sha256"],
    )
    night = read_summary(store, pointer.run_id)
    return {
        "document": {**document, "kind": kind},
        "source": {
            "name": document["source"],
            "path": snapshot.manifest.sources[document["source"]].path,
            "id": document["source_id"],
        },
        "snapshot": _snapshot_step(snapshot),
        "first_snapshot": _snapshot_step(first),
        "vector": {"shard": shard, "checkpoint": pointer.checkpoint},
        "checkpoint": _checkpoint_step(read_record(checkpoint_dir(store, pointer.checkpoint))),
        "served": {
            "generation": pointer.generation,
            "table_version": pointer.version_of(kind),
            "run": pointer.run_id,
            "promoted_at": pointer.promoted_at.isoformat(),
        },
        "run": None if night is None else {name: night.get(name) for name in ("flow", "state", "started_at")},
        "report": (night or {}).get("report") or _latest_report(store),
        "export": _latest_export(store),
    }


def trace_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of a table that shows a trace, from the document back to its source."""
    document, checkpoint, served_as = found["document"], found["checkpoint"], found["served"]
    snapshots = checkpoint["training_snapshots"] or {}
    return [
        ("document", f"{document['kind']} {document['doc_id']}: {document['title'] or 'without title'}"),
        ("served as", f"{served_as['generation']}, version {served_as['table_version']} of its table"),
        ("by run", f"{served_as['run']} at {served_as['promoted_at']}"),
        ("vector", found["vector"]["shard"] or "no longer in a shard"),
        ("checkpoint", f"{checkpoint['fingerprint'][:12]} ({checkpoint['label']})"),
        ("recipe", checkpoint["recipe_key"] or "none: untrained base"),
        ("trained on", ", ".join(f"{kind} {name}" for kind, name in snapshots.items()) or "nothing"),
        ("report", found["report"] or "none"),
        ("export", found["export"] or "none"),
        ("snapshot", f"{found['snapshot']['id']} by run {found['snapshot']['run']}"),
        ("text since", f"snapshot {found['first_snapshot']['id']} by run {found['first_snapshot']['run']}"),
        ("source", f"{found['source']['name']}: {found['source']['path']}, id {found['source']['id']}"),
    ]


def _find(store: Store, pointer: Pointer, doc_id: str) -> tuple[DocumentKind, dict[str, str]]:
    if _DOC_ID.fullmatch(doc_id):
        for kind in KINDS:
            rows = served_table(store, pointer, kind).read(_COLUMNS, where=f"doc_id = '{doc_id}'").to_pylist()
            if rows:
                return kind, rows[0]
    raise InputError(
        f"No served document has the id '{doc_id}'.",
        hint="A doc_id has 32 hex digits. `l2v search TEXT --json` shows the ids of its hits.",
    )


def _first_with(store: Store, snapshot: Snapshot, doc_id: str, content_sha256: str) -> Snapshot:
    """Oldest snapshot in the unbroken chain of snapshots that contain this text of the document."""
    while snapshot.manifest.parent is not None:
        try:
            former = open_snapshot(store, snapshot.manifest.kind, snapshot.manifest.parent)
        except InputError:  # the parent was removed
            return snapshot
        if not _holds(former, doc_id, content_sha256):
            return snapshot
        snapshot = former
    return snapshot


def _holds(snapshot: Snapshot, doc_id: str, content_sha256: str) -> bool:
    for batch in snapshot.batches(["doc_id", "content_sha256"]):
        row = pc.index(batch["doc_id"], pa.scalar(doc_id)).as_py()
        if row >= 0:
            return bool(batch["content_sha256"][row].as_py() == content_sha256)
    return False


def _snapshot_step(snapshot: Snapshot) -> dict[str, str]:
    manifest = snapshot.manifest
    return {"id": manifest.id, "run": manifest.run_id, "created_at": manifest.created_at}


def _checkpoint_step(record: CheckpointRecord) -> dict[str, object]:
    return {
        "fingerprint": record.fingerprint,
        "label": record.label,
        "base_model": record.base_model,
        "stages": list(record.stages),
        "recipe_key": record.recipe_key,
        "training_snapshots": record.training_snapshots,
    }


def _latest_report(store: Store) -> str | None:
    from tasks.encoders.evaluation_reports import report_location

    report = LATEST_REPORT.name(store)
    return None if report is None else report_location(store, report, "html")


def _latest_export(store: Store) -> str | None:
    from data.outputs.export import latest_export

    export = latest_export("exports/").name(store)
    return None if export is None else store.location(f"exports/{export}")
