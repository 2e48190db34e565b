"""Reader of CSV files: encoding, separator, escapes and header line are detected and logged."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TextIO

from data.config import SourceConfig
from data.documents.extract.encoding import detect_encoding
from data.documents.readers.checks import (
    check_columns,
    empty_file,
    readable,
    require_content,
)
from data.documents.readers.fields import canonical_names, has_id_and_text, has_paths, resolve
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

_SAMPLE_CHARS = 2**18
_MAX_PREAMBLE = 50  # maximum rows before the header
_SEPARATORS = (",", ";", "\t", "|")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_SEPARATOR_NAMES = {"\t": "tab", ";": "semicolon", "|": "bar", ",": "comma"}
_FLOAT_ID = re.compile(r"(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE]\+?\d{1,2})?")
_UTF8 = "utf-8-sig"


class _LineTooLongError(csv.Error):
    """A line is longer than the limit; the rest was skipped."""


class _BoundedTextLines:
    """Lines of a text file for the csv module. A class, because a generator ends at its first error."""

    def __init__(self, handle: IO[str]) -> None:
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


@dataclass(frozen=True)
class _Dialect:
    """The dialect of a file.

    Attributes:
        separator: Between cells.
        has_escapes: Whether quotes within quoted cells are escaped by a backslash instead of a second quote.
        num_lines: Lines before the header.
    """

    separator: str
    has_escapes: bool = False
    num_lines: int = 0

    def reader(self, lines: Iterator[str], *, strict: bool = True) -> Iterator[list[str]]:
        escape = {"escapechar": "\\", "doublequote": False} if self.has_escapes else {}
        return csv.reader(lines, delimiter=self.separator, strict=strict, **escape)  # type: ignore[arg-type]


def read(path: Path, file: str, config: SourceConfig, log: ReadLog) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of the file; see :data:`data.documents.sources.READERS`."""
    require_content(path)
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))
    with readable(path):
        encoding = config.encoding or detect_encoding(path, min_invalid=2)
        with _opened(path, encoding) as handle:
            dialect = _detect(handle.read(_SAMPLE_CHARS), config)
    _note(encoding, dialect, log)
    with readable(path), _opened(path, encoding) as handle:
        reader = _started(handle, dialect)
        header = canonical_names(_read_header(path, reader), config, log)
        check_columns(path, header, config)
        are_floats = not config.makes_ids and _are_float_ids(path, encoding, dialect, header.index(config.id_field))
        if are_floats:
            log.note("ids that were written as floats read as integers")
        is_resolved = has_paths(config)
        number = 0
        while True:
            line = reader.line_num  # type: ignore[attr-defined]
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                number += 1
                lines = (dialect.num_lines + line + 1, dialect.num_lines + reader.line_num)  # type: ignore[attr-defined]
                yield _reject_csv(error, file=file, number=number, lines=lines)
                continue
            if cells:  # a blank line is not a row
                number += 1
                row = _parse_cells(cells, header=header, file=file, number=number, encoding=encoding)
                if isinstance(row, RawRow):
                    if are_floats:
                        row.values[config.id_field] = _as_integer(str(row.values[config.id_field]))
                    if is_resolved:
                        row = RawRow(file, number, resolve(row.values, config))
                yield row


def _opened(path: Path, encoding: str) -> TextIO:
    errors = "replace" if encoding.startswith(("utf-16", "utf-32", "utf_16", "utf_32")) else "surrogateescape"
    return path.open(encoding=_UTF8 if encoding.lower() in ("utf-8", "utf8") else encoding, errors=errors, newline="")


def _started(handle: TextIO, dialect: _Dialect) -> Iterator[list[str]]:
    lines = _BoundedTextLines(handle)
    for _ in range(dialect.num_lines):
        next(lines, None)
    return dialect.reader(lines)


# --- detection --------------------------------------------------------------------------------------------------------


def _detect(sample: str, config: SourceConfig) -> _Dialect:
    """Detect the dialect from the start of the file: the one under which id and text columns are found."""
    if len(sample) == _SAMPLE_CHARS:
        sample = sample[: max(sample.rfind("\n"), sample.rfind("\r")) + 1] or sample
    first = next(iter(io.StringIO(sample, newline="")), "")
    named = _SEPARATOR_LINE.fullmatch(first)
    start = 1 if named else 0
    separators = (config.separator,) if config.separator else (named.group(1),) if named else _SEPARATORS
    for separator in separators:
        for has_escapes in (False, True) if '\\"' in sample else (False,):
            found = _header_line(sample, _Dialect(separator, has_escapes, start), config)
            if found is not None:
                return _with_escapes(sample, found)
    if config.separator or named:
        return _Dialect(separators[0], num_lines=start)
    # No id and text columns: take the separator with the most columns, for the list in the error.
    header = next((line for line in io.StringIO(sample, newline="") if line.strip()), "")
    counts = {separator: header.count(separator) for separator in _SEPARATORS}
    return _Dialect(max(_SEPARATORS, key=lambda separator: (counts[separator], separator == ",")))


