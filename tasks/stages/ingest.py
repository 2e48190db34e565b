"""Ingest: sources to a snapshot of one kind."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from prefect import task
from prefect.cache_policies import NO_CACHE

from data.config import SourceConfig
from data.errors import InputError
from data.schema import DocumentKind
from data.snapshots.build import Snapshot, build_snapshot
from tasks.run.reports import IngestReport
from tasks.run.settings import Settings
from tasks.run.writing import lease_of, utc_now
from tasks.ui.policies import STORAGE


@task(task_run_name="ingest {kind}s", cache_policy=NO_CACHE, **STORAGE)
def ingest_kind(
    settings: Settings,
    kind: DocumentKind,
    *,
    run_id: str,
    sources: dict[str, SourceConfig] | None = None,
) -> IngestReport:
    """Read the sources of a kind and make the snapshot that follows.

    Args:
        settings: Settings of the run.
        kind: Kind of the documents.
        run_id: Run that ingests, and holds the lease.
        sources: What to read; the settings' sources of the kind when not given.

    Raises:
        InputError: A source cannot be read; nothing was changed.
        SourceShrankError: A source lost more documents than it may; nothing was changed.
    """
    started = time.monotonic()
    store = settings.store()
    chosen = settings.sources_of(kind) if sources is None else sources
    if not chosen:
        raise InputError(
            f"No source of kind '{kind}' is configured.",
            hint=f'Add [sources.NAME] with kind = "{kind}" and path to l2v.toml, or run `l2v ingest --kind {kind}`.',
        )
    snapshot = build_snapshot(
        store,
        kind=kind,
        sources=chosen,
        clean=settings.clean,
        redact=settings.redact,
        run_id=run_id,
        fence=lease_of(store, run_id).check,
        now=utc_now(),
        shrink=settings.ingest,
    )
    counts = [snapshot.manifest.sources[name] for name in chosen]
    return IngestReport(
        kind=kind,
        snapshot=snapshot.manifest.id,
        rows_in=sum(count.rows_in for count in counts),
        rows_kept=sum(count.rows_kept for count in counts),
        rows_quarantined=sum(count.rows_quarantined for count in counts),
        rows_duplicate=sum(count.rows_duplicate for count in counts),
        rows_near_duplicate=sum(count.rows_near_duplicate for count in counts),
        quarantine_reasons=_quarantine_reasons(snapshot, chosen),
        seconds=time.monotonic() - started,
    )


def _quarantine_reasons(snapshot: Snapshot, sources: Iterable[str]) -> dict[str, int]:
    """How many rows of some sources were rejected for each reason, the most frequent first."""
    reasons: Counter[str] = Counter()
    for source in sources:
        for batch in snapshot.quarantine_batches(source=source):
            reasons.update(batch["reason"].to_pylist())
    return dict(reasons.most_common())
