"""Embedding: encode documents without a vector, update the tables, run the gate, move the pointer."""

from __future__ import annotations

import logging

import numpy as np
from pydantic import BaseModel, ConfigDict

from data.errors import InputError, StoreError
from data.schema import KINDS, TABLE_OF_KIND, DocumentKind
from data.snapshots.snapshot import contents_of, latest_snapshot, open_snapshot
from data.store.base import Store
from data.store.digests import DigestIndex, first_of_each
from data.vectors.gate import Check, GenerationRefusedError, judge_unusable
from data.vectors.generations import Generation, create_generation
from data.vectors.lance import LanceTable, open_table
from data.vectors.pointer import promote
from data.vectors.shards import TokenCount, drop_shards, encoded_contents, forget_unusable, unusable_contents
from data.vectors.tables import index_table, sync_table, verify_generation
from data.vectors.token_counts import tokens_of
from data.vectors.vector_index import settle_table
from llm2vec_core.model.checkpoint import read_record
from llm2vec_core.ranking.words import tokenize
from tasks.encoders.checkpoints import checkpoint_dir
from tasks.encoders.fit import settle_fit
from tasks.encoders.quarantine import documents_without_vector, listed
from tasks.encoders.query_encoder import keep_query_encoder
from tasks.encoders.tuned_fusion import tune_fusion
from tasks.run.context import Run
from tasks.run.reading import cut_sentence
from tasks.run.reports import EmbedReport
from tasks.run.settled import settled_report
from tasks.run.stage_task import stage_task
from tasks.stages.backfill import backfilled_contents
from tasks.ui.artifacts import progress, publish_table
from tasks.workers.carry import carry_short_texts
from tasks.workers.devices import encode_on_devices, visible_devices
from tasks.workers.ray import encode_on_ray
from tasks.workers.shards import ShardPlan, ShardReport, encode_planned

logger = logging.getLogger(__name__)


class TableReport(BaseModel):
    """Outcome of updating one table."""

    model_config = ConfigDict(frozen=True)

    kind: DocumentKind
    version: int
    documents: int
    upserted: int
    removed: int


@stage_task("look for changes")
def settled_tables(run: Run, fingerprint: str, snapshots: dict[DocumentKind, str]) -> EmbedReport | None:
    """The report if a former night left nothing to do for these snapshots, without opening a table; otherwise None."""
    report = settled_report(run, fingerprint, snapshots)
    if report is None:
        return None
    keep_query_encoder(run.store, fingerprint, run.settings.encode)
    for kind in snapshots:
        count = TokenCount(read=report.read_tokens.get(kind, 0), cut=report.cut_tokens.get(kind, 0))
        if (found := cut_sentence(kind, count, run.settings.encode)) is not None:
            logger.warning("%s", found)
    return report


@stage_task("plan stale documents")
def plan_shards(
    run: Run, fingerprint: str, snapshots: dict[DocumentKind, str], *, full: bool = False
) -> list[ShardPlan]:
    """Contents of the snapshots that this checkpoint has not encoded, in shards of bounded size.

    A content without a usable vector is not tried again by the same checkpoint. Short texts keep the vectors that they
    got when long ones were cut.

    Args:
        run: The run.
        fingerprint: Checkpoint to encode with.
        snapshots: Snapshot of each kind.
        full: Forget existing vectors, and plan everything.
    """
    store, encode = run.store, run.settings.encode
    if full:
        drop_shards(store, fingerprint=fingerprint)
    plans: list[ShardPlan] = []
    for kind, snapshot_id in snapshots.items():
        made_by = {"fingerprint": fingerprint, "encode_key": encode.encode_key(kind)}
        tried = np.concatenate([encoded_contents(store, **made_by), unusable_contents(store, **made_by)])
        done = DigestIndex(np.unique(tried))
        snapshot = open_snapshot(store, kind, snapshot_id)
        contents = contents_of(snapshot)
        stale = np.flatnonzero(first_of_each(contents) & ~done.contains(contents))
        stale = carry_short_texts(store, encode, kind, snapshot, stale, fingerprint=fingerprint)
        size = encode.shard_size
        plans += [
            ShardPlan.of_rows(kind, snapshot_id, stale[start : start + size]) for start in range(0, len(stale), size)
        ]
    return plans


