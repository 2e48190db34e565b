"""The ingest flow: from sources to snapshots."""

from __future__ import annotations

from prefect import flow

from data.config import SourceConfig
from data.schema import KINDS, DocumentKind
from flows.request import RunRequest, recorded, run_name
from tasks.run.reports import IngestReport
from tasks.stages.ingest import ingest_kind
from tasks.ui.artifacts import publish_table


@flow(name="ingest", flow_run_name=run_name)
def ingest(
    request: RunRequest | None = None,
    kind: DocumentKind | None = None,
    sources: dict[str, SourceConfig] | None = None,
) -> list[IngestReport]:
    """Read the sources and make new snapshots.

    Args:
        request: Settings of the run.
        kind: Kind of documents to read (default: both).
        sources: Read these instead of the configured ones.
    """
    with recorded("ingest", request) as record:
        kinds = [kind] if kind else KINDS
        reports = [record.did(ingest_kind(record.run, each, sources=sources)) for each in kinds]
    description = f"Rows read by run {record.run.id}"
    publish_table("ingest-counts", [report.model_dump() for report in reports], description=description)
    return reports
