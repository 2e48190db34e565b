"""Reading snapshots: opening them, and their documents, rejected rows and origins in batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.errors import InputError
from data.schema import (
    DOCUMENT_SCHEMA,
    QUARANTINE_SCHEMA,
    DocumentKind,
)
from data.snapshots.manifest import PartInfo, SnapshotManifest, damaged, latest_record, manifest_record, snapshot_key
from data.snapshots.tombstones import snapshot_successor
from data.store.base import Store
from data.store.digests import DIGEST_BYTES, Digests, no_digests, pack_digests

ORIGIN_SCHEMA = pa.schema(
    [
        pa.field("raw_digest", pa.binary(DIGEST_BYTES)),
        pa.field("sketch", pa.binary(256)),
        pa.field("contacts", pa.binary()),
    ]
)
"""Origin of a document. ``raw_digest``: digest of its raw row; null if other settings cleaned it. ``sketch``: sketch
of its text; null if it was not needed to find near duplicates. ``contacts``: keys of the person that a resume is about
(:mod:`data.redaction.contact_keys`); null for a job, and if they are not known."""

_BATCH_ROWS = 1024


class Snapshot:
    """A snapshot opened for reading.

    Attributes:
        manifest: Its record.
    """

    def __init__(self, store: Store, manifest: SnapshotManifest) -> None:
        """Use :func:`open_snapshot` or :func:`latest_snapshot`."""
        self.manifest = manifest
        self._store = store

    def batches(self, columns: list[str] | None = None, *, source: str | None = None) -> Iterator[pa.RecordBatch]:
        """Documents in order, at most 1,024 per batch.

        Args:
            columns: Columns wanted, in this order; None for all of :data:`data.schema.DOCUMENT_SCHEMA`.
            source: Only documents of this source.

        Raises:
            InputError: A column is unknown.
            StoreError: A part is missing or damaged.
        """
        schema = _select(DOCUMENT_SCHEMA, columns)
        yield from self._read(self.manifest.documents, schema, source=source)

    def part_batches(self, part: PartInfo) -> Iterator[pa.RecordBatch]:
        """All columns of one part: documents or rejected rows.

        Raises:
            StoreError: The part is missing or damaged.
        """
        yield from self._read_part(part, DOCUMENT_SCHEMA if part in self.manifest.documents else QUARANTINE_SCHEMA)

    def origins(self, *, source: str) -> Iterator[pa.RecordBatch]:
        """Origins of a source's documents, in order; empty if the snapshot does not record origins."""
        yield from self._read(self.manifest.origins, ORIGIN_SCHEMA, source=source)

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """All documents in memory; see :meth:`batches`."""
        return pa.Table.from_batches(self.batches(columns), schema=_select(DOCUMENT_SCHEMA, columns))

    def rows(self, numbers: NDArray[np.int64], columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Documents by row number, in the order of the snapshot. Only the parts that hold them are read.

        Args:
            numbers: Row numbers from 0, ascending.
            columns: As in :meth:`batches`.

        Raises:
            InputError: A column is unknown.
            StoreError: A part is missing or damaged.
        """
        yield from self._rows_of(self.manifest.documents, _select(DOCUMENT_SCHEMA, columns), numbers)

    def origins_of(self, numbers: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        """Origins of documents by row number, as in :meth:`rows`."""
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
        """Rejected rows in order, at most 1,024 per batch, optionally of one source."""
        yield from self._read(self.manifest.quarantine, QUARANTINE_SCHEMA, source=source)

    def quarantine(self, *, source: str | None = None) -> pa.Table:
        """All rejected rows in memory, with :data:`data.schema.QUARANTINE_SCHEMA`."""
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
        key = f"{snapshot_key(self.manifest.kind, self.manifest.id)}/{part.file}"
        try:
            # Every page has a checksum: a flipped bit is detected here, not in a search result.
            with self._store.open(key) as opened, pq.ParquetFile(opened, page_checksum_verification=True) as parquet:
                yield parquet
        except (OSError, pa.ArrowException, ValueError, KeyError) as error:  # errors that a damaged footer can cause
            raise damaged(key, str(error).splitlines()[0]) from error


def _batches_of(parquet: pq.ParquetFile, schema: pa.Schema, groups: list[int] | None) -> Iterator[pa.RecordBatch]:
    """Batches in a schema. Columns that a file of an earlier version lacks are null."""
    held = set(parquet.schema_arrow.names)
    absent = [field for field in schema if field.nullable and field.name not in held]
    for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, row_groups=groups, columns=schema.names):
        for field in absent:
            batch = batch.append_column(field, pa.nulls(len(batch), field.type))
        yield batch.select(schema.names)


def _chosen(batches: Iterator[pa.RecordBatch], numbers: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    """Rows of consecutive batches by row number, ascending."""
    start = 0
    for batch in batches:
        first, stop = np.searchsorted(numbers, [start, start + len(batch)])
        if first < stop:
            yield batch.take(pa.array(numbers[first:stop] - start))
        start += len(batch)


def contents_of(snapshot: Snapshot) -> Digests:
    """Content digest of every document, in order: 16 bytes per document."""
    packed = [pack_digests(batch.column(0)) for batch in snapshot.batches(["content_sha256"])]
    return np.concatenate([no_digests(), *packed])


def latest_snapshot(store: Store, kind: DocumentKind) -> Snapshot | None:
    """Open the latest snapshot of a kind; None if there is none yet.

    Raises:
        StoreError: It is damaged, or one of its parts is missing.
    """
    return follow_latest(store, kind, store.read(latest_record(kind).key))


def follow_latest(store: Store, kind: DocumentKind, raw: bytes | None) -> Snapshot | None:
    """Open the snapshot named by the bytes of ``latest.json``; see :func:`latest_snapshot`."""
    latest = latest_record(kind)
    snapshot_id = latest.parse(raw)
    if snapshot_id is None:
        return None
    try:
        return open_snapshot(store, kind, snapshot_id)
    except InputError as error:  # latest.json names a missing snapshot: not a mistake of the caller
        raise latest.damaged(str(error)) from error


def snapshot_ids(store: Store, kind: DocumentKind) -> list[str]:
    """Ids of all snapshots of a kind."""
    return [key.split("/")[2] for key in store.list(f"snapshots/{kind}") if key.endswith("/manifest.json")]


def open_snapshot(store: Store, kind: DocumentKind, snapshot_id: str) -> Snapshot:
    """Open a snapshot by its id. If an erasure replaced it, open its successor.

    Raises:
        InputError: There is no such snapshot.
        StoreError: It is damaged, or one of its parts is missing.
    """
    manifest = manifest_record(kind, snapshot_id).read(store)
    if manifest is None:
        successor = snapshot_successor(store, kind, snapshot_id)
        if successor is not None:
            return open_snapshot(store, kind, successor)
        known = snapshot_ids(store, kind)
        raise InputError(
            f"There is no {kind} snapshot '{snapshot_id}'; known ids: {', '.join(known[:10]) or 'none'}.",
            hint="Use one of these ids, or run l2v ingest.",
        )
    sizes = {entry.key: entry.size_bytes for entry in store.entries(snapshot_key(kind, snapshot_id))}
    for part in manifest.parts:
        key = f"{snapshot_key(kind, snapshot_id)}/{part.file}"
        size = sizes.get(key)
        if size != part.size_bytes:
            found = "nothing" if size is None else f"{size} bytes"
            raise damaged(key, f"found {found}, expected {part.size_bytes} bytes.")
    return Snapshot(store, manifest)


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