@stage_task("encode documents")
def encode_shards(run: Run, fingerprint: str, plans: list[ShardPlan]) -> list[ShardReport]:
    """Encode the documents of all planned shards and write them, in this process or on a Ray cluster.

    One task covers all shards, because a night may have thousands and Prefect reports every task to the server.

    Raises:
        DeviceError: A device was lost, and with `encode.devices = "all"` all of them.
        InputError: Ray is configured but not installed.
        ServerError: The embedding server does not answer, or gives other vectors than proven.
        StoreError: A shard cannot be written; finished shards are not encoded again.
    """
    with progress("encode documents", sum(len(plan.rows) for plan in plans)) as advance:
        if run.settings.encode.engine == "ray":
            return encode_on_ray(run.settings, fingerprint, plans, on_progress=advance)
        encode = run.settings.encode
        on_all = encode.backend == "local" and encode.devices == "all" and len(plans) > 1
        if on_all and len(devices := visible_devices()) > 1:
            return encode_on_devices(run.settings, fingerprint, plans, devices, on_progress=advance)
        return [encode_planned(run.settings, fingerprint, plan, on_progress=advance) for plan in plans]


@stage_task("quarantine documents without a vector")
def quarantine_unusable(
    run: Run, fingerprint: str, snapshots: dict[DocumentKind, str]
) -> dict[DocumentKind, list[str]]:
    """Name the documents without a vector, which the tables leave out, and refuse the night if they are too many.

    Returns:
        Names of these documents by kind, as ``source/source id``.

    Raises:
        GenerationRefusedError: More than ``gate.max_unusable_share`` of a kind have none. The next run tries again.
    """
    store, checks = run.store, []
    quarantined: dict[DocumentKind, list[str]] = {}
    for kind, snapshot_id in snapshots.items():
        encode_key = run.settings.encode.encode_key(kind)
        names = documents_without_vector(store, kind, snapshot_id, fingerprint=fingerprint, encode_key=encode_key)
        if names:
            total = open_snapshot(store, kind, snapshot_id).manifest.num_documents
            checks.append(judge_unusable(TABLE_OF_KIND[kind], len(names), total, run.settings.gate))
            quarantined[kind] = names
            logger.warning("%s They are: %s.", checks[-1].note, listed(names))
    if not all(check.passed for check in checks):
        _publish_verdict(checks, run.id)
        forget_unusable(store, fingerprint=fingerprint)
        raise GenerationRefusedError(checks)
    return quarantined


@stage_task("update table of {kind}s")
def update_table(
    run: Run, fingerprint: str, kind: DocumentKind, snapshot_id: str, *, rewrite: bool = False
) -> TableReport:
    """Bring the generation's table of a kind up to date with a snapshot. Readers do not see it yet."""
    store = run.store
    run.lease.check()
    generation = _generation(run, fingerprint)
    snapshot = open_snapshot(store, kind, snapshot_id)
    rewritten = contents_of(snapshot) if rewrite else backfilled_contents(store, snapshot)
    change = sync_table(store, generation, snapshot, tokenize=tokenize, rewritten=rewritten)
    return TableReport(
        kind=kind,
        version=change.version,
        documents=_table(store, generation, kind, change.version).count(),
        upserted=change.upserted,
        removed=change.removed,
    )


