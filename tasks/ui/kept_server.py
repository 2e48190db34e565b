"""The embedded Prefect server as a process of its own, which ends when no command uses it any more.

``tasks.ui.embedded`` starts it. Commands that use the server hold a shared lock of a file, which the system releases
when they end, however they end. The server looks for such locks, so that a killed run leaves no server behind.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import IO

LOCK_NAME = "server.lock"
"""File beside the database that commands lock while they use the server."""

_SECONDS_BETWEEN_LOOKS = 1.0
_CLOSING_SECONDS = 10.0


def run_kept_server() -> None:
    """Serve on a socket that the starting process passed on.

    The arguments are the file descriptor of the socket, the folder of the database, and for how many seconds the server
    waits for a further command.
    """
    descriptor, folder, kept_seconds = int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    watch = threading.Thread(target=end_when_unused, args=(folder / LOCK_NAME, kept_seconds), daemon=True)
    watch.start()
    import uvicorn
    from prefect.server.api.server import create_app

    config = uvicorn.Config(create_app(), log_level="error", lifespan="on")
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=descriptor)])


def end_when_unused(lock: Path, kept_seconds: float) -> None:
    """End this process when nobody has held the lock for some seconds, or when its file was removed.

    It keeps the lock for itself until it has ended. So no command begins to use a server that is about to end.
    """
    with lock.open("rb") as opened:
        unused_since: float | None = None
        while True:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            if not _is_in_place(opened, lock):
                break
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                unused_since = None
                continue
            now = time.monotonic()
            unused_since = now if unused_since is None else unused_since
            if now - unused_since >= kept_seconds:
                break
            fcntl.flock(opened, fcntl.LOCK_UN)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_CLOSING_SECONDS)
        os._exit(1)


def _is_in_place(opened: IO[bytes], path: Path) -> bool:
    """Whether a path still names an opened file; a removed home takes its server with it."""
    try:
        return os.path.samestat(os.fstat(opened.fileno()), path.stat())
    except OSError:
        return False


if __name__ == "__main__":
    run_kept_server()
