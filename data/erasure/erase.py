"""Erasing documents: out of everything at rest, and the proof that nothing is left.

The one thing that rewrites what is at rest. Snapshots get successors under new ids, tables new versions that share no
file with the former ones, pointers and their history the new names; shards, matches and exports lose rows; what is
made again by itself (reports, outcomes of evaluations, training state, leftovers) is removed where it holds anything.
Then a scan of the whole home (``scan``) must find nothing: of its directory, or of every object of its prefix in a
bucket, and of what this machine keeps beside the bucket. Copies on other machines are out of reach.

A journal under ``erasures/`` says what is being erased while it is, in the person's own words where the scan needs
them; it is removed at the end. An erasure that was killed is completed by running it again.

Does not belong here: checkpoints, whose weights cannot be unlearned (``tasks.queries.erase`` names them), backups,
copies of exports that somebody took, and the sources themselves: a tombstone keeps what they still hold from coming
back.
"""

from __future__ import annotations

import html
import io
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from data.erasure.scan import Finding, Needles, ScanReport, scan_store
from data.errors import InputError, StoreError
from data.outputs.matches import forget_documents
from data.redaction.redact import forget_keys
from data.schema import KINDS, TABLE_OF_KIND, DocumentKind, canonical_json, encoded_text, sha256_json
from data.snapshots.manifest import PartInfo, SnapshotManifest, SourceCounts, TotalCounts
from data.snapshots.snapshot import Snapshot, open_snapshot
from data.snapshots.tombstones import ERASURES, bury, keep_successor, read_tombstones, snapshot_successor
from data.store.base import Store, storage_errors
from data.store.digests import pack_digests
from data.vectors.filters import is_one_of
from data.vectors.generations import list_generations
from data.vectors.lance import LanceTable, generation_key, open_table
from data.vectors.pointer import POINTER_KEY, Pointer, read_pointer
from data.vectors.shards import forget_contents
from data.vectors.tables import profiles_key

_JOURNAL = f"{ERASURES}/journal.json"
_ID_COLUMNS = ("doc_id", "job_id", "resume_id")
_MARKS = ("duplicate_of", "near_duplicate_of")
_FRAGMENT_WORDS = 8
_MIN_FRAGMENT_CHARS = 24
_MAX_FRAGMENTS = 16
_MIN_ID_CHARS = 8
"""Shorter source ids ("42") stand everywhere; such a document is looked for by its other marks."""
_VECTOR_BYTES = 64
_MAX_DELTA_IDS = 500
_ERASED = "[ERASED]"


class Subject(BaseModel):
    """One document to erase."""

    model_config = ConfigDict(frozen=True)

    doc_id: str
    source: str
    source_id: str
    texts: tuple[str, ...]


class Journal(BaseModel):
    """What an erasure is about, kept until it is done.

    Attributes:
        subjects: The documents, with every text that they ever had.
        contents: Contents that no other document has: their vectors go.
        needles: Hex of each byte string that must be found nowhere, and what it is.
        snapshots: Snapshots that held them, under the ids that they had, by kind.
    """

    model_config = ConfigDict(frozen=True)

    subjects: tuple[Subject, ...]
    contents: tuple[str, ...]
    needles: dict[str, str]
    snapshots: dict[DocumentKind, tuple[str, ...]]

    @property
    def doc_ids(self) -> set[str]:
        """Ids of the documents."""
        return {subject.doc_id for subject in self.subjects}

    def byte_needles(self) -> Needles:
        """What the scan looks for."""
        return Needles({bytes.fromhex(value): what for value, what in self.needles.items()})


