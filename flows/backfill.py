"""Documents that are encoded again although nothing about them changed."""

from __future__ import annotations

from prefect import flow

from flows.embed import embed
from flows.names import run_name
from flows.request import RunRequest
from tasks.queries.search import served
from tasks.run.reports import EmbedReport
from tasks.stages.backfill import BackfillRequest, begin_backfill, end_backfill
from tasks.stages.embed import latest_snapshots


@flow(name="backfill", flow_run_name=run_name)
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
    with request.recorded("backfill") as run:
        fingerprint = served(store).checkpoint
        begin_backfill(settings, meant, fingerprint, latest_snapshots(store), run_id=run.id)
        report = run.did(embed(fingerprint, request.of_parent(run.id)))
        end_backfill(settings, run_id=run.id)
    return report
