"""Logging and environment variables of a command, set before libraries read them."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import StoreError
from data.store.credentials import mask_credentials
from tasks.queries.server_api import is_embedded, server_url
from tasks.ui.console import STDERR

if TYPE_CHECKING:
    from flows.request import RunRequest

_PACKAGES = ("flows", "tasks", "llm2vec_core", "data")


def prepare_prefect(request: RunRequest, flow: str) -> None:
    """Configure Prefect before it is imported, and use its embedded server. Variables that the user has set are kept.

    Args:
        request: Settings of the run.
        flow: Name of the flow, for the ledger.

    Raises:
        StoreError: The disk is full, or the embedded server's database cannot be used.
    """
    if is_embedded():
        os.environ.setdefault("PREFECT_HOME", str(request.settings().store().machine.local_path("prefect")))
        if not os.environ.get("LLM2VEC_DEBUG"):  # an error is reported once, in one sentence
            os.environ.setdefault("PREFECT_LOGGING_LOGGERS_PREFECT_FLOW_RUNS_LEVEL", "CRITICAL")
            os.environ.setdefault("PREFECT_LOGGING_LOGGERS_PREFECT_TASK_RUNS_LEVEL", "CRITICAL")
    for name, value in {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # SQLite: how long a writer waits for another one
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # the lease logs from a thread of its own
        "PREFECT_LOGGING_EXTRA_LOGGERS": ",".join(_PACKAGES),
        "DO_NOT_TRACK": "1",
    }.items():
        os.environ.setdefault(name, value)
    if is_embedded():
        _start_embedded(request, flow)


def _start_embedded(request: RunRequest, flow: str) -> None:
    """Look at disk and database, and start the server unless one lives. A failure is recorded."""
    from tasks.run.orchestrator import MIN_FREE_BYTES, MIN_FREE_TO_MAINTAIN_BYTES, machine_trouble

    folder = Path(os.environ["PREFECT_HOME"])
    try:
        trouble = machine_trouble(folder, MIN_FREE_TO_MAINTAIN_BYTES if flow == "maintain" else MIN_FREE_BYTES)
        if trouble is not None:
            raise trouble
        from tasks.ui.embedded import start_server

        start_server(folder)
    except StoreError as error:
        from tasks.ledger.runs import keep_failed_start

        keep_failed_start(request.settings(), flow, error)
        raise


def trouble_now() -> StoreError | None:
    """Reason why the embedded server of this process fails now: a full disk, or its database; None if there is none."""
    if not is_embedded() or "PREFECT_HOME" not in os.environ:
        return None
    from tasks.run.orchestrator import machine_trouble

    return machine_trouble(Path(os.environ["PREFECT_HOME"]))


def configure_logging() -> None:
    """Log our packages at INFO to stderr, and libraries only when something is wrong."""
    handler: logging.Handler
    if STDERR.is_terminal:
        from rich.logging import RichHandler

        handler = RichHandler(console=STDERR, show_path=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    level = logging.DEBUG if os.environ.get("LLM2VEC_DEBUG") else logging.INFO
    for name in _PACKAGES:
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.handlers = [handler]
        logger.propagate = False
    os.environ.setdefault("TQDM_DISABLE", "1")  # our own progress bars are rich's
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # processes are forked after a tokenizer was used
    if not os.environ.get("LLM2VEC_DEBUG"):
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # between libraries
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # unreadable PDFs are reported in the quarantine


def is_without_answer(error: BaseException) -> bool:
    """Return whether a request got no answer: the server is down."""
    httpx = sys.modules.get("httpx")  # Prefect's, once it is in use
    causes = (error, error.__cause__)
    return httpx is not None and any(isinstance(each, httpx.TransportError) for each in causes)


def lost_server_hint() -> str:
    """Return the hint for a Prefect server that does not answer."""
    again = "Run the same command again: it resumes where it stopped."
    url = server_url()
    if url is None:
        return f"The log of the embedded server is in {os.environ.get('PREFECT_HOME', 'PREFECT_HOME')}. {again}"
    return (
        f"Check that it is up at {mask_credentials(url)}, or unset PREFECT_API_URL to use the embedded server. {again}"
    )
