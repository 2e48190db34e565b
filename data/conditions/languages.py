"""Languages that a job asks for and a person speaks, with their levels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from data.conditions.sentences import Passage, SplitDocument, quote, stance
from data.conditions.statement import OUTCOMES, ConditionOutcome, Statement, Verdict
from data.conditions.vocabulary import any_of, capital_names, language_names, vocabulary

_CEFR = re.compile(r"(?<![\w/])([ABC][12])(?![\w])")
_CEFR_RANK = {"A1": 1, "A2": 2, "B1": 3, "B2": 4, "C1": 5, "C2": 6}
_WORD = re.compile(r"[^\W\d_]+")
_NEAR_CHARS = 40
_SURE_GAP = 2
"""Two levels in words differ for certain if they are two steps apart: "good" and "fluent" overlap."""
_LISTED_IS_ENOUGH = 3
_OR = re.compile(r"\s*,?\s*(?:/|\b(?:or|oder|ou|of)\b)\s*(?:in\s|\w+\s)?", re.IGNORECASE)
_AND = re.compile(
    r"\s*(?:,|/|&|,?\s*\b(?:and|or|und|oder|et|ou|y|o|e|en|of|sowie|as well as)\b)\s*(?:in\s)?", re.IGNORECASE
)
_BEHIND = re.compile(
    r"\s*[(:=\u2013\u2014-]?\s*(?:(?:is|are|ist|sind|est|es)\s)?\s*"
    r"(?:at(?:\s+an?)?|auf|level|niveau|language skills|skills|nivel|livello)?\s*(?:level|niveau)?\s*"
)
_OTHER_BEFORE = re.compile(
    r"(?:\bnon-|\bnationality\W{0,3}|\bnationalité\W{0,3}|\bstaatsangehörigkeit\W{0,3})$", re.IGNORECASE
)
_BEFORE = re.compile(r"[^;.,()]{0,45}")
_JUDGED = re.compile(
    r"\s*(?:language\s*)?(?:is|are|:|=|\()?\s*(?:required|essential|mandatory|compulsory|a must|necessary|needed"
    r"|preferred|desirable|a plus|erforderlich|vorausgesetzt|zwingend|ein muss|von vorteil|wünschenswert|exigée?"
    r"|requise?|obligatoire|souhaitée?|un plus|imprescindible|requerido|richiest[ao]|vereist|not required"
    r"|nicht erforderlich)",
    re.IGNORECASE,
)


class SpokenLevel(NamedTuple):
    """Level of a language: rank from 1 (A1) to 6 (C2) and 7 (native), 0 if none is stated."""

    rank: int = 0
    is_exact: bool = False


class Spoken(NamedTuple):
    """A language at a level, and the codes of the languages that "or" joins, itself included."""

    code: str
    level: SpokenLevel
    alternatives: frozenset[str]


class _Placed(NamedTuple):
    """A level at a place of a sentence."""

    start: int
    end: int
    level: SpokenLevel


def read_languages(document: SplitDocument) -> list[Statement]:
    """Languages with levels. A name counts only near a word of speaking, a level, or under a heading of languages."""
    found: list[Statement] = []
    if not _may_speak(document):
        return found
    numbers = {number for name in document.words.keys() & language_names().keys() for number in document.words[name]}
    for sentence in (document.sentences[number] for number in sorted(numbers)):
        named = [match for match in _WORD.finditer(sentence.text) if _is_name(match.group())]
        if not named:
            continue
        levels = _levels_in(sentence.text)
        spoken = [match for match in named if _is_spoken(sentence, match, levels)]
        groups = _alternatives(sentence.text, spoken)
        for match, level, group in zip(spoken, _levels_of(sentence.text, levels, spoken), groups, strict=True):
            value = Spoken(_code(match), level, group)
            meant = stance(document.kind, sentence, *match.span())
            found.append(Statement(value, meant, quote(sentence, *match.span())))
    return found


def _may_speak(document: SplitDocument) -> bool:
    """Whether a text has any word that makes a language count: a quick test, without the names of languages."""
    return not _cue_words().isdisjoint(document.words) or any(
        sentence.section == "languages" or "kenntnisse" in sentence.text.lower() or _CEFR.search(sentence.text)
        for sentence in document.sentences
    )


@cache
def _cue_words() -> frozenset[str]:
    """The first words of levels, of words of speaking, and of words that require or prefer."""
    table, stances = vocabulary()["languages"], vocabulary()["stances"]
    lists = [*table["levels"].values(), table["cues"]["words"], table["cues"]["nouns"]]
    lists += [words for name, words in stances.items() if name != "no"]
    return frozenset(word.lower() for words in lists for phrase in words for word in _WORD.findall(phrase)[:1])


def _code(match: re.Match[str]) -> str:
    return language_names()[match.group().lower()]


def _alternatives(text: str, spoken: Sequence[re.Match[str]]) -> list[frozenset[str]]:
    """For each name, the codes of the names that "or" joins, itself included."""
    groups: list[set[str]] = []
    for at, match in enumerate(spoken):
        is_joined = at > 0 and _OR.fullmatch(text, spoken[at - 1].end(), match.start())
        groups.append(groups[-1] if is_joined else set())
        groups[-1].add(_code(match))
    return [frozenset(group) for group in groups]


def _is_name(word: str) -> bool:
    lowered = word.lower()
    return lowered in language_names() and (word[0].isupper() or lowered not in capital_names())


def _is_spoken(sentence: Passage, match: re.Match[str], levels: Sequence[_Placed]) -> bool:
    """Whether a name means the language that is spoken, and not clients, a market or a degree."""
    text = sentence.text
    following = _WORD.search(text, match.end())
    near = following.group() if following and following.start() - match.end() <= 2 else ""
    if _cues("other_nouns").fullmatch(near) or _OTHER_BEFORE.search(text[: match.start()]) or "GCSE" in text:
        return False
    if (
        match.group().lower().endswith(("kenntnisse", "kenntnissen"))
        or sentence.section == "languages"
        or _cues("nouns").fullmatch(near)
    ):
        return True
    if _JUDGED.match(text, match.end()):
        return True
    start, end = max(0, match.start() - _NEAR_CHARS), match.end() + _NEAR_CHARS
    return bool(_cues("words").search(text[start:end])) or any(
        start <= each.start and each.end <= end for each in levels
    )


@cache
def _cues(name: str) -> re.Pattern[str]:
    return any_of(vocabulary()["languages"]["cues"][name])


@cache
def _level_patterns() -> list[tuple[int, re.Pattern[str]]]:
    levels: dict[str, list[str]] = vocabulary()["languages"]["levels"]
    return [(int(rank), any_of(words)) for rank, words in levels.items()]


def _levels_in(text: str) -> list[_Placed]:
    """Levels with their places, in order; "very good" hides the "good" in it."""
    found = [_Placed(*match.span(), SpokenLevel(_CEFR_RANK[match[1]], is_exact=True)) for match in _CEFR.finditer(text)]
    for rank, words in _level_patterns():
        found += [_Placed(*match.span(), SpokenLevel(rank)) for match in words.finditer(text)]
    widest = [
        each
        for each in found
        if not any(
            other.start <= each.start and each.end <= other.end and other.end - other.start > each.end - each.start
            for other in found
        )
    ]
    return sorted(widest)


def _levels_of(text: str, levels: Sequence[_Placed], spoken: Sequence[re.Match[str]]) -> list[SpokenLevel]:
    """Level of each name.

    In order of trust: behind it on the European scale, directly before it, behind it, before it with words between,
    and that of the name that it is joined to ("fluent in German and English").
    """
    found: list[SpokenLevel] = []
    free = list(levels)
    for at, match in enumerate(spoken):
        floor = spoken[at - 1].end() if at else 0
        limit = spoken[at + 1].start() if at + 1 < len(spoken) else len(text)
        behind = [
            each
            for each in free
            if match.end() <= each.start < limit and _BEHIND.fullmatch(text, match.end(), each.start)
        ]
        exact = (
            [each for each in free if each.level.is_exact and match.end() <= each.start < limit][:1] if behind else []
        )
        before = [each for each in free if floor <= each.start and each.end <= match.start()][-1:]
        before = [each for each in before if _BEFORE.fullmatch(text, each.end, match.start())]
        adjacent = [each for each in before if not text[each.end : match.start()].strip()]
        chosen = next(iter([*exact, *adjacent, *behind, *before]), None)
        if chosen is not None:
            free = [each for each in free if each is not chosen]
            found.append(chosen.level)
        else:
            is_joined = at > 0 and _AND.fullmatch(text, spoken[at - 1].end(), match.start())
            found.append(found[-1] if is_joined else SpokenLevel())
    return found


def check_languages(job: Sequence[Statement], resume: Sequence[Statement]) -> list[Verdict]:
    """One verdict for each language that the job requires; alternatives are one requirement."""
    found: list[Verdict] = []
    done: set[frozenset[str]] = set()
    for need in job:
        if need.stance != "required" and not (need.stance == "mentioned" and need.value.level.rank):
            continue
        codes = need.value.alternatives
        if codes in done:
            continue
        done.add(codes)
        answers = [_answer(need.value.level, each) for each in resume if each.value.code in codes]
        if len({each.value.code for each in resume} & codes) < len(codes):
            answers.append(("unknown", ""))
        best = max(answers, key=lambda answer: OUTCOMES.index(answer[0]))
        found.append(Verdict("languages", best[0], need.words, best[1]))
    return found


def _answer(need: SpokenLevel, held: Statement) -> tuple[ConditionOutcome, str]:
    """Whether a person's statement about a language meets a level."""
    level = held.value.level
    if held.stance == "denied":
        return "fail", held.words
    if not level.rank or held.stance == "pending":
        enough = held.stance == "held" and need.rank <= _LISTED_IS_ENOUGH
        return ("pass" if enough else "unknown"), held.words
    if level.rank >= need.rank:
        return "pass", held.words
    is_sure = (level.is_exact and need.is_exact) or need.rank - level.rank >= _SURE_GAP
    return ("fail" if is_sure else "unknown"), held.words
