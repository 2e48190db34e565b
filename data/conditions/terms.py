"""Terms of employment: remote work, full or part time, pay, and the day to start."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from functools import cache
from typing import NamedTuple

from data.conditions.sentences import Passage, SplitDocument, quote
from data.conditions.statement import ConditionName, ConditionOutcome, Statement, Verdict
from data.conditions.vocabulary import Phrases, any_of, known_phrases, month_names, pattern, phrases_for, vocabulary
from data.documents.facet_values import Salary, as_day, as_salary

_DENIED = re.compile(r"\b(?:not|no|never|nicht|kein|keine|pas|non|ne|n['’]t)\b\W*(?:\w+\W+){0,3}$", re.IGNORECASE)

# --- remote work ------------------------------------------------------------------------------------------------------


def read_remote(document: SplitDocument) -> list[Statement]:
    """Whether a job is remote, or a person works only remotely. The facet counts first."""
    facet = document.facets.get("remote")
    if document.kind == "job":
        if facet is not None:
            return [Statement(bool(facet), "mentioned", f"remote: {str(bool(facet)).lower()}")]
        for value, name in ((False, "refused"), (True, "offered")):
            for sentence, match in document.matches(known_phrases("remote", name)):
                if value is False or not _DENIED.search(sentence.text[: match.start()]):
                    return [Statement(value, "mentioned", quote(sentence, *match.span()))]
        return []
    return [
        Statement(True, "required", quote(sentence, *match.span()))
        for sentence, match in document.matches(known_phrases("remote", "only"))
        if not _DENIED.search(sentence.text[: match.start()])
    ]


def check_remote(job: Sequence[Statement], resume: Sequence[Statement]) -> list[Verdict]:
    """A person who works only remotely, and a job."""
    if not resume:
        return []
    return [_one("remote", resume[0], job[0] if job else None, None if not job else bool(job[0].value))]


# --- full or part time ------------------------------------------------------------------------------------------------

_TIMES = frozenset({"FULL_TIME", "PART_TIME"})


def read_employment(document: SplitDocument) -> list[Statement]:
    """Types of employment of the facet, otherwise behind a label or in a title."""
    facet = document.facets.get("employment_type")
    if facet is not None:
        types = frozenset(part.strip() for part in facet.split(","))
        known = types if all(re.fullmatch("[A-Z_]+", part) for part in types) else frozenset()
        return [Statement(known, "mentioned", f"employment_type: {facet}")]
    for sentence in document.holding(_any_type()):
        if sentence.section == "title" and document.kind == "resume":
            continue  # the title of a former job is no wish
        found = frozenset(
            kind
            for kind, words in _types()
            if (match := words.search(sentence.text)) and not _DENIED.search(sentence.text[: match.start()])
        )
        if found and (sentence.section == "title" or _behind_label(sentence)):
            return [Statement(found, "mentioned", quote(sentence))]
    return []


@cache
def _types() -> list[tuple[str, re.Pattern[str]]]:
    return [(kind, any_of(words)) for kind, words in vocabulary()["employment"]["words"].items()]


@cache
def _any_type() -> Phrases:
    return phrases_for(word for words in vocabulary()["employment"]["words"].values() for word in words)


def _behind_label(sentence: Passage) -> bool:
    """Whether a label stands before a type of employment, within a few words."""
    return any(
        re.fullmatch(r"\W*(?:\w+\W+){0,4}", sentence.text[label.end() : match.start()])
        for label in pattern("employment", "labels").finditer(sentence.text)
        for _, words in _types()
        for match in words.finditer(sentence.text, label.end())
    )


def check_employment(job: Sequence[Statement], resume: Sequence[Statement]) -> list[Verdict]:
    """A person who states the type of employment that they want, and a job."""
    if not resume or not resume[0].value:
        return []
    wanted, offered = resume[0].value, job[0].value if job else frozenset()
    fits: bool | None = None
    if wanted & offered:
        fits = True
    elif (
        any(wanted <= group and offered <= group for group in (_TIMES, frozenset(wanted | offered) - _TIMES))
        and offered
    ):
        fits = False
    return [_one("employment_type", resume[0], job[0] if job else None, fits)]


# --- pay --------------------------------------------------------------------------------------------------------------

_PER_YEAR = {"year": 1, "month": 12, "week": 52}
_VALUE_CHARS = 60
_LEAST_PER_YEAR, _SURELY_PER_YEAR = 1000, 15_000
_COMMON = frozenset({"EUR", "GBP", "USD", "CHF"})
_AMOUNT_FOLLOWS = re.compile(
    r"\s*(?:(?:range|is|of|from|between|at|ab|von|zwischen|de|entre|desde|ca|approx|per annum|per year|per month"
    r"|up to|upto|bis zu|jusqu'à|hasta|minimum|least|brutto|gross)\b[\s.]*|[:=–(-]\s*)*"
    r"(?:[A-Z]{0,3}[$£€¥]|[A-Z]{3}\s?\d|\d)",
    re.IGNORECASE,
)


def read_pay(document: SplitDocument) -> list[Statement]:
    """The salary of the facets, otherwise behind a label."""
    facets = document.facets
    low, high = facets.get("salary_min"), facets.get("salary_max")
    if low is not None or high is not None:
        salary = Salary(low, high, facets.get("salary_currency"), facets.get("salary_unit"))
        return [Statement(salary, "mentioned", _salary_words(salary))]
    labels = known_phrases("pay", "offered" if document.kind == "job" else "asked")
    for sentence, match in document.matches(labels):
        rest = sentence.text[match.end() : match.end() + _VALUE_CHARS]
        if not _AMOUNT_FOLLOWS.match(rest):
            continue  # "required to pay for a check, which costs £50"
        salary = as_salary(rest.lstrip(" :=–-("))
        unit = salary.unit or _unit_of_label(match.group())
        if salary.currency is not None and (unit != "year" or (salary.high or salary.low or 0) >= _LEAST_PER_YEAR):
            stated = Salary(salary.low, salary.high, salary.currency, unit)
            return [Statement(stated, "mentioned", quote(sentence, *match.span()))]
    return []


def _unit_of_label(label: str) -> str | None:
    units = {"annual": "year", "jahr": "year", "monat": "month", "stunde": "hour", "hourly": "hour", "day": "day"}
    return next((unit for word, unit in units.items() if word in label.lower()), None)


def _salary_words(salary: Salary) -> str:
    ends = "–".join(f"{end:,.0f}" for end in dict.fromkeys((salary.low, salary.high)) if end is not None)
    return f"salary: {ends} {salary.currency or ''} per {salary.unit or '?'}"


def check_pay(job: Sequence[Statement], resume: Sequence[Statement]) -> list[Verdict]:
    """The least that a person asks, and what a job pays: in one currency, by the year or by the same unit."""
    if not resume:
        return []
    asked: Salary = resume[0].value
    offered: Salary = job[0].value if job else Salary()
    fits: bool | None = None
    least = asked.low if asked.low is not None else asked.high
    factors = _factors(_unit(asked), _unit(offered))
    if asked.currency is not None and asked.currency == offered.currency and factors and least is not None:
        wanted = least * factors[0]
        if offered.high is not None:
            fits = offered.high * factors[1] >= wanted
        elif offered.low is not None and offered.low * factors[1] >= wanted:
            fits = True
    return [_one("salary", resume[0], job[0] if job else None, fits)]


def _unit(salary: Salary) -> str | None:
    """Unit of time; a large amount without one is meant by the year."""
    is_large = max(salary.low or 0, salary.high or 0) >= _SURELY_PER_YEAR and salary.currency in _COMMON
    return salary.unit or ("year" if is_large else None)


def _factors(first: str | None, second: str | None) -> tuple[float, float] | None:
    """Factors that make two amounts comparable; None if a unit is unknown, or hours would be counted."""
    if first is not None and first == second:
        return 1, 1
    factors = _PER_YEAR.get(first or ""), _PER_YEAR.get(second or "")
    return None if factors[0] is None or factors[1] is None else (factors[0], factors[1])


# --- dates ------------------------------------------------------------------------------------------------------------

_NAMED = re.compile(
    r"(\d{1,2})(?:\.|st|nd|rd|th|er|º)?\s+(?:de\s+|of\s+)?([^\W\d_]+)\.?,?\s+(?:de\s+|del\s+)?(\d{4})(?!\d)"
)
_MONTH_ONLY = re.compile(r"(?<!\d\s)(?<!\d\.\s)(?<!\w)([^\W\d_]{3,})\.?\s+(?:de\s+)?(\d{4})(?!\d)")
_NUMERIC = re.compile(r"(?<!\d)(\d{1,2}\.\d{1,2}\.\d{4}|\d{4}-\d{2}-\d{2})(?!\d)")


class Start(NamedTuple):
    """First possible day of work; ``day`` is None for "immediately"."""

    day: date | None


def read_dates(document: SplitDocument) -> list[Statement]:
    """The day that a job starts, or from which a person is available, behind a label."""
    name = "starts" if document.kind == "job" else "available"
    for sentence, match in document.matches(known_phrases("dates", name)):
        rest = sentence.text[match.end() : match.end() + _VALUE_CHARS]
        if re.match(r"\W*(?:from\s|ab\s|is\s|:\s)?\W*" + pattern("dates", "now").pattern, rest, re.IGNORECASE):
            return [Statement(Start(None), "mentioned", quote(sentence, *match.span()))]
        day = _day(rest)
        if day is not None:
            return [Statement(Start(day), "mentioned", quote(sentence, *match.span()))]
    return []


def _day(text: str) -> date | None:
    """The first day in a text: 1.9.2026, 2026-09-01, 1 September 2026 in any language; "September 2026" is its first.

    3/4/2026 is no day: it may be in March or in April.
    """
    if match := _NUMERIC.search(text):
        found = as_day(match[1])
    elif match := _NAMED.search(text):
        month = month_names().get(match[2].lower())
        found = as_day(f"{match[1]} {month} {match[3]}") if month else None
    elif match := _MONTH_ONLY.search(text):
        month = month_names().get(match[1].lower())
        found = as_day(f"1 {month} {match[2]}") if month else None
    else:
        return None
    return None if found is None else date.fromisoformat(found)


def check_dates(job: Sequence[Statement], resume: Sequence[Statement]) -> list[Verdict]:
    """A day that a job starts, and whether a person is available by then. Who is available at once always is."""
    if not job or job[0].value.day is None:
        return []
    held = resume[0] if resume else None
    fits = None if held is None else held.value.day is None or held.value.day <= job[0].value.day
    return [_one("dates", job[0], held, fits)]


def _one(condition: ConditionName, asked: Statement, found: Statement | None, fits: bool | None) -> Verdict:
    outcome: ConditionOutcome = "unknown" if fits is None else "pass" if fits else "fail"
    return Verdict(condition, outcome, asked.words, "" if found is None else found.words)
