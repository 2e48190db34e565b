"""Writing under the lease: a flow of its own takes it, a subflow uses its parent's."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from data.store.base import Store
from data.store.lease import Lease, adopt_lease


def new_run_id() -> str:
    """Id of a run: when it began, and a few random digits."""
    return f"{utc_now():%Y%m%dT%H%M%SZ}-{uuid4().hex[:6]}"


def utc_now() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


def lease_of(store: Store, run_id: str) -> Lease:
    """The lease that a run holds, for the commits of its tasks."""
    return adopt_lease(store, owner=run_id)
