"""What is served to analysts' Parquet."""

from __future__ import annotations

from prefect import flow

from flows.names import run_name
from flows.request import RunRequest
from tasks.run.reports import ExportReport
from tasks.stages.export import export_all


@flow(name="export", flow_run_name=run_name)
def export(request: RunRequest = RunRequest()) -> ExportReport:  # noqa: B008 - frozen
    """Publish documents, matches and evaluation results.

    Args:
        request: Settings of the run.
    """
    with request.recorded("export") as run:
        return run.did(export_all(request.settings(), run_id=run.id))
