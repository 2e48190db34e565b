"""Export: documents, matches and evaluation results of the served state, for analysts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from prefect import task
from prefect.cache_policies import NO_CACHE

from data.export import publish_export, redact_rows
from data.matches import MATCH_SCHEMA, latest_match_files
from data.redact import Redactor
from data.schema import DOCUMENT_SCHEMA, KINDS, column
from data.snapshot import open_snapshot
from data.store import LocalStore, Store
from tasks.policies import STORAGE
from tasks.refs import ExportReport
from tasks.search import served
from tasks.settings import Settings
from tasks.writing import lease_of, utc_now

# Texts of resumes are a person's own words; analysts get what describes a document, not the document.
_EXPORTED = pa.schema([field for field in DOCUMENT_SCHEMA if field.name != "text"])

EVALUATION_SCHEMA = pa.schema(
    [
        column("system", pa.string(), "name of what was scored"),
        column("fingerprint", pa.string(), "identity of what was scored"),
        column("task", pa.string(), "evaluation task"),
        column("type", pa.string(), "MTEB category of the task"),
        column("metric", pa.string(), "name of the metric"),
        column("is_main_score", pa.bool_(), "whether it is the task's main metric"),
        column("value", pa.float64(), "score; 0 to 100, correlations from -100"),
    ]
)


@task(task_run_name="export", cache_policy=NO_CACHE, **STORAGE)
def export_all(settings: Settings, *, run_id: str) -> ExportReport:
    """Publish documents, matches and evaluation results as Parquet."""
    started = time.monotonic()
    store = settings.store()
    pointer = served(store)
    target: Store = LocalStore(Path(settings.export.to)) if settings.export.to else store
    prefix = "" if settings.export.to else "exports/"
    snapshots = [open_snapshot(store, kind, pointer.snapshots[kind]) for kind in KINDS]
    documents = (
        redact_rows(batch, Redactor(settings.redact, snapshot.manifest.kind))
        for snapshot in snapshots
        for batch in snapshot.batches(_EXPORTED.names)
    )
    key, rows, files = publish_export(
        target,
        {"documents": documents, "matches": _matches(store), "evaluation": _evaluation(store)},
        {"documents": _EXPORTED, "matches": MATCH_SCHEMA, "evaluation": EVALUATION_SCHEMA},
        run_id=run_id,
        day=utc_now().date(),
        fence=lease_of(store, run_id).check,
        prefix=prefix,
    )
    return ExportReport(path=str(target.local_path(key)), files=files, rows=rows, seconds=time.monotonic() - started)


def _matches(store: Store) -> Iterator[pa.Table]:
    for path in latest_match_files(store):
        table = pq.ParquetFile(path).read()  # the partition's column is added below, not guessed from the path
        direction = path.parent.name.removeprefix("direction=")
        yield table.add_column(0, MATCH_SCHEMA.field("direction"), pa.array([direction] * len(table), pa.string()))


def _evaluation(store: Store) -> Iterator[pa.Table]:
    raw = store.read("reports/latest.json")
    if raw is None:
        return
    report = json.loads(store.read(f"reports/{json.loads(raw)['report']}/report.json") or b"{}")
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
    yield pa.Table.from_pylist(rows, schema=EVALUATION_SCHEMA)
