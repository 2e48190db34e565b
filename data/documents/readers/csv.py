"""Reader of CSV files: UTF-8, a header, commas, and quotes around cells that hold commas."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from data.config import SourceConfig
from data.documents.readers.checks import (
    check_columns,
    empty_file,
    readable,
    require_content,
)
from data.documents.rows import (
    MAX_ROW_BYTES,
    RawRow,
    ReadLog,
    RejectedRow,
    RejectReason,
    has_surrogates,
    make_excerpt,
)
from data.errors import InputError


class _LineTooLongError(csv.Error):
    """A line is longer than the limit; its rest was skipped."""


class _BoundedTextLines:
    """Lines of a text file for the csv module. It is a class, because a generator ends at its first error."""

    def __init__(self, handle: TextIO) -> None:
        self._handle = handle

    def __iter__(self) -> _BoundedTextLines:
        return self

    def __next__(self) -> str:
        limit = MAX_ROW_BYTES
        line = self._handle.readline(limit + 1)
        if not line:
            raise StopIteration
        if len(line) <= limit or line.endswith(("\n", "\r")):
            return line
        while rest := self._handle.readline(limit + 1):
            if len(rest) <= limit or rest.endswith(("\n", "\r")):
                break
        raise _LineTooLongError(f"line of more than {limit} characters")


def read(path: Path, file: str, config: SourceConfig, log: ReadLog) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of the file; see :data:`data.documents.sources.READERS`."""
    require_content(path)
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))
    with readable(path), path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
        reader = csv.reader(_BoundedTextLines(handle), strict=True)
        header = _read_header(path, reader)
        check_columns(path, header, config)
        number = 0
        while True:
            line = reader.line_num
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                number += 1
                yield _reject_csv(error, file=file, number=number, lines=(line + 1, reader.line_num))
                continue
            if cells:  # a blank line is no row
                number += 1
                yield _parse_cells(cells, header=header, file=file, number=number)


def _read_header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        header = next((cells for cells in reader if cells), None)
    except csv.Error as error:
        raise InputError(
            f"'{path}' has no readable header: {error}.", hint="Write the file as comma-separated CSV."
        ) from error
    if header is None:
        raise empty_file(path)
    joined = ",".join(header)
    if has_surrogates(joined) or "\0" in joined:
        raise InputError(
            f"'{path}' has a header that is not UTF-8: {make_excerpt(joined)}",
            hint="Convert the file to UTF-8, for example with iconv, or save the spreadsheet as 'CSV UTF-8'.",
        )
    separator = next((found for found in ";\t|" if len(header) == 1 and found in joined), None)
    if separator is not None:
        raise InputError(
            f"'{path}' has a header of one column, {make_excerpt(joined)}, as if {separator!r} separated the columns; "
            "expected commas.",
            hint="Save the file with commas between the columns and quotes around cells that hold commas.",
        )
    return header


def _reject_csv(error: csv.Error, *, file: str, number: int, lines: tuple[int, int]) -> RejectedRow:
    too_long = isinstance(error, _LineTooLongError) or "field larger" in str(error)
    reason = RejectReason.ROW_TOO_LARGE if too_long else RejectReason.WRONG_SHAPE
    where = f"line {lines[0]}" if lines[1] <= lines[0] else f"lines {lines[0]} to {lines[1]}"
    return RejectedRow(file, number, reason, f"{error} in {where}; expected properly quoted cells", "")


def _parse_cells(cells: list[str], *, header: list[str], file: str, number: int) -> RawRow | RejectedRow:
    joined = ",".join(cells)
    if "\0" in joined:
        detail = f"NUL byte at position {joined.index(chr(0))}; expected text without NUL bytes"
        return RejectedRow(file, number, RejectReason.NUL_BYTES, detail, make_excerpt(joined))
    if has_surrogates(joined):
        detail = "bytes that are no characters; expected UTF-8"
        return RejectedRow(file, number, RejectReason.INVALID_UTF8, detail, make_excerpt(joined))
    if len(cells) != len(header):
        detail = f"{len(cells)} cells; expected {len(header)} as in the header"
        return RejectedRow(file, number, RejectReason.WRONG_SHAPE, detail, make_excerpt(joined))
    return RawRow(file, number, dict(zip(header, cells, strict=True)))
