"""Results on stdout: a table for people, one JSON object for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

REFUSED = 3
"""Exit code of a command that was refused to protect what is served."""


def show(
    result: dict[str, Any],
    *,
    as_json: bool,
    title: str,
    columns: Sequence[str] = ("", ""),
    rows: Callable[[], Iterable[Iterable[object]]] | None = None,
) -> None:
    """Print a result as JSON or as a table.

    Args:
        result: The JSON object.
        as_json: Whether to print it as JSON.
        title: Title of the table.
        columns: Headings of the table.
        rows: Makes the rows of the table (default: names and values of ``result``).
    """
    if as_json:
        print_json(result)
    else:
        print_table(title, columns, rows() if rows else [(name, cell(value)) for name, value in result.items()])


def print_json(result: dict[str, Any]) -> None:
    """Print one JSON object on one line."""
    sys.stdout.write(json.dumps(result, default=str) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table; columns of numbers are right-aligned."""
    table = Table(title=escape(title), title_justify="left", show_header=any(columns))
    for column in columns:
        table.add_column(
            column, justify="right" if column in ("seconds", "main score", "95 % interval", "rank") else "left"
        )
    for row in rows:
        table.add_row(*(escape(str(each)) for each in row))
    Console().print(table)


def cell(value: object) -> str:
    """Return the text of a table cell: four decimals, at most six items of a list."""
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list):
        return ", ".join(str(each) for each in value[:6])
    return "" if value is None else str(value)
