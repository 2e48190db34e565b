"""Encode documents again although they did not change."""

from __future__ import annotations

from prefect import flow

from flows.embed import embed
from flows.request import RunRequest, recorded, run_name
from tasks.queries.served import served
from tasks.run.reports import EmbedReport
from tasks.stages.backfill import BackfillRequest, begin_backfill, end_backfill
from tasks.stages.embed import latest_snapshots
from tasks.workers.carry import settle_long_texts


@flow(name="backfill", flow_run_name=run_name)
def backfill(
    meant: BackfillRequest,
    request: RunRequest | None = None,
) -> EmbedReport:
    """Encode unchanged documents again with the served checkpoint, and serve them. A killed backfill resumes.

    Args:
        meant: Documents to encode again.
        request: Settings of the run.
    """
    request = request or RunRequest()
    with recorded("backfill", request) as record:
        fingerprint, snapshots = served(record.run.store).checkpoint, latest_snapshots(record.run.store)
        run = settle_long_texts(record.run, fingerprint, snapshots)
        begin_backfill(run, meant, fingerprint, snapshots)
        report = record.did(embed(fingerprint, request.of_stage(run)))
        end_backfill(run)
    return report
