"""Snapshots: the immutable union of each source's latest documents of one kind.

Belongs here: building a snapshot out of sources and of the previous snapshot, its layout, its manifest, reading it.
Does not belong here: file formats (``sources``), what a good document is (``clean``), what is done with documents.

Layout, below ``snapshots/<kind>/``::

    <id>/documents/part-00000.parquet    DOCUMENT_SCHEMA; every part holds documents of one source
    <id>/quarantine/part-00000.parquet   QUARANTINE_SCHEMA; likewise
    <id>/origins/part-00000.parquet      ORIGIN_SCHEMA; what the documents of the part of that number were made of
    <id>/manifest.json                   put last: without it the snapshot does not exist
    latest.json                          {"id": …}: the only record that changes, by compare-and-swap

The id is a hash of the content, so an unchanged source gives the snapshot that is already there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data.config import CleanConfig, RedactConfig, ShrinkConfig, SourceConfig
from data.documents.clean import Document, clean_row, redact_document
from data.documents.sources import RawRow, RejectedRow, RejectReason, read_rows, source_sha256
from data.errors import InputError, SourceShrankError, StoreError
from data.redaction.redact import Redactor, open_key_file
from data.schema import (
    DOCUMENT_SCHEMA,
    KINDS,
    QUARANTINE_SCHEMA,
    DocumentKind,
    canonical_json,
    encoded_text,
    sha256_json,
)
from data.snapshots.tombstones import Tombstones, read_tombstones, snapshot_successor
from data.store.base import Store
from data.store.digests import DIGEST_BYTES, DigestIndex, Digests, FirstRows, no_digests, pack_digests, unpack_digests

SCHEMA_VERSION = 1
PART_ROWS = 10_000
PART_CHARS = 64_000_000
"""A part is closed at this many characters too, so that long documents do not fill the memory."""

ORIGIN_SCHEMA = pa.schema([pa.field("raw_digest", pa.binary(DIGEST_BYTES)), pa.field("sketch", pa.binary(256))])
"""For each document: the digest of its raw row, null where other settings cleaned it, and the sketch of its text, null
where none was needed to find near duplicates."""

_BATCH_ROWS = 1024
_GROUP_ROWS = 2500
"""Rows of a part that are read by themselves."""

_REPEATING_COLUMNS = ("kind", "source", "title", "file", "reason")
_IDENTITY = ("doc_id", "content_sha256", "metadata_sha256")
_SKETCH = ORIGIN_SCHEMA.field("sketch")
_CHUNK_ROWS = 2500
_CHUNK_CHARS = 4_000_000
"""So many rows of a source are looked up in the former snapshot at once; they are in memory twice meanwhile."""

_MIN_SHARE = 0.05
"""A former part is read again for a chunk of rows if so many of them came from it: else cleaning is cheaper."""

SHRINK_FROM = 50
"""A source with fewer documents may lose any number of them."""

_ERASED_DETAIL = "erased on request; the source still holds it"
_PROGRESS_ROWS = 1000


class PartInfo(BaseModel):
    """One Parquet file of a snapshot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(description="Path below the snapshot.")
    source: str = Field(description="Source of all its rows.")
    num_rows: int = Field(description="Rows in the file.")
    size_bytes: int = Field(description="Size of the file.")
    sha256: str = Field(description="SHA-256 of the file, in hex.")

    @classmethod
    def of(cls, path: Path, *, file: str, source: str, num_rows: int) -> PartInfo:
        """Describe a finished file, which will lie at ``file``."""
        size = path.stat().st_size
        return cls(file=file, source=source, num_rows=num_rows, size_bytes=size, sha256=_sha256_file(path))


class SourceCounts(BaseModel):
    """What became of the rows of one source; ``rows_in = rows_kept + rows_quarantined``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(description="Path that the source was read from.")
    rows_in: int = Field(description="Rows that the source has.")
    rows_kept: int = Field(description="Rows that became documents, duplicates among them.")
    rows_quarantined: int = Field(description="Rows that were rejected.")
    rows_duplicate: int = Field(description="Kept rows whose content an earlier document has.")
    rows_near_duplicate: int = Field(description="Kept rows whose content is nearly that of an earlier document.")
    raw_sha256: str | None = Field(default=None, description="Hash of the files that the rows came from.")


class TotalCounts(BaseModel):
    """The counts of all sources together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows_in: int = 0
    rows_kept: int = 0
    rows_quarantined: int = 0
    rows_duplicate: int = 0
    rows_near_duplicate: int = 0


