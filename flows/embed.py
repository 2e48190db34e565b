"""Snapshots and a checkpoint to served tables."""

from __future__ import annotations

import time

from prefect import flow

from flows.encode import encode_together
from flows.names import run_name
from flows.request import RunRequest
from tasks.ledger.usage import embed_usage
from tasks.run.reports import EmbedReport
from tasks.stages.embed import (
    build_indexes,
    encode_shards,
    latest_snapshots,
    plan_shards,
    promote_tables,
    update_table,
)
from tasks.ui.artifacts import publish_table


@flow(name="embed", flow_run_name=run_name)
def embed(
    fingerprint: str,
    request: RunRequest = RunRequest(),  # noqa: B008 - frozen
    full: bool = False,
) -> EmbedReport:
    """Encode what has no vector yet, bring the tables up to date, pass the gate, move the pointer.

    Args:
        fingerprint: Checkpoint to encode with.
        request: Settings of the run.
        full: Encode everything again.
    """
    started = time.monotonic()
    settings = request.settings()
    with request.recorded("embed") as run:
        snapshots = latest_snapshots(settings.store())
        plans = plan_shards(settings, fingerprint, snapshots, full=full)
        if settings.encode.engine == "local" and settings.deployments.encoders > 1 and len(plans) > 1:
            shards = encode_together(request.of_parent(run.id), fingerprint, plans)
        else:
            shards = encode_shards(settings, fingerprint, plans)
        tables = [
            update_table(settings, fingerprint, kind, snapshot_id, run_id=run.id, rewrite=full)
            for kind, snapshot_id in snapshots.items()
        ]
        tables = [build_indexes(settings, fingerprint, table, run_id=run.id) for table in tables]
        generation = promote_tables(settings, fingerprint, snapshots, tables, run_id=run.id)
        report = run.did(
            EmbedReport(
                generation=generation,
                checkpoint=fingerprint,
                encoded_documents=sum(shard.documents for shard in shards),
                encoded_tokens=sum(shard.tokens for shard in shards),
                truncated_documents=sum(shard.truncated for shard in shards),
                documents={table.kind: table.documents for table in tables},
                upserted={table.kind: table.upserted for table in tables},
                removed={table.kind: table.removed for table in tables},
                usage=embed_usage(settings, fingerprint, shards),
                seconds=time.monotonic() - started,
            )
        )
    publish_table("table-counts", [table.model_dump() for table in tables], description=f"Tables of run {run.id}")
    return report
