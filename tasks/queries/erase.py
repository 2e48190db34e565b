"""Erase documents from all stored data, and list the checkpoints that were trained on them.

Never imports prefect, because an orchestrator would store the erased ids with its run parameters.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from data.erasure.erase import erase_documents, named_documents
from data.schema import KINDS
from data.snapshots.tombstones import current_id
from data.store.base import Store
from data.store.lease import hold_lease
from llm2vec_core.model.checkpoint import CheckpointRecord
from tasks.encoders.checkpoints import stored_checkpoints
from tasks.run.context import new_run_id, utc_now
from tasks.run.reports import EraseReport
from tasks.run.settings import Settings

_ADVICE = (
    "These checkpoints were trained on snapshots that held the documents; weights cannot be searched for a text. "
    "Train again with `l2v train`, and serve the new checkpoint with `l2v nightly`. Then remove the old ones: `l2v "
    "maintain --set retention.keep_served=1 --set retention.keep_checkpoints=0 --set retention.grace_hours=0`; `l2v "
    "checkpoints` shows which are left, and why."
)
_ELSEWHERE = (
    "Other machines that worked on this home have copies of the documents, training state and an orchestrator's "
    "database. Empty {work_dir} on each of them."
)


def erase(
    settings: Settings, doc_ids: list[str], *, files: Sequence[str] = (), former_versions: bool = False
) -> EraseReport:
    """Remove documents from all stored data, verify by a scan, and list the checkpoints trained on them.

    Args:
        settings: Settings of the run.
        doc_ids: Ids of the documents to erase.
        files: Names of files whose documents are to be erased, relative to the path of their source.
        former_versions: Allow the removal of all older object versions in a versioned bucket.

    Raises:
        InputError: Nothing is named, an id or a file is unknown, or the bucket is versioned. Nothing was changed.
        LeaseHeldError: A run holds the lease.
        StoreError: The scan still found traces, which the message lists. Run again to complete.
    """
    started = time.monotonic()
    store = settings.store()
    with hold_lease(store, owner=new_run_id()) as lease:
        report = erase_documents(
            store,
            named_documents(store, doc_ids, files),
            fence=lease.check,
            now=utc_now(),
            exports=settings.export_store,
            key_file=Path(settings.redact.key_file).expanduser() if settings.redact.key_file else None,
            former_versions=former_versions,
        )
    held = {(kind, current_id(store, kind, name)) for kind, names in report.snapshots.items() for name in names}
    trained = [
        record.fingerprint
        for record in stored_checkpoints(store)
        # A trained checkpoint without a list of its snapshots may have been trained on the documents.
        if record.stages and (record.training_snapshots is None or held & _trained_on(store, record))
    ]
    return EraseReport(
        doc_ids=report.doc_ids,
        removed=report.removed,
        scanned_files=report.scanned_files,
        scanned_bytes=report.scanned_bytes,
        trained_checkpoints=trained,
        advice=_ADVICE if trained else "",
        elsewhere="" if store.machine is store else _ELSEWHERE.format(work_dir=store.machine.root),
        seconds=time.monotonic() - started,
    )


def _trained_on(store: Store, record: CheckpointRecord) -> set[tuple[str, str]]:
    """Kind and current id of a checkpoint's training snapshots; earlier erasures gave them new ids."""
    named = record.training_snapshots or {}
    return {(kind, current_id(store, kind, named[kind])) for kind in KINDS if kind in named}