@stage_task("index table of {table.kind}s")
def build_indexes(run: Run, fingerprint: str, table: TableReport) -> TableReport:
    """Update the indexes of a table. If that fails, the night continues and logs a warning; search is slower."""
    store = run.store
    run.lease.check()
    generation = _generation(run, fingerprint)
    try:
        version = index_table(store, generation, table.kind, table.version)
    except StoreError as error:
        logger.warning("%s The table is served without new indexes; the next `l2v embed` builds them.", error)
        return table
    if version != table.version:  # new rows, or a table without indexes
        version = settle_table(
            store, generation=generation.generation, kind=table.kind, version=version, config=run.settings.index
        )
    return table.model_copy(update={"version": version})


@stage_task("count tokens")
def count_read_tokens(run: Run, fingerprint: str, snapshots: dict[DocumentKind, str]) -> dict[DocumentKind, TokenCount]:
    """Count how many tokens of the documents were read, and how many cut; log a warning above the limit.

    Returns:
        The counts by kind.
    """
    store, generation = run.store, _generation(run, fingerprint)
    counts = {
        kind: tokens_of(store, generation, open_snapshot(store, kind, snapshot_id))
        for kind, snapshot_id in snapshots.items()
    }
    for kind, count in counts.items():
        if (found := cut_sentence(kind, count, run.settings.encode)) is not None:
            logger.warning("%s", found)
    return counts


@stage_task("verify and promote")
def promote_tables(run: Run, fingerprint: str, snapshots: dict[DocumentKind, str], tables: list[TableReport]) -> str:
    """Run the generation gate, write the query encoder, tune the fusion weight if asked for, fit limits, then serve.

    Returns:
        Name of the served generation.

    Raises:
        GenerationRefusedError: The tables failed a check; the pointer stays.
        FencedError: Another run took over; the pointer stays.
    """
    store = run.store
    generation = _generation(run, fingerprint)
    versions = {table.kind: table.version for table in tables}
    opened = {kind: open_snapshot(store, kind, snapshot_id) for kind, snapshot_id in snapshots.items()}
    try:
        checks = verify_generation(store, generation, opened, versions, run.settings.gate)
    except GenerationRefusedError as refusal:
        _publish_verdict(refusal.checks, run.id)
        raise
    _publish_verdict(checks, run.id)
    run.lease.check()
    keep_query_encoder(store, fingerprint, run.settings.encode)
    tune_fusion(run, generation=generation.generation, checkpoint=fingerprint)
    settle_fit(run, generation.generation, {kind: _table(store, generation, kind, versions[kind]) for kind in KINDS})
    pointer = promote(
        store,
        generation,
        versions=versions,
        snapshots=snapshots,
        lease=run.lease,
        run_id=run.id,
        now=run.clock(),
    )
    return pointer.generation


def _publish_verdict(checks: list[Check], run_id: str) -> None:
    """Publish every check of the gate with figure, limit and verdict in the Prefect UI."""
    publish_table("generation-gate", [check.model_dump() for check in checks], description=f"Gate of run {run_id}")


def latest_snapshots(store: Store) -> dict[DocumentKind, str]:
    """Id of the latest snapshot of each kind.

    Raises:
        InputError: A kind was never ingested.
    """
    snapshots: dict[DocumentKind, str] = {}
    for kind in KINDS:
        snapshot = latest_snapshot(store, kind)
        if snapshot is None:
            raise InputError(f"No {kind} was ever ingested.", hint=f"Run `l2v ingest --kind {kind} --source PATH`.")
        snapshots[kind] = snapshot.manifest.id
    return snapshots


def _table(store: Store, generation: Generation, kind: DocumentKind, version: int) -> LanceTable:
    return open_table(store, generation=generation.generation, kind=kind, version=version)


def _generation(run: Run, fingerprint: str) -> Generation:
    return create_generation(
        run.store,
        fingerprint=fingerprint,
        encode_keys={kind: run.settings.encode.encode_key(kind) for kind in KINDS},
        embedding_dim=read_record(checkpoint_dir(run.store, fingerprint)).embedding_dim,
        now=run.clock(),
    )