class ErasureReport(BaseModel):
    """What an erasure removed, and what the scan read.

    Attributes:
        doc_ids: The documents.
        removed: Place (``snapshots``, ``tables``, ``shards`` …) to how many of its files or records were rewritten.
        snapshots: Snapshots that held them, by kind, under their former ids.
        scanned_files: Files that the scan read.
        scanned_bytes: Their size.
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
    """Remove documents from everything at rest, and prove it.

    Args:
        store: The store of the home directory; the caller holds its lease.
        doc_ids: Documents to erase; those of an erasure that was killed are erased with them.
        fence: Called before each step; raises when this writer lost its lease.
        now: Time for the tombstones.
        exports: Where exports go, when not to the home directory.
        key_file: Key file of the redaction, if there is one.
        former_versions: Whether all former versions of objects may be removed, where a bucket keeps them.

    Returns:
        What was removed where.

    Raises:
        InputError: An id is unknown, or a bucket keeps former versions; nothing was changed.
        StoreError: Something is left that cannot be removed; the message names it, and running again completes.
    """
    places = [store] if exports is None else [store, exports]
    if not former_versions:
        for place in places:
            _require_no_former_versions(place)
    journal = _begin(store, set(doc_ids))
    bury(store, journal.doc_ids, now=now)
    removed: Counter[str] = Counter()
    steps: list[tuple[str, Callable[[], int]]] = [
        ("snapshots", lambda: _erase_from_snapshots(store, journal, now=now)),
        ("tables", lambda: _erase_from_tables(store, journal)),
        ("shards", lambda: _erase_from_shards(store, journal)),
        ("matches", lambda: _erase_from_matches(store, journal)),
        ("exports", lambda: _erase_from_parquet(store, "exports", journal)),
        ("exports elsewhere", lambda: 0 if exports is None else _erase_from_parquet(exports, "v1", journal)),
        ("reports", lambda: _remove_made_again(store, "reports", journal)),
        ("evaluations", lambda: _remove_made_again(store, "evaluations", journal)),
        ("runs", lambda: _erase_from_records(store, "runs", journal)),
        ("training state", lambda: _remove_children(store.machine, "training") if journal.snapshots else 0),
        ("leftovers", lambda: _remove_children(store.machine, "tmp")),
        ("copies", lambda: sum(_remove_children(machine, "copies") for machine in _machines(places))),
        ("orchestrator", lambda: _erase_from_orchestrator(store.machine, journal)),
        ("key file", lambda: 0 if key_file is None else forget_keys(key_file, journal.doc_ids)),
    ]
    for name, step in steps:
        fence()
        removed[name] += step()
    scanned = _prove(places, journal)
    _forget_words(store, journal)
    removed["former versions"] = sum(place.delete_unseen() for place in places)  # those of the journal among them
    store.delete(_JOURNAL)
    removed["former versions"] += store.delete_unseen()  # of the journal without words
    return ErasureReport(
        doc_ids=sorted(journal.doc_ids),
        removed={name: count for name, count in removed.items() if count},
        snapshots=journal.snapshots,
        scanned_files=scanned.num_files,
        scanned_bytes=scanned.size_bytes,
    )


def _forget_words(store: Store, journal: Journal) -> None:
    """Leave ids alone in the journal: killed from here on, an erasure leaves no words of a person behind."""
    bare = Journal(
        subjects=tuple(Subject(doc_id=doc_id, source="", source_id="", texts=()) for doc_id in sorted(journal.doc_ids)),
        contents=(),
        needles={value: what for value, what in journal.needles.items() if what == "id"},
        snapshots=journal.snapshots,
    )
    store.compare_and_swap(_JOURNAL, expected=store.read(_JOURNAL), content=bare.model_dump_json().encode())


# --- what is to go ----------------------------------------------------------------------------------------------------


def _begin(store: Store, doc_ids: set[str]) -> Journal:
    """The journal of this erasure; it takes up one that was killed."""
    raw = store.read(_JOURNAL)
    former = None if raw is None else Journal.model_validate_json(raw)
    wanted = doc_ids - (former.doc_ids if former is not None else set())
    if not wanted and former is not None:
        return former
    found = _Found(wanted)
    _look_in_snapshots(store, found)
    _look_in_tables(store, found)
    tombstones = read_tombstones(store)
    unknown = sorted(doc_id for doc_id in wanted - set(found.sources) if not tombstones.holds(doc_id))
    if unknown:
        raise InputError(
            f"No document has the id {', '.join(map(repr, unknown[:5]))}.",
            hint="An id is the doc_id that `l2v search --json` and the exports show: 32 hex digits. Nothing was "
            "changed.",
        )
    _keep_distinctive(store, found)
    journal = found.journal(former)
    store.compare_and_swap(_JOURNAL, expected=raw, content=journal.model_dump_json().encode())
    return journal


class _Found:
    """What is gathered about the documents before anything is changed."""

    def __init__(self, doc_ids: set[str]) -> None:
        self.doc_ids = doc_ids
        self.sources: dict[str, tuple[str, str]] = {}
        self.texts: dict[str, set[str]] = {}
        self.contents: set[str] = set()
        self.needles: dict[bytes, str] = {doc_id.encode(): "id" for doc_id in doc_ids}
        self.snapshots: dict[DocumentKind, list[str]] = {}

    def add(self, row: dict[str, str]) -> None:
        doc_id = row["doc_id"]
        self.sources[doc_id] = (row["source"], row["source_id"])
        self.texts.setdefault(doc_id, set()).add(encoded_text(row["title"], row["text"]))
        self.contents.add(row["content_sha256"])
        self.needles[row["content_sha256"].encode()] = "hash of the content"
        if len(row["source_id"]) >= _MIN_ID_CHARS:
            self.needles[row["source_id"].encode()] = "id of the source"
        for fragment in (*_fragments(encoded_text(row["title"], row["text"])), *_fragments(row["metadata"])):
            self.needles[fragment.encode()] = "text"

    def journal(self, former: Journal | None) -> Journal:
        subjects = [
            Subject(doc_id=doc_id, source=source, source_id=source_id, texts=tuple(sorted(self.texts[doc_id])))
            for doc_id, (source, source_id) in self.sources.items()
        ]
        known = {subject.doc_id for subject in subjects}
        subjects += [
            Subject(doc_id=doc_id, source="", source_id="", texts=()) for doc_id in sorted(self.doc_ids - known)
        ]
        needles = {value.hex(): what for written, what in self.needles.items() for value in _spellings(written, what)}
        snapshots: dict[DocumentKind, tuple[str, ...]] = {kind: tuple(ids) for kind, ids in self.snapshots.items()}
        if former is None:
            return Journal(
                subjects=tuple(subjects), contents=tuple(sorted(self.contents)), needles=needles, snapshots=snapshots
            )
        kinds = former.snapshots.keys() | snapshots.keys()
        return Journal(
            subjects=(*former.subjects, *subjects),
            contents=(*former.contents, *sorted(self.contents)),
            needles={**former.needles, **needles},
            snapshots={kind: (*former.snapshots.get(kind, ()), *snapshots.get(kind, ())) for kind in kinds},
        )


def _spellings(value: bytes, what: str) -> set[bytes]:
    """A needle as it stands in plain files, and in JSON and HTML."""
    if what == "vector":
        return {value}
    text = value.decode()
    return {value, json.dumps(text)[1:-1].encode(), html.escape(text).encode()}


def _fragments(text: str) -> list[str]:
    """Stretches of eight words, from all parts of a text; whole lines where they are shorter."""
    found = []
    for line in text.split("\n"):
        words = line.split()
        for start in range(0, max(len(words) - _FRAGMENT_WORDS, 0) + 1, _FRAGMENT_WORDS):
            fragment = " ".join(words[start : start + _FRAGMENT_WORDS])
            if len(fragment) >= _MIN_FRAGMENT_CHARS:
                found.append(fragment)
    step = max(1, len(found) // _MAX_FRAGMENTS)
    return found[::step]


def _look_in_snapshots(store: Store, found: _Found) -> None:
    for kind, snapshot in _snapshots(store):
        held = False
        for batch in snapshot.batches():
            for row in _rows_of(batch, found.doc_ids):
                found.add(row)
                held = True
        if held:
            found.snapshots.setdefault(kind, []).append(snapshot.manifest.id)


def _look_in_tables(store: Store, found: _Found) -> None:
    """Former versions of tables may hold what no snapshot holds any more; and they hold the vectors."""
    columns = ["doc_id", "source", "source_id", "title", "text", "metadata", "content_sha256", "vector"]
    for _, table in _tables(store):
        for version in table.versions():
            for row in table.at(version).read(columns, where=is_one_of("doc_id", found.doc_ids)).to_pylist():
                vector = pa.array(row.pop("vector"), pa.float32()).to_numpy().tobytes()
                found.add(row)
                found.needles[vector[:_VECTOR_BYTES]] = "vector"


def _keep_distinctive(store: Store, found: _Found) -> None:
    """Forget what other documents have, too: a shared content keeps its vector, a common phrase proves nothing."""
    seen: set[str] = set()
    for _, snapshot in _snapshots(store):
        for part in snapshot.manifest.documents:
            if part.sha256 in seen:
                continue
            seen.add(part.sha256)
            for batch in snapshot.part_batches(part):
                others = batch.filter(pc.invert(pc.is_in(batch["doc_id"], pa.array(sorted(found.doc_ids)))))
                _forget_shared(others, found)


def _forget_shared(others: pa.RecordBatch, found: _Found) -> None:
    shared = found.contents & set(others["content_sha256"].to_pylist())
    found.contents -= shared
    if shared:  # an equal text has an equal vector
        found.needles = {value: what for value, what in found.needles.items() if what != "vector"}
    held = "\n".join(
        text
        for name in ("source_id", "title", "text", "metadata", "content_sha256")
        for text in others[name].to_pylist()
    ).encode()
    found.needles = {
        value: what
        for value, what in found.needles.items()
        if what in ("id", "vector") or value not in held
    }  # fmt: skip


def _require_no_former_versions(store: Store) -> None:
    """In a bucket that keeps them, what is erased would stay; and they hold more than what is erased."""
    if store.keeps_versions():
        place = store.location("lease.json").removesuffix("/lease.json")
        raise InputError(
            f"The bucket of {place} keeps former versions of objects, so that whatever is erased would stay in them.",
            hint=f"Nothing was changed. With --former-versions, all of them below {place} are removed for good.",
        )


def _machines(places: Iterable[Store]) -> list[Store]:
    """What this machine keeps beside each place that is a bucket."""
    return [place.machine for place in places if place.machine is not place]


def _snapshots(store: Store) -> Iterator[tuple[DocumentKind, Snapshot]]:
    for kind in KINDS:
        for key in list(store.list(f"snapshots/{kind}")):
            if key.endswith("/manifest.json"):
                yield kind, open_snapshot(store, kind, key.split("/")[2])


def _tables(store: Store) -> Iterator[tuple[tuple[str, DocumentKind], LanceTable]]:
    for generation in list_generations(store):
        for kind in KINDS:
            if store.exists(f"{generation_key(generation.generation)}/{TABLE_OF_KIND[kind]}.lance"):
                yield (generation.generation, kind), open_table(store, generation=generation.generation, kind=kind)


def _rows_of(batch: pa.RecordBatch, doc_ids: set[str]) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = batch.filter(pc.is_in(batch["doc_id"], pa.array(sorted(doc_ids)))).to_pylist()
    return rows


# --- snapshots --------------------------------------------------------------------------------------------------------


def _former_part(store: Store, manifest: SnapshotManifest, info: PartInfo) -> bytes:
    key = f"snapshots/{manifest.kind}/{manifest.id}/{info.file}"
    content = store.read(key)
    if content is None:
        raise StoreError(f"{key} is gone, which its snapshot names.", hint="Restore it from a backup; run this again.")
    return content


def _erase_from_snapshots(store: Store, journal: Journal, *, now: datetime) -> int:
    """Give every snapshot that holds a document, or a rejected row about one, a successor; then remove it."""
    count = 0
    for kind, snapshot in list(_snapshots(store)):
        successor = _write_successor(store, snapshot, journal, now=now)
        if successor is None:
            continue
        former = snapshot.manifest.id
        keep_successor(store, kind, former, successor)
        _swap_if(store, f"snapshots/{kind}/latest.json", former, successor)
        store.delete(f"snapshots/{kind}/{former}")
        count += 1
    return count


def _swap_if(store: Store, key: str, former: str, successor: str) -> None:
    raw = store.read(key)
    if raw is not None and json.loads(raw)["id"] == former:
        content = canonical_json({"id": successor}).encode() + b"\n"
        store.compare_and_swap(key, expected=raw, content=content)


def _write_successor(store: Store, snapshot: Snapshot, journal: Journal, *, now: datetime) -> str | None:
    """Write the snapshot without the documents; None when it holds none of them."""
    manifest = snapshot.manifest
    heirs = _heirs(snapshot, journal.doc_ids)
    counts = {name: Counter(each.model_dump(exclude={"path"})) for name, each in manifest.sources.items()}
    with store.scratch() as scratch:
        documents = [
            _rewrite_part(
                snapshot, part, scratch, partial(_without, journal=journal, heirs=heirs, counts=counts[part.source])
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
        totals = TotalCounts(
            **{name: sum(getattr(each, name) for each in sources.values()) for name in TotalCounts.model_fields}
        )
        parts = {"documents": [info for info, _ in documents], "quarantine": [info for info, _ in quarantine]}
        digests = [[part.sha256 for part in parts[name]] for name in ("documents", "quarantine")]
        successor = sha256_json([manifest.id, digests])[:16]
        prefix = f"snapshots/{manifest.kind}/{successor}"
        store.delete(prefix)  # of an erasure that was killed
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
                "origins": [],  # hashes of the erased rows among them: the next night cleans all of them anew
            }
        )
        store.put_if_absent(f"{prefix}/manifest.json", written.model_dump_json(indent=2).encode() + b"\n")
    return successor


def _heirs(snapshot: Snapshot, doc_ids: set[str]) -> dict[tuple[str, str], str]:
    """For each mark that names an erased document: the first document that bears it, which the others then name."""
    heirs: dict[tuple[str, str], str] = {}
    for batch in snapshot.batches(["doc_id", *_MARKS]):
        for row in batch.to_pylist():
            for mark in _MARKS:
                if row[mark] in doc_ids and row["doc_id"] not in doc_ids:
                    heirs.setdefault((mark, row[mark]), row["doc_id"])
    return heirs


def _without(table: pa.Table, journal: Journal, heirs: dict[tuple[str, str], str], counts: Counter[str]) -> pa.Table:
    """A part without the documents; marks that named them name their heirs."""
    doc_ids = journal.doc_ids
    rows = table.to_pylist()
    if not any(row["doc_id"] in doc_ids or any(row[mark] in doc_ids for mark in _MARKS) for row in rows):
        return table
    kept = []
    for row in rows:
        counted = {"duplicate_of": "rows_duplicate", "near_duplicate_of": "rows_near_duplicate"}
        if row["doc_id"] in doc_ids:
            counts["rows_in"] -= 1
            counts["rows_kept"] -= 1
            for mark, name in counted.items():
                counts[name] -= row[mark] is not None
            continue
        for mark, name in counted.items():
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
    """Whether a rejected row tells of a document: it names its id, is its file, or shows a piece of its text."""
    if not subject.source or row["source"] != subject.source:
        return False
    named = rf"(?:^|['\":\s]){re.escape(subject.source_id)}(?:['\",]|$)"  # as a value of JSON, of CSV, in a message
    if row["file"] == subject.source_id or re.search(named, row["excerpt"]) or re.search(named, row["detail"]):
        return True
    excerpt = row["excerpt"]
    return any(
        (len(excerpt) >= _MIN_FRAGMENT_CHARS and excerpt in text)
        or any(fragment in excerpt for fragment in _fragments(text))
        for text in subject.texts
    )


def _rewrite_part(
    snapshot: Snapshot, part: PartInfo, scratch: Path, change: Callable[[pa.Table], pa.Table]
) -> tuple[PartInfo, Path | None]:
    """A part after a change: its new description and file, or the former description and None."""
    table = pa.Table.from_batches(snapshot.part_batches(part))
    changed = change(table)
    if changed is table:
        return part, None
    path = scratch / part.file.replace("/", "-")
    pq.write_table(changed, path, compression="zstd", write_page_checksum=True)
    return PartInfo.of(path, file=part.file, source=part.source, num_rows=len(changed)), path


# --- tables and pointers ----------------------------------------------------------------------------------------------


def _erase_from_tables(store: Store, journal: Journal) -> int:
    """Rewrite every version that is served or can be gone back to; remove all others."""
    doc_ids = journal.doc_ids
    renamed: dict[tuple[str, DocumentKind], dict[int, int]] = {}
    dirty: dict[tuple[str, DocumentKind], LanceTable] = {}
    for name, table in _tables(store):
        store.delete(profiles_key(name[0]))  # of a table with few rows, its mean vector tells of each of them
        versions = table.versions()
        holding = [version for version in versions if _holds(table.at(version), doc_ids)]
        if not holding and not _findings(store, f"{generation_key(name[0])}/{TABLE_OF_KIND[name[1]]}.lance", journal):
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


def _holds(table: LanceTable, doc_ids: set[str]) -> bool:
    where = " OR ".join(is_one_of(column, doc_ids) for column in ("doc_id", *_MARKS))
    return len(table.read(["doc_id"], where=where)) > 0


def _rewrite_versions(table: LanceTable, versions: list[int], doc_ids: set[str]) -> dict[int, int]:
    """Write versions anew without the documents: the oldest whole, each later one as what changed since.

    Marks that named the documents become empty: the next night's tables take them from the next snapshot.
    """
    renamed: dict[int, int] = {}
    present: dict[str, str] = {}
    for version in versions:
        former = table.at(version)
        hashes = former.read(["doc_id", "row_sha256"])
        wanted = dict(zip(hashes["doc_id"].to_pylist(), hashes["row_sha256"].to_pylist(), strict=True))
        wanted = {doc_id: row_hash for doc_id, row_hash in wanted.items() if doc_id not in doc_ids}
        if not renamed:
            where = f"NOT ({is_one_of('doc_id', doc_ids)})"
            batches = (_without_marks(batch, doc_ids) for batch in former.batches(where=where))
            renamed[version] = table.overwrite(batches)
        else:
            changed = sorted(doc_id for doc_id, row_hash in wanted.items() if present.get(doc_id) != row_hash)
            chunks = (changed[start : start + _MAX_DELTA_IDS] for start in range(0, len(changed), _MAX_DELTA_IDS))
            rows = (
                pa.Table.from_batches([_without_marks(batch, doc_ids)])
                for chunk in chunks
                for batch in former.batches(where=is_one_of("doc_id", chunk))
            )
            table.upsert(rows, rewrite=True)
            table.delete(sorted(present.keys() - wanted.keys()))
            renamed[version] = table.version
        present = wanted
    return renamed


def _without_marks(batch: pa.RecordBatch, doc_ids: set[str]) -> pa.RecordBatch:
    for mark in _MARKS:
        column = batch.column(batch.schema.get_field_index(mark))
        is_erased = pc.is_in(column, pa.array(sorted(doc_ids)))
        cleared = pc.if_else(is_erased, pa.scalar(None, column.type), column)
        batch = batch.set_column(batch.schema.get_field_index(mark), batch.schema.field(mark), cleared)
    return batch


def _pinned(store: Store, generation: str, kind: DocumentKind) -> set[int]:
    """Versions of a table that the pointer, or a former one, names."""
    return {pointer.version_of(kind) for _, _, pointer in _pointers(store) if pointer.generation == generation}


def _pointers(store: Store) -> Iterator[tuple[str, bytes, Pointer]]:
    current = read_pointer(store)
    if current is None:
        return
    for key in [POINTER_KEY, *store.list("pointers")]:
        raw = store.read(key)
        if raw is not None:
            yield key, raw, Pointer.model_validate_json(raw)


def _rename_in_pointers(store: Store, renamed: dict[tuple[str, DocumentKind], dict[int, int]]) -> None:
    """Let the pointer and its history name the new versions and the successors of snapshots."""
    for key, raw, pointer in list(_pointers(store)):
        versions = {
            TABLE_OF_KIND[kind]: renamed.get((pointer.generation, kind), {}).get(version, version)
            for kind in KINDS
            for version in [pointer.version_of(kind)]
        }
        snapshots = {
            kind: _newest(store, kind, pointer.snapshots[kind]) for kind in KINDS if kind in pointer.snapshots
        }  # fmt: skip
        changed = pointer.model_copy(update={**versions, "snapshots": snapshots})
        if changed != pointer:
            store.compare_and_swap(key, expected=raw, content=changed.model_dump_json().encode())


def _newest(store: Store, kind: DocumentKind, snapshot_id: str) -> str:
    while (successor := snapshot_successor(store, kind, snapshot_id)) is not None:
        snapshot_id = successor
    return snapshot_id


# --- everything else --------------------------------------------------------------------------------------------------


def _erase_from_shards(store: Store, journal: Journal) -> int:
    """Write shards anew without the vectors."""
    contents = pack_digests(pa.array(sorted(journal.contents), pa.string()))
    fingerprints = {key.split("/")[1] for key in store.list("shards")}
    return sum(forget_contents(store, contents, fingerprint=fingerprint) for fingerprint in sorted(fingerprints))


def _erase_from_matches(store: Store, journal: Journal) -> int:
    """Drop rows, and the hashes of all documents that were matched."""
    forget_documents(store)
    return _erase_from_parquet(store, "matches", journal)


def _erase_from_parquet(store: Store, tree: str, journal: Journal) -> int:
    """Drop rows about the documents from matches or exports, and mend the counts beside them."""
    count = 0
    for key in list(store.list(tree)):
        if not key.endswith(".parquet"):
            continue
        raw = store.read(key) or b""
        with pq.ParquetFile(pa.BufferReader(raw)) as parquet:
            table = parquet.read()
        kept = _without_rows(table, journal.doc_ids)
        if kept is not table:
            store.compare_and_swap(key, expected=raw, content=_parquet_bytes(kept))
            count += 1
    if count:
        for key in list(store.list(tree)):
            if key.endswith("/manifest.json"):
                _recount(store, key)
        _mend_latest_export(store, tree)
    return count


def _without_rows(table: pa.Table, doc_ids: set[str]) -> pa.Table:
    erased = pa.array(sorted(doc_ids))
    kept = table
    for column in _ID_COLUMNS:
        if column in kept.column_names:
            kept = kept.filter(pc.invert(pc.is_in(kept[column], erased)))
    for mark in _MARKS:
        if mark in kept.column_names and pc.any(pc.is_in(kept[mark], erased)).as_py():
            cleared = pc.if_else(pc.is_in(kept[mark], erased), pa.scalar(None, pa.string()), kept[mark])
            index = kept.schema.get_field_index(mark)
            kept = kept.set_column(index, kept.schema.field(mark), cleared)
    return table if kept.equals(table) else kept


def _recount(store: Store, key: str) -> None:
    """Let a manifest of matches or of an export name the rows that are there now."""
    raw = store.read(key) or b""
    manifest = json.loads(raw)
    folder = key.rsplit("/", 1)[0]
    rows: Counter[str] = Counter()
    for part in store.list(folder):
        if part.endswith(".parquet"):
            kind = next((each[5:] for each in part.split("/") if each.startswith("kind=")), "")
            with store.open(part) as opened:
                rows[kind] += pq.read_metadata(opened).num_rows
    found = {kind: rows[kind] for kind in manifest["rows"]} if isinstance(manifest["rows"], dict) else rows.total()
    if found != manifest["rows"]:
        content = json.dumps({**manifest, "rows": found}, sort_keys=True).encode()
        store.compare_and_swap(key, expected=raw, content=content)


def _mend_latest_export(store: Store, tree: str) -> None:
    key = "latest.json" if tree == "v1" else f"{tree}/latest.json"
    raw = store.read(key)
    latest = json.loads(raw) if raw is not None else {}
    if "export" in latest:
        root = latest["export"] if tree == "v1" else f"{tree}/{latest['export']}"
        manifest = json.loads(store.read(f"{root}/manifest.json") or b"{}")
        content = canonical_json({**latest, **manifest}).encode()
        if content != raw:
            store.compare_and_swap(key, expected=raw, content=content)


def _parquet_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def _remove_made_again(store: Store, tree: str, journal: Journal) -> int:
    """Remove reports and outcomes that hold anything: the next evaluation makes them again."""
    doomed = set()
    for finding in _findings(store, tree, journal):
        parts = finding.path.split("!")[0].split("/")
        # A report is a folder; an outcome is what shares a name before its first dot.
        doomed.add("/".join(parts[:2]) if tree == "reports" else "/".join([*parts[:-1], parts[-1].split(".")[0]]))
    for prefix in sorted(doomed):
        for key in [each for each in store.list(tree) if each.startswith((f"{prefix}/", f"{prefix}."))]:
            store.delete(key)
    raw = store.read(f"{tree}/latest.json")
    if raw is not None and tree == "reports" and f"reports/{json.loads(raw)['report']}" in doomed:
        store.delete(f"{tree}/latest.json")
    return len(doomed)


def _erase_from_records(store: Store, tree: str, journal: Journal) -> int:
    """Blank the values of JSON records that hold anything."""
    needles, keys = journal.byte_needles(), {finding.path for finding in _findings(store, tree, journal)}
    for key in sorted(keys):
        raw = store.read(key) or b"{}"
        content = json.dumps(_blanked(json.loads(raw), needles), indent=2).encode() + b"\n"
        store.compare_and_swap(key, expected=raw, content=content)
    return len(keys)


def _blanked(value: object, needles: Needles) -> object:
    if isinstance(value, dict):
        return {_blanked(key, needles): _blanked(item, needles) for key, item in value.items()}
    if isinstance(value, list):
        return [_blanked(item, needles) for item in value]
    return _ERASED if isinstance(value, str) and needles.found_in(value.encode()) else value


def _remove_children(machine: Store, tree: str) -> int:
    folder = machine.local_path(tree)
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for name in names:
        machine.delete(f"{tree}/{name}")
    return len(names)


def _erase_from_orchestrator(machine: Store, journal: Journal) -> int:
    """Remove kept results, and rows of the embedded server's database, that hold anything."""
    paths = {finding.path.split("!")[0] for finding in _findings(machine, "prefect", journal)}
    databases = {path.removesuffix("-wal").removesuffix("-shm") for path in paths if ".db" in Path(path).name}
    for path in paths:
        if ".db" not in Path(path).name:
            machine.delete(path)
    for path in databases:
        with storage_errors(f"clean {path}"):
            _erase_from_database(machine.local_path(path), journal.byte_needles())
    return len(paths)


def _erase_from_database(path: Path, needles: Needles) -> None:
    """Delete the rows of a SQLite file that hold anything, and the space they took."""
    with closing(sqlite3.connect(path)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            quoted = '"{}"'.format(table.replace('"', '""'))
            doomed = [
                (row[0],)
                for row in database.execute(f"SELECT rowid, * FROM {quoted}")
                if any(isinstance(value, (str, bytes)) and needles.found_in(_as_bytes(value)) for value in row)
            ]
            database.executemany(f"DELETE FROM {quoted} WHERE rowid = ?", doomed)
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _findings(store: Store, tree: str, journal: Journal) -> list[Finding]:
    """Where a tree of the store holds anything, with paths that are keys."""
    return scan_store(store, journal.byte_needles(), tree=tree).findings


# --- the proof --------------------------------------------------------------------------------------------------------


def _prove(places: Sequence[Store], journal: Journal) -> ScanReport:
    """Scan everything; the journal itself, which is removed next, is the only exception.

    Raises:
        StoreError: Something is left, or cannot be read.
    """
    report = ScanReport()
    for place in (*places, *_machines(places)):
        found = scan_store(place, journal.byte_needles(), skip=[_JOURNAL])
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
