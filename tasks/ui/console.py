"""The terminal that progress bars and logs share: two consoles would overwrite each other. Never imports prefect.

Where stderr is no terminal, progress is a line of the log every half minute.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console

STDERR = Console(stderr=True)

SECONDS_BETWEEN_LINES = 30.0
"""Seconds between two lines about the progress of a task, where there is no terminal."""

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
    """A progress bar on a terminal, lines in the log elsewhere.

    Args:
        description: Name of the task.
        total: All units; None if their number is not known.

    Yields:
        ``advance(count, note)``.
    """
    if not STDERR.is_terminal:
        with _progress_lines(description, total) as advance:
            yield advance
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=STDERR, transient=True) as bar:
        row = bar.add_task(description, total=total, note="")
        yield lambda count, note: bar.update(row, advance=count, note=note)


@contextlib.contextmanager
def _progress_lines(description: str, total: int | None) -> Iterator[Callable[[int, str], None]]:
    """Log the progress every :data:`SECONDS_BETWEEN_LINES`, also while nothing advances."""
    started, is_over, done, last_note = time.monotonic(), threading.Event(), 0, ""

    def advance(count: int, note: str) -> None:
        nonlocal done, last_note
        done, last_note = done + count, note

    def report() -> None:
        while not is_over.wait(SECONDS_BETWEEN_LINES):
            seconds = time.monotonic() - started
            logger.info(progress_sentence(description, done, total, seconds=seconds, note=last_note))

    reporter = threading.Thread(target=report, name=f"progress of {description}", daemon=True)
    reporter.start()
    try:
        yield advance
    finally:
        is_over.set()
        reporter.join()


def progress_sentence(description: str, done: int, total: int | None, *, seconds: float, note: str = "") -> str:
    """Describe the progress of a task: what is done, of how much, and when it will end at the same speed.

    Args:
        description: Name of the task.
        done: Finished units.
        total: All units; None if their number is not known.
        seconds: Seconds since it began.
        note: What it works on.
    """
    if total is None:
        state = f"{done:,} after {duration(seconds)}"
    elif done >= total:
        state = f"{done:,} of {total:,}, almost finished"
    elif done:
        state = f"{done:,} of {total:,} ({done / total:.0%}), about {duration(seconds * (total - done) / done)} left"
    else:
        state = f"0 of {total:,} after {duration(seconds)}"
    return f"{description}: {state}{f' ({note})' if note else ''}"


def duration(seconds: float) -> str:
    """A duration as people say it, such as ``40 s``, ``3 min`` or ``2 h 5 min``."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
