"""SQL filters on tables: conditions that the code builds, and checks of conditions that a user writes."""

from __future__ import annotations

import re
from collections.abc import Iterable

from data.errors import InputError

_NO_FILTER_COLUMNS = frozenset({"vector", "words", "row_sha256", "text"})
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`")
_CLAUSE = re.compile(
    r"\b(?:(?:order|group)\s+by|having|limit|offset|union)\b(?!\s*(?:[=<>!]|in\b|is\b|like\b|between\b))", re.IGNORECASE
)
"""SQL clauses that a filter may not contain."""


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


def unusable_filter(where: str, columns: Iterable[str], reason: str) -> InputError:
    """Build the error for an invalid filter; it shows two examples and the columns."""
    shown = ", ".join(name for name in columns if name not in _NO_FILTER_COLUMNS)
    return InputError(
        f"The filter {where!r} cannot be used: {reason}",
        hint="Write it as SQL, for example \"location = 'Leeds' AND posted_at >= '2026-01-31'\" or "
        f"\"json_get_string(metadata, 'grade') = 'G7'\". Columns: {shown}.",
    )


def sql_string(value: str) -> str:
    """SQL string literal for a value."""
    return "'" + value.replace("'", "''") + "'"


def is_one_of(column: str, values: Iterable[str]) -> str:
    """SQL condition: the column has one of the given values."""
    return f"{column} IN ({', '.join(map(sql_string, sorted(values)))})"
