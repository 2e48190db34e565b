"""Ingest: turn the sources of one kind into a snapshot."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable

from data.config import SourceConfig
from data.errors import DataError, InputError
from data.schema import DocumentKind
from data.snapshots.build import build_snapshot
from data.snapshots.snapshot import Snapshot, latest_snapshot
from data.store.base import Store
from tasks.run.context import Run
from tasks.run.reports import IngestReport
from tasks.run.stage_task import stage_task
from tasks.ui.artifacts import progress

logger = logging.getLogger(__name__)


@stage_task("ingest {kind}s")
def ingest_kind(run: Run, kind: DocumentKind, *, sources: dict[str, SourceConfig] | None = None) -> IngestReport:
    """Read the sources of a kind and make the next snapshot.

    Args:
        run: The run.
        kind: Kind of the documents.
        sources: Sources to read (default: those of the settings).

    Raises:
        InputError: A required source cannot be read; nothing was changed.
        SourceShrankError: A required source lost more documents than it may; nothing was changed.
    """
    started = time.monotonic()
    settings = run.settings
    chosen = settings.sources_of(kind) if sources is None else sources
    if not chosen:
        raise InputError(
            f"No source of kind '{kind}' is configured.",
            hint=f'Add [sources.NAME] with kind = "{kind}" and path to l2v.toml, or run `l2v ingest --kind {kind}`.',
        )
    unread: dict[str, str] = {}

    def on_unread(name: str, error: DataError) -> None:
        unread[name] = str(error)
        logger.warning("Source '%s' is not required and was not read; its former documents stay. %s", name, error)

    with progress(f"read {kind}s", _former_rows(run.store, kind, chosen)) as advance:
        seen = 0

        def on_progress(num_rows: int) -> None:
            nonlocal seen
            advance(max(num_rows - seen, 0))  # after a fault of one source, the others are read again
            seen = num_rows

        snapshot = build_snapshot(
            run.store,
            kind=kind,
            sources=chosen,
            clean=settings.clean,
            redact=settings.redact,
            run_id=run.id,
            fence=run.lease.check,
            now=run.clock(),
            shrink=settings.ingest,
            on_progress=on_progress,
            on_unread=on_unread,
        )
    counts = [snapshot.manifest.sources[name] for name in chosen if name in snapshot.manifest.sources]
    return IngestReport(
        kind=kind,
        snapshot=snapshot.manifest.id,
        rows_in=sum(count.rows_in for count in counts),
        rows_kept=sum(count.rows_kept for count in counts),
        rows_quarantined=sum(count.rows_quarantined for count in counts),
        rows_duplicate=sum(count.rows_duplicate for count in counts),
        rows_near_duplicate=sum(count.rows_near_duplicate for count in counts),
        quarantine_reasons=_quarantine_reasons(snapshot, chosen),
        marks=_summed(count.marks for count in counts),
        notes=_summed(count.notes for count in counts),
        skipped={file: reason for count in counts for file, reason in count.skipped.items()},
        num_skipped=sum(count.num_skipped for count in counts),
        unread=unread,
        unreadable_values=_summed(count.unreadable_values for count in counts),
        rows_replaced=sum(count.rows_replaced for count in counts),
        seconds=time.monotonic() - started,
    )


def _former_rows(store: Store, kind: DocumentKind, sources: Collection[str]) -> int | None:
    """Rows that sources had the last time; None if one of them is new."""
    former = latest_snapshot(store, kind)
    counts = {} if former is None else former.manifest.sources
    return sum(counts[name].rows_in for name in sources) if all(name in counts for name in sources) else None


def _summed(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total.most_common())


def _quarantine_reasons(snapshot: Snapshot, sources: Iterable[str]) -> dict[str, int]:
    """Number of rejected rows by reason, the most frequent first."""
    reasons: Counter[str] = Counter()
    for source in sources:
        for batch in snapshot.quarantine_batches(source=source):
            reasons.update(batch["reason"].to_pylist())
    return dict(reasons.most_common())
