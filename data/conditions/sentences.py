"""The text of a job or resume as sentences with their sections, and how a statement in one is meant.

Belongs here: sentences, headings, requirement and negation words. Does not belong here: the conditions themselves.
"""

from __future__ import annotations

import re
import textwrap
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Any, Literal, NamedTuple, cast

from data.conditions.vocabulary import Phrases, any_of, pattern, vocabulary
from data.schema import DocumentKind

Stance = Literal["required", "preferred", "waived", "held", "denied", "pending", "offered", "mentioned"]
"""How a statement is meant. In a job: required, preferred, waived (said to be unnecessary), offered or only mentioned.
In a resume: held, denied (also if it lapsed), or pending (begun, expected)."""

Section = Literal[
    "title", "preferred", "required", "languages", "licences", "education", "offer", "experience", "tasks", "other"
]

_MAX_QUOTE = 160
_MAX_PASSAGE = 600
"""Longer parts are divided between words: comparing every statement with every "required" takes quadratic time."""
_MAX_HEADING_WORDS, _MAX_HEADING_CHARS = 6, 60
_BREAK = re.compile(r"[\r\n\u2022\u25cf\u00b7\u25aa\u2023]+|[.!?](?=\s|$)|;\s|\s[-*\u2013\u2014]\s(?=\w)|\s\|\s")
_ABBREVIATION = re.compile(
    r"(?:\b(?:[A-Za-zÄÖÜ]|Dr|St|Sc|Ph\.?D|Eng|Ing|Nr|No|vs|ca|bzw|inkl|mind|max|min|approx|yrs?|Jr|Sr|etc|e\.g|i\.e|z\.B|rer|nat|phil|kat|\d{1,2}))$"
)
_INLINE_HEADING = re.compile(r"\s*([^:\n]{2,40}):\s+(?=\S)")
_CLAUSE_END = re.compile(r"[,;:]\s|\s(?:but|aber|mais|pero|sondern|however|ma|maar)\s")
_DENIED_AFTER = re.compile(
    r"\s*(?::|=|-|–|\()?\s*(?:none|no|nein|keine?r?|aucune?|non|ninguno|ninguna|nessuno|nessuna|geen|n/a"
    r"|nicht vorhanden|fehlt|not held|not available|missing)\s*\)?\s*(?:[.,;]|$)",
    re.IGNORECASE,
)
_WORDS_BETWEEN = 6
_LETTERS = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class Passage:
    """A sentence, line or bullet.

    Attributes:
        text: The sentence without its border.
        section: Section that it stands in, by the last heading.
    """

    text: str
    section: Section


@dataclass(frozen=True)
class SplitDocument:
    """A job or a resume, as conditions are read from it.

    Attributes:
        kind: Job or resume.
        title: Title, perhaps empty.
        text: Body, without placeholders.
        facets: Facets by name; missing ones are None.
    """

    kind: DocumentKind
    title: str
    text: str
    facets: Mapping[str, Any]

    @cached_property
    def sentences(self) -> list[Passage]:
        """The title and the sentences, in order."""
        title = [Passage(self.title, "title")] if self.title else []
        return [*title, *_sentences(self.text)]

    @cached_property
    def words(self) -> Mapping[str, list[int]]:
        """Numbers of the sentences by word, in lower case and letters only."""
        found: dict[str, list[int]] = {}
        for number, sentence in enumerate(self.sentences):
            for word in set(_LETTERS.findall(sentence.text.lower())):
                found.setdefault(word, []).append(number)
        return found

    @cached_property
    def _in_order(self) -> list[str]:
        return sorted(self.words)

    def holding(self, phrases: Phrases) -> Iterator[Passage]:
        """Sentences that hold a phrase, in order."""
        numbers = {number for word in phrases.words if word in self.words for number in self.words[word]}
        for prefix in phrases.prefixes:
            first, last = bisect_left(self._in_order, prefix), bisect_left(self._in_order, prefix + "\uffff")
            numbers.update(*(self.words[word] for word in self._in_order[first:last]))
        for number in sorted(numbers):
            if phrases.pattern.search(self.sentences[number].text):
                yield self.sentences[number]

    def matches(self, phrases: Phrases) -> Iterator[tuple[Passage, re.Match[str]]]:
        """Every place of a phrase, with its sentence."""
        for sentence in self.holding(phrases):
            for match in phrases.pattern.finditer(sentence.text):
                yield sentence, match


def _sentences(text: str) -> Iterator[Passage]:
    """Sentences in order. A heading ends the section before it."""
    section: Section = "other"
    for line in _lines(text):
        heading = _heading(line)
        if heading is not None:
            section = heading
            continue
        inline = _INLINE_HEADING.match(line)
        own = section_of(inline[1]) if inline else None
        for piece in textwrap.wrap(line.strip(), _MAX_PASSAGE) if len(line) > _MAX_PASSAGE else [line.strip()]:
            yield Passage(piece, own or section)


def _lines(text: str) -> Iterator[str]:
    """Parts between the borders of sentences. A line that goes on in lower case is none."""
    start = 0
    for border in _BREAK.finditer(text):
        before = text[start : border.start()]
        if border.group() == "." and _ABBREVIATION.search(before[-12:]):
            continue
        if (
            border.group() == "\n"
            and text[border.end() : border.end() + 1].islower()
            and before.rstrip()[-1:].isalnum()
        ):
            continue
        if before.strip():
            yield before
        start = border.end()
    if text[start:].strip():
        yield text[start:]


