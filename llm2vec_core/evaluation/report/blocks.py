"""What a page is made of: sections of paragraphs, tables, plots and folded parts.

Belongs here: the nouns that both templates print. Does not belong here: what they say (``tables``, ``sections``), how
they look (``report.html.j2``, ``report.md.j2``).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar, Literal, TypeAlias

Mark = Literal["", "best", "tied", "real"]
"""``best`` of its row or column; ``tied``: not to be told apart from the best; ``real``: a significant difference."""

Kind = Literal["", "average", "total"]
"""Of a row or column: an ``average`` of those before it, or the ``total`` of the table."""


@dataclass(frozen=True)
class Cell:
    """A value as printed.

    Attributes:
        text: The value.
        mark: Whether it stands out.
        notes: Small lines below it, such as its interval.
    """

    text: str
    mark: Mark = ""
    notes: tuple[str, ...] = ()


NOTHING = Cell("–")
"""There is no such value."""


@dataclass(frozen=True)
class Column:
    """Head of a column.

    Attributes:
        name: What it holds.
        note: Small line below the name, such as the number of data sets.
        is_text: Whether it holds words, set from the left, rather than numbers.
        group: Head over this column and its neighbours of the same group.
        kind: As of a row.
    """

    name: str
    note: str = ""
    is_text: bool = False
    group: str = ""
    kind: Kind = ""


@dataclass(frozen=True)
class Row:
    """A row with its head.

    Attributes:
        name: What the row is about.
        cells: One a column.
        note: Small line below the name, such as the metric.
        kind: Whether it sums up others.
    """

    name: str
    cells: tuple[Cell, ...]
    note: str = ""
    kind: Kind = ""


@dataclass(frozen=True)
class Group:
    """Rows under a common title; an empty title is not printed."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: What it shows, in one sentence.
        corner: Head of the column of row names.
        columns: Heads of the other columns.
        groups: The rows.
        best_of: Among what the best values are marked, such as ``its row``, for the words that explain the marks.
    """

    kind: ClassVar[str] = "table"

    caption: str
    corner: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...]
    best_of: str = ""

    @property
    def is_wide(self) -> bool:
        """Whether the columns are so many that they are equally narrow, under upright heads."""
        return len(self.columns) > (4 if self.column_groups else 9)

    @property
    def column_groups(self) -> tuple[tuple[str, int], ...]:
        """Heads over columns with the number of columns that each spans; none where columns have no groups."""
        runs = [(group, len(list(columns))) for group, columns in groupby(self.columns, key=lambda one: one.group)]
        return tuple(runs) if any(group for group, _ in runs) else ()

    def has_mark(self, mark: Mark) -> bool:
        """Whether any value is marked so."""
        return any(cell.mark == mark for group in self.groups for row in group.rows for cell in row.cells)


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; ``is_small`` sets it as an explanation below a table."""

    kind: ClassVar[str] = "paragraph"

    text: str
    is_small: bool = False


@dataclass(frozen=True)
class Points:
    """Sentences, one a line."""

    kind: ClassVar[str] = "points"

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Meanings:
    """Terms and what they mean."""

    kind: ClassVar[str] = "meanings"

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PlotPlace:
    """Where the plot of this name stands. Markdown leaves it out."""

    kind: ClassVar[str] = "plot"

    name: str


Block: TypeAlias = Table | Paragraph | Points | Meanings | PlotPlace


@dataclass(frozen=True)
class Folded:
    """A part that is closed on screen until it is asked for, and open on paper."""

    kind: ClassVar[str] = "folded"

    summary: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading."""

    title: str
    blocks: tuple[Block | Folded, ...]

    @property
    def has_words(self) -> bool:
        """Whether anything is left without its plots."""
        return any(not isinstance(block, PlotPlace) for block in self.blocks)
