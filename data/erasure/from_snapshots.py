"""Remove documents from snapshots: each affected snapshot gets a successor under a new id."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.erasure.journal import MARKS, MIN_FRAGMENT_CHARS, Journal, Subject, all_snapshots, fragments
from data.errors import StoreError
from data.schema import sha256_json
from data.snapshots.manifest import (
    PartInfo,
    SnapshotManifest,
    SourceCounts,
    TotalCounts,
    latest_record,
    put_manifest,
    snapshot_key,
)
from data.snapshots.similar import SIMILAR_COLUMNS, Standing, places_without, with_places
from data.snapshots.snapshot import Snapshot
from data.snapshots.tombstones import keep_successor
from data.store.base import Store

_COUNTED_MARKS = {"duplicate_of": "rows_duplicate", "near_duplicate_of": "rows_near_duplicate"}


def _former_part(store: Store, manifest: SnapshotManifest, info: PartInfo) -> bytes:
    key = f"{snapshot_key(manifest.kind, manifest.id)}/{info.file}"
    content = store.read(key)
    if content is None:
        raise StoreError(
            f"{key} is missing, but its snapshot names it.", hint="Restore it from a backup, then run this again."
        )
    return content


def erase_from_snapshots(store: Store, journal: Journal, *, now: datetime) -> int:
    """Replace every snapshot that holds a document, or a rejected row about one, by a successor.

    Returns:
        Number of snapshots that were replaced.
    """
    count = 0
    for kind, snapshot in list(all_snapshots(store)):
        successor = _write_successor(store, snapshot, journal, now=now)
        if successor is None:
            continue
        former = snapshot.manifest.id
        keep_successor(store, kind, former, successor)
        latest_record(kind).rename(store, {former: successor})
        store.delete(snapshot_key(kind, former))
        count += 1
    return count


def _write_successor(store: Store, snapshot: Snapshot, journal: Journal, *, now: datetime) -> str | None:
    """Write the snapshot without the documents; returns the new id, or None if it holds none of the documents."""
    manifest = snapshot.manifest
    heirs = _heirs(snapshot, journal.doc_ids)
    places = places_without(_with_others(snapshot), journal.doc_ids)
    counts = {name: Counter(each.model_dump(exclude={"path"})) for name, each in manifest.sources.items()}
    with store.scratch() as scratch:
        documents = [
            _rewrite_part(
                snapshot,
                part,
                scratch,
                partial(_without, journal=journal, heirs=heirs, places=places, counts=counts[part.source]),
            )
            for part in manifest.documents
        ]
        quarantine = [
            _rewrite_part(
                snapshot, part, scratch, partial(_without_rejected, journal=journal, counts=counts[part.source])
            )
            for part in manifest.quarantine
        ]
        if all(path is None for _, path in [*documents, *quarantine]):
            return None
        sources = {name: SourceCounts(path=manifest.sources[name].path, **each) for name, each in counts.items()}
        totals = TotalCounts.of(sources.values())
        parts = {"documents": [info for info, _ in documents], "quarantine": [info for info, _ in quarantine]}
        digests = [[part.sha256 for part in parts[name]] for name in ("documents", "quarantine")]
        successor = sha256_json([manifest.id, digests])[:16]
        prefix = snapshot_key(manifest.kind, successor)
        store.delete(prefix)  # left by a killed erasure
        for info, path in [*documents, *quarantine]:
            if info.num_rows:
                content = _former_part(store, manifest, info) if path is None else path
                store.put_if_absent(f"{prefix}/{info.file}", content)
        written = SnapshotManifest(
            **{
                **manifest.model_dump(),
                "id": successor,
                "created_at": now.isoformat(),
                "sources": sources,
                "totals": totals,
                "num_documents": totals.rows_kept,
                "documents": [part for part in parts["documents"] if part.num_rows],
                "quarantine": [part for part in parts["quarantine"] if part.num_rows],
                "origins": [],  # they hold hashes of the erased rows; the next run cleans all rows again
            }
        )
        put_manifest(store, written)
    return successor


def _heirs(snapshot: Snapshot, doc_ids: set[str]) -> dict[tuple[str, str], str]:
    """Map each erased original to its heir: the first document that was marked as its duplicate."""
    heirs: dict[tuple[str, str], str] = {}
    for batch in snapshot.batches(["doc_id", *_COUNTED_MARKS]):
        for row in batch.to_pylist():
            for mark in _COUNTED_MARKS:
                if row[mark] in doc_ids and row["doc_id"] not in doc_ids:
                    heirs.setdefault((mark, row[mark]), row["doc_id"])
    return heirs


def _with_others(snapshot: Snapshot) -> pa.Table:
    """Ids and places of the documents that have similar ones."""
    columns = ["doc_id", *SIMILAR_COLUMNS]
    return snapshot.table(columns).filter(pc.field("similar_order").is_valid())


def _without(
    table: pa.Table,
    journal: Journal,
    heirs: dict[tuple[str, str], str],
    places: Mapping[str, Standing],
    counts: Counter[str],
) -> pa.Table:
    """A part without the documents. Marks that named them now name their heirs; similar documents move up."""
    doc_ids = journal.doc_ids
    table = with_places(table, places)
    rows = table.to_pylist()
    if not any(row["doc_id"] in doc_ids or any(row[mark] in doc_ids for mark in MARKS) for row in rows):
        return table
    kept = []
    for row in rows:
        if row["doc_id"] in doc_ids:
            counts["rows_in"] -= 1
            counts["rows_kept"] -= 1
            for mark, name in _COUNTED_MARKS.items():
                counts[name] -= row[mark] is not None
            continue
        for mark, name in _COUNTED_MARKS.items():
            heir = heirs.get((mark, row[mark] or ""))
            if heir is not None:
                row[mark] = None if heir == row["doc_id"] else heir
                counts[name] -= row[mark] is None
        kept.append(row)
    return pa.Table.from_pylist(kept, schema=table.schema)


def _without_rejected(table: pa.Table, journal: Journal, counts: Counter[str]) -> pa.Table:
    rows = table.to_pylist()
    kept = [row for row in rows if not any(_is_about(row, subject) for subject in journal.subjects)]
    counts["rows_in"] -= len(rows) - len(kept)
    counts["rows_quarantined"] -= len(rows) - len(kept)
    return table if len(kept) == len(rows) else pa.Table.from_pylist(kept, schema=table.schema)


def _is_about(row: dict[str, str], subject: Subject) -> bool:
    """Return whether a rejected row refers to a document: by its id, its file, or a piece of its text."""
    if not subject.source or row["source"] != subject.source:
        return False
    named = rf"(?:^|['\":\s]){re.escape(subject.source_id)}(?:['\",]|$)"  # as a value in JSON or CSV, or in a message
    is_file = row["file"] == subject.source_id or row["file"].endswith(f" ({subject.source_id})")
    if is_file or re.search(named, row["excerpt"]) or re.search(named, row["detail"]):
        return True
    excerpt = row["excerpt"]
    return any(
        (len(excerpt) >= MIN_FRAGMENT_CHARS and excerpt in text)
        or any(fragment in excerpt for fragment in fragments(text))
        for text in subject.texts
    )


def _rewrite_part(
    snapshot: Snapshot, part: PartInfo, scratch: Path, change: Callable[[pa.Table], pa.Table]
) -> tuple[PartInfo, Path | None]:
    """Change a part: returns its new description and file, or the former description and None."""
    table = pa.Table.from_batches(snapshot.part_batches(part))
    changed = change(table)
    if changed is table:
        return part, None
    path = scratch / part.file.replace("/", "-")
    pq.write_table(changed, path, compression="zstd", write_page_checksum=True)
    return PartInfo.of(path, file=part.file, source=part.source, num_rows=len(changed)), path
