"""The journal of an erasure: the documents to erase, and every byte string that must not be found afterwards.

It is stored under ``erasures/`` while the erasure runs, and removed at the end. It holds the person's own words where
the scan needs them. A killed erasure is resumed from it.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from data.erasure.scan import Needles
from data.errors import InputError
from data.schema import KINDS, TABLE_OF_KIND, DocumentKind, whole_text
from data.snapshots.snapshot import Snapshot, open_snapshot, snapshot_ids
from data.snapshots.tombstones import ERASURES, read_tombstones
from data.store.base import Store
from data.store.records import Record
from data.vectors.filters import is_one_of
from data.vectors.generations import list_generations
from data.vectors.lance import LanceTable, generation_key, open_table

MARKS = ("duplicate_of", "near_duplicate_of", "similar_to")
"""Columns that may name an erased document. Tables of former layouts lack the last one."""

MIN_FRAGMENT_CHARS = 24
"""Minimum length of a text excerpt; shorter ones match by chance."""

_FRAGMENT_WORDS = 8
_MAX_FRAGMENTS = 16
_MIN_ID_CHARS = 8
"""Minimum length of a source id as a needle. Shorter ones ("42") occur everywhere; other needles cover the document."""
_VECTOR_BYTES = 64


class Subject(BaseModel):
    """One document to erase."""

    model_config = ConfigDict(frozen=True)

    doc_id: str
    source: str
    source_id: str
    texts: tuple[str, ...]


class Journal(BaseModel):
    """The record of an erasure, kept until it is complete.

    Attributes:
        subjects: The documents, with all texts that they ever had.
        contents: Contents of no other document; their vectors are removed.
        needles: Each byte string that must not be found (in hex), with its kind.
        snapshots: Snapshots that held the documents, by kind, under their former ids.
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
        """Byte strings that the scan searches for."""
        return Needles({bytes.fromhex(value): what for value, what in self.needles.items()})


JOURNAL = Record(Journal, f"{ERASURES}/journal.json")
"""The journal of the running or killed erasure."""


def forget_words(store: Store, journal: Journal) -> None:
    """Reduce the journal to ids: an erasure killed after this leaves no text of a person behind."""
    bare = Journal(
        subjects=tuple(Subject(doc_id=doc_id, source="", source_id="", texts=()) for doc_id in sorted(journal.doc_ids)),
        contents=(),
        needles={value: what for value, what in journal.needles.items() if what == "id"},
        snapshots=journal.snapshots,
    )
    JOURNAL.swap(store, bare, expected=store.read(JOURNAL.key))


def begin(store: Store, doc_ids: set[str]) -> Journal:
    """Write the journal of this erasure; it also covers a killed erasure.

    Raises:
        InputError: An id is unknown; nothing was changed.
    """
    raw = store.read(JOURNAL.key)
    former = JOURNAL.parse(raw)
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
            hint="Use the doc_id from `l2v search --json` or the exports: 32 hex digits. Nothing was changed.",
        )
    _keep_distinctive(store, found)
    journal = found.journal(former)
    JOURNAL.swap(store, journal, expected=raw)
    return journal


class _Found:
    """Collects everything known about the documents before anything is changed."""

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
        stored = whole_text(row["title"], row["text"])
        self.texts.setdefault(doc_id, set()).add(stored)
        self.contents.add(row["content_sha256"])
        self.needles[row["content_sha256"].encode()] = "hash of the content"
        if len(row["source_id"]) >= _MIN_ID_CHARS:
            self.needles[row["source_id"].encode()] = "id of the source"
        for fragment in (*fragments(stored), *fragments(row["metadata"])):
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
    """Spellings of a needle in plain files, in JSON and in HTML."""
    if what == "vector":
        return {value}
    text = value.decode()
    return {value, json.dumps(text)[1:-1].encode(), html.escape(text).encode()}


def fragments(text: str) -> list[str]:
    """Excerpts of eight words from all parts of a text; whole lines if they are shorter."""
    found = []
    for line in text.split("\n"):
        words = line.split()
        for start in range(0, max(len(words) - _FRAGMENT_WORDS, 0) + 1, _FRAGMENT_WORDS):
            fragment = " ".join(words[start : start + _FRAGMENT_WORDS])
            if len(fragment) >= MIN_FRAGMENT_CHARS:
                found.append(fragment)
    step = max(1, len(found) // _MAX_FRAGMENTS)
    return found[::step]


def _look_in_snapshots(store: Store, found: _Found) -> None:
    for kind, snapshot in all_snapshots(store):
        held = False
        for batch in snapshot.batches():
            for row in _rows_of(batch, found.doc_ids):
                found.add(row)
                held = True
        if held:
            found.snapshots.setdefault(kind, []).append(snapshot.manifest.id)


def _look_in_tables(store: Store, found: _Found) -> None:
    """Search the tables too: they hold the vectors, and former versions may hold rows that no snapshot holds."""
    columns = ["doc_id", "source", "source_id", "title", "text", "metadata", "content_sha256", "vector"]
    for _, table in all_tables(store):
        for version in table.versions():
            for row in table.at(version).read(columns, where=is_one_of("doc_id", found.doc_ids)).to_pylist():
                vector = pa.array(row.pop("vector"), pa.float32()).to_numpy().tobytes()
                found.add(row)
                found.needles[vector[:_VECTOR_BYTES]] = "vector"


def _keep_distinctive(store: Store, found: _Found) -> None:
    """Drop needles that other documents share: shared content keeps its vector, and a common phrase proves nothing."""
    seen: set[str] = set()
    for _, snapshot in all_snapshots(store):
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
    if shared:  # equal texts have equal vectors
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


def all_snapshots(store: Store) -> Iterator[tuple[DocumentKind, Snapshot]]:
    """Every snapshot with its kind."""
    for kind in KINDS:
        for snapshot_id in snapshot_ids(store, kind):
            yield kind, open_snapshot(store, kind, snapshot_id)


def all_tables(store: Store) -> Iterator[tuple[tuple[str, DocumentKind], LanceTable]]:
    """Every table with its generation and kind."""
    for generation in list_generations(store):
        for kind in KINDS:
            if store.exists(f"{generation_key(generation.generation)}/{TABLE_OF_KIND[kind]}.lance"):
                yield (generation.generation, kind), open_table(store, generation=generation.generation, kind=kind)


def _rows_of(batch: pa.RecordBatch, doc_ids: set[str]) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = batch.filter(pc.is_in(batch["doc_id"], pa.array(sorted(doc_ids)))).to_pylist()
    return rows
