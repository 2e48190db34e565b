"""The run context, which every task of a run takes. Never imports prefect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

from data.store.base import Store
from data.store.lease import Lease, adopt_lease
from tasks.run.precision import with_served_precision
from tasks.run.settings import Settings


def utc_now() -> datetime:
    """The current time, in UTC."""
    return datetime.now(UTC)


def new_run_id() -> str:
    """Id of a run: its start time and a few random digits."""
    return f"{utc_now():%Y%m%dT%H%M%SZ}-{uuid4().hex[:6]}"


@dataclass(frozen=True)
class Run:
    """One run that writes. It is made once, where the run is recorded, and every task takes it.

    Its representation is its id alone: Prefect shows and logs parameters of tasks, and settings may name private paths.

    Attributes:
        id: Owner of the lease. A stage has the id of the run that it belongs to.
        settings: Resolved once; no task reads them again.
        store: The store of ``settings.home``.
        lease: Checked before every commit.
        clock: Returns the time, in UTC.
    """

    id: str
    settings: Settings = field(repr=False)
    store: Store = field(repr=False)
    lease: Lease = field(repr=False)
    clock: Callable[[], datetime] = field(default=utc_now, repr=False)


def join_run(settings: Settings, run_id: str) -> Run:
    """Context for a stage of a run that another process or machine began.

    Raises:
        FencedError: That run does not hold the lease of the store any more.
    """
    store = settings.store()
    return Run(run_id, with_served_precision(settings, store), store, adopt_lease(store, owner=run_id))
