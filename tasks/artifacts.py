"""What a person sees while a run goes on: progress on the terminal and as Prefect artifacts, Markdown summaries."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import TaskRunContext
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tasks.console import STDERR

_SECONDS_BETWEEN_UPDATES = 5.0

Advance = Callable[..., None]


@contextlib.contextmanager
def progress(description: str, total: int) -> Iterator[Advance]:
    """Progress of a long task: a bar on a terminal, nothing elsewhere, and a Prefect progress artifact in a run.

    Yields:
        ``advance(count, note="")``.
    """
    with contextlib.ExitStack() as stack:
        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=STDERR,
            disable=not STDERR.is_terminal,
            transient=True,
        )
        stack.enter_context(bar)
        row = bar.add_task(description, total=total, note="")
        artifact = _ProgressArtifact(description, total)

        def advance(count: int = 1, *, note: str = "") -> None:
            bar.update(row, advance=count, note=note)
            artifact.advance(count)

        yield advance
        artifact.finish()


def publish_markdown(key: str, markdown: str, *, description: str) -> None:
    """Keep a Markdown page with the run, for the Prefect UI."""
    create_markdown_artifact(markdown, key=key, description=description)


def publish_table(key: str, rows: list[dict[str, Any]], *, description: str) -> None:
    """Keep a table with the run, for the Prefect UI."""
    create_table_artifact(rows, key=key, description=description)


class _ProgressArtifact:
    """A progress artifact that is updated every few seconds, not at every step."""

    def __init__(self, description: str, total: int) -> None:
        self._total = max(total, 1)
        self._done = 0
        self._updated_at = time.monotonic()
        self._id: UUID | None = None
        if TaskRunContext.get() is not None:
            # Called from synchronous code, so this is the id and no coroutine.
            self._id = cast(UUID, create_progress_artifact(0.0, description=description))

    def advance(self, count: int) -> None:
        self._done += count
        if self._id is not None and time.monotonic() - self._updated_at > _SECONDS_BETWEEN_UPDATES:
            self._updated_at = time.monotonic()
            update_progress_artifact(self._id, progress=min(100.0, 100 * self._done / self._total))

    def finish(self) -> None:
        if self._id is not None:
            update_progress_artifact(self._id, progress=100.0)