def _header_line(sample: str, dialect: _Dialect, config: SourceConfig) -> _Dialect | None:
    """Dialect including the lines before the header, if one of the first rows names id and text."""
    handle = io.StringIO(sample, newline="")
    for _ in range(dialect.num_lines):
        handle.readline()
    reader = dialect.reader(handle, strict=False)
    before = 0
    try:
        for cells in islice(reader, _MAX_PREAMBLE):
            names = canonical_names(cells, config)
            is_header = has_id_and_text(names, config) and len(cells) > 1
            if is_header and (before == 0 or all(len(name) < 100 for name in names)):
                return _Dialect(dialect.separator, dialect.has_escapes, dialect.num_lines + before)
            before = reader.line_num  # type: ignore[attr-defined]
    except csv.Error:
        pass
    return None


def _with_escapes(sample: str, dialect: _Dialect) -> _Dialect:
    """Dialect with backslash escapes, if it parses more rows of the sample completely."""
    if '\\"' not in sample:
        return dialect
    doubled = _Dialect(dialect.separator, False, dialect.num_lines)
    escaped = _Dialect(dialect.separator, True, dialect.num_lines)
    return escaped if _num_whole(sample, escaped) > _num_whole(sample, doubled) else doubled


def _num_whole(sample: str, dialect: _Dialect) -> int:
    handle = io.StringIO(sample, newline="")
    for _ in range(dialect.num_lines):
        handle.readline()
    reader = dialect.reader(handle)
    expected: int | None = None
    num_whole = 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return num_whole
        except csv.Error:
            continue
        if expected is None:
            expected = len(cells)
        num_whole += len(cells) == expected


def _note(encoding: str, dialect: _Dialect, log: ReadLog) -> None:
    if encoding not in (_UTF8, "utf-8"):
        log.note(f"read as {encoding}")
    if dialect.separator != ",":
        log.note(f"cells separated by {_SEPARATOR_NAMES.get(dialect.separator, repr(dialect.separator))}")
    if dialect.has_escapes:
        log.note("quotes within cells escaped by a backslash")
    if dialect.num_lines:
        log.note(f"{dialect.num_lines} line(s) before the header passed over")


# --- ids --------------------------------------------------------------------------------------------------------------


def _are_float_ids(path: Path, encoding: str, dialect: _Dialect, column: int) -> bool:
    """Return whether integer ids were written as floats: the first id looks like one, and all are whole numbers."""
    is_first = True
    with _opened(path, encoding) as handle:
        reader = _started(handle, dialect)
        next((cells for cells in reader if cells), None)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return not is_first
            except csv.Error:
                continue
            if len(cells) <= column or not cells[column].strip():
                continue
            value = cells[column].strip()
            if is_first and value.isdigit():
                return False
            if not _FLOAT_ID.fullmatch(value) or not float(value).is_integer():
                return False
            is_first = False


def _as_integer(value: str) -> str:
    return str(int(float(value))) if value.strip() else value


# --- rows -------------------------------------------------------------------------------------------------------------


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
            hint="Name the encoding of the source (encoding = \"cp1252\"), or save the file as 'CSV UTF-8'.",
        )
    return header


def _reject_csv(error: csv.Error, *, file: str, number: int, lines: tuple[int, int]) -> RejectedRow:
    too_long = isinstance(error, _LineTooLongError) or "field larger" in str(error)
    reason = RejectReason.ROW_TOO_LARGE if too_long else RejectReason.WRONG_SHAPE
    where = f"line {lines[0]}" if lines[1] <= lines[0] else f"lines {lines[0]} to {lines[1]}"
    return RejectedRow(file, number, reason, f"{error} in {where}; expected properly quoted cells", "")


def _parse_cells(cells: list[str], *, header: list[str], file: str, number: int, encoding: str) -> RawRow | RejectedRow:
    joined = ",".join(cells)
    if "\0" in joined:
        detail = f"NUL byte at position {joined.index(chr(0))}; expected text without NUL bytes"
        return RejectedRow(file, number, RejectReason.NUL_BYTES, detail, make_excerpt(joined))
    if has_surrogates(joined):
        expected = "UTF-8" if encoding == _UTF8 else encoding
        detail = f"bytes that are no characters; expected {expected}"
        return RejectedRow(file, number, RejectReason.INVALID_UTF8, detail, make_excerpt(joined))
    if len(cells) > len(header) and not any(cells[len(header) :]):
        cells = cells[: len(header)]  # separators at the end of a line
    if len(cells) != len(header):
        detail = f"{len(cells)} cells; expected {len(header)} as in the header"
        return RejectedRow(file, number, RejectReason.WRONG_SHAPE, detail, make_excerpt(joined))
    pairs = zip(header, cells, strict=True)
    return RawRow(file, number, {name: cell for name, cell in pairs if name or cell})
