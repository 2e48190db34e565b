"""Degrees that a job requires and a person has: the level, and not the field."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from data.conditions.sentences import Passage, SplitDocument, quote, stance
from data.conditions.statement import ConditionOutcome, Statement, Verdict
from data.conditions.vocabulary import Phrases, any_of, phrases_for, vocabulary

_START = re.compile(
    r"\s*(?:[-*•]\s*)?(?:an?\s|your\s|completed\s|relevant\s|eine?n?\s|un\s|une\s|una\s)?", re.IGNORECASE
)


_SCHOOLS = 2
"""Schools and training up to this rank count in a resume only as an entry, or under a heading of education: teachers
name them, too."""


class Degree(NamedTuple):
    """A level of education, from 1 (secondary school) to 5 (doctorate), and whether a job takes an equivalent."""

    rank: int
    or_equivalent: bool = False


@cache
def _levels() -> list[tuple[int, re.Pattern[str]]]:
    found = []
    for level in vocabulary()["education"]["level"]:
        patterns = [f"(?i:{any_of(level['words']).pattern})"]
        if level.get("exact"):
            patterns.append(any_of(level["exact"], keep_case=True).pattern)
        found.append((level["rank"], re.compile("|".join(patterns))))
    return found


@cache
def _any_level() -> Phrases:
    words = [
        word for level in vocabulary()["education"]["level"] for word in (*level["words"], *level.get("exact", ()))
    ]
    return phrases_for(words, re.compile("|".join(level.pattern for _, level in _levels())))


@cache
def _context(name: str) -> re.Pattern[str]:
    return any_of(vocabulary()["education"]["context"][name])


def read_education(document: SplitDocument) -> list[Statement]:
    """Degrees of a person, and of a job those of each sentence that names some: the lowest that it requires."""
    found: list[Statement] = []
    for sentence in document.holding(_any_level()):
        text = _context("not_a_degree").sub(lambda match: "\0" * len(match.group()), sentence.text)
        named = _named(text)
        if document.kind == "resume":
            for rank, start, end in named:
                if rank > _SCHOOLS or sentence.section == "education" or start <= _starts(text):
                    meant = stance("resume", sentence, start, end, whole=True)
                    found.append(Statement(Degree(rank), meant, quote(sentence, start, end)))
        elif named and not _context("offered").search(text):
            found += _required(sentence, text, named)
    return found


def _starts(text: str) -> int:
    """Where a sentence starts behind a bullet and an article."""
    found = _START.match(text)
    return found.end() if found else 0


def _required(sentence: Passage, text: str, named: Sequence[tuple[int, int, int]]) -> list[Statement]:
    """The lowest degree that a sentence of a job requires; or says that none is needed."""
    meant = [(stance("job", sentence, start, end), rank, start, end) for rank, start, end in named]
    if any(each[0] == "waived" for each in meant):
        return [Statement(Degree(0), "waived", quote(sentence))]
    is_entry = sentence.section != "title" and min(start for _, start, _ in named) <= _starts(text)
    asked = [
        (rank, start, end)
        for each, rank, start, end in meant
        if each == "required" or (each == "mentioned" and is_entry)
    ]
    if not asked:
        return []
    rank, start, end = min(asked)
    value = Degree(rank, or_equivalent=bool(_context("equivalent").search(text)))
    return [Statement(value, "required", quote(sentence, start, end))]


def _named(text: str) -> list[tuple[int, int, int]]:
    """Ranks and places of the degrees in a text; a longer phrase hides the shorter ones in it."""
    found = [(rank, *match.span()) for rank, words in _levels() for match in words.finditer(text)]
    return sorted(
        (rank, start, end)
        for rank, start, end in found
        if not any(
            first <= start and end <= last and (last - first, other) > (end - start, rank)
            for other, first, last in found
        )
    )


def check_education(job: Sequence[Statement], resume: Sequence[Statement]) -> list[Verdict]:
    """One verdict for each required level: a person has it, or states only lower ones."""
    if any(need.stance == "waived" for need in job):
        return []
    found = []
    held = [each for each in resume if each.stance == "held"]
    best = max(held, key=lambda each: each.value.rank, default=None)
    begun = [each for each in resume if each.stance == "pending"]
    for need in job:
        above = [each for each in begun if each.value.rank >= need.value.rank]
        outcome: ConditionOutcome = "unknown"
        if best is not None and best.value.rank >= need.value.rank:
            outcome = "pass"
        elif best is not None and not above and not need.value.or_equivalent:
            outcome = "fail"
        shown = above[0] if outcome == "unknown" and above else best
        found.append(Verdict("education", outcome, need.words, "" if shown is None else shown.words))
    return found
