"""The right to work in a country, and visa sponsorship."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from data.conditions.sentences import SplitDocument, Stance, quote
from data.conditions.statement import ConditionOutcome, Statement, Verdict
from data.conditions.vocabulary import country_names, known_phrases, pattern, vocabulary

_COUNTRY_CHARS = 40
_DENIED = re.compile(r"\b(?:not|no|never|nicht|keine|ne|pas|sans|without)\b\W*(?:\w+\W+){0,2}$", re.IGNORECASE)
_LISTED = re.compile(r"[\s,/]*(?:(?:the|and|or|und|oder|et|ou|der|die|den|la|le|les)\s+)*", re.IGNORECASE)


class Right(NamedTuple):
    """A right to work, asked for or held.

    Attributes:
        countries: ISO 3166 codes, or ``EU``; empty if none is named.
        citizen: Whether it is citizenship.
        sponsorship: True: a person needs sponsorship. False: a job offers none, or a person needs none.
    """

    countries: frozenset[str] = frozenset()
    citizen: bool = False
    sponsorship: bool | None = None


def read_authorisation(document: SplitDocument) -> list[Statement]:
    """Statements about the right to work, citizenship and sponsorship."""
    found: list[Statement] = []
    meant: Stance = "required" if document.kind == "job" else "held"
    for sentence, match in document.matches(known_phrases("authorisation", "may_work")):
        countries = _countries_after(sentence.text, match.end())
        if countries and not _DENIED.search(sentence.text[: match.start()]):
            found.append(Statement(Right(countries), meant, quote(sentence, *match.span())))
    for sentence, match in document.matches(known_phrases("authorisation", "citizen")):
        code = _country_before(sentence.text, match.start())
        if code is not None and _is_status(document, sentence.text, match):
            found.append(Statement(Right(frozenset({code}), citizen=True), meant, quote(sentence, *match.span())))
    if document.kind == "resume":
        found += _sponsorship(document, "needs_none", Right(sponsorship=False), unless=None)
        found += _sponsorship(document, "needs_sponsorship", Right(sponsorship=True), unless="needs_none")
        for sentence, match in document.matches(known_phrases("authorisation", "residents")):
            code = country_names().get(match.group().lower())
            countries = frozenset({code}) if code else _countries_in(sentence.text)
            if countries:
                found.append(Statement(Right(countries), "held", quote(sentence, *match.span())))
    else:
        found += _sponsorship(document, "no_sponsorship", Right(sponsorship=False), unless=None)
    return found


def _sponsorship(document: SplitDocument, name: str, right: Right, *, unless: str | None) -> list[Statement]:
    meant: Stance = "required" if document.kind == "job" else "held"
    return [
        Statement(right, meant, quote(sentence))
        for sentence in document.holding(known_phrases("authorisation", name))
        if unless is None or not pattern("authorisation", unless).search(sentence.text)
    ]


def _is_status(document: SplitDocument, text: str, match: re.Match[str]) -> bool:
    """Whether a job requires the citizenship; any mention in a resume states it, unless it is denied."""
    if match.group().lower() == "national" and not match.group().islower():
        return False  # "USA National Team"
    if document.kind == "resume":
        return not _DENIED.search(text[: match.start()])
    if pattern("stances", "waived").search(text):
        return False
    return bool(
        re.search(
            r"\b(?:must|required|only|need|requires?|erforderlich|zwingend|nur|exigée?|obligatoire)\b", text, re.I
        )
    )


def _country_before(text: str, at: int) -> str | None:
    """Code of the country that the last words before a place name: "U.S. citizen", "EU-Bürger"."""
    words = text[max(0, at - _COUNTRY_CHARS) : at].rstrip(" -").split(" ")
    names = (" ".join(words[-count:]).strip("(,").lower() for count in (3, 2, 1))
    return next((country_names()[name] for name in names if name in country_names()), None)


def _countries_after(text: str, at: int) -> frozenset[str]:
    """Countries of a list that starts at a place."""
    found, end = set[str](), min(len(text), at + _COUNTRY_CHARS)
    while True:
        at = _LISTED.match(text, at).end()  # type: ignore[union-attr]
        match = _country().match(text, at)
        if match is None or match.start() > end:
            return frozenset(found)
        found.add(country_names()[match.group().lower()])
        at = match.end()


def _countries_in(text: str) -> frozenset[str]:
    return frozenset(
        country_names()[match.group().lower()] for match in _country().finditer(text) if not match.group().islower()
    )


@cache
def _country() -> re.Pattern[str]:
    names = sorted((re.escape(name) for name in country_names() if len(name) > 1), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(names)})(?!\w)", re.IGNORECASE)


def check_authorisation(job: Sequence[Statement], resume: Sequence[Statement]) -> list[Verdict]:
    """One verdict for each right that the job requires."""
    needs_visa = next((each for each in resume if each.value.sponsorship is True), None)
    needs_none = next((each for each in resume if each.value.sponsorship is False), None)
    rights = [each for each in resume if each.value.countries]
    found = []
    for need in job:
        outcome, shown = _answer(need.value, rights, needs_visa, needs_none)
        found.append(Verdict("work_authorisation", outcome, need.words, shown.words if shown else ""))
    return found


def _answer(
    need: Right, rights: Sequence[Statement], needs_visa: Statement | None, needs_none: Statement | None
) -> tuple[ConditionOutcome, Statement | None]:
    if need.sponsorship is False:
        if needs_visa is not None:
            return "fail", needs_visa
        return ("pass", needs_none) if needs_none is not None else ("unknown", None)
    for held in rights:
        if (held.value.citizen or not need.citizen) and _covers(held.value, need.countries):
            return "pass", held
    if needs_visa is not None and not rights:
        return "fail", needs_visa
    return "unknown", rights[0] if rights else needs_none


def _covers(held: Right, asked: frozenset[str]) -> bool:
    """Whether a right covers one of the countries. Citizens of a member state may work in the whole union."""
    members = frozenset(vocabulary()["authorisation"]["members"]["EU"])
    is_wide = "EU" in held.countries or (held.citizen and bool(held.countries & members))
    return bool((held.countries | ({"EU"} | members if is_wide else frozenset())) & asked)
