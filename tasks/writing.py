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
def writing_run(store: Store, *, parent: str | None, wait_s: float = 0.0) -> Iterator[str]:
    """A run that writes: it holds the store's lease, or is a stage of a run that does.

    Args:
        store: What is written to.
        parent: Run that this is a stage of, if it is.
        wait_s: Seconds to wait for another writer.

    Yields:
        Id of the run, under which the lease is held: what its tasks pass to :func:`lease_of`.

    Raises:
        LeaseHeldError: Another living writer is at work, and still is after that time.
    """
    if parent is not None:
        yield parent
        return
    run_id = new_run_id()
    with hold_lease(store, owner=run_id, wait_s=wait_s):
        yield run_id


def lease_of(store: Store, run_id: str) -> Lease:
    """The lease that a run holds, for the commits of its tasks."""
    return adopt_lease(store, owner=run_id)
