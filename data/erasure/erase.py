"""Erase documents from all stored data, and prove that nothing is left.

This is the only operation that rewrites stored data. Snapshots get successors, tables get new versions, and the
pointers name both; shards, matches and exports lose rows. Reports, evaluation outcomes, training state and leftovers
can be regenerated, and are removed if they hold any erased data. Then a scan of the whole home must find nothing: its
directory, or every object below its prefix in a bucket, and this machine's own files. Running a killed erasure again
completes it.

Does not belong here: checkpoints, whose weights cannot be unlearned (``tasks.queries.erase`` lists them); copies on
other machines, backups, and copied exports; the sources themselves. If a source still holds an erased document, its
tombstone keeps it from returning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from data.documents.file_names import file_id
from data.erasure.from_outputs import (
    erase_from_exports,
    erase_from_matches,
    erase_from_orchestrator,
    erase_from_parquet,
    erase_from_records,
    erase_from_shards,
    remove_children,
    remove_made_again,
)
from data.erasure.from_snapshots import erase_from_snapshots
from data.erasure.from_tables import erase_from_tables
from data.erasure.journal import JOURNAL, Journal, begin, forget_words
from data.erasure.scan import Finding, ScanReport, scan_store
from data.errors import InputError, StoreError
from data.outputs.feedback import erase_answers
from data.redaction.redact import forget_keys
from data.schema import KINDS, DocumentKind, document_id
from data.snapshots.snapshot import latest_snapshot
from data.snapshots.tombstones import bury, store_secret
from data.store.base import Store


class ErasureReport(BaseModel):
    """Report of an erasure: the removed data, and the scan afterwards.

    Attributes:
        doc_ids: Ids of the erased documents.
        removed: Number of changed files or records by place (``snapshots``, ``tables``, ``shards`` …).
        snapshots: Snapshots that held the documents, by kind, under their former ids.
        scanned_files: Files that the scan read.
        scanned_bytes: Size of these files.
    """

    model_config = ConfigDict(frozen=True)

    doc_ids: list[str]
    removed: dict[str, int]
    snapshots: dict[DocumentKind, tuple[str, ...]]
    scanned_files: int
    scanned_bytes: int


def named_documents(store: Store, doc_ids: Iterable[str], files: Iterable[str]) -> list[str]:
    """Ids of the documents that are named by their ids, or by the files or folders that they came from.

    Args:
        store: The store of the home directory.
        doc_ids: Ids; they are not looked up.
        files: Names of files, relative to the path of their source, which may be any.

    Raises:
        InputError: No document came from one of the files, or nothing is named.
    """
    wanted = list(doc_ids)
    for file in files:
        wanted += _documents_of_file(store, file)
    if not wanted:
        raise InputError("Nothing to erase was named.", hint="Pass --doc-id, or --file with the name of a file.")
    return wanted


def _documents_of_file(store: Store, file: str) -> list[str]:
    # The only record of a JSON file is numbered. Homes of earlier versions have the name itself as id.
    names = [id_ for name in (file, f"{file}#1") for id_ in (name, file_id(store_secret(store), name))]
    found: set[str] = set()
    for kind in KINDS:
        snapshot = latest_snapshot(store, kind)
        if snapshot is None:
            continue
        ids = {document_id(source, name) for source in snapshot.manifest.sources for name in names}
        for batch in snapshot.batches(["doc_id"]):
            found |= ids.intersection(batch["doc_id"].to_pylist())
    if not found:
        raise InputError(
            f"No document came from a file '{file}'.",
            hint="Write the name as it is below the source's path, with folders and ending. Nothing was changed.",
        )
    return sorted(found)


def erase_documents(
    store: Store,
    doc_ids: Iterable[str],
    *,
    fence: Callable[[], None],
    now: datetime,
    exports: Store | None = None,
    key_file: Path | None = None,
    former_versions: bool = False,
) -> ErasureReport:
    """Remove documents from all stored data, and prove that nothing is left.

    Args:
        store: The store of the home directory; the caller holds its lease.
        doc_ids: Documents to erase. Documents of a killed erasure are erased as well.
        fence: Called before each step; raises when this writer lost its lease.
        now: Time for the tombstones.
        exports: Store of the exports, if they are not in the home directory.
        key_file: Key file of the redaction, if there is one.
        former_versions: Remove all former versions of objects, if a bucket keeps them.

    Returns:
        Report of the erasure.

    Raises:
        InputError: An id is unknown, or a bucket keeps former versions; nothing was changed.
        StoreError: Some data cannot be removed; the message names it. Running again completes the erasure.
    """
    places = [store] if exports is None else [store, exports]
    if not former_versions:
        for place in places:
            _require_no_former_versions(place)
    journal = begin(store, set(doc_ids))
    bury(store, journal.doc_ids, now=now)
    removed: Counter[str] = Counter()
    steps: list[tuple[str, Callable[[], int]]] = [
        ("snapshots", lambda: erase_from_snapshots(store, journal, now=now)),
        ("tables", lambda: erase_from_tables(store, journal)),
        ("shards", lambda: erase_from_shards(store, journal)),
        ("matches", lambda: erase_from_matches(store, journal)),
        ("facts", lambda: erase_from_parquet(store, "facts", journal)),
        ("judgments", lambda: erase_answers(store, journal.doc_ids)),
        ("exports", lambda: erase_from_exports(store, "exports/", journal)),
        ("exports elsewhere", lambda: 0 if exports is None else erase_from_exports(exports, "", journal)),
        ("reports", lambda: remove_made_again(store, "reports", journal)),
        ("evaluations", lambda: remove_made_again(store, "evaluations", journal)),
        ("runs", lambda: erase_from_records(store, "runs", journal)),
        ("training state", lambda: remove_children(store.machine, "training") if journal.snapshots else 0),
        ("leftovers", lambda: remove_children(store.machine, "tmp")),
        ("copies", lambda: sum(remove_children(machine, "copies") for machine in _machines(places))),
        ("orchestrator", lambda: erase_from_orchestrator(store.machine, journal)),
        ("key file", lambda: 0 if key_file is None else forget_keys(key_file, journal.doc_ids)),
    ]
    for name, step in steps:
        fence()
        removed[name] += step()
    scanned = _prove(places, journal)
    forget_words(store, journal)
    removed["former versions"] = sum(place.delete_unseen() for place in places)  # including those of the journal
    store.delete(JOURNAL.key)
    removed["former versions"] += store.delete_unseen()  # of the journal that holds ids only
    return ErasureReport(
        doc_ids=sorted(journal.doc_ids),
        removed={name: count for name, count in removed.items() if count},
        snapshots=journal.snapshots,
        scanned_files=scanned.num_files,
        scanned_bytes=scanned.size_bytes,
    )


def _require_no_former_versions(store: Store) -> None:
    """Reject a bucket that keeps former versions: they would retain the erased data, besides much other data."""
    if store.keeps_versions():
        place = store.location("lease.json").removesuffix("/lease.json")
        raise InputError(
            f"The bucket of {place} keeps former versions of objects, which would retain the erased data.",
            hint=f"Nothing was changed. With --former-versions, all of them below {place} are permanently removed.",
        )


def _machines(places: Iterable[Store]) -> list[Store]:
    """The local store of this machine for each bucket."""
    return [place.machine for place in places if place.machine is not place]


def _prove(places: Sequence[Store], journal: Journal) -> ScanReport:
    """Scan everything except the journal, which is removed next.

    Raises:
        StoreError: Some data is left, or cannot be read.
    """
    report = ScanReport()
    for place in (*places, *_machines(places)):
        found = scan_store(place, journal.byte_needles(), skip=[JOURNAL.key])
        root = place.location("x").removesuffix("x")
        report.findings += [Finding(f"{root}{each.path}", each.what) for each in found.findings]
        report.num_files += found.num_files
        report.size_bytes += found.size_bytes
    if report.findings:
        shown = "; ".join(f"{finding.path} ({finding.what})" for finding in report.findings[:10])
        raise StoreError(
            f"{len(report.findings)} place(s) still hold data to erase, or cannot be read: {shown}.",
            hint="Remove or repair them, then run the same `l2v erase` again to complete the erasure.",
        )
    return report
