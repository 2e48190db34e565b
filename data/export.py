"""Exports: analysts' Parquet, partitioned, with a data dictionary, published atomically.

``v<schema>/<run_id>/date=…/kind=…/part-*.parquet``, then ``data_dictionary.md``, ``manifest.json`` and, last,
``_SUCCESS``; then ``latest.json`` names the run. A folder without ``_SUCCESS`` is to be ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from data.schema import canonical_json
from data.store import Store, put_directory

EXPORT_VERSION = 1
"""Version of the exported schemas; raised with every change that a reader would notice."""

_ROWS_PER_FILE = 100_000


def publish_export(
    store: Store,
    tables: Mapping[str, Iterable[pa.Table]],
    schemas: Mapping[str, pa.Schema],
    *,
    run_id: str,
    day: date,
    prefix: str = "",
) -> tuple[str, dict[str, int], int]:
    """Write and publish one export.

    Args:
        store: Where to.
        tables: Kind of rows to its parts.
        schemas: Kind of rows to its schema; a field's metadata says what it means.
        run_id: Run that exports.
        day: Partition.
        prefix: Put before every key, such as ``exports/``.

    Returns:
        Key of the export, rows of each kind, number of files.
    """
    root = f"{prefix}v{EXPORT_VERSION}/{run_id}"
    rows: dict[str, int] = {}
    num_files = 0
    with store.scratch() as scratch:
        directory = scratch / "export"
        for kind, parts in tables.items():
            folder = directory / f"date={day.isoformat()}" / f"kind={kind}"
            folder.mkdir(parents=True)
            rows[kind] = 0
            for number, part in enumerate(_whole_parts(parts, schemas[kind])):
                pq.write_table(part, folder / f"part-{number:05d}.parquet", compression="zstd")
                rows[kind] += len(part)
                num_files += 1
        (directory / "data_dictionary.md").write_text(render_dictionary(schemas))
        manifest = {"version": EXPORT_VERSION, "run_id": run_id, "date": day.isoformat(), "rows": rows}
        (directory / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        (directory / "_SUCCESS").touch()
        put_directory(store, root, directory, last="_SUCCESS")
    key = f"{prefix}latest.json"
    content = canonical_json({"export": root.removeprefix(prefix), **manifest}).encode()
    store.compare_and_swap(key, expected=store.read(key), content=content)
    return root, rows, num_files


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
