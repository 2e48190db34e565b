"""What is served to analysts' Parquet."""

from __future__ import annotations

from prefect import flow

from flows.request import RunRequest
from tasks.export import export_all
from tasks.refs import ExportReport
from tasks.writing import writing_run


@flow(name="export")
def export(request: RunRequest = RunRequest()) -> ExportReport:  # noqa: B008 - frozen
    """Publish documents, matches and evaluation results."""
    settings = request.settings()
    with writing_run(settings.store(), parent=request.parent_run, wait_s=settings.lease.wait_s) as run_id:
        return export_all(settings, run_id=run_id)
