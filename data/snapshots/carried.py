"""Carry over whole sources, and documents of unchanged rows, from the former snapshot.

A row is matched by the digest of its raw values. Its document is carried over only if the current settings would
produce the same document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.config import CleanConfig, RedactConfig, SourceConfig
from data.documents.clean import Document, redact_document
from data.documents.rows import RawRow, ReadLog, RejectedRow, RejectReason
from data.documents.sources import READER_VERSION, read_rows
from data.redaction.redact import Redactor
from data.schema import (
    DOCUMENT_SCHEMA,
)
from data.snapshots.manifest import SCHEMA_VERSION
from data.snapshots.parts import table_of
from data.snapshots.snapshot import ORIGIN_SCHEMA, Snapshot
from data.snapshots.staging import Staged
from data.store.digests import DIGEST_BYTES, DigestIndex, Digests, no_digests

_CHUNK_ROWS = 2500
_CHUNK_CHARS = 4_000_000
"""Rows and characters of a source that are looked up in the former snapshot at once. They are in memory twice."""

_MIN_SHARE = 0.05
"""Minimum share of a chunk's rows in a former part for reading it. Below this share, cleaning is cheaper."""


def chunks(
    config: SourceConfig, log: ReadLog, on_row: Callable[[], None], *, ocr: bool = False
) -> Iterator[tuple[list[RawRow | RejectedRow], list[bytes]]]:
    """All rows of a source with their digests, in chunks of bounded size. A missing digest is empty."""
    rows: list[RawRow | RejectedRow] = []
    digests: list[bytes] = []
    num_chars = 0
    seed = f"{READER_VERSION} {config.decisive_json()}".encode()
    for row in read_rows(config, log, ocr=ocr):
        on_row()
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
    """All values of a raw row as bytes; None for a row that is rejected or nested too deeply."""
    if not isinstance(row, RawRow):
        return None
    try:
        return repr(row.values).encode()
    except RecursionError:
        return None


class KnownRows(NamedTuple):
    """Unchanged rows of a chunk: their positions in the chunk, and their documents."""

    numbers: NDArray[np.int64]
    documents: pa.Table


STAGED_SCHEMA = pa.schema([*DOCUMENT_SCHEMA, *ORIGIN_SCHEMA])


def no_known_rows() -> KnownRows:
    """No rows. A function, because creating the first pyarrow table imports pandas, which takes a second."""
    return KnownRows(np.zeros(0, np.int64), STAGED_SCHEMA.empty_table())


def in_order(
    known: KnownRows, cleaned: Mapping[int, Document], digests: Sequence[bytes], *, without: Collection[int]
) -> tuple[NDArray[np.int64], pa.Table]:
    """Known and newly cleaned documents of a chunk, in row order, with their positions."""
    numbers = np.array([*known.numbers, *cleaned], np.int64)
    rows = [_staged(each, raw_digest=digests[at] or None) for at, each in cleaned.items()]
    documents = pa.concat_tables([known.documents, table_of(rows, STAGED_SCHEMA)])
    order = np.argsort(numbers)
    order = order[~np.isin(numbers[order], list(without))]
    return numbers[order], documents.take(order)


def _staged(document: Document, *, raw_digest: bytes | None = None) -> tuple[object, ...]:
    """A newly cleaned or redacted document as a row of ``STAGED_SCHEMA``; its sketch is still missing."""
    return (*(getattr(document, name) for name in DOCUMENT_SCHEMA.names), raw_digest, None, document.contacts)


class FormerRows:
    """Rows of a source in the former snapshot, looked up by digest; uses about 24 bytes of memory per row.

    Args:
        snapshot: The former snapshot.
        source: Name of the source.
    """

    def __init__(self, snapshot: Snapshot, source: str) -> None:
        """Read the digests of all rows."""
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
        # The parts of a source are consecutive.
        self._first = self._starts[next(number for number, part in enumerate(parts) if part.source == source)]

    @classmethod
    def of(cls, previous: Former | None, source: str, clean: CleanConfig) -> FormerRows | None:
        """Rows of a source; None if equal rows might now become different documents."""
        if previous is None or not previous.is_cleaned(clean):
            return None
        parts = previous.snapshot.manifest.origins
        return cls(previous.snapshot, source) if any(part.source == source for part in parts) else None

    def find(self, digests: Digests) -> KnownRows:
        """Documents of equal rows. Documents far away from the others are not looked up."""
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
        return KnownRows(found, pa.Table.from_arrays(columns, schema=STAGED_SCHEMA).take(which))


def redact_rejected(row: RejectedRow, redactor: Redactor) -> RejectedRow:
    """A rejected row with its detail and excerpt redacted."""
    return replace(row, detail=redactor.redact_text(row.detail), excerpt=redactor.redact_text(row.excerpt))


@dataclass(frozen=True)
class Former:
    """Snapshot to carry documents over from, with the current redaction settings."""

    snapshot: Snapshot
    redact: RedactConfig

    def is_cleaned(self, clean: CleanConfig) -> bool:
        """Return whether an equal row would become the same document with the current settings."""
        manifest = self.snapshot.manifest
        is_same = (manifest.clean, manifest.schema_version) == (clean, SCHEMA_VERSION)
        # A key file must list every document, so all of them are redacted again.
        return is_same and self.is_redacted and self.redact.key_file is None

    @property
    def is_redacted(self) -> bool:
        """Whether its documents were redacted with the current settings."""
        found, kind = self.snapshot.manifest.redact, self.snapshot.manifest.kind
        return found is not None and found.identity(kind) == self.redact.identity(kind)


def stage_former(staged: Staged, name: str, *, previous: Former, redactor: Redactor) -> None:
    """Carry over the documents and rejected rows of a source."""
    snapshot, is_cleaned = previous.snapshot, previous.is_cleaned(staged.clean)
    origins = snapshot.origins(source=name)
    for batch in snapshot.batches(source=name):
        origin = next(origins, None)
        unknown = [pa.nulls(len(batch), item.type) for item in ORIGIN_SCHEMA]
        raw_digest, sketch, contacts = unknown if origin is None else origin.columns
        if previous.is_redacted:
            columns = [*batch.columns, raw_digest if is_cleaned else unknown[0], sketch, contacts]
            rows = pa.Table.from_arrays(columns, schema=STAGED_SCHEMA)
        else:
            found = zip(batch.to_pylist(), contacts.to_pylist(), strict=True)
            redacted = [redact_document(Document(**values, contacts=known), redactor) for values, known in found]
            rows = table_of([_staged(each) for each in redacted], STAGED_SCHEMA)
        staged.add_documents(rows, source=name)
    for batch in snapshot.quarantine_batches(source=name):
        rejected = []
        for values in batch.drop_columns(["source"]).to_pylist():
            row = RejectedRow(**{**values, "reason": RejectReason(values["reason"])})
            rejected.append(row if previous.is_redacted else redact_rejected(row, redactor))
        staged.add_rejected(rejected, source=name)
