"""The terminal that progress bars and logs share: two consoles would overwrite each other. Never imports prefect."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console

STDERR = Console(stderr=True)


@contextlib.contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """A progress bar on a terminal, nothing elsewhere.

    Yields:
        ``advance(count, note)``.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=STDERR, disable=not STDERR.is_terminal, transient=True) as bar:
        row = bar.add_task(description, total=total, note="")
        yield lambda count, note: bar.update(row, advance=count, note=note)
