"""Measure the indexes of what is served, at the end of a night."""

from __future__ import annotations

import logging

from data.errors import DataError, FencedError
from data.vectors.index_watch import watch_indexes
from tasks.queries.served import served
from tasks.run.context import Run
from tasks.run.reports import EmbedReport
from tasks.run.settled import keep_settled, settled_report
from tasks.run.stage_task import stage_task

logger = logging.getLogger(__name__)


@stage_task("watch indexes", retried=False)
def watch_served(run: Run, embedded: EmbedReport) -> None:
    """Measure the indexes of the served tables. A fault is logged, and an alert of `l2v status`; the night goes on.

    Without a fault, the state is settled: the next night need not open the tables if nothing changes.

    Args:
        run: The run.
        embedded: Report of the embedding of this night.

    Raises:
        FencedError: This run lost its lease.
    """
    run.lease.check()
    pointer = served(run.store)
    if settled_report(run, pointer.checkpoint, pointer.snapshots) is not None:
        return
    try:
        found = watch_indexes(run.store, pointer, now=run.clock())
    except FencedError:
        raise
    except DataError as error:
        logger.warning("The indexes could not be measured: %s %s", error, error.hint)
        return
    for kind, watch in found.items():
        for fault in watch.faults:
            logger.warning("Search of %ss: %s `l2v embed` builds the indexes again.", kind, fault)
    if not any(watch.faults for watch in found.values()):
        keep_settled(run, pointer, embedded)
