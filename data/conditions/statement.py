"""What a document states about a condition, and the verdict on a pair."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from data.conditions.sentences import Stance

ConditionName = Literal[
    "place",
    "remote",
    "employment_type",
    "languages",
    "licences",
    "years",
    "seniority",
    "education",
    "work_authorisation",
    "salary",
    "dates",
]
CONDITION_NAMES: tuple[ConditionName, ...] = get_args(ConditionName)

ConditionOutcome = Literal["pass", "unknown", "fail"]
"""``unknown``: one side asks, and the other says nothing that can be read. Never counted as a failure."""
OUTCOMES: tuple[ConditionOutcome, ...] = ("fail", "unknown", "pass")
"""The worst first."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing that a document states about a condition.

    Attributes:
        value: What is stated, in the form of its condition.
        stance: How it is meant.
        words: The words or the facet that it was read from.
    """

    value: Any
    stance: Stance
    words: str


class Verdict(NamedTuple):
    """Whether a pair meets one requirement.

    Attributes:
        condition: Name of the condition.
        outcome: ``pass``, ``unknown`` or ``fail``.
        asked: Words or facet of the side that asks.
        found: Words or facet of the other side; empty if it says nothing.
    """

    condition: ConditionName
    outcome: ConditionOutcome
    asked: str
    found: str


def worst(outcomes: Iterable[ConditionOutcome]) -> ConditionOutcome | None:
    """The worst of some outcomes: a failure, then what is unknown. None without any."""
    return min(outcomes, key=OUTCOMES.index, default=None)
