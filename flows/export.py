"""What is served to analysts' Parquet."""

from __future__ import annotations

from prefect import flow

from flows.request import RunRequest
from tasks.export import export_all
from tasks.refs import ExportReport
from tasks.writing import new_run_id, writer_lease


@flow(name="export")
def export(request: RunRequest = RunRequest()) -> ExportReport:  # noqa: B008 - frozen
    """Publish documents, matches and evaluation results."""
    settings = request.settings()
    run_id = new_run_id()
    with writer_lease(settings.store(), run_id=run_id, parent=request.parent_run) as owner:
        return export_all(settings, run_id=run_id, lease_owner=owner)
