"""SQL filters on tables: conditions that the code builds, and checks of conditions that a user writes.

LanceDB's readers of metadata (``json_get_int``, …) fail for the whole table if one row holds a value that they cannot
convert. Here every such value is null instead, for its row only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date
from itertools import accumulate
from typing import NamedTuple

from data.errors import InputError

_NO_FILTER_COLUMNS = frozenset({"vector", "words", "row_sha256", "text"})
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`")
_CLAUSE = re.compile(
    r"\b(?:(?:order|group)\s+by|having|limit|offset|union)\b(?!\s*(?:[=<>!]|in\b|is\b|like\b|between\b))", re.IGNORECASE
)
"""SQL clauses that a filter may not contain."""

_READER = re.compile(r"\bjson_get_(int|float|bool|string)\s*\(|\bcast\s*\(", re.IGNORECASE)
_READABLE = {
    "int": r'^(true|false|null|-?[0-9]{1,15}(\.[0-9]+)?|"-?[0-9]{1,15}(\.[0-9]+)?")$',
    "float": r'^(true|false|null|"?-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"?)$',
    "bool": r'^(null|"?(true|false)"?)$',
    "string": r"^[^{\[]",
}
"""JSON values that each reader can convert; for the others it fails."""
_EXPECTED = {"int": "an integer", "float": "a number", "bool": "true or false", "string": "a plain value"}


class Read(NamedTuple):
    """A value that a filter reads from metadata.

    Attributes:
        key: Key, as the filter names it.
        expected: Description of a value that can be read.
        unreadable: SQL condition: the row has a value that cannot be read.
    """

    key: str
    expected: str
    unreadable: str


def check_filter(where: str, columns: Iterable[str]) -> None:
    """Reject a filter whose end LanceDB would silently ignore.

    Raises:
        InputError: The filter holds more than one statement, or a clause after its condition.
    """
    unquoted = _QUOTED.sub("", where)
    if ";" in unquoted:
        raise unusable_filter(where, columns, "it holds more than one statement")
    if clause := _CLAUSE.search(unquoted):
        raise unusable_filter(where, columns, f"{clause.group().upper()} follows the condition")
    depths = list(accumulate((char == "(") - (char == ")") for char in unquoted))
    if min(depths, default=0) < 0:  # it would end the brackets in which it is joined to other conditions
        raise unusable_filter(where, columns, "it closes a bracket that it did not open")


def tolerant_filter(where: str) -> tuple[str, list[Read]]:
    """A filter that reads an unreadable value as null.

    Args:
        where: Checked filter.

    Returns:
        The filter to run, and what it reads from metadata. Everything else is left as it is written.
    """
    reads: dict[str, Read] = {}
    return _rewrite(where, reads), list(reads.values())


def _rewrite(where: str, reads: dict[str, Read]) -> str:
    pieces, at = [], 0
    quoted = [match.span() for match in _QUOTED.finditer(where)]
    for match in _READER.finditer(where):
        if match.start() < at or any(start <= match.start() < end for start, end in quoted):
            continue
        pieces.append(where[at : match.start()])
        at = match.start()
        arguments, end = _arguments(where, match.end())
        if match[1] is None:
            if "json_" in where[at:end].lower():  # casting a column is the caller's mistake
                pieces.append("TRY_CAST(")
                at = match.end()
            continue
        if len(arguments) != 2:  # LanceDB says what is wrong
            continue
        kind, key = match[1].lower(), arguments[1]
        record = _rewrite(arguments[0], reads)
        value = f"json_extract(json_get({record}, {key}), '$')"
        is_readable = f"regexp_like({value}, '{_READABLE[kind]}')"
        pieces.append(f"json_get_{kind}(CASE WHEN {is_readable} THEN {record} END, {key})")
        unreadable = f"{value} IS NOT NULL AND NOT {is_readable}"
        reads.setdefault(unreadable, Read(key.strip("' "), _EXPECTED[kind], unreadable))
        at = end
    return "".join([*pieces, where[at:]])


def _arguments(where: str, start: int) -> tuple[list[str], int]:
    """Arguments of a function call, and the position after its closing bracket. Without one there are none."""
    found, depth, at = [], 0, start
    for position, char in _unquoted(where, start):
        if char == "(":
            depth += 1
        elif char == ")" and depth:
            depth -= 1
        elif depth == 0 and char in ",)":
            found.append(where[at:position].strip())
            at = position + 1
            if char == ")":
                return found, at
    return [], start


def _unquoted(where: str, start: int) -> Iterator[tuple[int, str]]:
    """Positions and characters of a filter outside quotes."""
    spans = [match.span() for match in _QUOTED.finditer(where)]
    for position in range(start, len(where)):
        if not any(first <= position < end for first, end in spans):
            yield position, where[position]


def unusable_filter(where: str, columns: Iterable[str], reason: str) -> InputError:
    """Build the error for an invalid filter; it shows two examples and the columns."""
    shown = ", ".join(name for name in columns if name not in _NO_FILTER_COLUMNS)
    return InputError(
        f"The filter {where!r} cannot be used: {reason}",
        hint="Write it as SQL, for example \"location = 'Leeds' AND posted_at >= '2026-01-31'\" or "
        f"\"json_get_string(metadata, 'grade') = 'G7'\". Columns: {shown}.",
    )


def open_on(day: date) -> str:
    """SQL condition: the posting has no last day, or that day is not past."""
    return f"(valid_through IS NULL OR valid_through >= '{day.isoformat()}')"


def past_on(day: date) -> str:
    """SQL condition: the last day of the posting is past."""
    return f"valid_through < '{day.isoformat()}'"


def sql_string(value: str) -> str:
    """SQL string literal for a value."""
    return "'" + value.replace("'", "''") + "'"


def is_one_of(column: str, values: Iterable[str]) -> str:
    """SQL condition: the column has one of the given values."""
    return f"{column} IN ({', '.join(map(sql_string, sorted(values)))})"
