"""Remove documents from tables: write versions that share no file with the former ones, and point to them."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from data.erasure.from_outputs import findings
from data.erasure.journal import MARKS, Journal, all_tables
from data.schema import KINDS, TABLE_OF_KIND, DocumentKind
from data.snapshots.similar import SIMILAR_COLUMNS, Standing, places_without, with_places
from data.snapshots.tombstones import current_id
from data.store.base import Store
from data.vectors.filters import is_one_of
from data.vectors.lance import LanceTable, generation_key
from data.vectors.pointer import stored_pointers
from data.vectors.tables import profiles_key

_MAX_DELTA_IDS = 500


def erase_from_tables(store: Store, journal: Journal) -> int:
    """Rewrite every version that is served or that a rollback may need, and remove all others.

    Returns:
        Number of tables that were changed.
    """
    doc_ids = journal.doc_ids
    renamed: dict[tuple[str, DocumentKind], dict[int, int]] = {}
    dirty: dict[tuple[str, DocumentKind], LanceTable] = {}
    for name, table in all_tables(store):
        store.delete(profiles_key(name[0]))  # the mean vector of a small table reveals something about each row
        versions = table.versions()
        holding = [version for version in versions if _holds(table.at(version), doc_ids)]
        if not holding and not _files_hold(store, name, journal):
            continue
        dirty[name] = table
        pinned = sorted(_pinned(store, *name) & set(versions)) or [versions[-1]]
        if any(version >= pinned[0] for version in holding):
            renamed[name] = _rewrite_versions(table, pinned, doc_ids)
    _rename_in_pointers(store, renamed)
    for (generation, kind), table in dirty.items():
        keep = _pinned(store, generation, kind) or {table.versions()[-1]}
        table.drop_history(min(keep), keep=sorted(keep))
    return len(dirty)


def num_tables_that_hold(store: Store, journal: Journal) -> int:
    """Number of tables that :func:`erase_from_tables` would change."""
    return sum(
        any(_holds(table.at(version), journal.doc_ids) for version in table.versions())
        or _files_hold(store, name, journal)
        for name, table in all_tables(store)
    )


def _files_hold(store: Store, name: tuple[str, DocumentKind], journal: Journal) -> bool:
    return bool(findings(store, f"{generation_key(name[0])}/{TABLE_OF_KIND[name[1]]}.lance", journal))


def _holds(table: LanceTable, doc_ids: set[str]) -> bool:
    columns = [column for column in ("doc_id", *MARKS) if table.has_column(column)]
    where = " OR ".join(is_one_of(column, doc_ids) for column in columns)
    return len(table.read(["doc_id"], where=where)) > 0


def _rewrite_versions(table: LanceTable, versions: list[int], doc_ids: set[str]) -> dict[int, int]:
    """Rewrite versions without the documents: the oldest completely, each later one by its changes.

    Marks that named the documents become empty; the next run takes them from the next snapshot. Similar documents move
    up at once, because a search shows the newest of them only.

    Returns:
        Maps each former version to the new one.
    """
    renamed: dict[int, int] = {}
    present: dict[str, str] = {}
    for version in versions:
        former = table.at(version)
        places = _places_without(former, doc_ids)
        hashes = former.read(["doc_id", "row_sha256"])
        wanted = dict(zip(hashes["doc_id"].to_pylist(), hashes["row_sha256"].to_pylist(), strict=True))
        wanted = {doc_id: row_hash for doc_id, row_hash in wanted.items() if doc_id not in doc_ids}
        if not renamed:
            where = f"NOT ({is_one_of('doc_id', doc_ids)})"
            batches = (_without_marks(batch, doc_ids, places) for batch in former.batches(where=where))
            renamed[version] = table.overwrite(batches)
        else:
            changed = sorted(
                doc_id for doc_id, row_hash in wanted.items() if present.get(doc_id) != row_hash or doc_id in places
            )
            chunks = (changed[start : start + _MAX_DELTA_IDS] for start in range(0, len(changed), _MAX_DELTA_IDS))
            rows = (
                pa.Table.from_batches([_without_marks(batch, doc_ids, places)])
                for chunk in chunks
                for batch in former.batches(where=is_one_of("doc_id", chunk))
            )
            table.upsert(rows, rewrite=True)
            table.delete(sorted(present.keys() - wanted.keys()))
            renamed[version] = table.version
        present = wanted
    return renamed


def _places_without(table: LanceTable, doc_ids: set[str]) -> Mapping[str, Standing]:
    """New places of the documents that are similar to erased ones."""
    if not table.has_column("similar_order"):
        return {}
    return places_without(table.read(["doc_id", *SIMILAR_COLUMNS], where="similar_order IS NOT NULL"), doc_ids)


def _without_marks(batch: pa.RecordBatch, doc_ids: set[str], places: Mapping[str, Standing]) -> pa.RecordBatch:
    batch = with_places(batch, places)
    for mark in set(MARKS) & set(batch.schema.names):
        column = batch.column(batch.schema.get_field_index(mark))
        is_erased = pc.is_in(column, pa.array(sorted(doc_ids)))
        cleared = pc.if_else(is_erased, pa.scalar(None, column.type), column)
        batch = batch.set_column(batch.schema.get_field_index(mark), batch.schema.field(mark), cleared)
    return batch


def _pinned(store: Store, generation: str, kind: DocumentKind) -> set[int]:
    """Versions of a table that the current pointer or a former one names."""
    pointers = [record.read(store) for record in stored_pointers(store)]
    return {
        pointer.version_of(kind) for pointer in pointers if pointer is not None and pointer.generation == generation
    }


def _rename_in_pointers(store: Store, renamed: dict[tuple[str, DocumentKind], dict[int, int]]) -> None:
    """Update the pointer and its history to the new table versions and the successors of snapshots."""
    for record in list(stored_pointers(store)):
        raw = store.read(record.key)
        pointer = record.parse(raw)
        if pointer is None:
            continue
        versions = {
            TABLE_OF_KIND[kind]: renamed.get((pointer.generation, kind), {}).get(version, version)
            for kind in KINDS
            for version in [pointer.version_of(kind)]
        }
        snapshots = {
            kind: current_id(store, kind, pointer.snapshots[kind]) for kind in KINDS if kind in pointer.snapshots
        }
        changed = pointer.model_copy(update={**versions, "snapshots": snapshots})
        if changed != pointer:
            record.swap(store, changed, expected=raw)
