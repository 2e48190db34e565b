"""The embedded Prefect server of a machine: starting it, sharing it between commands, and keeping its history small.

Only used without ``PREFECT_API_URL``. A Prefect server that is set up by an operator marks and removes runs itself
(``docs/operate.md``).

Starting a server takes several times as long as a night without changes. So it stays for a while after the last command
that used it (``tasks.ui.kept_server``), and the next command finds it by a record beside its database.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

import tasks
from data.errors import StoreError
from data.schema import sha256_json
from data.store.base import storage_errors
from data.store.lease import process_identity
from tasks.queries.server_api import EMBEDDED_VARIABLE, server_url
from tasks.run.orchestrator import LOG_NAME, database_revision, machine_trouble
from tasks.run.reports import MaintainStep
from tasks.ui.kept_server import LOCK_NAME

logger = logging.getLogger(__name__)

KEPT_VARIABLE = "LLM2VEC_SERVER_KEPT_S"
"""Environment variable: for how many seconds the server waits for a further command."""

KEPT_SECONDS = 300.0
"""Its default."""

KEPT_DAYS = 30
"""Age in days from which ``l2v maintain`` removes flow runs from the embedded database."""

_RECORD_NAME, _START_NAME = "server.json", "server.start"
_START_WAIT_S = 180.0
_ANSWER_WAIT_S = 10.0
_STOP_WAIT_S = 5.0
_PAGE = 200
_STEP = "orchestrator"


class ServerRecord(BaseModel):
    """Record of the embedded server, beside its database.

    Attributes:
        process: Its process (:func:`data.store.lease.process_identity`).
        port: Its port on loopback.
        started_as: Hash of all that it was started with: interpreter, version and settings of Prefect.
        prefect: Version of Prefect.
        revision: Revision of the database after it began.
    """

    model_config = ConfigDict(frozen=True)

    process: str
    port: int
    started_as: str
    prefect: str
    revision: str | None = None

    @property
    def url(self) -> str:
        """URL of its API."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def pid(self) -> int:
        """Its process id."""
        return int(self.process.split(" ")[0])

    def is_running(self) -> bool:
        """Whether its process lives, as far as this process can see it."""
        return _is_running(self.pid) and process_identity(self.pid) == self.process

    def is_alive(self) -> bool:
        """Whether its process lives and answers."""
        return self.is_running() and _answers(self.url)


_used: dict[Path, IO[bytes]] = {}
"""Locks of the servers that this process uses. They are held until it ends."""


def start_server(folder: Path) -> None:
    """Use the embedded server of a folder, which is started if none lives; mark runs of killed processes as crashed.

    Sets ``PREFECT_API_URL``, so call it before Prefect is imported. The server logs to a file beside its database, not
    to the terminal. Nothing happens if Prefect was imported with a server.

    Args:
        folder: ``PREFECT_HOME`` of this process. The caller has looked at its database (``tasks.run.orchestrator``).

    Raises:
        StoreError: The server does not start.
    """
    if _has_server_already():
        return
    with storage_errors(f"use {folder}"):
        folder.mkdir(0o700, parents=True, exist_ok=True)
        lock = _used.setdefault(folder, (folder / LOCK_NAME).open("ab"))
        with (folder / _START_NAME).open("ab") as starting:
            fcntl.flock(starting, fcntl.LOCK_EX)
            is_alone = _is_alone(lock)
            fcntl.flock(lock, fcntl.LOCK_SH)  # waits for a server that is about to end
            record, started_as = _read_record(folder), _started_as()
            # Without the database that it began with, which somebody moved away, a server would write to that file.
            is_usable = record is not None and database_revision(folder) == record.revision and record.is_alive()
            if record is not None and is_alone and not (is_usable and record.started_as == started_as):
                _end(record)
                is_usable = False
            if record is None or not is_usable:
                record = _start(folder, started_as, former=record)
            os.environ |= {"PREFECT_API_URL": record.url, EMBEDDED_VARIABLE: record.url}
            count = mark_crashed() if is_alone else 0
    if count:
        logger.warning("marked %s run(s) of killed processes as crashed", count)


def end_server(folder: Path) -> None:
    """End the embedded server of a folder unless a command uses it, so that its database can be rewritten."""
    record = _read_record(folder)
    if record is None or not record.is_running():
        return
    with (folder / LOCK_NAME).open("ab") as lock:
        if _is_alone(lock):
            _end(record)


