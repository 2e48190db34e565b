"""Records of a table, which the table macros of ``html.j2`` and ``markdown.j2`` print."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Literal

CellMark = Literal["", "best", "tied", "real"]
"""``best`` of its row or column; ``tied``: not significantly different from the best; ``real``: significant."""

Emphasis = Literal["", "average", "total"]
"""An ``average`` of the rows or columns before it, or the ``total`` of the table."""


@dataclass(frozen=True)
class Cell:
    """A printed value; ``notes`` are small lines below it, such as its interval."""

    text: str
    mark: CellMark = ""
    notes: tuple[str, ...] = ()


NOTHING = Cell("–")
"""Cell of a missing value."""


@dataclass(frozen=True)
class Column:
    """Head of a column.

    Attributes:
        name: Title of the column.
        note: Small line below the title, such as the number of data sets.
        is_text: Whether its cells are words, aligned left, instead of numbers.
        group: Title over this column and its neighbours of the same group.
        kind: Whether the column sums up others.
    """

    name: str
    note: str = ""
    is_text: bool = False
    group: str = ""
    kind: Emphasis = ""


@dataclass(frozen=True)
class TableRow:
    """A row: its name, one cell per column, a small line below the name, and whether it sums up others."""

    name: str
    cells: tuple[Cell, ...]
    note: str = ""
    kind: Emphasis = ""


@dataclass(frozen=True)
class Group:
    """Rows under a common title; an empty title is not printed."""

    title: str
    rows: tuple[TableRow, ...]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: Its content, in one sentence.
        corner: Head of the column of row names.
        columns: Heads of the other columns.
        groups: The rows.
        best_of: Scope of the best values, such as ``its row``; explains the marks.
    """

    caption: str
    corner: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    best_of: str = ""

    @property
    def is_wide(self) -> bool:
        """Whether there are so many columns that they get equal, narrow widths and upright heads."""
        return len(self.columns) > (4 if self.column_groups else 9)

    @property
    def column_groups(self) -> tuple[tuple[str, int], ...]:
        """Title and number of columns of each column group; empty if the columns have no groups."""
        runs = [(group, len(list(columns))) for group, columns in groupby(self.columns, key=lambda one: one.group)]
        return tuple(runs) if any(group for group, _ in runs) else ()

    def has_mark(self, mark: CellMark) -> bool:
        """Whether any cell has this mark."""
        return any(cell.mark == mark for group in self.groups for row in group.rows for cell in row.cells)
