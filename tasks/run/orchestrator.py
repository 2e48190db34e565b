"""The embedded orchestrator of a machine: its disk, its database, and servers that outlived their run.

Without ``PREFECT_API_URL``, a run starts a Prefect server of its own. Its database is in ``prefect/`` of the home, or
of ``work_dir`` if the home is a bucket. This module looks at both without importing Prefect. So a problem is one
sentence before a run starts, and ``l2v status`` can say it, too.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from data.errors import StoreError
from data.store.lease import process_identity, process_is_running

logger = logging.getLogger(__name__)

MIN_FREE_BYTES = 64 << 20
"""Free space below which no run starts."""

MIN_FREE_TO_MAINTAIN_BYTES = 8 << 20
"""Free space below which no maintenance starts, which frees space: the orchestrator's database must fit."""

OWNER_VARIABLE = "LLM2VEC_SERVER_OWNER"
"""Environment variable of an embedded server: identity of the process that started it."""

LOG_NAME = "server.log"
"""Log of the embedded server, beside its database; each run writes it anew."""

_DATABASE = "prefect.db"
_SERVER = "prefect.server.api.server:create_app"
_LOCK_WAIT_S = 5.0
_STOP_WAIT_S = 5.0


def machine_trouble(folder: Path, min_free_bytes: int = MIN_FREE_BYTES) -> StoreError | None:
    """Reason why the embedded orchestrator cannot work in a directory; None if it can.

    Args:
        folder: ``prefect/`` of the machine; may not exist yet.
        min_free_bytes: Free space that the run needs.
    """
    return disk_trouble(folder, min_free_bytes) or database_trouble(folder, is_looked_at=False)


def disk_trouble(folder: Path, min_free_bytes: int = MIN_FREE_BYTES) -> StoreError | None:
    """The error if the disk of a directory is full or cannot be written; None otherwise."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < min_free_bytes:
        return StoreError(
            f"The disk of {there} is full: {free / 1e6:,.0f} MB are free, a run needs {min_free_bytes / 1e6:,.0f} MB.",
            hint="Free space, for example with `l2v maintain`, then run the same command again.",
        )
    if not os.access(there, os.W_OK):
        return StoreError(f"{there} cannot be written.", hint="Restore the permissions, then run again.")
    return None


def database_trouble(folder: Path, *, is_looked_at: bool = True) -> StoreError | None:
    """The error if the orchestrator's database is locked, damaged, or of a newer Prefect; None otherwise.

    Args:
        folder: Directory of the database.
        is_looked_at: Only read it. Otherwise a lock of another process is found, too.
    """
    path = folder / _DATABASE
    if not path.is_file():
        return None
    mode = "ro" if is_looked_at else "rw"
    try:
        uri = f"{path.as_uri()}?mode={mode}"
        with closing(sqlite3.connect(uri, uri=True, timeout=_LOCK_WAIT_S, isolation_level=None)) as database:
            found = database.execute("SELECT version_num FROM alembic_version").fetchall()
            if not is_looked_at:
                database.execute("BEGIN IMMEDIATE")  # fails if another process keeps the database locked
                database.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # an empty file, which the server fills
            return None
        state = "locked by another process" if "locked" in str(error) else f"not usable ({error})"
        return StoreError(
            f"The orchestrator's database {path} is {state}.",
            hint="End the program that holds it, or move the file away: it holds the history of runs, nothing that is "
            "served.",
        )
    except sqlite3.DatabaseError as error:
        return StoreError(
            f"The orchestrator's database {path} is damaged ({error}).",
            hint="Move the file away; the next run makes a new one. It holds the history of runs, nothing that is "
            "served.",
        )
    revisions = _known_revisions()
    unknown = [version for (version,) in found if revisions and not any(version in name for name in revisions)]
    if unknown:
        return StoreError(
            f"The orchestrator's database {path} was written by a newer Prefect (revision {unknown[0]}).",
            hint="Install that version of Prefect again, or move the file away; it holds the history of runs, nothing "
            "that is served.",
        )
    return None


def _known_revisions() -> list[str]:
    """File names of the database migrations of the installed Prefect, which contain the revision."""
    spec = importlib.util.find_spec("prefect")
    roots = list(spec.submodule_search_locations or ()) if spec is not None else []
    folders = [Path(root) / "server" / "database" / "_migrations" / "versions" / "sqlite" for root in roots]
    return [path.name for folder in folders if folder.is_dir() for path in folder.glob("*.py")]


def own_identity() -> str:
    """Identity of this process for :data:`OWNER_VARIABLE`."""
    return process_identity(os.getpid())


def embedded_servers(folder: Path) -> Iterator[tuple[int, bool]]:
    """Process id of each embedded server of a directory, and whether the run that started it is alive.

    A server is ours only if all of this holds: it is a process of this user in this PID namespace, it runs Prefect's
    server, its ``PREFECT_HOME`` is ``folder``, and it names its owner. Empty where there is no ``/proc``.
    """
    wanted = f"PREFECT_HOME={folder}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.stat().st_uid != os.getuid() or _SERVER.encode() not in (path / "cmdline").read_bytes():
                continue
            variables = (path / "environ").read_bytes().split(b"\0")
        except OSError:  # it ended, or is hidden
            continue
        prefix = f"{OWNER_VARIABLE}=".encode()
        owner = next((each.removeprefix(prefix).decode() for each in variables if each.startswith(prefix)), None)
        if wanted in variables and owner is not None:
            yield int(path.name), process_is_running(owner)


def stop_orphans(folder: Path) -> list[int]:
    """End embedded servers whose run was killed; returns their process ids."""
    orphans = [pid for pid, has_owner in embedded_servers(folder) if not has_owner]
    for pid in orphans:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_WAIT_S
    while orphans and time.monotonic() < deadline:
        left = {pid for pid, _ in embedded_servers(folder)} & set(orphans)
        if not left:
            break
        time.sleep(0.1)
    else:
        for pid in {pid for pid, has_owner in embedded_servers(folder) if not has_owner} & set(orphans):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if orphans:
        logger.warning("ended %s embedded server(s) of killed runs: %s", len(orphans), ", ".join(map(str, orphans)))
    return orphans
