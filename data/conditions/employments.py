"""Years of work by the dates of a resume's employments.

Belongs here: dates and ranges, which entries are work, their sum without overlaps. Does not belong here: years that a
text states in words (``experience``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from data.conditions.sentences import Section, SplitDocument, section_of
from data.conditions.vocabulary import any_of, month_names, vocabulary

_FIRST_YEAR, _MAX_YEARS = 1950, 55
_MAX_ENTRY_WORDS, _TITLE_WORDS = 20, 12
_HALF_YEAR = 6.0
_WORD = re.compile(r"[^\W\d_](?:[\w+#]|\.(?=\w))*")
_EDGE = re.compile(r"[\s,;:|/()\[\]*•·●▪–—-]*")
_QUOTED_ENTRIES, _QUOTED_CHARS = 3, 60
_YEARS_LEFT_OUT = 0.75
"""Years that a resume with a section of experience may lack: some leave out short or old employments."""


CHANGED_MONTH = "changed_month"
"""Name among the facets of a resume for the month of its last change, as 2026-01."""


class Employment(NamedTuple):
    """One employment, in months since the year 0.

    Attributes:
        start: First month; the middle of the year if only that is given.
        end: Month behind the last one; None if it lasts.
        start_error: Months by which the start may be off, to both sides.
        end_error: Likewise for the end.
        is_sure: Whether it is surely work, and no school, internship or voluntary work.
        words: Words of the entry, or stems of them.
    """

    start: float
    end: float | None
    start_error: float
    end_error: float
    is_sure: bool
    words: frozenset[str]


class Worked(NamedTuple):
    """All dated employments of a resume.

    Attributes:
        spans: The employments.
        is_whole: Whether they stand under a heading of experience, so that little is missing.
        as_of: Month of the last change of the resume, since the year 0; None if it is not known.
    """

    spans: tuple[Employment, ...]
    is_whole: bool
    as_of: float | None = None

    @property
    def until(self) -> str:
        """Up to when employments that last are counted; empty if none lasts."""
        if all(span.end is not None for span in self.spans):
            return ""
        if self.as_of is None:
            return ", up to today"
        return f", up to {int(self.as_of // 12)}-{int(self.as_of % 12) + 1:02d}, when the resume was last changed"


class Total(NamedTuple):
    """Years of work: at least and at most."""

    low: float
    high: float


def read_worked(document: SplitDocument) -> tuple[Worked, str] | None:
    """Dated employments of a resume, and their lines as evidence; None without any.

    With a heading of experience only the entries below it count, otherwise those above the first heading.
    """
    found: list[tuple[Section | None, Employment, str]] = []
    section: Section | None = None
    before = ""
    for line in document.text.splitlines():
        heading = section_of(line)
        if heading is not None:
            section, before = (section if heading == "tasks" else heading), ""
        elif line.strip():
            found += [(section, span, words) for span, words in _spans_of(line, before, section)]
            before = line
    has_heading = any(name == "experience" for name, *_ in found)
    counted = [(span, words) for name, span, words in found if name == ("experience" if has_heading else None)]
    if not counted:
        return None
    words = "; ".join(words for _, words in counted[:_QUOTED_ENTRIES])
    more = len(counted) - _QUOTED_ENTRIES
    shown = f"{words}; {more} more" if more > 0 else words
    changed = document.facets.get(CHANGED_MONTH)
    as_of = None if changed is None else _date(changed)
    spans = tuple(span for span, _ in counted)
    return Worked(spans, has_heading, None if as_of is None else as_of.month), shown


@lru_cache(maxsize=65_536)
def total_years(worked: Worked, today: float, subject: frozenset[str] = frozenset()) -> Total:
    """Years of all employments, or of those whose entry names a subject; overlaps count once, gaps not at all.

    An old resume still says "present". So employments that last surely lasted until its last change, and at most until
    today.

    Args:
        worked: The employments.
        today: The current month.
        subject: Words that an entry must have.
    """
    known = today if worked.as_of is None else min(worked.as_of, today)
    sure, every = (
        _sum([span for span in worked.spans if (span.is_sure or not only_sure) and subject <= span.words], until)
        for only_sure, until in ((True, known), (False, today))
    )
    is_bounded = worked.is_whole and not subject and every.high > 0
    return Total(sure.low / 12, every.high / 12 + _YEARS_LEFT_OUT if is_bounded else float("inf"))


def _sum(spans: Sequence[Employment], today: float) -> Total:
    """Months of the union of spans, at least and at most."""
    low = high = 0.0
    merged: list[Employment] = []
    for span in sorted(spans, key=lambda each: each.start):
        if span.start > today:
            continue
        span = span._replace(end=today if span.end is None else min(span.end, today))
        if merged and span.start <= _end(merged[-1]):
            if _end(span) > _end(merged[-1]):
                merged[-1] = merged[-1]._replace(end=span.end, end_error=span.end_error)
        else:
            merged.append(span)
    for span in merged:
        months, error = _end(span) - span.start, span.start_error + span.end_error
        low += max(0.0, months - error)
        high += months + error
    return Total(low, high)


def _end(span: Employment) -> float:
    return float("inf") if span.end is None else span.end


def _spans_of(line: str, before: str, section: Section | None) -> Iterator[tuple[Employment, str]]:
    """Ranges of a line that are entries and not remarks; ``before`` is the line before it, often a title."""
    matches = list(_range().finditer(line))
    for at, match in enumerate(matches):
        start, end = _date(match["start"]), _date(match["end"] or "")
        lasts = bool(match["present"] or match["since"])
        if start is None or (end is None and not lasts):
            continue
        if not _is_entry(line, match, section, is_vague=start.error >= _HALF_YEAR or bool(match["since"])):
            continue
        last = None if lasts or end is None else (end.month if end.error >= _HALF_YEAR else end.month + 1)
        years = (last or start.month) / 12 - start.month / 12
        if not (0 <= years <= _MAX_YEARS) or start.month < _FIRST_YEAR * 12:
            continue
        left = matches[at - 1].end() if at else 0
        right = matches[at + 1].start() if at + 1 < len(matches) else len(line)
        said = _WORD.findall(line[left : match.start()])[-_TITLE_WORDS:] + _WORD.findall(line[match.end() : right])
        entry = " ".join(said[: 2 * _TITLE_WORDS])
        if at == 0 and len(before.split()) <= _TITLE_WORDS and not _range().search(before):
            entry = f"{before} {entry}"
        words = frozenset(word.lower().rstrip(".") for word in _WORD.findall(entry))
        is_sure = not _not_work().search(entry)
        end_error = 0.0 if end is None else end.error
        shown = " ".join(line.split())
        if len(shown) > _QUOTED_CHARS:
            shown = " ".join(line[max(0, match.start() - _QUOTED_CHARS // 2) :].split())[: _QUOTED_CHARS * 2] + "…"
        yield Employment(start.month, last, start.error, 0.0 if lasts else end_error, is_sure, words), shown


def _is_entry(line: str, match: re.Match[str], section: Section | None, *, is_vague: bool) -> bool:
    """Whether a range stands at an edge of its line, or with months in a short line of a section of experience."""
    is_edge = _EDGE.fullmatch(line, 0, match.start()) or _EDGE.fullmatch(line, match.end())
    if is_edge:
        return True
    return section == "experience" and not is_vague and len(line.split()) <= _MAX_ENTRY_WORDS


class _Month(NamedTuple):
    """A month since the year 0, and by how many months it may be off."""

    month: float
    error: float


def _date(text: str) -> _Month | None:
    """The month of a date: 03/2015, 15.03.2015, 2015-03, March 2015, 2015. In 3/4/2015 the month is unsure."""
    if numbers := re.fullmatch(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})", text):
        first, second, year = int(numbers[1]), int(numbers[3]), int(numbers[4])
        months = [second] if numbers[2] == "." else [first, second]
        possible = [month for month in months if 1 <= month <= 12]
        middle = (max(possible) + min(possible)) / 2 if possible else 0
        return _Month(12 * year + middle - 1, max(possible) - middle) if possible else None
    if numbers := re.fullmatch(r"(\d{1,2})[./-](\d{4})|(\d{4})[./-](\d{1,2})", text):
        month, year = int(numbers[1] or numbers[4]), int(numbers[2] or numbers[3])
        return _Month(12 * year + month - 1, 0) if 1 <= month <= 12 else None
    if re.fullmatch(r"\d{4}", text):
        return _Month(12 * int(text) + _HALF_YEAR, _HALF_YEAR)
    if named := re.fullmatch(r"(?:\d{1,2}\.?\s+)?([^\W\d_]+)\.?,?\s+(?:de\s+)?(\d{4})", text):
        name = month_names().get(named[1].lower())
        return _Month(12 * int(named[2]) + _english_months().index(name), 0) if name else None
    return None


@cache
def _english_months() -> list[str]:
    """The months in order, as :func:`month_names` writes them."""
    return list(dict.fromkeys(month_names().values()))


@cache
def _range() -> re.Pattern[str]:
    words = vocabulary()["worked"]
    months = "|".join(sorted(map(re.escape, month_names()), key=len, reverse=True))
    year = r"(?:19|20)\d\d"
    date = (
        rf"(?:\d{{1,2}}[./-]\d{{1,2}}[./-]{year}|\d{{1,2}}[./-]{year}|{year}[./-](?:0[1-9]|1[0-2])"
        rf"|(?:\d{{1,2}}\.?\s+)?(?:{months})\.?,?\s+(?:de\s+)?{year}|{year})(?!\d|[./]\d|-\d{{1,2}}(?!\d))"
    )
    until = any_of(words["until"]).pattern
    present, since = any_of(words["present"]).pattern, any_of(words["since"]).pattern
    return re.compile(
        rf"(?:(?P<since>{since})\s+|(?<![\w./-]))(?P<start>{date})"
        rf"(?(since)|\s*(?:[-–—]|{until})\s*(?:(?P<end>{date})|(?P<present>{present})))",
        re.IGNORECASE,
    )


@cache
def _not_work() -> re.Pattern[str]:
    return any_of(vocabulary()["worked"]["not_work"])
