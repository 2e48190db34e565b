"""The embedded Prefect server of a run: starting it, ending those of killed runs, and keeping its history small.

Only used without ``PREFECT_API_URL``. A Prefect server that is set up by an operator marks and removes runs itself
(``docs/operate.md``).
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from data.errors import StoreError
from data.store.base import storage_errors
from tasks.queries.server_api import server_url
from tasks.run.orchestrator import (
    LOG_NAME,
    OWNER_VARIABLE,
    embedded_servers,
    machine_trouble,
    own_identity,
)
from tasks.run.reports import MaintainStep

logger = logging.getLogger(__name__)

KEPT_DAYS = 30
"""Age in days from which ``l2v maintain`` removes flow runs from the embedded database."""

_PAGE = 200
_STEP = "orchestrator"


def start_server(folder: Path) -> None:
    """Start the embedded server, and mark the runs of killed processes as crashed.

    The server logs to a file beside its database, not to the terminal.

    Args:
        folder: ``PREFECT_HOME`` of this process. The caller has ended servers of killed runs, and looked at the
            database (``tasks.run.orchestrator``).

    Raises:
        StoreError: The server does not start.
    """
    with storage_errors(f"make {folder}"):
        folder.mkdir(0o700, parents=True, exist_ok=True)
    is_alone = not any(True for _ in embedded_servers(folder))
    os.environ[OWNER_VARIABLE] = own_identity()
    from prefect.server.api.server import SubprocessASGIServer

    log = folder / LOG_NAME
    try:
        with storage_errors(f"write {log}"), _stderr_to(log):
            SubprocessASGIServer().start()
    except Exception as error:
        last = log.read_text(errors="replace").strip().splitlines()[-1:] or [str(error)]
        raise machine_trouble(folder) or StoreError(
            f"The embedded Prefect server did not start: {last[0][:200]}", hint=f"Its log: {log}."
        ) from error
    if is_alone:
        count = mark_crashed()
        if count:
            logger.warning("marked %s run(s) of killed processes as crashed", count)


@contextlib.contextmanager
def _stderr_to(path: Path) -> Iterator[None]:
    """Processes that are started in this context write their standard error to a file."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with path.open("wb") as log:
            os.dup2(log.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def mark_crashed() -> int:
    """Mark all flow runs of the embedded database that have not ended as crashed; returns their number.

    Call it before the first flow of this process, and only if no other process has an embedded server.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    living = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    unfinished = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=living)))
    marked: set[UUID] = set()
    with get_client(sync_client=True) as client:
        while left := {run.id for run in client.read_flow_runs(flow_run_filter=unfinished, limit=_PAGE)} - marked:
            for run_id in left:
                client.set_flow_run_state(run_id, Crashed(message="Its process was killed."), force=True)
            marked |= left
    return len(marked)


def prune_history() -> list[MaintainStep]:
    """A step of maintenance that removes old flow runs from the embedded database; none if there is a server.

    A failure is reported, not raised.
    """
    if server_url() is not None or not _has_embedded_server():
        return []
    try:
        return [MaintainStep(step=_STEP, count=prune_runs(), freed_bytes=0)]
    except Exception as error:  # Prefect's and httpx's own errors; maintenance of the store is done
        return [MaintainStep(step=_STEP, count=0, freed_bytes=0, error=f"{type(error).__name__}: {error}")]


def _has_embedded_server() -> bool:
    """Whether this process started an embedded server; a test may use another one."""
    return OWNER_VARIABLE in os.environ


def prune_runs(now: datetime | None = None) -> int:
    """Remove flow runs that ended more than :data:`KEPT_DAYS` ago from the embedded database; returns their number.

    Args:
        now: The current time, with a time zone (default: the clock's).
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterEndTime

    before = (now or datetime.now(UTC)) - timedelta(days=KEPT_DAYS)
    ended = FlowRunFilter(end_time=FlowRunFilterEndTime(before_=before))
    count = 0
    with get_client(sync_client=True) as client:
        while runs := client.read_flow_runs(flow_run_filter=ended, limit=_PAGE):
            for run in runs:
                client.delete_flow_run(run.id)
            count += len(runs)
    return count
