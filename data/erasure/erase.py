"""Erasing documents from everything at rest, and the proof that nothing is left.

This is the one operation that rewrites what is at rest. Snapshots get successors, tables get new versions, and the
pointers name both; shards, matches and exports lose rows. Reports, outcomes of evaluations, training state and
leftovers can be made again, and are removed if they hold anything. Then a scan of the whole home must find nothing: its
directory, or every object below its prefix in a bucket, and what this machine keeps beside the bucket. An erasure that
was killed is completed by running it again.

Does not belong here: checkpoints, whose weights cannot be unlearned (``tasks.queries.erase`` names them); copies on
other machines, backups, and exports that somebody copied; the sources themselves. A tombstone keeps what a source still
holds from coming back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from data.erasure.from_outputs import (
    erase_from_exports,
    erase_from_matches,
    erase_from_orchestrator,
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
from data.redaction.redact import forget_keys
from data.schema import DocumentKind
from data.snapshots.tombstones import bury
from data.store.base import Store


class ErasureReport(BaseModel):
    """Report of an erasure: what it removed, and what the scan read afterwards.

    Attributes:
        doc_ids: The documents.
        removed: Place (``snapshots``, ``tables``, ``shards`` …) to the number of files or records that were changed.
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
    """Remove documents from everything at rest, and prove that nothing is left.

    Args:
        store: The store of the home directory; the caller holds its lease.
        doc_ids: Documents to erase. Those of an erasure that was killed are erased, too.
        fence: Called before each step; raises when this writer lost its lease.
        now: Time for the tombstones.
        exports: Where exports go, if not to the home directory.
        key_file: Key file of the redaction, if there is one.
        former_versions: Whether to remove all former versions of objects, if a bucket keeps them.

    Returns:
        What was removed, by place.

    Raises:
        InputError: An id is unknown, or a bucket keeps former versions; nothing was changed.
        StoreError: Something is left that cannot be removed; the message names it. Running again completes the erasure.
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
    """Refuse a bucket that keeps former versions: what is erased would stay in them, and they hold much else."""
    if store.keeps_versions():
        place = store.location("lease.json").removesuffix("/lease.json")
        raise InputError(
            f"The bucket of {place} keeps former versions of objects: whatever is erased would stay in them.",
            hint=f"Nothing was changed. With --former-versions, all of them below {place} are removed for good.",
        )


def _machines(places: Iterable[Store]) -> list[Store]:
    """This machine's own store beside each bucket."""
    return [place.machine for place in places if place.machine is not place]


def _prove(places: Sequence[Store], journal: Journal) -> ScanReport:
    """Scan everything except the journal, which is removed next.

    Raises:
        StoreError: Something is left, or cannot be read.
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
            f"{len(report.findings)} place(s) still hold what was to be erased, or cannot be read: {shown}.",
            hint="Remove or mend them, then run the same `l2v erase` again: it completes what was begun.",
        )
    return report