def _heading(line: str) -> Section | None:
    """Section that a heading begins; None for other lines."""
    if len(line) > _MAX_HEADING_CHARS or line.count(" ") >= 2 * _MAX_HEADING_WORDS:
        return None
    found = section_of(line)
    return found or ("other" if line.rstrip().endswith(":") and len(line.split()) <= _MAX_HEADING_WORDS else None)


def section_of(name: str) -> Section | None:
    """Section that a line is the known heading of; None for other lines."""
    if len(name) > _MAX_HEADING_CHARS:
        return None
    found = _headings().fullmatch(name.strip(" #*_-=:\t"))
    return cast(Section, found.lastgroup) if found else None


@cache
def _headings() -> re.Pattern[str]:
    """Names of headings; the group is the section."""
    groups = (f"(?P<{section}>{any_of(words).pattern})" for section, words in vocabulary()["headings"].items())
    return re.compile("|".join(groups), re.IGNORECASE)


def quote(sentence: Passage, start: int = 0, end: int = 0) -> str:
    """The words of a sentence around a place, as evidence: at most 160 characters."""
    text = " ".join(sentence.text.split())
    if len(text) <= _MAX_QUOTE:
        return text
    middle = (start + end) // 2
    first = max(0, min(middle - _MAX_QUOTE // 2, len(sentence.text) - _MAX_QUOTE))
    return "…" + " ".join(sentence.text[first : first + _MAX_QUOTE].split()) + "…"


def stance(kind: DocumentKind, sentence: Passage, start: int, end: int, *, whole: bool = False) -> Stance:
    """How a statement at a place of a sentence is meant.

    Args:
        kind: Kind of the document.
        sentence: The sentence.
        start: Where the statement starts in it.
        end: Where it ends.
        whole: Look for words such as "expected" in the whole sentence of a resume, and not only in the clause.
    """
    if kind == "job":
        return _in_job(sentence, start, end)
    return _in_resume(sentence.text, start, end, whole=whole)


def _in_job(sentence: Passage, start: int, end: int) -> Stance:
    """The nearest word that says how it is meant; words that are fewer commas away are nearer."""
    if sentence.section == "offer":
        return "offered"
    text = sentence.text
    ranked: list[tuple[int, int, Stance]] = []
    for mark in _marks(text):
        follows = mark.start >= end
        if not follows and mark.end > start:
            continue
        if mark.meant == "waived" or mark.follows == follows:
            between = text[end : mark.start] if follows else text[mark.end : start]
            ranked.append((len(_CLAUSE_END.findall(between)), len(between), mark.meant))
    meant = min(ranked)[2] if ranked else None
    if meant in (None, "required") and _is_denied(text, start, end):
        return "waived"  # "no degree required"
    if meant is not None:
        return meant
    if sentence.section == "preferred":
        return "preferred"
    return "required" if sentence.section == "required" else "mentioned"


def _in_resume(text: str, start: int, end: int, *, whole: bool) -> Stance:
    clause = _clause(text, start, end)
    if _is_denied(text, start, end) or _DENIED_AFTER.match(text, end) or pattern("stances", "lapsed").search(clause):
        return "denied"
    return "pending" if pattern("stances", "pending").search(text if whole else clause) else "held"


def _is_denied(text: str, start: int, end: int) -> bool:
    """Whether a word such as "no" stands shortly before a place, in the same clause."""
    before = text[_clause_start(text, start) : start]
    before = pattern("stances", "not_a_no").sub(_mask, before)
    matches = list(pattern("stances", "no").finditer(before))
    return bool(matches) and len(before[matches[-1].end() :].split()) <= _WORDS_BETWEEN


def denies(text: str) -> bool:
    """Whether a sentence has a word such as "no" or "ohne"."""
    return bool(pattern("stances", "no").search(pattern("stances", "not_a_no").sub(_mask, text)))


def _clause(text: str, start: int, end: int) -> str:
    after = _CLAUSE_END.search(text, end)
    return text[_clause_start(text, start) : after.start() if after else len(text)]


def _clause_start(text: str, start: int) -> int:
    ends = [match.end() for match in _CLAUSE_END.finditer(text, 0, start)]
    return ends[-1] if ends else 0


class _Mark(NamedTuple):
    """A word that says how something is meant: ``follows`` what it is about, or precedes it."""

    start: int
    end: int
    meant: Stance
    follows: bool


@lru_cache(maxsize=2048)
def _marks(text: str) -> tuple[_Mark, ...]:
    found: list[_Mark] = []
    masked = pattern("stances", "not_required").sub(_mask, text)
    for match in pattern("stances", "waived").finditer(masked):
        found.append(_Mark(match.start(), match.end(), "waived", follows=True))
    masked = pattern("stances", "waived").sub(_mask, masked)
    for name, meant, follows in _MARKS:
        found += [_Mark(each.start(), each.end(), meant, follows) for each in pattern("stances", name).finditer(masked)]
    return tuple(found)


_MARKS: tuple[tuple[str, Stance, bool], ...] = (
    ("required_after", "required", True),
    ("required_before", "required", False),
    ("preferred_after", "preferred", True),
    ("preferred_before", "preferred", False),
)


def _mask(match: re.Match[str]) -> str:
    return "\0" * len(match.group())