class SnapshotManifest(BaseModel):
    """What a snapshot holds and where it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(description="Hash of the content.")
    kind: DocumentKind = Field(description="Kind of all its documents.")
    schema_version: int = Field(description="Version of the schemas of its files.")
    created_at: str = Field(description="When it was built, ISO 8601, UTC.")
    run_id: str = Field(description="Run that built it.")
    parent: str | None = Field(description="Snapshot that the other sources' documents were taken from.")
    clean: CleanConfig = Field(description="Settings that the listed sources were cleaned with.")
    redact: RedactConfig | None = Field(
        default=None, description="What was replaced; None: built before there was any."
    )
    sources: dict[str, SourceCounts] = Field(description="Counts by name of the source.")
    totals: TotalCounts = Field(description="Sums over the sources.")
    num_documents: int = Field(description="Documents in all parts.")
    documents: tuple[PartInfo, ...] = Field(description="Parts with documents, in order.")
    quarantine: tuple[PartInfo, ...] = Field(description="Parts with rejected rows, in order.")
    origins: tuple[PartInfo, ...] = Field(
        default=(), description="What the documents of each part were made of; without them all rows are cleaned again."
    )


class Snapshot:
    """A snapshot opened for reading.

    Attributes:
        manifest: What it holds.
    """

    def __init__(self, store: Store, manifest: SnapshotManifest) -> None:
        """Remember where the parts are; use :func:`open_snapshot` or :func:`latest_snapshot`."""
        self.manifest = manifest
        self._store = store

    def batches(self, columns: list[str] | None = None, *, source: str | None = None) -> Iterator[pa.RecordBatch]:
        """Documents in order, at most 1,024 a batch.

        Args:
            columns: Columns wanted, in this order; None for all of :data:`data.schema.DOCUMENT_SCHEMA`.
            source: Only documents of this source.

        Raises:
            InputError: A column is unknown.
            StoreError: A part is gone or damaged.
        """
        schema = _select(DOCUMENT_SCHEMA, columns)
        yield from self._read(self.manifest.documents, schema, source=source)

    def part_batches(self, part: PartInfo) -> Iterator[pa.RecordBatch]:
        """All columns of one part of its documents or of its quarantine.

        Raises:
            StoreError: The part is gone or damaged.
        """
        yield from self._read_part(part, DOCUMENT_SCHEMA if part in self.manifest.documents else QUARANTINE_SCHEMA)

    def origins(self, *, source: str) -> Iterator[pa.RecordBatch]:
        """What each document of a source was made of, in order; nothing for snapshots that do not know."""
        yield from self._read(self.manifest.origins, ORIGIN_SCHEMA, source=source)

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """All documents in memory; see :meth:`batches`."""
        return pa.Table.from_batches(self.batches(columns), schema=_select(DOCUMENT_SCHEMA, columns))

    def rows(self, numbers: NDArray[np.int64], columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Documents by their row numbers in the snapshot, in its order; only the parts that hold them are read.

        Args:
            numbers: Row numbers from 0, ascending.
            columns: As in :meth:`batches`.

        Raises:
            InputError: A column is unknown.
            StoreError: A part is gone or damaged.
        """
        yield from self._rows_of(self.manifest.documents, _select(DOCUMENT_SCHEMA, columns), numbers)

    def origins_of(self, numbers: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        """What documents were made of, by their row numbers, as in :meth:`rows`."""
        yield from self._rows_of(self.manifest.origins, ORIGIN_SCHEMA, numbers)

    def _rows_of(
        self, parts: Sequence[PartInfo], schema: pa.Schema, numbers: NDArray[np.int64]
    ) -> Iterator[pa.RecordBatch]:
        start = 0
        for part in parts:
            first, stop = np.searchsorted(numbers, [start, start + part.num_rows])
            if first < stop:
                yield from self._rows_of_part(part, schema, numbers[first:stop] - start)
            start += part.num_rows

    def _rows_of_part(self, part: PartInfo, schema: pa.Schema, numbers: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        with self._opened(part) as parquet:
            start = 0
            for group in range(parquet.num_row_groups):
                stop = start + parquet.metadata.row_group(group).num_rows
                first, last = np.searchsorted(numbers, [start, stop])
                if first < last:
                    yield from _chosen(_batches_of(parquet, schema, [group]), numbers[first:last] - start)
                start = stop

    def quarantine_batches(self, *, source: str | None = None) -> Iterator[pa.RecordBatch]:
        """Rejected rows in order, at most 1,024 a batch; of one source only, when it is named."""
        yield from self._read(self.manifest.quarantine, QUARANTINE_SCHEMA, source=source)

    def quarantine(self, *, source: str | None = None) -> pa.Table:
        """All rejected rows in memory, as :data:`data.schema.QUARANTINE_SCHEMA`."""
        return pa.Table.from_batches(self.quarantine_batches(source=source), schema=QUARANTINE_SCHEMA)

    def _read(self, parts: Sequence[PartInfo], schema: pa.Schema, *, source: str | None) -> Iterator[pa.RecordBatch]:
        for part in parts:
            if source is None or part.source == source:
                yield from self._read_part(part, schema)

    def _read_part(self, part: PartInfo, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        with self._opened(part) as parquet:
            yield from _batches_of(parquet, schema, None)

    @contextlib.contextmanager
    def _opened(self, part: PartInfo) -> Iterator[pq.ParquetFile]:
        key = f"{_prefix(self.manifest.kind, self.manifest.id)}/{part.file}"
        try:
            # Writers put a checksum on every page: a flipped bit is found here, not in a search result.
            with self._store.open(key) as opened, pq.ParquetFile(opened, page_checksum_verification=True) as parquet:
                yield parquet
        except (OSError, pa.ArrowException, ValueError, KeyError) as error:  # what a damaged footer can lead to
            raise _damaged(key, str(error).splitlines()[0]) from error


def _batches_of(parquet: pq.ParquetFile, schema: pa.Schema, groups: list[int] | None) -> Iterator[pa.RecordBatch]:
    for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, row_groups=groups, columns=schema.names):
        yield batch.select(schema.names)


def _chosen(batches: Iterator[pa.RecordBatch], numbers: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    """Rows of consecutive batches by their numbers, ascending."""
    start = 0
    for batch in batches:
        first, stop = np.searchsorted(numbers, [start, start + len(batch)])
        if first < stop:
            yield batch.take(pa.array(numbers[first:stop] - start))
        start += len(batch)


def contents_of(snapshot: Snapshot) -> Digests:
    """Digest of every document's content, in order: 16 bytes a document."""
    packed = [pack_digests(batch.column(0)) for batch in snapshot.batches(["content_sha256"])]
    return np.concatenate([no_digests(), *packed])


# --- opening ----------------------------------------------------------------------------------------------------------


def latest_snapshot(store: Store, kind: DocumentKind) -> Snapshot | None:
    """The latest snapshot of a kind; None when there is none yet.

    Raises:
        StoreError: It is damaged, or one of its parts is missing.
    """
    return _follow(store, kind, store.read(_latest_key(kind)))


def snapshot_ids(store: Store, kind: DocumentKind) -> list[str]:
    """Ids of all snapshots of a kind."""
    return [key.split("/")[2] for key in store.list(f"snapshots/{kind}") if key.endswith("/manifest.json")]


def open_snapshot(store: Store, kind: DocumentKind, snapshot_id: str) -> Snapshot:
    """Open a snapshot by its id; by the id of one that an erasure replaced, its successor.

    Raises:
        InputError: There is no such snapshot.
        StoreError: It is damaged, or one of its parts is missing.
    """
    content = store.read(f"{_prefix(kind, snapshot_id)}/manifest.json")
    successor = snapshot_successor(store, kind, snapshot_id) if content is None else None
    if successor is not None:
        return open_snapshot(store, kind, successor)
    if content is None:
        known = snapshot_ids(store, kind)
        raise InputError(
            f"There is no {kind} snapshot '{snapshot_id}'; known are {', '.join(known[:10]) or 'none'}.",
            hint="Use one of the known ids, or run l2v ingest.",
        )
    manifest = _parse_manifest(content, f"{_prefix(kind, snapshot_id)}/manifest.json")
    sizes = {entry.key: entry.size_bytes for entry in store.entries(_prefix(kind, snapshot_id))}
    for part in (*manifest.documents, *manifest.quarantine, *manifest.origins):
        key = f"{_prefix(kind, snapshot_id)}/{part.file}"
        size = sizes.get(key)
        if size != part.size_bytes:
            found = "nothing" if size is None else f"{size} bytes"
            raise _damaged(key, f"found {found}, expected {part.size_bytes} bytes.")
    return Snapshot(store, manifest)


def _parse_manifest(content: bytes, key: str) -> SnapshotManifest:
    try:
        return SnapshotManifest.model_validate_json(content)
    except ValidationError as error:
        raise _damaged(key, f"{error.error_count()} fault(s) in the manifest.") from error


def _follow(store: Store, kind: DocumentKind, pointer: bytes | None) -> Snapshot | None:
    if pointer is None:
        return None
    try:
        snapshot_id = str(json.loads(pointer)["id"])
        return open_snapshot(store, kind, snapshot_id)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(_latest_key(kind), 'expected {"id": …}.') from error
    except InputError as error:  # the pointer names what is not there: no mistake of the caller
        raise _damaged(_latest_key(kind), str(error)) from error


def _damaged(key: str, reason: str) -> StoreError:
    return StoreError(
        f"{key} is damaged or gone: {reason}",
        hint="Restore it from a backup; or remove the snapshot's folder and the latest.json beside it, and ingest "
        "every source of that kind again.",
    )


def _select(schema: pa.Schema, columns: list[str] | None) -> pa.Schema:
    if columns is None:
        return schema
    unknown = [name for name in columns if name not in schema.names]
    if unknown:
        raise InputError(
            f"Documents have no column {', '.join(map(repr, unknown))}.",
            hint=f"Columns are: {', '.join(schema.names)}.",
        )
    return pa.schema([schema.field(name) for name in columns])


def _prefix(kind: DocumentKind, snapshot_id: str) -> str:
    return f"snapshots/{kind}/{snapshot_id}"


def _latest_key(kind: DocumentKind) -> str:
    return f"snapshots/{kind}/latest.json"


# --- building ---------------------------------------------------------------------------------------------------------


def build_snapshot(
    store: Store,
    *,
    kind: DocumentKind,
    sources: Mapping[str, SourceConfig],
    clean: CleanConfig,
    redact: RedactConfig = RedactConfig(),  # noqa: B008 - frozen
    run_id: str,
    fence: Callable[[], None],
    now: datetime,
    shrink: ShrinkConfig = ShrinkConfig(),  # noqa: B008 - frozen
    on_progress: Callable[[int], None] | None = None,
) -> Snapshot:
    """Build the snapshot that follows the latest one, and make it the latest.

    The listed sources are read and replace their former documents; the documents of all other sources are carried
    over. Everything is built in a scratch directory; what was served before stays served until the last step.
    Repeating an interrupted build completes it; repeating a finished one writes nothing.

    Args:
        store: Where snapshots live.
        kind: Kind of the documents.
        sources: Name of a source to where it is. Names order the documents: of two equal ones the first by name of
            source, then by row, is the original.
        clean: Limits, and how duplicates are looked for.
        redact: What identifies a person, and is replaced before anything is hashed or written. Documents that are
            carried over from a snapshot of other settings are redacted again.
        run_id: Run that builds, for the manifest.
        fence: Called before the new snapshot becomes the latest; raises when this writer lost its lease.
        now: Time for the manifest; must know its time zone.
        shrink: Which losses of a source are refused.
        on_progress: Called with the number of rows read so far.

    Returns:
        The latest snapshot: the new one, or the former one when no document changed.

    Raises:
        InputError: A source cannot be read, no document is left at all, or the name model of ``redact`` is not
            installed; nothing was changed.
        SourceShrankError: A source lost more documents than it may; nothing was changed.
        StoreError: Writing failed, or the former snapshot is damaged; the former snapshot is untouched.
        ConflictError: Another writer moved ``latest.json`` meanwhile.
    """
    _check_request(kind, sources, now)
    pointer = store.read(_latest_key(kind))
    previous = _follow(store, kind, pointer)
    changed = _changed_sources(sources, clean, redact, previous)
    if previous is not None and not changed:
        return previous
    home = store.machine.root
    with _write_errors(kind), store.scratch() as scratch, open_key_file(redact.key_file, home=home) as keys:
        staged = _stage(
            scratch / "staged",
            kind=kind,
            sources=changed,
            clean=clean,
            redactor=Redactor(redact, kind, keys=keys),
            tombstones=read_tombstones(store),
            previous=_Former(previous, redact) if previous is not None else None,
            on_progress=on_progress,
        )
        if previous is not None:
            _check_shrinkage(staged, previous, shrink)
        if keys is not None:
            keys.commit()
        snapshot_id = staged.snapshot_id(kind, redact)
        if previous is not None and previous.manifest.id == snapshot_id:
            return previous
        if store.read(f"{_prefix(kind, snapshot_id)}/manifest.json") is None:
            staged.mark_near_duplicates()
            manifest = _make_manifest(
                staged,
                snapshot_id=snapshot_id,
                kind=kind,
                clean=clean,
                redact=redact,
                run_id=run_id,
                now=now,
                parent=previous,
            )
            _put(store, scratch / "staged", manifest)
    # Opened before it becomes the latest: a damaged snapshot must not be served.
    snapshot = open_snapshot(store, kind, snapshot_id)
    fence()
    store.compare_and_swap(
        _latest_key(kind), expected=pointer, content=canonical_json({"id": snapshot_id}).encode() + b"\n"
    )
    return snapshot


@dataclass(frozen=True)
class _Feed:
    """A source that has to be read, and the hash of its files before it was."""

    config: SourceConfig
    raw_sha256: str | None


def _changed_sources(
    sources: Mapping[str, SourceConfig], clean: CleanConfig, redact: RedactConfig, previous: Snapshot | None
) -> dict[str, _Feed]:
    """Sources whose documents may differ from the former ones: other files, or cleaned or redacted otherwise."""
    feeds = {name: _Feed(config, source_sha256(config)) for name, config in sources.items()}
    if previous is None or (previous.manifest.clean, previous.manifest.schema_version) != (clean, SCHEMA_VERSION):
        return feeds
    if not _Former(previous, redact).is_redacted:
        return feeds
    former = previous.manifest.sources
    return {
        name: feed
        for name, feed in feeds.items()
        if feed.raw_sha256 is None or name not in former or former[name].raw_sha256 != feed.raw_sha256
    }


def _check_request(kind: DocumentKind, sources: Mapping[str, SourceConfig], now: datetime) -> None:
    if kind not in KINDS:
        raise InputError(f"'{kind}' is no kind of document; expected one of {', '.join(KINDS)}.")
    if not sources:
        raise InputError(
            "No source was named; expected one or more.", hint="List sources in l2v.toml, or pass --source."
        )
    for name, config in sources.items():
        if not name.strip():
            raise InputError(f"The source at '{config.path}' has no name.", hint="Name it with --name.")
        if config.kind != kind:
            raise InputError(
                f"Source '{name}' holds documents of kind '{config.kind}'; expected '{kind}'.",
                hint="Ingest each kind by itself, or correct the kind of the source.",
            )
    if now.tzinfo is None:
        raise InputError("The time of the snapshot has no time zone.", hint="Pass a time in UTC.")


@contextlib.contextmanager
def _write_errors(kind: DocumentKind) -> Iterator[None]:
    """Turn a failed write, also inside of Arrow's writer, into one sentence with a remedy."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).splitlines()[0]
        raise StoreError(
            f"Could not write the {kind} snapshot: {reason}.",
            hint="The former snapshot is untouched. Free space or restore the permission, then run again.",
        ) from error


@dataclass
class _Part:
    """A finished part: a file of its name in each folder of its writer."""

    name: str
    source: str
    num_rows: int


@dataclass
class _Counts:
    path: str
    rows_in: int = 0
    raw_sha256: str | None = None
    kept: int = 0
    quarantined: int = 0
    duplicate: int = 0
    near_duplicate: int = 0


class _PartWriter:
    """Writes rows into numbered Parquet files of bounded size, which do not depend on how the rows came.

    Args:
        directory: Where the folders go.
        folders: Columns of the file that each folder holds of a part.
    """

    def __init__(self, directory: Path, folders: Mapping[str, pa.Schema]) -> None:
        self.parts: list[_Part] = []
        self._directory, self._folders = directory, folders
        self._pending: list[pa.Table] = []
        self._num_rows = self._num_chars = 0
        for folder in folders:
            (directory / folder).mkdir(parents=True)

    def path(self, folder: str, part: _Part) -> Path:
        """Where a folder's file of a part is."""
        return self._directory / folder / part.name

    def add(self, rows: pa.Table, *, source: str, num_chars: NDArray[np.int64]) -> None:
        """Add rows of a source, each of so many characters."""
        while len(rows):
            ends = self._num_chars + np.cumsum(num_chars)
            full = int(np.searchsorted(ends, PART_CHARS)) + 1
            stop = min(len(rows), PART_ROWS - self._num_rows, full)
            self._pending.append(rows.slice(0, stop))
            self._num_rows, self._num_chars = self._num_rows + stop, int(ends[stop - 1])
            rows, num_chars = rows.slice(stop), num_chars[stop:]
            if self._num_rows >= PART_ROWS or self._num_chars >= PART_CHARS:
                self.close(source)

    def close(self, source: str) -> None:
        """Write what was collected; the next row starts a new part."""
        if not self._pending:
            return
        part = _Part(f"part-{len(self.parts):05d}.parquet", source, self._num_rows)
        rows = pa.concat_tables(self._pending).combine_chunks()
        for folder, schema in self._folders.items():
            _write_parquet(rows.select(schema.names), self.path(folder, part))
        self.parts.append(part)
        self._pending, self._num_rows, self._num_chars = [], 0, 0

    def replace_column(self, folder: str, part: _Part, column: pa.Field, values: pa.Array) -> None:
        """Write a folder's file of a finished part once more, with other values in one column."""
        path = self.path(folder, part)
        _write_parquet(_replaced(pq.read_table(path, schema=self._folders[folder]), column, values), path)


def _table_of(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.Table.from_arrays(
        [pa.array(column, item.type) for column, item in zip(columns, schema, strict=True)], schema=schema
    )


def _write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(
        table,
        path,
        compression="zstd",
        write_page_checksum=True,
        row_group_size=_GROUP_ROWS,
        use_dictionary=[name for name in _REPEATING_COLUMNS if name in table.column_names],
    )


@dataclass
class _Staged:
    """Documents and rejected rows on their way into a snapshot; holds some 100 bytes a document."""

    documents: _PartWriter
    rejected: _PartWriter
    clean: CleanConfig
    counts: dict[str, _Counts] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    # Two digests, because documents that are carried over come apart from their rejected neighbours.
    document_digest: Any = field(default_factory=hashlib.sha256)
    rejected_digest: Any = field(default_factory=hashlib.sha256)
    _contents: FirstRows = field(default_factory=FirstRows)
    _ids: list[Digests] = field(default_factory=list)
    _is_judged: list[NDArray[np.bool_]] = field(default_factory=list)
    _bands: list[NDArray[np.uint32]] = field(default_factory=list)

    def add_documents(self, rows: pa.Table, *, source: str) -> None:
        """Keep documents of a source and what they were made of; mark those whose content an earlier one has.

        Args:
            rows: Columns of :data:`data.schema.DOCUMENT_SCHEMA` and :data:`ORIGIN_SCHEMA`; marks that they have from
                another snapshot are forgotten.
            source: Where all of them are from.
        """
        if not len(rows):
            return
        counts = self.counts[source]
        counts.kept += len(rows)
        lines = pc.binary_join_element_wise(*(rows[name].cast(pa.string()) for name in _IDENTITY), " ").to_pylist()
        self.document_digest.update("".join(f"{line}\n" for line in lines).encode())
        self._ids.append(pack_digests(rows["doc_id"]))
        firsts = self._contents.add(pack_digests(rows["content_sha256"]))
        is_duplicate = firsts != np.arange(len(self._contents) - len(rows), len(self._contents))
        counts.duplicate += int(is_duplicate.sum())
        originals = iter(self._ids_at(firsts[is_duplicate]))
        marks = [next(originals) if is_marked else None for is_marked in is_duplicate.tolist()]
        rows = _replaced(rows, DOCUMENT_SCHEMA.field("duplicate_of"), pa.array(marks, pa.string()))
        rows = _replaced(rows, DOCUMENT_SCHEMA.field("near_duplicate_of"), pa.nulls(len(rows), pa.string()))
        if self.clean.near_duplicates:
            rows = self._sketched(rows, is_duplicate)
        num_chars = rows["num_chars"].to_numpy() + pc.utf8_length(rows["metadata"]).to_numpy()
        self.documents.add(rows, source=source, num_chars=num_chars)

    def _ids_at(self, numbers: NDArray[np.int64]) -> list[str]:
        """Ids of documents by their number in the snapshot."""
        if not len(numbers):
            return []
        self._ids = [np.concatenate(self._ids)]
        return unpack_digests(self._ids[0][numbers])

    def _sketched(self, rows: pa.Table, is_duplicate: NDArray[np.bool_]) -> pa.Table:
        """Rows with the sketches that are not known yet; an exact duplicate points to its first and needs none."""
        from data.documents import near_duplicates

        missing = np.flatnonzero(pc.is_null(rows["sketch"]).to_numpy() & ~is_duplicate)
        if len(missing):
            sketches = rows["sketch"].to_pylist()
            for number, row in zip(missing, rows.select(["title", "text"]).take(missing).to_pylist(), strict=True):
                sketches[number] = near_duplicates.sketch(encoded_text(row["title"], row["text"])).tobytes()
            rows = _replaced(rows, _SKETCH, pa.array(sketches, _SKETCH.type))
        judged = rows["sketch"].filter(pa.array(~is_duplicate)).to_pylist()
        signatures = np.frombuffer(b"".join(judged), np.uint16).reshape(len(judged), near_duplicates.NUM_PERM)
        bands = near_duplicates.bands_of(signatures, self.clean.near_duplicate_threshold)
        self._bands.append(bands)
        self._is_judged.append(~is_duplicate)
        return rows

    def add_rejected(self, rejected: Sequence[RejectedRow], *, source: str) -> None:
        """Keep rejected rows of a source and their reasons."""
        self.counts[source].quarantined += len(rejected)
        self.reasons.update(str(row.reason) for row in rejected)
        stored = []
        for row in rejected:
            values = (source, row.file, row.row, str(row.reason), row.detail, row.excerpt)
            # Names of files may hold bytes that are no UTF-8.
            stored.append(tuple(_storable(value) if isinstance(value, str) else value for value in values))
            self.rejected_digest.update(canonical_json(stored[-1]).encode() + b"\n")
        num_chars = np.array([len(row.excerpt) for row in rejected], np.int64)
        self.rejected.add(_table_of(stored, QUARANTINE_SCHEMA), source=source, num_chars=num_chars)

    def close_source(self, source: str) -> None:
        """Finish the parts of a source and check that none of its rows was lost."""
        self.documents.close(source)
        self.rejected.close(source)
        counts = self.counts[source]
        if counts.rows_in != counts.kept + counts.quarantined:
            raise StoreError(
                f"Source '{source}' has {counts.rows_in} rows, but {counts.kept} were kept and "
                f"{counts.quarantined} quarantined: rows were lost or doubled.",
                hint="Nothing was written. Please report this as a defect.",
            )

    def snapshot_id(self, kind: DocumentKind, redact: RedactConfig) -> str:
        """Hash of all that determines the content; marks follow from the documents and the settings."""
        clean = self.clean
        marks = [clean.near_duplicates, clean.near_duplicate_threshold if clean.near_duplicates else None]
        digests = [self.document_digest.hexdigest(), self.rejected_digest.hexdigest()]
        return sha256_json([SCHEMA_VERSION, kind, sorted(self.counts), marks, redact.identity(kind), digests])[:16]

    def mark_near_duplicates(self) -> None:
        """Mark near duplicates over the union of all sources; parts without any stay as they were written."""
        if not self.clean.near_duplicates:
            return
        from data.documents.near_duplicates import NearDuplicateIndex, shares_a_band

        is_candidate = np.concatenate(self._is_judged)
        is_candidate[is_candidate] = shares_a_band(np.concatenate(self._bands))
        index, start = NearDuplicateIndex(self.clean.near_duplicate_threshold), 0
        for part in self.documents.parts:
            candidates = np.flatnonzero(is_candidate[start : start + part.num_rows])
            start += part.num_rows
            if not len(candidates):
                continue
            ids = pq.read_table(self.documents.path("documents", part), columns=["doc_id"])["doc_id"]
            sketches = pq.read_table(self.documents.path("origins", part), columns=["sketch"])["sketch"]
            marks: list[str | None] = [None] * part.num_rows
            found = zip(candidates, ids.take(candidates), sketches.take(candidates), strict=True)
            for number, doc_id, sketch in found:
                marks[number] = index.add(doc_id.as_py(), np.frombuffer(sketch.as_buffer(), np.uint16))
            column = pa.array(marks, pa.string())
            num_marked = len(column) - column.null_count
            if num_marked:
                self.counts[part.source].near_duplicate += num_marked
                mark = DOCUMENT_SCHEMA.field("near_duplicate_of")
                self.documents.replace_column("documents", part, mark, column)


_DOCUMENT_COLUMNS = tuple(item.name for item in fields(Document))


def _replaced(rows: pa.Table, column: pa.Field, values: pa.Array) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(column.name), column, values)


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _stage(
    directory: Path,
    *,
    kind: DocumentKind,
    sources: Mapping[str, _Feed],
    clean: CleanConfig,
    redactor: Redactor,
    tombstones: Tombstones,
    previous: _Former | None,
    on_progress: Callable[[int], None] | None,
) -> _Staged:
    """Gather documents and rejected rows of all sources, read and carried over, in the order of their names."""
    staged = _Staged(
        documents=_PartWriter(directory, {"documents": DOCUMENT_SCHEMA, "origins": ORIGIN_SCHEMA}),
        rejected=_PartWriter(directory, {"quarantine": QUARANTINE_SCHEMA}),
        clean=clean,
    )
    progress = _Progress(on_progress)
    former = previous.snapshot.manifest.sources if previous is not None else {}
    for name in sorted({*sources, *former}):
        if name in sources:
            feed = sources[name]
            staged.counts[name] = _Counts(feed.config.path, raw_sha256=feed.raw_sha256)
            _stage_source(
                staged,
                name,
                config=feed.config,
                redactor=redactor,
                tombstones=tombstones,
                progress=progress,
                former=_FormerRows.of(previous, name, clean) if name in former else None,
            )
        elif previous is not None:
            counts = former[name]
            staged.counts[name] = _Counts(counts.path, rows_in=counts.rows_in, raw_sha256=counts.raw_sha256)
            _stage_former(staged, name, previous=previous, redactor=redactor)
        staged.close_source(name)
    progress.finish()
    if not any(counts.kept for counts in staged.counts.values()):
        raise _nothing_kept(kind, staged)
    return staged


def _stage_source(
    staged: _Staged,
    name: str,
    *,
    config: SourceConfig,
    redactor: Redactor,
    tombstones: Tombstones,
    progress: _Progress,
    former: _FormerRows | None,
) -> None:
    """Read a source in chunks: rows that were there before become what they became then, others are cleaned."""
    seen = _SeenIds()
    for rows, digests in _chunks(config, progress):
        staged.counts[name].rows_in += len(rows)
        known = former.find(np.array(digests, f"S{DIGEST_BYTES}")) if former is not None else _no_known_rows()
        is_known = np.isin(np.arange(len(rows)), known.numbers)
        cleaned: dict[int, Document] = {}
        rejected: dict[int, RejectedRow] = {}
        for number, row in enumerate(rows):
            if isinstance(row, RejectedRow):
                rejected[number] = row
            elif tombstones.holds_row(name, row.values.get(config.id_field)):
                rejected[number] = RejectedRow("", row.row, RejectReason.ERASED, _ERASED_DETAIL, "")
            elif not is_known[number]:
                result = clean_row(row, source=name, config=config, clean=staged.clean, redactor=redactor)
                if isinstance(result, Document):
                    cleaned[number] = result
                else:
                    rejected[number] = result
        numbers, documents = _in_order(known, cleaned, digests, without=rejected)
        repeated = seen.add(documents)
        for at, reason, detail in repeated:
            row, title = rows[numbers[at]], documents["title"][at].as_py()
            excerpt = title[:100] or documents["text"][at].as_py()[:100]
            rejected[int(numbers[at])] = RejectedRow(row.file, row.row, reason, detail, excerpt)
        if repeated:
            documents = documents.filter(pa.array(~np.isin(np.arange(len(documents)), [at for at, _, _ in repeated])))
        staged.add_documents(documents, source=name)
        staged.add_rejected([_redact_rejected(rejected[number], redactor) for number in sorted(rejected)], source=name)


def _chunks(config: SourceConfig, progress: _Progress) -> Iterator[tuple[list[RawRow | RejectedRow], list[bytes]]]:
    """All rows of a source with their digests, in chunks of bounded size; empty digests for what has none."""
    rows: list[RawRow | RejectedRow] = []
    digests: list[bytes] = []
    num_chars = 0
    seed = config.model_dump_json(exclude={"path"}).encode()
    for row in read_rows(config):
        progress.step()
        written = _written_out(row)
        rows.append(row)
        digests.append(b"" if written is None else hashlib.sha256(seed + written).digest()[:DIGEST_BYTES])
        num_chars += len(written or b"")
        if len(rows) >= _CHUNK_ROWS or num_chars >= _CHUNK_CHARS:
            yield rows, digests
            rows, digests, num_chars = [], [], 0
    if rows:
        yield rows, digests


def _written_out(row: RawRow | RejectedRow) -> bytes | None:
    """A raw row in full; None for what is nested too deeply, or no row at all."""
    if not isinstance(row, RawRow):
        return None
    try:
        return repr(row.values).encode()
    except RecursionError:
        return None


class _KnownRows(NamedTuple):
    """Rows of a chunk that were there before: their places in it, and what they became."""

    numbers: NDArray[np.int64]
    documents: pa.Table


_STAGED_SCHEMA = pa.schema([*DOCUMENT_SCHEMA, *ORIGIN_SCHEMA])


def _no_known_rows() -> _KnownRows:
    """No rows. Made when it is asked for: the first table that pyarrow makes imports pandas, which takes a second."""
    return _KnownRows(np.zeros(0, np.int64), _STAGED_SCHEMA.empty_table())


def _in_order(
    known: _KnownRows, cleaned: Mapping[int, Document], digests: Sequence[bytes], *, without: Collection[int]
) -> tuple[NDArray[np.int64], pa.Table]:
    """Documents of a chunk, known and cleaned, in the order of its rows, with their places there."""
    numbers = np.array([*known.numbers, *cleaned], np.int64)
    rows = [
        (*(getattr(each, name) for name in _DOCUMENT_COLUMNS), digests[at] or None, None)
        for at, each in cleaned.items()
    ]
    documents = pa.concat_tables([known.documents, _table_of(rows, _STAGED_SCHEMA)])
    order = np.argsort(numbers)
    order = order[~np.isin(numbers[order], list(without))]
    return numbers[order], documents.take(order)


class _SeenIds:
    """Finds documents whose id an earlier row of the same source has: the first one is kept."""

    def __init__(self) -> None:
        self._ids = FirstRows()
        self._hashes: list[NDArray[np.uint64]] = []

    def add(self, documents: pa.Table) -> list[tuple[int, RejectReason, str]]:
        """Which of further documents are repeated, why, and in which words."""
        content, metadata = pack_digests(documents["content_sha256"]), pack_digests(documents["metadata_sha256"])
        self._hashes.append(_halves(content, metadata))
        firsts = self._ids.add(pack_digests(documents["doc_id"]))
        repeated = np.flatnonzero(firsts != np.arange(len(self._ids) - len(documents), len(self._ids)))
        if not len(repeated):
            return []
        self._hashes = [np.concatenate(self._hashes)]
        found = []
        for at in repeated.tolist():
            before, now = self._hashes[0][firsts[at]], self._hashes[0][len(self._ids) - len(documents) + at]
            shown = f"id '{documents['source_id'][at].as_py()[:100]}' came before"
            if (before == now).all():
                found.append((at, RejectReason.REPEATED_ROW, f"{shown}, in an equal row"))
            else:
                part = "text" if before[0] != now[0] else "metadata"
                found.append((at, RejectReason.DUPLICATE_ID, f"{shown}, with other {part}; expected an id of its own"))
        return found


def _halves(content: Digests, metadata: Digests) -> NDArray[np.uint64]:
    """The first bytes of two hashes of each row, to tell what differs; shape (rows, 2)."""
    return np.stack([each.view(np.uint64).reshape(-1, 2)[:, 0] for each in (content, metadata)], axis=1)


class _FormerRows:
    """The rows of a source as the former snapshot knows them: found by digest, some 24 bytes a row.

    Args:
        snapshot: The former snapshot.
        source: Name of the source.
    """

    def __init__(self, snapshot: Snapshot, source: str) -> None:
        unknown = bytes(DIGEST_BYTES)
        self._snapshot = snapshot
        raw = [
            np.frombuffer(batch["raw_digest"].fill_null(unknown).buffers()[1], f"S{DIGEST_BYTES}")[
                batch["raw_digest"].offset :
            ][: len(batch)]
            for batch in snapshot.origins(source=source)
        ]
        self._index = DigestIndex(np.concatenate([no_digests(), *raw]))
        parts = snapshot.manifest.documents
        self._starts = np.cumsum([0, *(part.num_rows for part in parts)])
        # The parts of a source lie one behind the other.
        self._first = self._starts[next(number for number, part in enumerate(parts) if part.source == source)]

    @classmethod
    def of(cls, previous: _Former | None, source: str, clean: CleanConfig) -> _FormerRows | None:
        """The rows of a source; None where equal rows may become other documents now."""
        if previous is None or not previous.is_cleaned(clean):
            return None
        parts = previous.snapshot.manifest.origins
        return cls(previous.snapshot, source) if any(part.source == source for part in parts) else None

    def find(self, digests: Digests) -> _KnownRows:
        """Documents of equal rows; those that lie far from the others are not looked up."""
        places = self._index.positions(digests)
        places[digests == b""] = -1
        found = np.flatnonzero(places >= 0)
        wanted = self._first + places[found]
        parts = np.searchsorted(self._starts, wanted, side="right")
        _, inverse, counts = np.unique(parts, return_inverse=True, return_counts=True)
        is_near = counts[inverse] >= _MIN_SHARE * len(digests)
        found, wanted = found[is_near], wanted[is_near]
        rows, which = np.unique(wanted, return_inverse=True)
        documents = pa.Table.from_batches(self._snapshot.rows(rows), DOCUMENT_SCHEMA)
        origins = pa.Table.from_batches(self._snapshot.origins_of(rows), ORIGIN_SCHEMA)
        columns = [*documents.columns, *origins.columns]
        return _KnownRows(found, pa.Table.from_arrays(columns, schema=_STAGED_SCHEMA).take(which))


def _redact_rejected(row: RejectedRow, redactor: Redactor) -> RejectedRow:
    return replace(row, detail=redactor.redact_text(row.detail), excerpt=redactor.redact_text(row.excerpt))


@dataclass(frozen=True)
class _Former:
    """The snapshot that documents are carried over from, and whether they were redacted as they are to be now."""

    snapshot: Snapshot
    redact: RedactConfig

    def is_cleaned(self, clean: CleanConfig) -> bool:
        """Whether an equal row would become the document that it became then."""
        manifest = self.snapshot.manifest
        is_same = (manifest.clean, manifest.schema_version) == (clean, SCHEMA_VERSION)
        # A file of what was replaced needs every document to be redacted again.
        return is_same and self.is_redacted and self.redact.key_file is None

    @property
    def is_redacted(self) -> bool:
        found, kind = self.snapshot.manifest.redact, self.snapshot.manifest.kind
        return found is not None and found.identity(kind) == self.redact.identity(kind)


def _stage_former(staged: _Staged, name: str, *, previous: _Former, redactor: Redactor) -> None:
    """Carry the documents and rejected rows of a source over."""
    snapshot, is_cleaned = previous.snapshot, previous.is_cleaned(staged.clean)
    origins = snapshot.origins(source=name)
    for batch in snapshot.batches(source=name):
        if previous.is_redacted:
            origin = next(origins, None)
            unknown = [pa.nulls(len(batch), item.type) for item in ORIGIN_SCHEMA]
            raw_digest, sketch = unknown if origin is None else origin.columns
            columns = [*batch.columns, raw_digest if is_cleaned else unknown[0], sketch]
            rows = pa.Table.from_arrays(columns, schema=_STAGED_SCHEMA)
        else:
            redacted = [redact_document(Document(**values), redactor) for values in batch.to_pylist()]
            values = [(*(getattr(each, column) for column in _DOCUMENT_COLUMNS), None, None) for each in redacted]
            rows = _table_of(values, _STAGED_SCHEMA)
        staged.add_documents(rows, source=name)
    for batch in snapshot.quarantine_batches(source=name):
        rejected = []
        for values in batch.drop_columns(["source"]).to_pylist():
            row = RejectedRow(**{**values, "reason": RejectReason(values["reason"])})
            rejected.append(row if previous.is_redacted else _redact_rejected(row, redactor))
        staged.add_rejected(rejected, source=name)


def _check_shrinkage(staged: _Staged, previous: Snapshot, shrink: ShrinkConfig) -> None:
    """Refuse a source that suddenly holds far fewer documents: most often a broken delivery, not a decision."""
    for name, former in previous.manifest.sources.items():
        kept = staged.counts[name].kept
        lost = 1 - kept / max(former.rows_kept, 1)
        if former.rows_kept >= SHRINK_FROM and lost > shrink.max_shrink and name not in shrink.allow_shrink:
            raise SourceShrankError(
                f"Source '{name}' had {former.rows_kept:,} documents and has {kept:,} now: {lost:.0%} fewer, the limit "
                f"is {shrink.max_shrink:.0%}.",
                hint=f"Nothing was changed. Look whether the delivery is whole; if it is, confirm with "
                f"--allow-shrink {name}.",
            )


def _nothing_kept(kind: DocumentKind, staged: _Staged) -> InputError:
    rows_in = sum(counts.rows_in for counts in staged.counts.values())
    names = ", ".join(f"'{name}'" for name in islice(staged.counts, 5))
    reasons = ", ".join(f"{reason} ({count})" for reason, count in staged.reasons.most_common(3))
    return InputError(
        f"None of the {rows_in} rows of {names} became a {kind} document; reasons: {reasons or 'there are no rows'}.",
        hint="Check the path, that the files are UTF-8, and that id_field, title_field and text_field name the right "
        "fields.",
    )


class _Progress:
    def __init__(self, report: Callable[[int], None] | None) -> None:
        self._report = report
        self._num_rows = 0

    def step(self) -> None:
        self._num_rows += 1
        if self._num_rows % _PROGRESS_ROWS == 0:
            self.finish()

    def finish(self) -> None:
        if self._report is not None:
            self._report(self._num_rows)


# --- committing -------------------------------------------------------------------------------------------------------


def _make_manifest(
    staged: _Staged,
    *,
    snapshot_id: str,
    kind: DocumentKind,
    clean: CleanConfig,
    redact: RedactConfig,
    run_id: str,
    now: datetime,
    parent: Snapshot | None,
) -> SnapshotManifest:
    sources = {
        name: SourceCounts(
            path=counts.path,
            rows_in=counts.rows_in,
            rows_kept=counts.kept,
            rows_quarantined=counts.quarantined,
            rows_duplicate=counts.duplicate,
            rows_near_duplicate=counts.near_duplicate,
            raw_sha256=counts.raw_sha256,
        )
        for name, counts in staged.counts.items()
    }
    totals = TotalCounts(
        **{name: sum(getattr(counts, name) for counts in sources.values()) for name in TotalCounts.model_fields}
    )
    return SnapshotManifest(
        id=snapshot_id,
        kind=kind,
        schema_version=SCHEMA_VERSION,
        created_at=now.astimezone(UTC).isoformat(),
        run_id=run_id,
        parent=parent.manifest.id if parent is not None else None,
        clean=clean,
        redact=redact,
        sources=sources,
        totals=totals,
        num_documents=totals.rows_kept,
        documents=_describe(staged.documents, "documents"),
        quarantine=_describe(staged.rejected, "quarantine"),
        origins=_describe(staged.documents, "origins"),
    )


def _describe(writer: _PartWriter, folder: str) -> tuple[PartInfo, ...]:
    return tuple(
        PartInfo.of(writer.path(folder, part), file=f"{folder}/{part.name}", source=part.source, num_rows=part.num_rows)
        for part in writer.parts
    )


def _sha256_file(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _put(store: Store, directory: Path, manifest: SnapshotManifest) -> None:
    """Put all parts, then the manifest that makes them a snapshot."""
    prefix = _prefix(manifest.kind, manifest.id)
    for info in (*manifest.documents, *manifest.quarantine, *manifest.origins):
        key = f"{prefix}/{info.file}"
        stored = store.read(key)
        # An interrupted build left its part, which may have been written by another version of the Parquet library.
        if stored is not None and hashlib.sha256(stored).hexdigest() != info.sha256:
            store.delete(key)
        store.put_if_absent(key, directory / info.file)
    store.put_if_absent(f"{prefix}/manifest.json", manifest.model_dump_json(indent=2).encode() + b"\n")
