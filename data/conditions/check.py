"""Conditions of a pair: facts of both documents, read once each, and a verdict for every requirement.

A new condition is a reader and a check, entered in ``_RULES``; its name goes to ``ConditionName``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

from data.conditions.authorisation import check_authorisation, read_authorisation
from data.conditions.education import check_education, read_education
from data.conditions.experience import check_seniority, check_years, read_seniority, read_years
from data.conditions.languages import check_languages, read_languages
from data.conditions.licences import check_licences, read_licences
from data.conditions.places import Places, check_place, read_place
from data.conditions.sentences import SplitDocument
from data.conditions.statement import ConditionName, Statement, Verdict
from data.conditions.terms import (
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
from data.redaction.placeholders import without_placeholders
from data.schema import DocumentKind, sha256_text

_VERSION = 1
"""Version of the readers and checks. Raise it when they change: stored verdicts are then made again."""

Facts = Mapping[ConditionName, Sequence[Statement]]
"""What a document states, by condition; conditions without a statement are missing."""


class _Rule(NamedTuple):
    read: Callable[[SplitDocument], list[Statement]]
    check: Callable[..., list[Verdict]]


_RULES: Mapping[ConditionName, _Rule] = {
    "place": _Rule(read_place, check_place),
    "remote": _Rule(read_remote, check_remote),
    "employment_type": _Rule(read_employment, check_employment),
    "languages": _Rule(read_languages, check_languages),
    "licences": _Rule(read_licences, check_licences),
    "years": _Rule(read_years, check_years),
    "seniority": _Rule(read_seniority, check_seniority),
    "education": _Rule(read_education, check_education),
    "work_authorisation": _Rule(read_authorisation, check_authorisation),
    "salary": _Rule(read_pay, check_pay),
    "dates": _Rule(read_dates, check_dates),
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


def check_pair(
    job: Facts,
    resume: Facts,
    names: Collection[ConditionName],
    *,
    places: Places | None = None,
    radius_km: float = 50.0,
) -> list[Verdict]:
    """Verdicts on a pair, in the order of the conditions; none where neither side asks for anything.

    Args:
        job: Facts of the job.
        resume: Facts of the resume.
        names: Conditions to check.
        places: Coordinates of places.
        radius_km: Distance up to which a person is near a job.
    """
    found: list[Verdict] = []
    for name, rule in _RULES.items():
        if name in names:
            check = rule.check
            if name == "place":
                remote = next((each for each in job.get("remote", ()) if each.value), None)
                check = partial(check_place, places=places, radius_km=radius_km, remote=remote)
            found += check(job.get(name, ()), resume.get(name, ()))
    return found
