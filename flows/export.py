"""The export flow: from the served state to Parquet files for analysts."""

from __future__ import annotations

from prefect import flow

from flows.request import RunRequest, recorded, run_name
from tasks.run.reports import ExportReport
from tasks.stages.export import export_all


@flow(name="export", flow_run_name=run_name)
def export(request: RunRequest | None = None) -> ExportReport:
    """Publish documents, matches and evaluation results.

    Args:
        request: Settings of the run.
    """
    with recorded("export", request) as record:
        return record.did(export_all(record.run))
