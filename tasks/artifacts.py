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
    """A progress artifact of a task that takes long: made after some seconds, then updated every few seconds.

    A short task gets none. A night has a task for every shard, and two calls of the server for each would cost more
    than encoding a small one.
    """

    def __init__(self, description: str, total: int) -> None:
        self._description = description
        self._total = max(total, 1)
        self._done = 0
        self._told_at = time.monotonic()
        self._in_task = TaskRunContext.get() is not None
        self._id: UUID | None = None

    def advance(self, count: int) -> None:
        self._done += count
        if self._in_task and time.monotonic() - self._told_at > _SECONDS_BETWEEN_UPDATES:
            self._told_at = time.monotonic()
            self._tell(min(100.0, 100 * self._done / self._total))

    def finish(self) -> None:
        if self._id is not None:
            self._tell(100.0)

    def _tell(self, percent: float) -> None:
        if self._id is None:
            # Called from synchronous code, so this is the id and no coroutine.
            self._id = cast(UUID, create_progress_artifact(percent, description=self._description))
        else:
            update_progress_artifact(self._id, progress=percent)
