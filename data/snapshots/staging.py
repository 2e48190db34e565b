"""Staging of documents and rejected rows for a snapshot: counting, hashing and marking duplicates."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from data.config import CleanConfig, RedactConfig
from data.documents.facets import count_unreadable
from data.documents.rows import ReadLog, RejectedRow
from data.documents.sources import READER_VERSION
from data.errors import StoreError
from data.redaction.placeholders import PLACEHOLDER
from data.schema import DOCUMENT_SCHEMA, QUARANTINE_SCHEMA, DocumentKind, canonical_json, encoded_text, sha256_json
from data.snapshots.manifest import SCHEMA_VERSION
from data.snapshots.parts import Part, PartWriter, replaced_column, table_of
from data.snapshots.similar import SIMILAR_COLUMNS, Links, days_of, places_by_age
from data.snapshots.snapshot import ORIGIN_SCHEMA
from data.store.digests import Digests, FirstRows, pack_digests, unpack_digests

NEAR_DUPLICATE_SIMILARITY = 0.9
"""Minimum Jaccard similarity of the word triples of near duplicates; part of snapshot ids."""

_IDENTITY = ("doc_id", "content_sha256", "metadata_sha256")
_MAX_NAMED = 100  # skipped files that the manifest lists
_SKETCH = ORIGIN_SCHEMA.field("sketch")


@dataclass
class Counts:
    """Running counts of one source; see :class:`data.snapshots.manifest.SourceCounts`."""

    path: str
    raw_sha256: str | None
    rows_in: int = 0
    rows_kept: int = 0
    rows_quarantined: int = 0
    rows_duplicate: int = 0
    rows_near_duplicate: int = 0
    marks: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    num_skipped: int = 0
    unreadable_values: dict[str, int] = field(default_factory=dict)
    rows_replaced: int = 0

    def take_log(self, log: ReadLog) -> None:
        """Store the decisions made while the source was read."""
        self.marks, self.notes = dict(log.marks.most_common()), dict(log.notes.most_common())
        self.skipped, self.num_skipped = dict(list(log.stored_skipped().items())[:_MAX_NAMED]), len(log.skipped)
        self.rows_replaced = log.num_replaced


@dataclass
class Staged:
    """Documents and rejected rows to put into a snapshot; uses about 100 bytes of memory per document."""

    documents: PartWriter
    rejected: PartWriter
    clean: CleanConfig
    counts: dict[str, Counts] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    # Two digests: carried-over documents arrive without the rejected rows in between.
    document_digest: Any = field(default_factory=hashlib.sha256)
    rejected_digest: Any = field(default_factory=hashlib.sha256)
    _contents: FirstRows = field(default_factory=FirstRows)
    _ids: list[Digests] = field(default_factory=list)
    _is_judged: list[NDArray[np.bool_]] = field(default_factory=list)
    _bands: list[NDArray[np.uint32]] = field(default_factory=list)
    _links: Links = field(default_factory=Links)

    def add_documents(self, rows: pa.Table, *, source: str) -> None:
        """Add documents of a source with their origins, and mark exact duplicates of earlier documents.

        Args:
            rows: Columns of :data:`data.schema.DOCUMENT_SCHEMA` and :data:`ORIGIN_SCHEMA`. Marks from another
                snapshot are dropped.
            source: Source of all rows.
        """
        if not len(rows):
            return
        counts = self.counts[source]
        counts.rows_kept += len(rows)
        counts.unreadable_values = dict(
            Counter(counts.unreadable_values) + count_unreadable(rows["metadata"].to_pylist())
        )
        self.document_digest.update("".join(f"{line}\n" for line in _identity_lines(rows)).encode())
        self._ids.append(pack_digests(rows["doc_id"]))
        firsts = self._contents.add(pack_digests(rows["content_sha256"]))
        is_duplicate = firsts != np.arange(len(self._contents) - len(rows), len(self._contents))
        counts.rows_duplicate += int(is_duplicate.sum())
        originals = iter(self._ids_at(firsts[is_duplicate]))
        marks = [next(originals) if is_marked else None for is_marked in is_duplicate.tolist()]
        rows = replaced_column(rows, DOCUMENT_SCHEMA.field("duplicate_of"), pa.array(marks, pa.string()))
        for name in ("near_duplicate_of", *SIMILAR_COLUMNS):
            column = DOCUMENT_SCHEMA.field(name)
            rows = replaced_column(rows, column, pa.nulls(len(rows), column.type))
        start = len(self._contents) - len(rows)
        for number in np.flatnonzero(is_duplicate).tolist():
            self._links.join(start + number, int(firsts[number]))
        self._links.add_contacts(rows["contacts"].to_pylist(), start=start)
        if self.clean.near_duplicates:
            rows = self._sketched(rows, is_duplicate)
        num_chars = rows["num_chars"].to_numpy() + pc.utf8_length(rows["metadata"]).to_numpy()
        self.documents.add(rows, source=source, num_chars=num_chars)

    def _ids_at(self, numbers: NDArray[np.int64]) -> list[str]:
        """Ids of documents by row number in the snapshot."""
        if not len(numbers):
            return []
        self._ids = [np.concatenate(self._ids)]
        return unpack_digests(self._ids[0][numbers])

    def _sketched(self, rows: pa.Table, is_duplicate: NDArray[np.bool_]) -> pa.Table:
        """Add missing sketches. An exact duplicate points to its original and needs none."""
        from data.documents import near_duplicates

        missing = np.flatnonzero(pc.is_null(rows["sketch"]).to_numpy() & ~is_duplicate)
        if len(missing):
            sketches = rows["sketch"].to_pylist()
            for number, row in zip(missing, rows.select(["title", "text"]).take(missing).to_pylist(), strict=True):
                sketches[number] = near_duplicates.sketch(encoded_text(row["title"], row["text"])).tobytes()
            rows = replaced_column(rows, _SKETCH, pa.array(sketches, _SKETCH.type))
        judged = rows["sketch"].filter(pa.array(~is_duplicate)).to_pylist()
        signatures = np.frombuffer(b"".join(judged), np.uint16).reshape(len(judged), near_duplicates.NUM_PERM)
        bands = near_duplicates.bands_of(signatures, NEAR_DUPLICATE_SIMILARITY)
        self._bands.append(bands)
        self._is_judged.append(~is_duplicate)
        return rows

    def add_rejected(self, rejected: Sequence[RejectedRow], *, source: str) -> None:
        """Add rejected rows of a source."""
        self.counts[source].rows_quarantined += len(rejected)
        self.reasons.update(str(row.reason) for row in rejected)
        stored = []
        for row in rejected:
            values = (source, row.file, row.row, str(row.reason), row.detail, row.excerpt)
            # File names may hold bytes that are not UTF-8.
            stored.append(tuple(_storable(value) if isinstance(value, str) else value for value in values))
            self.rejected_digest.update(canonical_json(stored[-1]).encode() + b"\n")
        num_chars = np.array([len(row.excerpt) for row in rejected], np.int64)
        self.rejected.add(table_of(stored, QUARANTINE_SCHEMA), source=source, num_chars=num_chars)

    def close_source(self, source: str) -> None:
        """Finish the parts of a source and check that no row was lost."""
        self.documents.close(source)
        self.rejected.close(source)
        counts = self.counts[source]
        if counts.rows_in != counts.rows_kept + counts.rows_quarantined:
            raise StoreError(
                f"Source '{source}' has {counts.rows_in} rows, but {counts.rows_kept} were kept and "
                f"{counts.rows_quarantined} quarantined: rows were lost or duplicated.",
                hint="Nothing was written. Please report this as a bug.",
            )

    def snapshot_id(self, kind: DocumentKind, redact: RedactConfig) -> str:
        """Hash of everything that determines the content. The marks follow from documents and settings."""
        clean = self.clean
        marks = [clean.near_duplicates, NEAR_DUPLICATE_SIMILARITY if clean.near_duplicates else None]
        digests = [self.document_digest.hexdigest(), self.rejected_digest.hexdigest()]
        # Contacts leave no trace in the documents.
        persons = [self._links.persons] if self._links.persons else []
        return sha256_json(
            [SCHEMA_VERSION, READER_VERSION, kind, sorted(self.counts), marks, redact.identity(kind), digests, *persons]
        )[:16]

    def mark_similar(self) -> None:
        """Mark near duplicates and groups of similar documents across all sources.

        Parts without any are not rewritten.
        """
        near = self._near_duplicates() if self.clean.near_duplicates else {}
        rows, firsts = self._links.groups()
        is_of_part = self._in_parts(rows)
        days = [
            days_of(self._column("documents", part, "metadata").take(pa.array(numbers)).to_pylist())
            for part, _, numbers in is_of_part
        ]
        places = places_by_age(rows, firsts, np.concatenate([np.zeros(0, np.int64), *days])).tolist()
        marks = zip(rows.tolist(), firsts.tolist(), self._ids_at(firsts), places, strict=True)
        similar = {row: (None if first == row else first_id, place) for row, first, first_id, place in marks}
        for part, start, _ in is_of_part:
            numbers = range(start, start + part.num_rows)
            values = [(near.get(number), *similar.get(number, (None, None))) for number in numbers]
            columns = {
                name: pa.array(column, DOCUMENT_SCHEMA.field(name).type)
                for name, column in zip(("near_duplicate_of", *SIMILAR_COLUMNS), zip(*values, strict=True), strict=True)
            }
            self.counts[part.source].rows_near_duplicate += part.num_rows - columns["near_duplicate_of"].null_count
            self.documents.replace_columns("documents", part, columns)

    def _near_duplicates(self) -> dict[int, str]:
        """Id of the near duplicate of each row that has one; both are linked."""
        from data.documents.near_duplicates import NearDuplicateIndex, shares_a_band

        is_candidate = np.concatenate(self._is_judged)
        is_candidate[is_candidate] = shares_a_band(np.concatenate(self._bands))
        index, found, row_of = NearDuplicateIndex(NEAR_DUPLICATE_SIMILARITY), dict[int, str](), dict[str, int]()
        for part, start, candidates in self._in_parts(np.flatnonzero(is_candidate)):
            ids = self._column("documents", part, "doc_id").take(pa.array(candidates)).to_pylist()
            sketches = self._column("origins", part, "sketch").take(pa.array(candidates))
            for number, doc_id, sketch in zip(candidates.tolist(), ids, sketches, strict=True):
                row_of[doc_id] = start + number
                mark = index.add(doc_id, np.frombuffer(sketch.as_buffer(), np.uint16))
                if mark is not None:
                    found[start + number] = mark
                    self._links.join(start + number, row_of[mark])
        return found

    def _in_parts(self, rows: NDArray[np.int64]) -> list[tuple[Part, int, NDArray[np.int64]]]:
        """Parts that hold some of the rows: the part, its first row, and the numbers of the rows in it."""
        found, start = [], 0
        for part in self.documents.parts:
            low, high = np.searchsorted(rows, [start, start + part.num_rows])
            if low < high:
                found.append((part, start, rows[low:high] - start))
            start += part.num_rows
        return found

    def _column(self, folder: str, part: Part, name: str) -> pa.ChunkedArray:
        return pq.read_table(self.documents.path(folder, part), columns=[name])[name]


def _identity_lines(rows: pa.Table) -> list[str]:
    """Identity of each document. The hash of its content does not cover placeholders, so its stored text is added."""
    lines: list[str] = pc.binary_join_element_wise(
        *(rows[name].cast(pa.string()) for name in _IDENTITY), " "
    ).to_pylist()
    held = [pc.match_substring_regex(rows[name], PLACEHOLDER.pattern) for name in ("title", "text")]
    for number in np.flatnonzero(pc.or_(*held).to_numpy()).tolist():
        lines[number] += f" {sha256_json([rows['title'][number].as_py(), rows['text'][number].as_py()])}"
    return lines


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
