"""Promote a generation or roll back, by hand. Never imports prefect."""

from __future__ import annotations

from data.store.lease import hold_lease
from data.vectors.pointer import Pointer, promote_generation
from data.vectors.pointer import rollback as rollback_pointer
from tasks.run.context import new_run_id, utc_now
from tasks.run.settings import Settings


def promote(settings: Settings, generation: str) -> Pointer:
    """Serve a generation again, with the table versions that it last served.

    Raises:
        InputError: There is no such generation, or it was never served.
        LeaseHeldError: A run holds the lease.
    """
    store, run_id = settings.store(), new_run_id()
    with hold_lease(store, owner=run_id) as lease:
        return promote_generation(store, generation, lease=lease, run_id=run_id, now=utc_now())


def rollback(settings: Settings) -> Pointer:
    """Serve the generation that was served before the current one.

    Raises:
        InputError: Nothing was served before.
        LeaseHeldError: A run holds the lease.
    """
    store, run_id = settings.store(), new_run_id()
    with hold_lease(store, owner=run_id) as lease:
        return rollback_pointer(store, lease=lease, run_id=run_id, now=utc_now())
