"""Spans: the parts of a text that are personal data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from data.redaction.placeholders import PiiType


class Span(NamedTuple):
    """A part of a text that is personal data."""

    start: int
    end: int
    type: PiiType


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """Sort spans and merge overlapping ones. A merged span has the type of the first."""
    merged: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            merged[-1] = Span(last.start, max(last.end, span.end), last.type)
        else:
            merged.append(span)
    return merged


def has_any(text: str, hints: tuple[str, ...]) -> bool:
    """Return whether a text contains one of some strings."""
    for hint in hints:  # noqa: SIM110  # any() takes twice as long, and every text comes by here
        if hint in text:
            return True
    return False


def line_around(text: str, start: int, end: int, *, limit: int) -> tuple[int, int] | None:
    """Start and end of the line that holds a part of a text; None if it is longer than a limit, in characters."""
    first = text.rfind("\n", max(0, start - limit), start) + 1
    last = text.find("\n", end, end + limit)
    last = min(len(text), end + limit) if last < 0 else last
    return (first, last) if last - first <= limit else None
