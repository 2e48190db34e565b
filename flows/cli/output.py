"""Results on stdout: a table for people, one JSON object for programs."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def show(result: dict[str, Any], *, as_json: bool, title: str) -> None:
    """Print a result as a table of names and values, or as JSON."""
    if as_json:
        print_json(result)
    else:
        print_table(title, ["", ""], [(name, cell(value)) for name, value in result.items()])


def print_json(result: dict[str, Any]) -> None:
    """Print one JSON object on one line."""
    sys.stdout.write(json.dumps(result, default=str) + "\n")


def print_table(title: str, columns: list[str], rows: Any) -> None:  # noqa: ANN401 - rows of cells
    """Print a table; columns of numbers are right-aligned."""
    table = Table(title=escape(title), title_justify="left", show_header=any(columns))
    for column in columns:
        table.add_column(
            column, justify="right" if column in ("seconds", "main score", "95 % interval", "rank") else "left"
        )
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    Console().print(table)


def cell(value: object) -> str:
    """Return the text of a table cell: four decimals, at most six items of a list."""
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, list):
        return ", ".join(str(each) for each in value[:6])
    return "" if value is None else str(value)
