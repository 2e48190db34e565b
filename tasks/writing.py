"""Writing under the lease: a flow of its own takes it, a subflow uses its parent's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import uuid4

from data.lease import Lease, adopt_lease, hold_lease
from data.store import Store


def new_run_id() -> str:
    """Id of a run: when it began, and a few random digits."""
    return f"{utc_now():%Y%m%dT%H%M%SZ}-{uuid4().hex[:6]}"


def utc_now() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


@contextlib.contextmanager
def writer_lease(store: Store, *, run_id: str, parent: str | None) -> Iterator[str]:
    """Hold the store's lease for a run, unless its parent run holds it.

    Yields:
        Owner of the lease: what the run's tasks pass to :func:`lease_of`.

    Raises:
        LeaseHeldError: Another living writer is at work.
    """
    if parent is not None:
        yield parent
        return
    with hold_lease(store, owner=run_id):
        yield run_id


def lease_of(store: Store, owner: str) -> Lease:
    """The lease that a flow holds under ``owner``, for the commits of its tasks."""
    return adopt_lease(store, owner=owner)