def _has_server_already() -> bool:
    """Whether Prefect was imported and has the URL of a server, as in a test harness."""
    if "prefect" not in sys.modules:
        return False
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value() not in (None, os.environ.get(EMBEDDED_VARIABLE))


def _is_alone(lock: IO[bytes]) -> bool:
    """Whether no other command uses the server. The server itself holds the lock for an instant now and then."""
    for _ in range(5):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return True
    return False


def _read_record(folder: Path) -> ServerRecord | None:
    try:
        return ServerRecord.model_validate_json((folder / _RECORD_NAME).read_bytes())
    except (OSError, ValidationError):  # there is none, or a killed process left half of it
        return None


def _started_as() -> str:
    """Hash of all that a server is started with."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("PREFECT_")}
    settings.pop("PREFECT_API_URL", None)
    return sha256_json([sys.executable, importlib.metadata.version("prefect"), _kept_seconds(), settings])


def _kept_seconds() -> float:
    try:
        return max(0.0, float(os.environ.get(KEPT_VARIABLE, KEPT_SECONDS)))
    except ValueError:
        logger.warning("%s is no number of seconds; the server is kept for %.0f s.", KEPT_VARIABLE, KEPT_SECONDS)
        return KEPT_SECONDS


def _start(folder: Path, started_as: str, *, former: ServerRecord | None) -> ServerRecord:
    """Start the server and wait until it answers. It goes on when this process ends.

    Args:
        folder: Directory of the database.
        started_as: For the record.
        former: Record of the server before. If the same version of Prefect has used the database already, the server
            need not look for migrations and block types, which takes a third of its start.
    """
    prefect, log = importlib.metadata.version("prefect"), folder / LOG_NAME
    is_prepared = (
        former is not None and former.prefect == prefect and None is not former.revision == database_revision(folder)
    )
    with socket.create_server(("127.0.0.1", 0)) as listener, log.open("wb") as output:
        process = subprocess.Popen(
            server_command(listener.fileno(), folder, _kept_seconds()),
            env=_server_environment(is_prepared=is_prepared),
            pass_fds=(listener.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the command, not for its server
        )
        record = ServerRecord(
            process=process_identity(process.pid),
            port=listener.getsockname()[1],
            started_as=started_as,
            prefect=prefect,
        )
    _keep(folder, record)
    deadline = time.monotonic() + _START_WAIT_S
    while not _answers(record.url):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            last = log.read_text(errors="replace").strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
            raise machine_trouble(folder) or StoreError(
                f"The embedded Prefect server did not start: {last[0][:200]}", hint=f"Its log: {log}."
            )
        time.sleep(0.05)
    _keep(folder, record.model_copy(update={"revision": database_revision(folder)}))
    _processes.append(process)
    return record


_processes: list[subprocess.Popen[bytes]] = []
"""Servers that this process started. They are its children, so it keeps them until it ends."""


def server_command(descriptor: int, folder: Path, kept_seconds: float) -> list[str]:
    """Command of the server's process. ``-P``: modules are not looked for in the working directory."""
    return [sys.executable, "-P", "-m", "tasks.ui.kept_server", str(descriptor), str(folder), str(kept_seconds)]


def _server_environment(*, is_prepared: bool) -> dict[str, str]:
    root = str(Path(next(iter(tasks.__path__))).parent)
    found = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    found["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [found.get("PYTHONPATH")])])
    found |= {"PREFECT_UI_ENABLED": "false", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    if is_prepared:
        found |= {"PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false", "PREFECT_API_BLOCKS_REGISTER_ON_START": "false"}
    return found


def _keep(folder: Path, record: ServerRecord) -> None:
    written = folder / f"{_RECORD_NAME}.new"
    written.write_text(record.model_dump_json())
    written.replace(folder / _RECORD_NAME)


def _end(record: ServerRecord) -> None:
    """End a server that does not answer, or was started with other settings."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        if not record.is_running():
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, sent)
        deadline = time.monotonic() + _STOP_WAIT_S
        while time.monotonic() < deadline and record.is_running():
            time.sleep(0.05)


def _is_running(pid: int) -> bool:
    for started in _processes:
        started.poll()  # a child that ended is a process until its parent asks
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=_ANSWER_WAIT_S) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def mark_crashed() -> int:
    """Mark all flow runs of the embedded database that have not ended as crashed; returns their number.

    Call it before the first flow of this process, and only if no other process uses the embedded server.
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
    """Whether this process uses an embedded server; a test may use another one."""
    return EMBEDDED_VARIABLE in os.environ


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
