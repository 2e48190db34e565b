"""Maintenance of the store. Each step is a task; when one fails, the others still run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from data.errors import DataError, FencedError
from data.outputs import maintenance
from data.outputs.maintenance import Removed, what_to_keep
from llm2vec_core.errors import CoreError
from tasks.encoders.pins import pinned_snapshots
from tasks.encoders.retention import remove_checkpoints
from tasks.run.context import Run
from tasks.run.reports import MaintainStep
from tasks.run.stage_task import stage_task

STEPS = ("tables", "pointers", "generations", "checkpoints", "snapshots", "shards", "facts", "results", "leftovers")
"""Names of the steps, in order: later steps remove what earlier ones release."""


@stage_task("maintain {step}", retried=False)
def maintain_step(run: Run, step: str) -> MaintainStep:
    """Carry out one step. A failure is reported, not raised.

    Args:
        run: The run.
        step: One of :data:`STEPS`.

    Raises:
        FencedError: This run lost its lease: no later step may remove anything.
    """
    store, settings, lease = run.store, run.settings, run.lease
    lease.check()
    try:
        kept = what_to_keep(store, settings.retention, pinned=pinned_snapshots(store))
        actions: dict[str, Callable[[], Removed]] = {
            "tables": partial(maintenance.compact_served, store, kept, settings.index, lease=lease),
            "pointers": partial(maintenance.remove_pointers, store, kept),
            "generations": partial(maintenance.remove_generations, store, kept),
            "checkpoints": partial(remove_checkpoints, store, settings, kept),
            "snapshots": partial(maintenance.remove_snapshots, store, kept),
            "shards": partial(maintenance.remove_shards, store, kept),
            "facts": partial(maintenance.merge_condition_facts, store),
            "results": partial(maintenance.remove_results, store, kept),
            "leftovers": partial(maintenance.remove_leftovers, store, kept),
        }
        removed = actions[step]()
    except FencedError:
        raise
    except (DataError, CoreError) as error:
        return MaintainStep(step=step, count=0, freed_bytes=0, error=f"{error} {error.hint}".strip())
    return MaintainStep(step=step, count=removed.count, freed_bytes=removed.size_bytes)
