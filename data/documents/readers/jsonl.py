"""Reader of JSON lines: one object per line, each line a row."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from data.config import SourceConfig
from data.documents.extract.encoding import detect_encoding
from data.documents.readers.checks import (
    empty_file,
    readable,
    require_content,
)
from data.documents.readers.records import RecordRows
from data.documents.rows import (
    EXCERPT_CHARS,
    MAX_ROW_BYTES,
    RawRow,
    ReadLog,
    RejectedRow,
    RejectReason,
    make_excerpt,
)

_UTF8 = "utf-8"


def read(path: Path, file: str, config: SourceConfig, log: ReadLog) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of the file; see :data:`data.documents.sources.READERS`."""
    require_content(path)
    rows = RecordRows(path, file, config, log)
    is_empty = True
    with readable(path):
        encoding = config.encoding or detect_encoding(path, min_invalid=2)
    if encoding not in (_UTF8, "utf-8-sig"):
        log.note(f"read as {encoding}")
    with readable(path), _opened(path, encoding) as handle:
        for number, line, size in _bounded_lines(handle):
            values = _parse_json(line, file=file, number=number, size=size, encoding=encoding)
            is_empty = False
            if isinstance(values, RejectedRow):
                yield values
            else:
                yield from rows.rows(number, values)
    if is_empty:
        raise empty_file(path)
    rows.check()


def _opened(path: Path, encoding: str) -> BinaryIO:
    """Open the file as bytes with single-byte line ends; UTF-16 and UTF-32 are converted to UTF-8."""
    if not _is_wide(encoding):
        return path.open("rb")
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    with path.open(encoding=encoding, errors="replace", newline="") as handle:
        while block := handle.read(2**20):
            copy.write(block.encode("utf-8", "replace"))
    copy.seek(0)
    return cast(BinaryIO, copy)


def _is_wide(encoding: str) -> bool:
    return encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32"))


def _bounded_lines(handle: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """Number, content and size of each non-blank line. A line beyond the limit is truncated."""
    limit = MAX_ROW_BYTES
    number = 0
    while line := handle.readline(limit + 1):
        number += 1
        size = len(line.rstrip(b"\r\n"))
        end = line
        while len(end) == limit + 1 and not end.endswith(b"\n"):
            line = line[: 4 * EXCERPT_CHARS]  # skip the rest of an overlong line
            end = handle.readline(limit + 1)
            size += len(end.rstrip(b"\r\n"))
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield number, line, size


def _parse_json(line: bytes, *, file: str, number: int, size: int, encoding: str) -> dict[str, object] | RejectedRow:
    def reject(reason: RejectReason, detail: str) -> RejectedRow:
        return RejectedRow(file, number, reason, detail, make_excerpt(line))

    if size > MAX_ROW_BYTES:
        return reject(RejectReason.ROW_TOO_LARGE, f"line of {size} bytes; expected at most {MAX_ROW_BYTES}")
    if b"\0" in line:
        return reject(RejectReason.NUL_BYTES, f"NUL byte at position {line.index(0)}; expected text without NUL bytes")
    try:
        values = json.loads(line.decode(_UTF8 if encoding == "utf-8-sig" or _is_wide(encoding) else encoding))
    except UnicodeDecodeError as error:
        return reject(RejectReason.INVALID_UTF8, f"{error.reason} at byte {error.start}; expected UTF-8")
    except RecursionError:
        return reject(RejectReason.BAD_JSON, "nested too deeply; expected one flat JSON object a line")
    except ValueError as error:  # also raised for numbers with too many digits
        return reject(RejectReason.BAD_JSON, f"{error}; expected one complete JSON object a line")
    if not isinstance(values, dict):
        return reject(RejectReason.NOT_AN_OBJECT, f"JSON {type(values).__name__}; expected an object")
    return values
