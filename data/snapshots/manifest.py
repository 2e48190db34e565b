"""The manifest of a snapshot (its parts, its counts, the settings that made it) and the keys of snapshots.

Layout, below ``snapshots/<kind>/``::

    <id>/documents/part-00000.parquet    DOCUMENT_SCHEMA; every part holds documents of one source
    <id>/quarantine/part-00000.parquet   QUARANTINE_SCHEMA; likewise
    <id>/origins/part-00000.parquet      ORIGIN_SCHEMA; where the documents of the same part came from
    <id>/manifest.json                   written last: without it the snapshot does not exist
    latest.json                          {"id": …}: the only record that changes, by compare-and-swap
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from data.config import CleanConfig, RedactConfig
from data.errors import StoreError
from data.schema import DocumentKind
from data.store.base import Store
from data.store.records import Latest, Record

SCHEMA_VERSION = 2
"""Version of the schemas of a snapshot's files. After a change, every source is cleaned once more."""

_HINT = (
    "Restore it from a backup. Or remove the snapshot's folder and the latest.json beside it, and ingest every source "
    "of that kind again."
)


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
        """Describe a finished file that will be stored as ``file``."""
        with path.open("rb") as handle:
            sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
        return cls(file=file, source=source, num_rows=num_rows, size_bytes=path.stat().st_size, sha256=sha256)


class SourceCounts(BaseModel):
    """Row counts of one source; ``rows_in = rows_kept + rows_quarantined``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(description="Path that the source was read from.")
    rows_in: int = Field(description="Rows of the source.")
    rows_kept: int = Field(description="Rows that became documents, duplicates included.")
    rows_quarantined: int = Field(description="Rows that were rejected.")
    rows_duplicate: int = Field(description="Kept rows with the same content as an earlier document.")
    rows_near_duplicate: int = Field(description="Kept rows with nearly the same content as an earlier document.")
    raw_sha256: str | None = Field(default=None, description="Hash of the files that the rows came from.")
    marks: dict[str, int] = Field(default={}, description="Possible losses of documents, with their counts.")
    notes: dict[str, int] = Field(default={}, description="Decisions of the readers, with file counts.")
    skipped: dict[str, str] = Field(default={}, description="Kinds of skipped files (at most 100), with the reason.")
    num_skipped: int = Field(default=0, description="Number of skipped files.")
    unreadable_values: dict[str, int] = Field(
        default={}, description="Documents by facet that have a value which cannot be read; the facet is null."
    )
    rows_replaced: int = Field(
        default=0, description="Rows of older files that newer ones replaced; they are not part of rows_in."
    )


class TotalCounts(BaseModel):
    """Row counts of all sources together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows_in: int = 0
    rows_kept: int = 0
    rows_quarantined: int = 0
    rows_duplicate: int = 0
    rows_near_duplicate: int = 0

    @classmethod
    def of(cls, sources: Iterable[SourceCounts]) -> TotalCounts:
        """Add up the counts of sources."""
        listed = list(sources)
        return cls(**{name: sum(getattr(counts, name) for counts in listed) for name in cls.model_fields})


_FORMER_SETTINGS = {"near_duplicate_threshold"}


class SnapshotManifest(BaseModel):
    """Content and origin of a snapshot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(description="Hash of the content.")
    kind: DocumentKind = Field(description="Kind of all its documents.")
    schema_version: int = Field(description="Version of the schemas of its files.")
    created_at: str = Field(description="When it was built, ISO 8601, UTC.")
    run_id: str = Field(description="Run that built it.")
    parent: str | None = Field(description="Snapshot from which the documents of the other sources were carried over.")
    clean: CleanConfig = Field(description="Settings that the listed sources were cleaned with.")
    redact: RedactConfig | None = Field(
        default=None, description="Redaction settings; None: built before redaction existed."
    )
    sources: dict[str, SourceCounts] = Field(description="Counts by name of the source.")
    totals: TotalCounts = Field(description="Sums over the sources.")
    num_documents: int = Field(description="Documents in all parts.")
    documents: tuple[PartInfo, ...] = Field(description="Parts with documents, in order.")
    quarantine: tuple[PartInfo, ...] = Field(description="Parts with rejected rows, in order.")
    origins: tuple[PartInfo, ...] = Field(
        default=(), description="Origins of the documents of each part. Without them, all rows are cleaned again."
    )

    @field_validator("clean", mode="before")
    @classmethod
    def _without_former_settings(cls, clean: Any) -> Any:  # noqa: ANN401 - as it was stored
        """Drop settings of earlier versions that are now constants."""
        return {k: v for k, v in clean.items() if k not in _FORMER_SETTINGS} if isinstance(clean, dict) else clean

    @property
    def parts(self) -> tuple[PartInfo, ...]:
        """All files of the snapshot."""
        return (*self.documents, *self.quarantine, *self.origins)


def snapshot_key(kind: DocumentKind, snapshot_id: str) -> str:
    """The folder of a snapshot in the store."""
    return f"snapshots/{kind}/{snapshot_id}"


def manifest_record(kind: DocumentKind, snapshot_id: str) -> Record[SnapshotManifest]:
    """The manifest's record in the store."""
    return Record(SnapshotManifest, f"{snapshot_key(kind, snapshot_id)}/manifest.json", _HINT)


def put_manifest(store: Store, manifest: SnapshotManifest) -> None:
    """Write a manifest, indented for human readers. From then on, the snapshot exists."""
    key = manifest_record(manifest.kind, manifest.id).key
    store.put_if_absent(key, manifest.model_dump_json(indent=2).encode() + b"\n")


def latest_record(kind: DocumentKind) -> Latest:
    """The record that names the latest snapshot of a kind."""
    return Latest(f"snapshots/{kind}/latest.json", "id", end="\n", hint=_HINT)


def damaged(key: str, reason: str) -> StoreError:
    """The error for a file of a snapshot that is missing or cannot be read."""
    return StoreError(f"{key} is damaged or missing: {reason}", hint=_HINT)
