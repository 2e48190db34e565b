"""Reader of JSON files: an array of records, consecutive objects, one object, or records below a key."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from data.config import SourceConfig
from data.documents.extract.encoding import detect_encoding
from data.documents.readers.checks import MappingError, empty_file, readable, require_content
from data.documents.readers.fields import values_at
from data.documents.readers.mappings import KNOWN_FORMATS, suggestion
from data.documents.readers.records import RecordRows
from data.documents.rows import MAX_ROW_BYTES, RawRow, ReadLog, RejectedRow, RejectReason, make_excerpt
from data.errors import InputError

MAX_ROOT_CHARS = 2**29
"""Maximum length in characters of an object with records below a key; it is read into memory as a whole."""

_BLOCK = 2**20
_BLANKS = " \t\r\n\ufeff"


def read(path: Path, file: str, config: SourceConfig, log: ReadLog) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of the file; see :data:`data.documents.sources.READERS`."""
    require_content(path)
    rows = RecordRows(path, file, config, log)
    records = config.records or (KNOWN_FORMATS[config.format].records if config.format in KNOWN_FORMATS else None)
    with readable(path):
        encoding = config.encoding or detect_encoding(path, min_invalid=2)
    if encoding not in ("utf-8-sig", "utf-8"):
        log.note(f"read as {encoding}")
    values = _Values(path, encoding, max_chars=MAX_ROOT_CHARS if records else MAX_ROW_BYTES)
    number = 0
    first: RawRow | None = None  # held back: only if it is the single object does it need an id
    for value in values:
        for each in _records(value, records, path):
            number += 1
            for row in _rows(each, number, rows, file):
                if number == 1 and isinstance(row, RawRow) and first is None:
                    first = row
                    continue
                if first is not None:
                    yield first
                    first = None
                yield row
    if not number and not values.is_array:
        raise empty_file(path)
    if first is not None:
        # A known format has its own id field: propose the format.
        has_no_id = not config.makes_ids and config.id_field not in first.values
        if not values.is_array and has_no_id and suggestion(first.values) is None:
            _check_is_record(path, first, config)
            log.note("the file's name taken for the id")
            first = RawRow(file, 1, {**first.values, config.id_field: file})
            rows.names.add(config.id_field)
        yield first
    rows.check()


def _rows(value: object, number: int, rows: RecordRows, file: str) -> Iterator[RawRow | RejectedRow]:
    if isinstance(value, RejectedRow):
        yield replace(value, file=file, row=number)
    elif not isinstance(value, dict):
        detail = f"JSON {type(value).__name__}; expected an object"
        yield RejectedRow(file, number, RejectReason.NOT_AN_OBJECT, detail, make_excerpt(str(value)))
    else:
        yield from rows.rows(number, value)


def _records(value: object, records: str | None, path: Path) -> list[object]:
    if records is None or not isinstance(value, dict):
        return [value]
    found = values_at(value, records if records.endswith("]") else f"{records}[]")
    if not found and not values_at(value, records.removesuffix("[]")):
        if suggestion(value):
            return [value]  # one record per line or element
        raise InputError(
            f"'{path}' has no records at '{records}'; fields found: {', '.join(sorted(value)[:30]) or 'none'}.",
            hint='Set records of the source to the list of records, such as records = "jobs[]".',
        )
    return found


def _check_is_record(path: Path, row: RawRow, config: SourceConfig) -> None:
    """Reject an object that holds its records below a key, instead of reading it as one record."""
    lists = [
        name
        for name, value in row.values.items()
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value[:10])
    ]
    if config.text_name(row.values) is None and lists:
        known = suggestion(row.values) or next((found for name in lists if (found := _of_list(row.values[name]))), None)
        name, value = ("format", known) if known else ("records", f"{lists[0]}[]")
        raise MappingError(
            f"'{path}' is one object with the fields {', '.join(sorted(row.values)[:30])}; expected records.",
            hint=f'Try {name} = "{value}" in the settings of the source.',
            columns=row.values,
            proposed={name: value},
        )


def _of_list(value: object) -> str | None:
    return suggestion(value[0]) if isinstance(value, list) and isinstance(value[0], dict) else None


class _Values:
    """Iterates over the values of a file: the elements of an array, or consecutive values.

    Args:
        path: The file.
        encoding: Its encoding.
        max_chars: Maximum length of a value.

    Attributes:
        is_array: Whether the file is one array.
    """

    def __init__(self, path: Path, encoding: str, *, max_chars: int) -> None:
        self.is_array = False
        self._path, self._encoding, self._max_chars = path, encoding, max_chars

    def __iter__(self) -> Iterator[object]:
        """Yield every value, or a rejected row for the unreadable rest of a file."""
        decoder = json.JSONDecoder()
        with readable(self._path), self._path.open("rb") as handle:
            decode = codecs.getincrementaldecoder(self._encoding)(
                "surrogateescape" if "16" not in self._encoding else "replace"
            )
            buffer, start, is_end, want = "", 0, False, _BLOCK
            is_first = True
            while True:
                while start < len(buffer) and (buffer[start] in _BLANKS or (buffer[start] == "," and not is_first)):
                    start += 1
                if start < len(buffer):
                    if is_first and buffer[start] == "[":
                        self.is_array, is_first, start = True, False, start + 1
                        continue
                    if self.is_array and buffer[start] == "]":
                        return
                    try:
                        value, stop = decoder.raw_decode(buffer, start)
                        # A number may continue in the next block.
                        if stop < len(buffer) or is_end:
                            is_first, start, want = False, stop, _BLOCK
                            yield value
                            continue
                    except RecursionError:
                        yield _rejected(RejectReason.BAD_JSON, "nested too deeply", buffer[start:])
                        return
                    except ValueError as error:
                        if is_end:
                            yield _rejected(
                                RejectReason.BAD_JSON, f"{error}; expected JSON to the end of the file", buffer[start:]
                            )
                            return
                    if len(buffer) - start > self._max_chars:
                        detail = f"value of more than {self._max_chars} characters"
                        yield _rejected(RejectReason.ROW_TOO_LARGE, detail, buffer[start:])
                        return
                elif is_end:
                    if self.is_array:
                        yield _rejected(RejectReason.BAD_JSON, "the file ends within its array; it is cut off", "")
                    return
                block = handle.read(want)
                is_end = len(block) < want
                buffer, start = buffer[start:] + decode.decode(block, final=is_end), 0
                want = max(_BLOCK, len(buffer))  # doubled each time: a long value is parsed only a few times


def _rejected(reason: RejectReason, detail: str, rest: str) -> RejectedRow:
    return RejectedRow("", 0, reason, detail, make_excerpt(rest[:1000].encode("utf-8", "replace").decode()))
