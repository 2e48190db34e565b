"""Remove documents from shards, matches, exports, records, and data that can be regenerated."""

from __future__ import annotations

import io
import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.erasure.journal import MARKS, Journal
from data.erasure.scan import Finding, Needles, scan_store
from data.outputs.export import latest_export
from data.outputs.export_schemas import EXPORT_VERSION
from data.outputs.matches import forget_documents
from data.store.base import Store, storage_errors
from data.store.digests import pack_digests
from data.store.records import LATEST_REPORT
from data.vectors.shards import forget_contents

_ID_COLUMNS = ("doc_id", "job_id", "resume_id")
_ERASED = "[ERASED]"


def erase_from_shards(store: Store, journal: Journal) -> int:
    """Rewrite shards without the vectors; returns the number of changed shards."""
    contents = pack_digests(pa.array(sorted(journal.contents), pa.string()))
    fingerprints = {key.split("/")[1] for key in store.list("shards")}
    return sum(forget_contents(store, contents, fingerprint=fingerprint) for fingerprint in sorted(fingerprints))


def erase_from_matches(store: Store, journal: Journal) -> int:
    """Remove match rows of the documents, and the hashes of matched documents; returns the number of changed files."""
    forget_documents(store)
    return erase_from_parquet(store, "matches", journal)


def erase_from_exports(store: Store, prefix: str, journal: Journal) -> int:
    """Remove rows of the documents from exports, and correct the recorded row counts.

    Args:
        store: Store of the exports.
        prefix: Prefix of every key of the exports, such as ``exports/``.
        journal: Journal of the erasure.

    Returns:
        Number of files that were changed.
    """
    trees = [prefix.rstrip("/")] if prefix else [f"v{version}" for version in range(1, EXPORT_VERSION + 1)]
    count = sum(erase_from_parquet(store, tree, journal) for tree in trees)
    latest = latest_export(prefix)
    export = latest.name(store) if count else None
    if export is not None:
        latest.put(store, export, more=json.loads(store.read(f"{prefix}{export}/manifest.json") or b"{}"))
    return count


def erase_from_parquet(store: Store, tree: str, journal: Journal) -> int:
    """Remove rows of the documents from Parquet files, and correct the recorded row counts."""
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
    return count


def _without_rows(table: pa.Table, doc_ids: set[str]) -> pa.Table:
    erased = pa.array(sorted(doc_ids))
    kept = table
    for column in _ID_COLUMNS:
        if column in kept.column_names:
            kept = kept.filter(pc.invert(pc.is_in(kept[column], erased)))
    for mark in MARKS:
        if mark in kept.column_names and pc.any(pc.is_in(kept[mark], erased)).as_py():
            cleared = pc.if_else(pc.is_in(kept[mark], erased), pa.scalar(None, pa.string()), kept[mark])
            index = kept.schema.get_field_index(mark)
            kept = kept.set_column(index, kept.schema.field(mark), cleared)
    return table if kept.equals(table) else kept


def _recount(store: Store, key: str) -> None:
    """Correct the row count in a manifest of matches or of an export."""
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


def _parquet_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def remove_made_again(store: Store, tree: str, journal: Journal) -> int:
    """Remove reports or outcomes that hold a needle; the next evaluation regenerates them. Returns their number."""
    doomed = set()
    for finding in findings(store, tree, journal):
        parts = finding.path.split("!")[0].split("/")
        # A report is a folder; the files of an outcome share the name before the first dot.
        doomed.add("/".join(parts[:2]) if tree == "reports" else "/".join([*parts[:-1], parts[-1].split(".")[0]]))
    for prefix in sorted(doomed):
        for key in [each for each in store.list(tree) if each.startswith((f"{prefix}/", f"{prefix}."))]:
            store.delete(key)
    if tree == "reports" and f"reports/{LATEST_REPORT.name(store)}" in doomed:
        store.delete(LATEST_REPORT.key)
    return len(doomed)


def erase_from_records(store: Store, tree: str, journal: Journal) -> int:
    """Blank the values of JSON records that hold a needle; returns the number of changed records."""
    needles, keys = journal.byte_needles(), {finding.path for finding in findings(store, tree, journal)}
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


def remove_children(machine: Store, tree: str) -> int:
    """Remove everything in a folder; returns the number of its entries."""
    folder = machine.local_path(tree)
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for name in names:
        machine.delete(f"{tree}/{name}")
    return len(names)


def erase_from_orchestrator(machine: Store, journal: Journal) -> int:
    """Remove stored results and rows of the embedded server's database with a needle; returns the number of files."""
    paths = {finding.path.split("!")[0] for finding in findings(machine, "prefect", journal)}
    databases = {path.removesuffix("-wal").removesuffix("-shm") for path in paths if ".db" in Path(path).name}
    for path in paths:
        if ".db" not in Path(path).name:
            machine.delete(path)
    for path in databases:
        with storage_errors(f"clean {path}"):
            _erase_from_database(machine.local_path(path), journal.byte_needles())
    return len(paths)


def _erase_from_database(path: Path, needles: Needles) -> None:
    """Delete the rows of a SQLite file that hold a needle, and free their space."""
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


def findings(store: Store, tree: str, journal: Journal) -> list[Finding]:
    """Find the needles of a journal below a prefix of the store; the paths are keys."""
    return scan_store(store, journal.byte_needles(), tree=tree).findings
