"""Reader of JSON lines: one object a line, each line a row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from data.config import SourceConfig
from data.documents.readers.checks import (
    check_columns,
    empty_file,
    readable,
    require_content,
)
from data.documents.rows import (
    EXCERPT_CHARS,
    MAX_ROW_BYTES,
    RawRow,
    ReadLog,
    RejectedRow,
    RejectReason,
    make_excerpt,
)


class _SeenFields:
    """Collects the fields of the objects in a file: a field that no object has is a missing column."""

    def __init__(self) -> None:
        self.num_objects = 0
        self.names: set[str] = set()

    def add(self, values: Mapping[str, object]) -> None:
        self.num_objects += 1
        if len(self.names) < 10_000:  # objects with random keys must not fill the memory
            self.names.update(values)


def read(path: Path, file: str, config: SourceConfig, log: ReadLog) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of the file; see :data:`data.documents.sources.READERS`."""
    require_content(path)
    seen = _SeenFields()
    row = None
    with readable(path), path.open("rb") as handle:
        for number, line, size in _bounded_lines(handle):
            row = _parse_json(line, file=file, number=number, size=size)
            if isinstance(row, RawRow):
                seen.add(row.values)
            yield row
    if row is None:
        raise empty_file(path)
    if seen.num_objects:
        check_columns(path, seen.names, config)


def _bounded_lines(handle: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """Number, content and size of each line that is not blank; a line beyond the limit is cut to its beginning."""
    limit = MAX_ROW_BYTES
    number = 0
    while line := handle.readline(limit + 1):
        number += 1
        size = len(line.rstrip(b"\r\n"))
        end = line
        while len(end) == limit + 1 and not end.endswith(b"\n"):
            line = line[: 4 * EXCERPT_CHARS]  # the rest of a line that is too long is skipped
            end = handle.readline(limit + 1)
            size += len(end.rstrip(b"\r\n"))
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield number, line, size


def _parse_json(line: bytes, *, file: str, number: int, size: int) -> RawRow | RejectedRow:
    def reject(reason: RejectReason, detail: str) -> RejectedRow:
        return RejectedRow(file, number, reason, detail, make_excerpt(line))

    if size > MAX_ROW_BYTES:
        return reject(RejectReason.ROW_TOO_LARGE, f"line of {size} bytes; expected at most {MAX_ROW_BYTES}")
    if b"\0" in line:
        return reject(RejectReason.NUL_BYTES, f"NUL byte at position {line.index(0)}; expected text without NUL bytes")
    try:
        values = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return reject(RejectReason.INVALID_UTF8, f"{error.reason} at byte {error.start}; expected UTF-8")
    except RecursionError:
        return reject(RejectReason.BAD_JSON, "nested too deeply; expected one flat JSON object a line")
    except ValueError as error:  # also raised for numbers with too many digits
        return reject(RejectReason.BAD_JSON, f"{error}; expected one complete JSON object a line")
    if not isinstance(values, dict):
        return reject(RejectReason.NOT_AN_OBJECT, f"JSON {type(values).__name__}; expected an object")
    return RawRow(file, number, values)
