"""Conditions of a pair: facts of both documents, read once each, and a verdict for every requirement.

A new condition is a reader and a check, entered in ``_RULES``; its name goes to ``ConditionName``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from functools import cache, partial
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, create_model

from data.conditions.authorisation import Right, check_authorisation, read_authorisation
from data.conditions.education import Degree, check_education, read_education
from data.conditions.employments import Worked
from data.conditions.experience import Years, check_seniority, check_years, read_seniority, read_years
from data.conditions.languages import Spoken, check_languages, read_languages
from data.conditions.licences import check_licences, read_licences
from data.conditions.places import Place, Places, check_place, read_place
from data.conditions.sentences import SplitDocument, Stance
from data.conditions.statement import ConditionName, Statement, Verdict
from data.conditions.terms import (
    Start,
    check_dates,
    check_employment,
    check_pay,
    check_remote,
    read_dates,
    read_employment,
    read_pay,
    read_remote,
)
from data.conditions.vocabulary import VOCABULARY_FILE
from data.documents.facet_values import Salary
from data.redaction.placeholders import without_placeholders
from data.schema import DocumentKind, sha256_text

_VERSION = 3
"""Version of the readers and checks. Raise it when they change: stored verdicts are then made again."""

Facts = Mapping[ConditionName, Sequence[Statement]]
"""What a document states, by condition; conditions without a statement are missing."""


class _Rule(NamedTuple):
    """How a condition is read and checked.

    Attributes:
        read: Reads the statements of a document.
        check: Verdicts by the statements of job and resume.
        value: Type of the value of a statement.
        asked_by: Kind that asks: without a statement on that side there is no verdict.
    """

    read: Callable[[SplitDocument], list[Statement]]
    check: Callable[..., list[Verdict]]
    value: Any
    asked_by: DocumentKind = "job"


_RULES: Mapping[ConditionName, _Rule] = {
    "place": _Rule(read_place, check_place, Place | None),
    "remote": _Rule(read_remote, check_remote, bool, "resume"),
    "employment_type": _Rule(read_employment, check_employment, frozenset[str], "resume"),
    "languages": _Rule(read_languages, check_languages, Spoken),
    "licences": _Rule(read_licences, check_licences, frozenset[str]),
    "years": _Rule(read_years, check_years, Years | Worked),
    "seniority": _Rule(read_seniority, check_seniority, int),
    "education": _Rule(read_education, check_education, Degree),
    "work_authorisation": _Rule(read_authorisation, check_authorisation, Right),
    "salary": _Rule(read_pay, check_pay, Salary, "resume"),
    "dates": _Rule(read_dates, check_dates, Start),
}

_MAX_CHARS = 100_000
"""Conditions are read from so many characters at most: a longer document is none of a person or a job."""


@cache
def reading_key() -> str:
    """Hash of what decides the verdicts besides the documents: the version of the readers, and the vocabulary."""
    return sha256_text(f"{_VERSION}\n{VOCABULARY_FILE.read_text(encoding='utf-8')}")


def read_facts(
    kind: DocumentKind, title: str, text: str, facets: Mapping[str, Any], names: Collection[ConditionName]
) -> Facts:
    """Read what a document states.

    Args:
        kind: Job or resume.
        title: Stored title; placeholders are left out.
        text: Stored text, likewise.
        facets: Values by facet.
        names: Conditions to read.
    """
    document = SplitDocument(kind, without_placeholders(title), without_placeholders(text[:_MAX_CHARS]), facets)
    wanted = set(names) | ({"remote"} if "place" in names else set())
    found = {name: rule.read(document) for name, rule in _RULES.items() if name in wanted}
    return {name: statements for name, statements in found.items() if statements}


class ConditionCheck(NamedTuple):
    """One condition of the settings, ready to check pairs.

    Attributes:
        name: Name of the condition.
        asked_by: Kind that asks: without a statement on that side there is no verdict.
        of_pair: Verdicts by the facts of job and resume.
    """

    name: ConditionName
    asked_by: DocumentKind
    of_pair: Callable[[Facts, Facts], list[Verdict]]


def checks_of(
    names: Collection[ConditionName], *, day: date, places: Places | None = None, radius_km: float = 50.0
) -> list[ConditionCheck]:
    """The checks of some conditions, in the order of verdicts.

    Args:
        names: Conditions to check.
        day: Today: employments that last end in its month.
        places: Coordinates of places.
        radius_km: Distance up to which a person is near a job.
    """

    def of_years(job: Facts, resume: Facts) -> list[Verdict]:
        return check_years(job.get("years", ()), resume.get("years", ()), today=12 * day.year + day.month - 1)

    def of_place(job: Facts, resume: Facts) -> list[Verdict]:
        remote = next((each for each in job.get("remote", ()) if each.value), None)
        stated = job.get("place", ()), resume.get("place", ())
        return check_place(*stated, places=places, radius_km=radius_km, remote=remote)

    def of_statements(name: ConditionName, job: Facts, resume: Facts) -> list[Verdict]:
        return _RULES[name].check(job.get(name, ()), resume.get(name, ()))

    special = {"place": of_place, "years": of_years}
    return [
        ConditionCheck(name, rule.asked_by, special.get(name) or partial(of_statements, name))
        for name, rule in _RULES.items()
        if name in names
    ]


def check_pair(job: Facts, resume: Facts, checks: Collection[ConditionCheck]) -> list[Verdict]:
    """Verdicts on a pair, in the order of the checks; none where neither side asks for anything."""
    return [
        verdict
        for check in checks
        if check.name in (job if check.asked_by == "job" else resume)
        for verdict in check.of_pair(job, resume)
    ]


def facts_to_json(facts: Facts) -> bytes:
    """Facts as JSON; :func:`facts_from_json` reads them."""
    stated = {
        name: [(each.value, each.stance, each.words) for each in statements] for name, statements in facts.items()
    }
    return _stored()(**stated).model_dump_json(exclude_unset=True).encode()


def facts_from_json(raw: bytes) -> Facts:
    """Read facts that :func:`facts_to_json` wrote with the same :func:`reading_key`.

    Raises:
        ValueError: The bytes are no facts.
    """
    found = _stored().model_validate_json(raw)
    stated = {name: [Statement(*each) for each in getattr(found, name)] for name in _RULES}
    return {name: statements for name, statements in stated.items() if statements}


@cache
def _stored() -> type[BaseModel]:
    """Model of stored facts: for each condition a list of value, stance and words."""
    fields: dict[str, Any] = {
        name: (list[tuple[rule.value, Stance, str]], [])  # type: ignore[name-defined]
        for name, rule in _RULES.items()
    }
    return create_model("StoredFacts", __config__=ConfigDict(ser_json_inf_nan="constants"), **fields)
