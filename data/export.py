"""Exports: analysts' Parquet, partitioned, with a data dictionary, published atomically.

``v<schema>/<run_id>/date=…/kind=…/part-*.parquet``, then ``data_dictionary.md``, ``manifest.json`` and, last,
``_SUCCESS``; then ``latest.json`` names the run. A folder without ``_SUCCESS`` is to be ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from data.redact import Redactor
from data.schema import canonical_json, metadata_json
from data.store import Store, put_directory, storage_errors

EXPORT_VERSION = 1
"""Version of the exported schemas; raised with every change that a reader would notice."""

_ROWS_PER_FILE = 100_000
_SUCCESS = "_SUCCESS"


def publish_export(
    store: Store,
    tables: Mapping[str, Iterable[pa.Table]],
    schemas: Mapping[str, pa.Schema],
    *,
    run_id: str,
    day: date,
    fence: Callable[[], None],
    prefix: str = "",
) -> tuple[str, dict[str, int], int]:
    """Write and publish one export.

    Args:
        store: Where to.
        tables: Kind of rows to its parts.
        schemas: Kind of rows to its schema; a field's metadata says what it means.
        run_id: Run that exports.
        day: Partition.
        fence: Called before the export becomes the latest; raises when this writer lost its lease.
        prefix: Put before every key, such as ``exports/``.

    Returns:
        Key of the export, rows of each kind, number of files. An export that this run published before stays as it
        is, whatever the tables hold now.

    Raises:
        StoreError: Writing failed; the latest export is the former one.
    """
    root = f"{prefix}v{EXPORT_VERSION}/{run_id}"
    if store.read(f"{root}/{_SUCCESS}") is None:
        _put_export(store, root, tables, schemas, run_id=run_id, day=day)
    manifest = json.loads(store.read(f"{root}/manifest.json") or b"")
    key = f"{prefix}latest.json"
    content = canonical_json({"export": root.removeprefix(prefix), **manifest}).encode()
    current = store.read(key)
    if current != content:
        fence()
        store.compare_and_swap(key, expected=current, content=content)
    num_files = sum(name.endswith(".parquet") for name in store.list(root))
    return root, manifest["rows"], num_files


def _put_export(
    store: Store,
    root: str,
    tables: Mapping[str, Iterable[pa.Table]],
    schemas: Mapping[str, pa.Schema],
    *,
    run_id: str,
    day: date,
) -> None:
    rows: dict[str, int] = {}
    with store.scratch() as scratch:
        directory = scratch / "export"
        for kind, parts in tables.items():
            folder = directory / f"date={day.isoformat()}" / f"kind={kind}"
            rows[kind] = 0
            for number, part in enumerate(_whole_parts(parts, schemas[kind])):
                with storage_errors("write the export"):
                    folder.mkdir(parents=True, exist_ok=True)
                    pq.write_table(part, folder / f"part-{number:05d}.parquet", compression="zstd")
                rows[kind] += len(part)
        manifest = {"version": EXPORT_VERSION, "run_id": run_id, "date": day.isoformat(), "rows": rows}
        with storage_errors("write the export"):
            (directory / "data_dictionary.md").write_text(render_dictionary(schemas), encoding="utf-8")
            (directory / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            (directory / _SUCCESS).touch()
        store.delete(root)  # parts of an interrupted try, which may be of another day
        put_directory(store, root, directory, last=_SUCCESS)


def redact_rows(batch: pa.RecordBatch, redactor: Redactor) -> pa.Table:
    """Documents as they are exported: a second pass over what a snapshot holds, and over the ids of the source.

    The first pass leaves ``source_id`` alone, by which a row is found again; analysts have ``doc_id`` for that.
    """
    rows = batch.to_pylist()
    for row in rows:
        redacted = redactor.redact(row["title"], "", json.loads(row["metadata"]))
        row["title"], row["metadata"] = redacted.title, metadata_json(redacted.metadata)
        row["source_id"] = redactor.redact_text(row["source_id"])
    return pa.Table.from_pylist(rows, schema=batch.schema)


def render_dictionary(schemas: Mapping[str, pa.Schema]) -> str:
    """The data dictionary as Markdown: every column of every kind with its type and meaning."""
    lines = [f"# Data dictionary, version {EXPORT_VERSION}", ""]
    for kind, schema in schemas.items():
        lines += [f"## {kind}", "", "| column | type | may be empty | meaning |", "| --- | --- | --- | --- |"]
        for field in schema:
            meaning = (field.metadata or {}).get(b"description", b"").decode()
            lines.append(f"| {field.name} | {field.type} | {'yes' if field.nullable else 'no'} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def _whole_parts(parts: Iterable[pa.Table], schema: pa.Schema) -> Iterable[pa.Table]:
    """Parts of equal size out of parts of any size; at least one, so that an empty kind has its schema."""
    waiting = schema.empty_table()
    written = False
    for part in parts:
        waiting = pa.concat_tables([waiting, part.cast(schema)])
        while len(waiting) >= _ROWS_PER_FILE:
            yield waiting.slice(0, _ROWS_PER_FILE)
            written = True
            waiting = waiting.slice(_ROWS_PER_FILE)
    if len(waiting) or not written:
        yield waiting
