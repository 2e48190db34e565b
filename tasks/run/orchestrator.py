"""The embedded orchestrator of a machine: its disk and its database.

Without ``PREFECT_API_URL``, a run uses a Prefect server that it starts itself (``tasks.ui.embedded``). Its database is
in ``prefect/`` of the home, or of ``work_dir`` if the home is a bucket. This module looks at both without importing
Prefect. So a problem is one sentence before a run starts, and ``l2v status`` can say it, too.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from data.errors import StoreError

MIN_FREE_BYTES = 64 << 20
"""Free space below which no run starts."""

MIN_FREE_TO_MAINTAIN_BYTES = 8 << 20
"""Free space below which no maintenance starts, which frees space: the orchestrator's database must fit."""

LOG_NAME = "server.log"
"""Log of the embedded server, beside its database; each server writes it anew."""

_DATABASE = "prefect.db"
_LOCK_WAIT_S = 5.0


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


def database_revision(folder: Path) -> str | None:
    """Revision of the orchestrator's database; None if there is none, or it cannot be read."""
    path = folder / _DATABASE
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_LOCK_WAIT_S)) as database:
            found = database.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        return None
    return None if found is None else str(found[0])


def _known_revisions() -> list[str]:
    """File names of the database migrations of the installed Prefect, which contain the revision."""
    spec = importlib.util.find_spec("prefect")
    roots = list(spec.submodule_search_locations or ()) if spec is not None else []
    folders = [Path(root) / "server" / "database" / "_migrations" / "versions" / "sqlite" for root in roots]
    return [path.name for folder in folders if folder.is_dir() for path in folder.glob("*.py")]
