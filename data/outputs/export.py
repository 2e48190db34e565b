"""Exports: partitioned Parquet files for analysts, with a data dictionary, published atomically.

Files are written in this order: ``v<schema>/<run_id>/date=…/kind=…/part-*.parquet``, ``DATA_DICTIONARY.md``,
``manifest.json``, ``_SUCCESS``. Then ``latest.json`` names the run. Readers ignore a folder without ``_SUCCESS``.

The manifest holds a hash of everything that determines the content; a run with the same hash as the latest export
publishes nothing. An export is always complete: folders do not depend on each other, and any of them may be removed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import RefusedError
from data.outputs.export_schemas import EXPORT_VERSION, annotated_schema, render_dictionary, schema_record
from data.redaction.redact import Redactor
from data.schema import metadata_json, sha256_json
from data.store.base import Store, put_directory, storage_errors
from data.store.records import Latest

_ROW_GROUP_ROWS = 131_072
_ROW_GROUP_BYTES = 64 * 1024**2
"""A row group ends at the first limit reached: large enough for fast scans, small enough for memory."""

_ROW_GROUPS_PER_FILE = 8
_SUCCESS = "_SUCCESS"


@dataclass(frozen=True)
class ExportTable:
    """Rows of one kind to export.

    Attributes:
        identity: Hash or id of everything that determines the rows. Equal identities mean equal rows.
        parts: The rows, in tables of any size; read only if something has to be exported.
    """

    identity: str
    parts: Iterable[pa.Table]


@dataclass(frozen=True)
class PublishedExport:
    """The export that ``latest.json`` names.

    Attributes:
        key: Folder in the store.
        rows: Rows of each kind.
        num_files: Number of Parquet files.
        reused: Whether it is the former export, because nothing changed.
        removed: Number of former exports that were removed.
    """

    key: str
    rows: dict[str, int]
    num_files: int
    reused: bool
    removed: int


def latest_export(prefix: str) -> Latest:
    """The record that holds the name and the manifest of the newest export.

    Args:
        prefix: Prefix of every key of the exports, such as ``exports/``.
    """
    return Latest(f"{prefix}latest.json", "export")


def publish_export(
    store: Store,
    tables: Mapping[str, ExportTable],
    *,
    run_id: str,
    day: date,
    keep: int,
    fence: Callable[[], None],
    prefix: str = "",
) -> PublishedExport:
    """Write and publish an export, unless the latest one holds the same rows.

    Args:
        store: Store to write to.
        tables: Rows by kind; the kinds are those of :data:`data.outputs.export_schemas.EXPORT_SCHEMAS`.
        run_id: Id of the exporting run.
        day: Date of the partition.
        keep: Number of exports to keep, including this one; older ones are removed.
        fence: Called before the export becomes the latest; raises when this writer lost its lease.
        prefix: Prefix of every key, such as ``exports/``.

    Returns:
        The latest export. An export that this run already published stays unchanged.

    Raises:
        RefusedError: Exports of this version with different columns exist.
        StoreError: Writing failed; the former export is still the latest.
    """
    _check_version(store, prefix)
    content = sha256_json([EXPORT_VERSION, {kind: table.identity for kind, table in tables.items()}])
    root = _unchanged(store, prefix, content)
    reused = root is not None
    if root is None:
        root = f"{prefix}v{EXPORT_VERSION}/{run_id}"
        if not _is_complete(store, root):
            _put_export(store, root, tables, content=content, run_id=run_id, day=day)
        more = _manifest(store, root)
        latest_export(prefix).put(store, root.removeprefix(prefix), more=more, fence=fence)
    removed = _remove_former(store, root, prefix, keep=keep, fence=fence)
    num_files = sum(name.endswith(".parquet") for name in store.list(root))
    return PublishedExport(root, _manifest(store, root)["rows"], num_files, reused, removed)


def _check_version(store: Store, prefix: str) -> None:
    """Reject different columns under the same version: readers of ``v1`` rely on its columns."""
    key = f"{prefix}v{EXPORT_VERSION}/schema.json"
    store.put_if_absent(key, schema_record())
    if store.read(key) != schema_record():
        raise RefusedError(
            f"The exports in {prefix}v{EXPORT_VERSION} have unexpected columns ({key} differs).",
            hint="Changed columns require a new EXPORT_VERSION in data/outputs/export_schemas.py.",
        )


def _unchanged(store: Store, prefix: str, content: str) -> str | None:
    """Folder of the latest export, if it exists and has this content."""
    export = latest_export(prefix).name(store)
    if export is None:
        return None
    root = f"{prefix}{export}"
    return root if _is_complete(store, root) and _manifest(store, root).get("content_key") == content else None


def _is_complete(store: Store, root: str) -> bool:
    return store.read(f"{root}/{_SUCCESS}") is not None


def _remove_former(store: Store, latest: str, prefix: str, *, keep: int, fence: Callable[[], None]) -> int:
    """Remove all but the newest exports (run ids begin with the time). The latest always stays."""
    versions = [f"{prefix}v{version}" for version in range(1, EXPORT_VERSION + 1)]
    roots = {
        f"{version}/{folder}"
        for version in versions
        for key in store.list(version)
        for folder, *files in [key.removeprefix(f"{version}/").split("/")]
        if files
    }
    former = sorted(roots - {latest}, key=lambda root: root.rsplit("/", 1)[-1], reverse=True)
    doomed = former[max(keep - 1, 0) :]
    if doomed:
        fence()
    for root in doomed:
        store.delete(f"{root}/{_SUCCESS}")  # first: nobody may read a partly removed export
        store.delete(root)
    return len(doomed)


def _manifest(store: Store, root: str) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(store.read(f"{root}/manifest.json") or b"")
    return manifest


def _put_export(
    store: Store, root: str, tables: Mapping[str, ExportTable], *, content: str, run_id: str, day: date
) -> None:
    with store.scratch() as scratch:
        directory = scratch / "export"
        rows = {
            kind: _write_kind(directory / f"date={day.isoformat()}" / f"kind={kind}", kind, table.parts)
            for kind, table in tables.items()
        }
        manifest = {
            "version": EXPORT_VERSION,
            "run_id": run_id,
            "date": day.isoformat(),
            "rows": rows,
            "content_key": content,
        }
        with storage_errors("write the export"):
            (directory / "DATA_DICTIONARY.md").write_text(render_dictionary(), encoding="utf-8")
            (directory / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            (directory / _SUCCESS).touch()
        store.delete(root)  # parts of an interrupted attempt, perhaps with another date
        put_directory(store, root, directory, last=_SUCCESS)


def redact_rows(batch: pa.RecordBatch, redactor: Redactor) -> pa.Table:
    """Redact stored documents again for an export, including ``source_id``.

    The first redaction keeps ``source_id``, which identifies the row in its source. Analysts use ``doc_id`` instead.
    """
    rows = batch.to_pylist()
    for row in rows:
        redacted = redactor.redact(row["title"], "", json.loads(row.get("metadata", "{}")))
        row["title"] = redacted.title
        if "metadata" in row:
            row["metadata"] = metadata_json(redacted.metadata)
        row["source_id"] = redactor.redact_text(row["source_id"])
    return pa.Table.from_pylist(rows, schema=batch.schema)


def _write_kind(folder: Path, kind: str, parts: Iterable[pa.Table]) -> int:
    """Write the files of one kind, or one empty file if there are no rows; returns the number of rows."""
    schema = annotated_schema(kind)
    writer: pq.ParquetWriter | None = None
    num_rows = 0
    with storage_errors("write the export"):
        folder.mkdir(parents=True)
    try:
        for number, group in enumerate(_row_groups(parts, schema)):
            with storage_errors("write the export"):
                if number % _ROW_GROUPS_PER_FILE == 0:
                    if writer is not None:
                        writer.close()
                    path = folder / f"part-{number // _ROW_GROUPS_PER_FILE:05d}.parquet"
                    writer = pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True)
                assert writer is not None
                writer.write_table(group, row_group_size=max(len(group), 1))
            num_rows += len(group)
    finally:
        if writer is not None:
            with storage_errors("write the export"):
                writer.close()
    return num_rows


def _row_groups(parts: Iterable[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """Regroup parts of any size into row groups of bounded size. Yields at least one, possibly empty."""
    waiting: list[pa.Table] = []
    num_rows = size_bytes = 0
    is_first = True
    for part in parts:
        for start in range(0, len(part), _ROW_GROUP_ROWS):
            piece = part.slice(start, _ROW_GROUP_ROWS).cast(schema)
            if waiting and (num_rows + len(piece) > _ROW_GROUP_ROWS or size_bytes + piece.nbytes > _ROW_GROUP_BYTES):
                yield pa.concat_tables(waiting)
                waiting, num_rows, size_bytes, is_first = [], 0, 0, False
            waiting.append(piece)
            num_rows += len(piece)
            size_bytes += piece.nbytes
    if waiting or is_first:
        yield pa.concat_tables(waiting) if waiting else schema.empty_table()
