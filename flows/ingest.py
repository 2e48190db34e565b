"""Sources to snapshots."""

from __future__ import annotations

from prefect import flow

from data.config import SourceConfig
from data.schema import KINDS, DocumentKind
from flows.names import run_name
from flows.request import RunRequest
from tasks.run.reports import IngestReport
from tasks.stages.ingest import ingest_kind
from tasks.ui.artifacts import publish_table


@flow(name="ingest", flow_run_name=run_name)
def ingest(
    request: RunRequest = RunRequest(),  # noqa: B008 - frozen
    kind: DocumentKind | None = None,
    sources: dict[str, SourceConfig] | None = None,
) -> list[IngestReport]:
    """Read sources and make the snapshots that follow.

    Args:
        request: Settings of the run.
        kind: Only documents of this kind; both when not given.
        sources: Read these instead of the configured ones.
    """
    settings = request.settings()
    with request.recorded("ingest") as run:
        kinds = [kind] if kind else KINDS
        reports = [run.did(ingest_kind(settings, each, run_id=run.id, sources=sources)) for each in kinds]
    publish_table(
        "ingest-counts", [report.model_dump() for report in reports], description=f"Rows read by run {run.id}"
    )
    return reports
