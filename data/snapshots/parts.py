"""Writing the Parquet files of a snapshot, in parts of bounded size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

PART_ROWS = 10_000
PART_CHARS = 64_000_000
"""A part also ends at this many characters, which bounds the memory for long documents."""
_GROUP_ROWS = 2500
"""Rows per row group, the smallest unit that a reader decodes."""

_REPEATING_COLUMNS = ("kind", "source", "title", "file", "reason")


@dataclass
class Part:
    """A finished part: one file of this name in each folder of the writer."""

    name: str
    source: str
    num_rows: int


class PartWriter:
    """Writes rows into numbered Parquet files of bounded size. Equal rows give equal files in any batching.

    Args:
        directory: Where the folders go.
        folders: Maps each folder to the columns that it stores.
    """

    def __init__(self, directory: Path, folders: Mapping[str, pa.Schema]) -> None:
        """Create the folders."""
        self.parts: list[Part] = []
        self._directory, self._folders = directory, folders
        self._pending: list[pa.Table] = []
        self._num_rows = self._num_chars = 0
        for folder in folders:
            (directory / folder).mkdir(parents=True)

    def path(self, folder: str, part: Part) -> Path:
        """Path of a part's file in a folder."""
        return self._directory / folder / part.name

    def add(self, rows: pa.Table, *, source: str, num_chars: NDArray[np.int64]) -> None:
        """Add rows of a source; ``num_chars`` is the length of each row in characters."""
        while len(rows):
            ends = self._num_chars + np.cumsum(num_chars)
            full = int(np.searchsorted(ends, PART_CHARS)) + 1
            stop = min(len(rows), PART_ROWS - self._num_rows, full)
            self._pending.append(rows.slice(0, stop))
            self._num_rows, self._num_chars = self._num_rows + stop, int(ends[stop - 1])
            rows, num_chars = rows.slice(stop), num_chars[stop:]
            if self._num_rows >= PART_ROWS or self._num_chars >= PART_CHARS:
                self.close(source)

    def close(self, source: str) -> None:
        """Write the rows added so far as a part; the next row starts a new one."""
        if not self._pending:
            return
        part = Part(f"part-{len(self.parts):05d}.parquet", source, self._num_rows)
        rows = pa.concat_tables(self._pending).combine_chunks()
        for folder, schema in self._folders.items():
            _write_parquet(rows.select(schema.names), self.path(folder, part))
        self.parts.append(part)
        self._pending, self._num_rows, self._num_chars = [], 0, 0

    def replace_columns(self, folder: str, part: Part, columns: Mapping[str, pa.Array]) -> None:
        """Rewrite one folder's file of a finished part with new values in some columns."""
        path, schema = self.path(folder, part), self._folders[folder]
        rows = pq.read_table(path, schema=schema)
        for name, values in columns.items():
            rows = replaced_column(rows, schema.field(name), values)
        _write_parquet(rows, path)


def table_of(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Build a table from rows, possibly none."""
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.Table.from_arrays(
        [pa.array(column, item.type) for column, item in zip(columns, schema, strict=True)], schema=schema
    )


def _write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(
        table,
        path,
        compression="zstd",
        write_page_checksum=True,
        row_group_size=_GROUP_ROWS,
        use_dictionary=[name for name in _REPEATING_COLUMNS if name in table.column_names],
    )


def replaced_column(rows: pa.Table, column: pa.Field, values: pa.Array) -> pa.Table:
    """Replace the values of one column of a table."""
    return rows.set_column(rows.schema.get_field_index(column.name), column, values)
