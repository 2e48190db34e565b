"""Maintenance of the store: each step is a task of its own, and one that fails leaves the others to do their work."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prefect import task
from prefect.cache_policies import NO_CACHE

from data.errors import DataError, FencedError
from data.outputs import maintenance
from data.outputs.maintenance import Removed, what_to_keep
from tasks.run.reports import MaintainStep
from tasks.run.settings import Settings
from tasks.run.writing import lease_of
from tasks.stages.train import pinned_snapshots

STEPS = ("tables", "pointers", "generations", "snapshots", "shards", "results", "leftovers")
"""Names of the steps, in their order: later ones remove what earlier ones let go."""


@task(task_run_name="maintain {step}", cache_policy=NO_CACHE)
def maintain_step(settings: Settings, step: str, *, run_id: str) -> MaintainStep:
    """Carry out one step; what goes wrong in it is told, not raised.

    Args:
        settings: Settings of the run.
        step: One of :data:`STEPS`.
        run_id: Run that maintains, and holds the lease.

    Raises:
        FencedError: This run lost its lease: no later step may remove anything.
    """
    store, lease = settings.store(), lease_of(settings.store(), run_id)
    lease.check()
    try:
        kept = what_to_keep(store, settings.retention, pinned=pinned_snapshots(store))
        actions: dict[str, Callable[[], Removed]] = {
            "tables": partial(maintenance.compact_served, store, kept, settings.retention, settings.index, lease=lease),
            "pointers": partial(maintenance.remove_pointers, store, kept),
            "generations": partial(maintenance.remove_generations, store, kept),
            "snapshots": partial(maintenance.remove_snapshots, store, kept),
            "shards": partial(maintenance.remove_shards, store, kept),
            "results": partial(maintenance.remove_results, store, kept, settings.retention),
            "leftovers": partial(maintenance.remove_leftovers, store, kept),
        }
        removed = actions[step]()
    except FencedError:
        raise
    except DataError as error:
        return MaintainStep(step=step, count=0, freed_bytes=0, error=f"{error} {error.hint}".strip())
    return MaintainStep(step=step, count=removed.count, freed_bytes=removed.size_bytes)
