"""Export: jobs, resumes, matches, evaluation results and vectors of the served state, for analysts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data.config import RedactConfig
from data.documents.facets import FACET_SCHEMA, facet_columns
from data.outputs.export import ExportTable, publish_export, redact_rows
from data.outputs.export_schemas import EXPORT_SCHEMAS
from data.outputs.matches import LATEST_MATCHES, MATCH_SCHEMA, latest_match_files
from data.redaction.redact import Redactor
from data.schema import DOCUMENT_SCHEMA, KINDS, TABLE_OF_KIND, DocumentKind
from data.snapshots.snapshot import Snapshot, open_snapshot
from data.store.base import Store
from data.store.digests import pack_digests
from data.store.records import LATEST_REPORT
from data.vectors.generations import list_generations
from data.vectors.pointer import Pointer
from data.vectors.shards import ShardVectors
from tasks.queries.served import served
from tasks.run.context import Run
from tasks.run.reports import ExportReport
from tasks.run.settings import Settings
from tasks.run.stage_task import stage_task

_VECTORS_PER_PART = 10_000


@stage_task("export")
def export_all(run: Run) -> ExportReport:
    """Publish the served state as Parquet. A state that was already published is reused."""
    started = time.monotonic()
    store, settings = run.store, run.settings
    pointer = served(store)
    target = settings.export_store or store
    published = publish_export(
        target,
        _tables(store, pointer, settings),
        run_id=run.id,
        day=run.clock().date(),
        keep=settings.export.keep,
        fence=run.lease.check,
        prefix="" if settings.export.to else "exports/",
    )
    return ExportReport(
        path=target.location(published.key),
        files=published.num_files,
        rows=published.rows,
        reused=published.reused,
        seconds=time.monotonic() - started,
    )


def _tables(store: Store, pointer: Pointer, settings: Settings) -> dict[str, ExportTable]:
    """The exported tables, each with a hash of all inputs of its rows."""
    snapshots = {kind: open_snapshot(store, kind, pointer.snapshots[kind]) for kind in KINDS}
    matches, report = store.read(LATEST_MATCHES.key), store.read(LATEST_REPORT.key)
    tables = {
        TABLE_OF_KIND[kind]: ExportTable(pointer.snapshots[kind], _documents(snapshots[kind], settings.redact))
        for kind in KINDS
    }
    tables["matches"] = ExportTable((matches or b"").decode(), _matches(latest_match_files(store)))
    tables["evaluation"] = ExportTable((report or b"").decode(), _evaluation(store, report))
    if settings.export.vectors:
        served_state = " ".join([pointer.generation, *pointer.snapshots.values()])
        tables["vectors"] = ExportTable(served_state, _vectors(store, pointer, snapshots))
    return tables


def _documents(snapshot: Snapshot, redact: RedactConfig) -> Iterator[pa.Table]:
    schema = EXPORT_SCHEMAS[TABLE_OF_KIND[snapshot.manifest.kind]]
    columns = [name for name in schema.names if name in DOCUMENT_SCHEMA.names]
    redactor = Redactor(redact, snapshot.manifest.kind)
    for batch in snapshot.batches(columns):
        rows = redact_rows(batch, redactor)
        if "metadata" in columns:
            facets = facet_columns(rows["metadata"].to_pylist())
            for field, values in zip(FACET_SCHEMA, facets, strict=True):
                rows = rows.append_column(field, values)
        yield rows.select(schema.names)


def _matches(files: Iterable[Path]) -> Iterator[pa.Table]:
    for path in files:
        table = pq.ParquetFile(path).read()  # the partition column is added below, not inferred from the path
        direction = path.parent.name.removeprefix("direction=")
        directions = pa.array([direction] * len(table), pa.string())
        table = table.add_column(0, MATCH_SCHEMA.field("direction"), directions)
        for field in MATCH_SCHEMA:  # matches of an earlier version have fewer columns
            if field.name not in table.column_names:
                missing = (
                    pa.nulls(len(table), field.type) if field.nullable else pa.array([""] * len(table), field.type)
                )
                table = table.append_column(field, missing)
        yield _without_words(table).select(EXPORT_SCHEMAS["matches"].names)


def _without_words(matches: pa.Table) -> pa.Table:
    """Matches whose conditions have only names and outcomes."""
    at = matches.schema.get_field_index("conditions")
    field = EXPORT_SCHEMAS["matches"].field("conditions")
    names = [part.name for part in field.type.value_type]
    rows = [
        None if each is None else [{name: verdict[name] for name in names} for verdict in each]
        for each in matches["conditions"].to_pylist()
    ]
    return matches.set_column(at, field, pa.array(rows, field.type))


def _evaluation(store: Store, latest: bytes | None) -> Iterator[pa.Table]:
    if latest is None:
        return
    report = json.loads(store.read(f"reports/{LATEST_REPORT.parse(latest)}/report.json") or b"{}")
    rows = [
        {
            "system": system["name"],
            "fingerprint": score["system_fingerprint"],
            "task": score["task"],
            "type": score["type"],
            "metric": metric,
            "is_main_score": metric == score["main_score_name"],
            "value": value,
        }
        for system in report.get("systems", [])
        for score in system["scores"]
        for metric, value in score["metrics"].items()
    ]
    yield pa.Table.from_pylist(rows, schema=EXPORT_SCHEMAS["evaluation"])


def _vectors(store: Store, pointer: Pointer, snapshots: dict[DocumentKind, Snapshot]) -> Iterator[pa.Table]:
    """Vectors of every served content, once per kind."""
    schema = EXPORT_SCHEMAS["vectors"]
    (encode_keys,) = (found.encode_keys for found in list_generations(store) if found.generation == pointer.generation)
    for kind, snapshot in snapshots.items():
        vectors = ShardVectors(store, fingerprint=pointer.checkpoint, encode_key=encode_keys[kind])
        for batch in snapshot.batches(["content_sha256", "duplicate_of"]):
            originals = batch.filter(batch["duplicate_of"].is_null())["content_sha256"]
            for start in range(0, len(originals), _VECTORS_PER_PART):
                contents = originals.slice(start, _VECTORS_PER_PART)
                contents = contents.filter(pa.array(vectors.contains(pack_digests(contents))))
                if not len(contents):
                    continue
                part = vectors.of(pack_digests(contents)).astype("float16")
                columns = [contents, [kind] * len(part), [pointer.checkpoint] * len(part), list(part)]
                arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
                yield pa.Table.from_arrays(arrays, schema=schema)
