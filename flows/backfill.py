"""Documents that are encoded again although nothing about them changed."""

from __future__ import annotations

from prefect import flow

from flows.embed import embed
from flows.request import RunRequest
from tasks.backfill import BackfillRequest, begin_backfill, end_backfill
from tasks.embed import latest_snapshots
from tasks.refs import EmbedReport
from tasks.search import served
from tasks.writing import writing_run


@flow(name="backfill")
def backfill(
    meant: BackfillRequest,
    request: RunRequest = RunRequest(),  # noqa: B008 - frozen
) -> EmbedReport:
    """Encode documents again with the served checkpoint, and serve them; a killed one goes on where it stopped.

    Args:
        meant: Which documents.
        request: Settings of the run.
    """
    settings = request.settings()
    store = settings.store()
    with writing_run(store, parent=request.parent_run, wait_s=settings.lease.wait_s) as run_id:
        fingerprint = served(store).checkpoint
        begin_backfill(settings, meant, fingerprint, latest_snapshots(store), run_id=run_id)
        report = embed(fingerprint, request.of_parent(run_id))
        end_backfill(settings, run_id=run_id)
    return report
