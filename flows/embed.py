"""The embed flow: from snapshots and a checkpoint to served tables."""

from __future__ import annotations

import time

from prefect import flow

from flows.request import RunRequest, recorded, run_name
from flows.workers import share_shards
from tasks.encoders.quarantine import NUM_NAMED
from tasks.ledger.usage import embed_usage
from tasks.run.reports import EmbedReport
from tasks.stages.embed import (
    build_indexes,
    count_read_tokens,
    encode_shards,
    latest_snapshots,
    plan_shards,
    promote_tables,
    quarantine_unusable,
    settled_tables,
    update_table,
)
from tasks.ui.artifacts import publish_table
from tasks.workers.carry import settle_long_texts


@flow(name="embed", flow_run_name=run_name)
def embed(
    fingerprint: str,
    request: RunRequest | None = None,
    full: bool = False,
) -> EmbedReport:
    """Encode documents that have no vector yet, update the tables, run the gate, and move the pointer.

    Args:
        fingerprint: Checkpoint to encode with.
        request: Settings of the run.
        full: Encode every document again.
    """
    started = time.monotonic()
    request = request or RunRequest()
    with recorded("embed", request) as record:
        snapshots = latest_snapshots(record.run.store)
        settled = None if full else settled_tables(record.run, fingerprint, snapshots)
        if settled is not None:
            return record.did(settled.model_copy(update={"seconds": time.monotonic() - started}))
        run = settle_long_texts(record.run, fingerprint, snapshots)
        settings = run.settings
        plans = plan_shards(run, fingerprint, snapshots, full=full)
        if settings.encode.engine == "local" and settings.deployments.encoders > 1 and len(plans) > 1:
            shards = share_shards(request.of_stage(run), fingerprint, plans)
        else:
            shards = encode_shards(run, fingerprint, plans)
        quarantined = quarantine_unusable(run, fingerprint, snapshots)
        tables = [
            update_table(run, fingerprint, kind, snapshot_id, rewrite=full) for kind, snapshot_id in snapshots.items()
        ]
        tables = [build_indexes(run, fingerprint, table) for table in tables]
        generation = promote_tables(run, fingerprint, snapshots, tables)
        tokens = count_read_tokens(run, fingerprint, snapshots)
        report = record.did(
            EmbedReport(
                generation=generation,
                checkpoint=fingerprint,
                encoded_documents=sum(shard.documents for shard in shards),
                encoded_tokens=sum(shard.tokens for shard in shards),
                truncated_documents=sum(shard.truncated for shard in shards),
                read_tokens={kind: count.read for kind, count in tokens.items()},
                cut_tokens={kind: count.cut for kind, count in tokens.items()},
                documents={table.kind: table.documents for table in tables},
                no_vector={kind: len(names) for kind, names in quarantined.items()},
                no_vector_documents=[name for names in quarantined.values() for name in names][:NUM_NAMED],
                upserted={table.kind: table.upserted for table in tables},
                removed={table.kind: table.removed for table in tables},
                usage=embed_usage(run, fingerprint, shards),
                seconds=time.monotonic() - started,
            )
        )
    publish_table("table-counts", [table.model_dump() for table in tables], description=f"Tables of run {run.id}")
    return report
