"""OpenLineage events with the inputs and outputs of every run. Never imports prefect.

Events are plain JSON over HTTP. No run depends on them: if the endpoint does not answer, a warning is logged.

Source: the OpenLineage specification, version 2-0-2.
"""

from __future__ import annotations

import functools
import http.client
import json
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from data.errors import DataError
from data.schema import KINDS, TABLE_OF_KIND
from data.snapshots.snapshot import open_snapshot
from data.store.base import Store
from data.vectors.pointer import read_pointer
from tasks.encoders.checkpoints import checkpoint_dir
from tasks.ledger.record import RunRecord
from tasks.run.reports import (
    EmbedReport,
    EvaluateReport,
    ExportReport,
    IngestReport,
    MatchReport,
    StageReport,
    TrainReport,
)
from tasks.run.settings import LineageSettings

logger = logging.getLogger(__name__)

_NAMESPACE = "llm2vec-pipelines"
_PRODUCER = "urn:llm2vec-pipelines"
_SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json"
_FACETS = "https://openlineage.io/spec/facets"
_PARENT_JOB = "nightly"
TIMEOUT_S = 2.0
"""Timeout of one event, in seconds."""

Dataset = tuple[str, str]
"""Dataset name, which is stable across runs, and the version that a run read or wrote."""


def emit_start(record: RunRecord) -> None:
    """Send the start event of a run or a stage."""
    _emit(record, "START", facets={}, inputs=[], outputs=[])


def emit_end(record: RunRecord, *, error: str | None = None) -> None:
    """Send the end event of a run or a stage, with its inputs and outputs."""
    if record.run.settings.lineage.endpoint is None:
        return
    if error is not None:
        facet = _facet("1-0-1/ErrorMessageRunFacet.json", message=error, programmingLanguage="python")
        _emit(record, "FAIL", facets={"errorMessage": facet}, inputs=[], outputs=[])
        return
    inputs: list[Dataset] = []
    outputs: list[Dataset] = []
    try:
        for report in record.reports:
            read, made = datasets_of(report, record.run.store)
            inputs += read
            outputs += made
    except DataError as error:  # the run succeeded, even if its output no longer exists
        logger.warning("the lineage of %s is incomplete: %s", record.flow, error)
    _emit(record, "COMPLETE", facets={}, inputs=inputs, outputs=outputs)


@functools.singledispatch
def datasets_of(report: StageReport, store: Store) -> tuple[list[Dataset], list[Dataset]]:
    """Datasets that a stage read and wrote. Both are empty for a stage without an entry below."""
    return [], []


@datasets_of.register
def _(report: IngestReport, store: Store) -> tuple[list[Dataset], list[Dataset]]:
    manifest = open_snapshot(store, report.kind, report.snapshot).manifest
    paths = [counts.path for counts in manifest.sources.values()]
    return [(str(Path(path).resolve()), "") for path in paths], [(f"snapshots/{report.kind}", report.snapshot)]


@datasets_of.register
def _(report: TrainReport, store: Store) -> tuple[list[Dataset], list[Dataset]]:
    from llm2vec_core.model.checkpoint import read_record

    record = read_record(checkpoint_dir(store, report.checkpoint.fingerprint))
    snapshots = [(f"snapshots/{kind}", found) for kind, found in (record.training_snapshots or {}).items()]
    return snapshots, [("checkpoints", record.fingerprint)]


@datasets_of.register
def _(report: EvaluateReport, store: Store) -> tuple[list[Dataset], list[Dataset]]:
    return [("checkpoints", report.served)], [("reports", report.report)]


@datasets_of.register
def _(report: EmbedReport, store: Store) -> tuple[list[Dataset], list[Dataset]]:
    pointer = read_pointer(store)
    snapshots = pointer.snapshots if pointer is not None else {}
    read = [(f"snapshots/{kind}", found) for kind, found in snapshots.items()]
    return [*read, ("checkpoints", report.checkpoint)], _served_tables(store)


@datasets_of.register
def _(report: MatchReport, store: Store) -> tuple[list[Dataset], list[Dataset]]:
    return _served_tables(store), [("matches", report.match)]


@datasets_of.register
def _(report: ExportReport, store: Store) -> tuple[list[Dataset], list[Dataset]]:
    latest = [(name, _latest(store, name)) for name in ("matches", "reports")]
    return [*_served_tables(store), *latest], [("exports", Path(report.path).name)]


def _served_tables(store: Store) -> list[Dataset]:
    pointer = read_pointer(store)
    if pointer is None:
        return []
    return [(f"lance/{TABLE_OF_KIND[kind]}", f"{pointer.generation}@{pointer.version_of(kind)}") for kind in KINDS]


def _latest(store: Store, name: str) -> str:
    values: list[str] = list(json.loads(store.read(f"{name}/latest.json") or b"{}").values())
    return values[0] if values else ""


def _emit(
    record: RunRecord,
    event_type: str,
    *,
    facets: dict[str, Any],
    inputs: Sequence[Dataset],
    outputs: Sequence[Dataset],
) -> None:
    lineage, run_id = record.run.settings.lineage, record.run.id
    if lineage.endpoint is None:
        return
    if record.is_stage:
        facets = {**facets, "parent": _parent_facet(run_id)}
    event = {
        "eventType": event_type,
        "eventTime": record.run.clock().isoformat(),
        "producer": _PRODUCER,
        "schemaURL": f"{_SPEC}#/$defs/RunEvent",
        "run": {"runId": _run_uuid(run_id, record.flow if record.is_stage else ""), "facets": facets},
        "job": {"namespace": _NAMESPACE, "name": record.flow},
        "inputs": [_dataset(*dataset) for dataset in dict.fromkeys(inputs)],
        "outputs": [_dataset(*dataset) for dataset in dict.fromkeys(outputs)],
    }
    _post(lineage, event)


def _run_uuid(run_id: str, stage: str) -> str:
    """OpenLineage run ids are UUIDs: one for the run, and one for each of its stages."""
    return str(uuid5(NAMESPACE_URL, f"llm2vec-pipelines:{run_id}:{stage}"))


def _parent_facet(parent: str) -> dict[str, Any]:
    return _facet(
        "1-0-1/ParentRunFacet.json",
        run={"runId": _run_uuid(parent, "")},
        job={"namespace": _NAMESPACE, "name": _PARENT_JOB},
    )


def _dataset(name: str, version: str) -> dict[str, Any]:
    if name.startswith("/"):
        return {"namespace": "file", "name": name}
    facets = {"version": _facet("1-0-1/DatasetVersionDatasetFacet.json", datasetVersion=version)} if version else {}
    return {"namespace": _NAMESPACE, "name": name, "facets": facets}


def _facet(schema: str, **content: object) -> dict[str, Any]:
    return {"_producer": _PRODUCER, "_schemaURL": f"{_FACETS}/{schema}", **content}


def _post(lineage: LineageSettings, event: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json"}
    key = os.environ.get("OPENLINEAGE_API_KEY")
    if key:
        headers["Authorization"] = f"Bearer {key}"
    try:
        request = urllib.request.Request(str(lineage.endpoint), json.dumps(event).encode(), headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S):
            pass
    except (OSError, ValueError, http.client.HTTPException) as error:  # no connection, timeout, bad URL, HTTP error
        # Log only the error type: its text may repeat the endpoint, which may contain a token.
        reason = f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else type(error).__name__
        logger.warning("the lineage event %s of %s was rejected: %s", event["eventType"], event["job"]["name"], reason)
