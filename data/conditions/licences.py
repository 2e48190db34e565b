"""Licences, registrations and certificates that a job requires and a person holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from data.conditions.sentences import Passage, SplitDocument, quote, stance
from data.conditions.statement import ConditionOutcome, Statement, Verdict
from data.conditions.vocabulary import Phrases, any_of, pattern, phrases_for, vocabulary

_LISTED_WORDS = 8
"""A line of a resume with so few words is an entry of a list, and names what the person holds."""
_NEAR_CHARS = 50
_VALID = re.compile(r"\W*(?:an?\s)?(?:full|clean|valid|current|active|gültige[rns]?)\s", re.IGNORECASE)
_OR = re.compile(r"/|\b(?:or|oder|ou|o)\b", re.IGNORECASE)
_ALTERNATIVE = re.compile(r"[\w\s()'’.-]{0,25}?(?:/|\bor\b|\boder\b|\bou\b|\bo\b)[\w\s()'’.-]{0,15}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Licence:
    """A licence of the vocabulary: ``covers`` names what its holder may also do."""

    code: str
    phrases: Phrases
    says_licence: bool
    in_title: bool
    covers: frozenset[str]


@cache
def _licences() -> Mapping[str, _Licence]:
    found = {}
    for entry in vocabulary()["licence"]:
        words, exact = entry.get("words", []), entry.get("exact", [])
        patterns = [f"(?i:{any_of(words).pattern})"] if words else []
        patterns += [any_of(exact, keep_case=True).pattern] if exact else []
        found[entry["code"]] = _Licence(
            entry["code"],
            phrases_for([*words, *exact], re.compile("|".join(patterns))),
            entry.get("says_licence", False),
            entry.get("in_title", False),
            frozenset(entry.get("covers", ())),
        )
    return found


def read_licences(document: SplitDocument) -> list[Statement]:
    """Licences of the vocabulary that are stated as such. The value is the code, and codes that would also do."""
    found: list[Statement] = []
    for code, licence in _licences().items():
        for sentence, match in document.matches(licence.phrases):
            if _is_meant(document, sentence, match, licence):
                meant = stance(document.kind, sentence, *match.span())
                if meant == "mentioned" and (sentence.section == "title" or _VALID.match(sentence.text)):
                    meant = "required"
                value = frozenset({code, *_alternatives(sentence.text, match)})
                found.append(Statement(value, meant, quote(sentence, *match.span())))
    return found


def _alternatives(text: str, match: re.Match[str]) -> set[str]:
    """Codes of licences that follow or precede a match behind "or"."""
    found: set[str] = set()
    if not _OR.search(text):
        return found
    for other in _licences().values():
        for each in other.phrases.pattern.finditer(text):
            first, second = sorted((match.span(), each.span()))
            if first[1] <= second[0] and _ALTERNATIVE.fullmatch(text, first[1], second[0]):
                found.add(other.code)
    return found


def _is_meant(document: SplitDocument, sentence: Passage, match: re.Match[str], licence: _Licence) -> bool:
    """Whether a person needs or holds the licence, and not only works with those who do."""
    before = sentence.text[max(0, match.start() - _NEAR_CHARS) : match.start()]
    if pattern("licences", "others").search(before):
        return False
    if document.kind == "job" and pattern("licences", "offered").search(sentence.text):
        return False
    if licence.says_licence or sentence.section in ("licences", "required", "preferred"):
        return True
    if sentence.section == "title":
        return licence.in_title
    around = sentence.text[max(0, match.start() - _NEAR_CHARS) : match.end() + _NEAR_CHARS]
    if pattern("licences", "cues").search(around):
        return True
    if document.kind == "resume":
        return len(sentence.text.split()) <= _LISTED_WORDS
    return stance("job", sentence, *match.span()) in ("required", "preferred", "waived")


def check_licences(job: Sequence[Statement], resume: Sequence[Statement]) -> list[Verdict]:
    """One verdict for each licence that the job requires. A job that waives one anywhere does not require it."""
    waived = {code for each in job if each.stance in ("waived", "preferred") for code in each.value}
    found: list[Verdict] = []
    done: set[frozenset[str]] = set()
    for need in job:
        is_driving = any(code.startswith(("driving", "CDL", "forklift")) for code in need.value)
        if need.value in done or (need.stance != "required" and not (need.stance == "mentioned" and is_driving)):
            continue
        if need.value <= waived:
            continue
        done.add(need.value)
        answers = [answer for each in resume if (answer := _answer(need.value, each)) is not None]
        best: tuple[ConditionOutcome, str] = max(answers, key=lambda answer: _ORDER[answer[0]], default=("unknown", ""))
        found.append(Verdict("licences", best[0], need.words, best[1]))
    return found


_ORDER: Mapping[ConditionOutcome, int] = {"pass": 2, "fail": 1, "unknown": 0}


def _answer(codes: frozenset[str], held: Statement) -> tuple[ConditionOutcome, str] | None:
    covered = {code for each in held.value for code in (each, *_licences()[each].covers)}
    if held.stance == "denied":
        return ("fail", held.words) if held.value & codes and codes <= held.value else None
    if not covered & codes:
        return None
    return ("pass" if held.stance == "held" else "unknown"), held.words
