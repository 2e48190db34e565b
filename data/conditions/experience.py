"""Years of experience, at least and at most, and of what; seniority by the title."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from data.conditions.employments import Worked, read_worked, total_years
from data.conditions.sentences import Passage, SplitDocument, quote, stance
from data.conditions.statement import ConditionOutcome, Statement, Verdict
from data.conditions.vocabulary import Phrases, any_of, pattern, phrases_for, vocabulary

_IS_MONTHS = re.compile(r"mo|me|ma", re.IGNORECASE)
_BEFORE_CHARS, _AFTER_CHARS = 45, 30
_MAX_YEARS, _MAX_MENTIONED = 60, 15
_OR_MORE = re.compile(r"\s*(?:\+|plus\b|or more\b|and more\b|oder mehr|und mehr|ou plus|o más|of meer)", re.IGNORECASE)
_OR_LESS = re.compile(
    r"\s*(?:maximum|max\b|or less|at most|oder weniger|ou moins|máximo|massimo|maximaal)", re.IGNORECASE
)
_OF = re.compile(
    r"\s*(?:of|with|as|als|comme|en tant que|como|come|mit|con|avec|in the (?:trade|field|industry|profession|role))\b",
    re.IGNORECASE,
)
_EMPLOYER = re.compile(
    r"\b(?:we|our|us|company|firm|founded|established|wir|unser\w*|nous|notre|nuestr\w+)\b|[£€$]", re.IGNORECASE
)
_WORD = re.compile(r"[^\W\d_](?:[\w+#]|\.(?=\w))*")
_SUBJECT_END = re.compile(
    r"[;.!?()](?:\s|$)|,\s|\s[-–—]\s|\b(?:but|and at least|aber|mais|pero|preferred|required"
    r"|desirable|essential|gained|und mindestens)\b",
    re.IGNORECASE,
)
_SUBJECT_WORDS = 10
_SUFFIXES = ("ing", "ment", "ers", "er", "ed", "es", "ant", "ance", "s", "e", "en")
_STEM_LETTERS = 4
_NONE = re.compile(
    r"(?<!\w)(?:no|without|lacks?|keine(?:rlei)?|ohne|sans|pas d['’e]|aucune|sin|senza|geen|zonder)\s?(?:\w+\s){0,3}?"
    r"(?:experience|(?:berufs)?erfahrung(?:en)?|expérience|experiencia|esperienza|(?:werk)?ervaring)(?!\w)",
    re.IGNORECASE,
)
_THAN = re.compile(r"^\W*(?:than|als|que|di|dan)\s*$", re.IGNORECASE)  # a line that began on the line before
_NEEDED = re.compile(
    r"\b(?:required|necessary|needed|erforderlich|notwendig|nötig|exigée|requise|nécessaire)\b", re.IGNORECASE
)


_NO_EXPERIENCE = Phrases(
    _NONE,
    frozenset({"experience", "expérience", "experiencia", "esperienza", "ervaring", "werkervaring"}),
    ("erfahrung", "berufserfahrung"),
)
_SHORT_WORDS = 6


class Years(NamedTuple):
    """An interval of years, and of what.

    Attributes:
        low: At least so many years.
        high: At most so many; infinite without a bound.
        subject: Stems of what they are about; empty for experience in general.
        is_limit: Whether a job means ``high`` as a limit ("up to 3 years"). In "3 to 5 years" it is none.
    """

    low: float
    high: float
    subject: frozenset[str]
    is_limit: bool = False


@cache
def _units() -> Phrases:
    words = vocabulary()["experience"]["units"]
    pattern = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
    return phrases_for(words, re.compile(rf"(?<![^\W\d_])(?:{pattern})(?![^\W\d_])['’]?", re.IGNORECASE))


def read_years(document: SplitDocument) -> list[Statement]:
    """Statements such as "at least five years of nursing experience", and the dates of a resume's employments.

    Ages, contracts and companies are none.
    """
    found = []
    for sentence, unit in document.matches(_units()):
        statement = None if sentence.section == "offer" else _statement(document, sentence, unit)
        if statement is not None:
            found.append(statement)
    if document.kind == "resume":
        for sentence, match in document.matches(_NO_EXPERIENCE):
            subject = _stems(_first_words(sentence.text[match.end() :]))
            is_whole = len(sentence.text.split()) <= _SHORT_WORDS
            if (subject or is_whole) and not _NEEDED.search(sentence.text):
                found.append(Statement(Years(0, 0, subject), "denied", quote(sentence, *match.span())))
        worked = read_worked(document)
        if worked is not None:
            found.append(Statement(_with_stems(worked[0]), "held", worked[1]))
    return found


def _statement(document: SplitDocument, sentence: Passage, unit: re.Match[str]) -> Statement | None:
    """The statement at a unit of time; None if it is about something else than experience."""
    text = sentence.text
    before = text[max(0, unit.start() - _BEFORE_CHARS) : unit.start()]
    number = _number().search(before)
    if number is None or _THAN.search(before[: number.start()]):
        return None
    lead, behind = before[: number.start()], text[unit.end() : unit.end() + _AFTER_CHARS]
    if pattern("experience", "not_before").search(lead) or pattern("experience", "not_after").search(behind):
        return None
    if not (pattern("experience", "words").search(text) or _OF.match(text, unit.end())):
        return None
    per_year = 12 if _IS_MONTHS.match(unit.group()) else 1
    low = _amount(number["low"]) / per_year
    high = _amount(number["high"] or number["low"]) / per_year
    if low > high or high > _MAX_YEARS:
        return None
    at_most = _ends_with("at_most", lead) or bool(_OR_LESS.match(text, unit.end()))
    bound = _bound("at_most").search(lead) or _bound("at_least").search(lead)
    at_least = bool(number["plus"] or _OR_MORE.match(behind)) or (not at_most and _ends_with("at_least", lead))
    start = unit.start() - len(before) + (bound or number).start()
    meant = stance("job", sentence, start, unit.end()) if document.kind == "job" else "held"
    if document.kind == "job" and meant == "mentioned":
        if _EMPLOYER.search(text) or low > _MAX_MENTIONED:
            return None
        meant = "required"
    if at_most:
        low = 0.0
    elif at_least or (document.kind == "job" and not number["high"]):
        high = math.inf
    value = Years(low, high, _subject(text, start, unit.end()), is_limit=at_most)
    return Statement(value, meant, quote(sentence, start, unit.end()))


@cache
def _number() -> re.Pattern[str]:
    words = "|".join(sorted(vocabulary()["experience"]["numbers"], key=len, reverse=True))
    one = rf"(?:\d{{1,2}}(?:[.,]\d)?|(?:{words})(?![^\W\d_]))"
    return re.compile(
        rf"(?<![\w.,/$€£-])(?P<low>{one})\)?(?:\s*(?:-|–|to|bis|à|a|or|oder|ou|tot|and)\s*(?P<high>{one}))?"
        r"\s*(?P<plus>\+|or more|plus|oder mehr|und mehr|ou plus)?[\s-]*"
        r"(?:(?:full|solid|complete|volle[nr]?|consecutive)\s+)?$",
        re.IGNORECASE,
    )


def _amount(number: str) -> float:
    word = vocabulary()["experience"]["numbers"].get(number.lower())
    return float(word) if word is not None else float(number.replace(",", "."))


def _ends_with(bound: str, lead: str) -> bool:
    """Whether the text before a number ends with a bound such as "at least"."""
    return bool(_bound(bound).search(lead))


@cache
def _bound(name: str) -> re.Pattern[str]:
    words = any_of(vocabulary()["experience"]["bounds"][name]).pattern
    return re.compile(rf"{words}\s*(?:of\s|von\s|de\s|d['’]|\(|:)?\s*(?:\w+\s\()?$", re.IGNORECASE)


def _subject(text: str, start: int, end: int) -> frozenset[str]:
    """Stems of what the years are about: the words behind them, otherwise those before them."""
    behind = _stems(_first_words(text[end:]))
    if behind:
        return behind
    clause = re.split(r"[;:.!?()]\s|,\s", text[:start])
    return _stems(_WORD.findall(clause[-1])[-_SUBJECT_WORDS:])


def _first_words(text: str) -> list[str]:
    end = _SUBJECT_END.search(text)
    return _WORD.findall(text[: end.start()] if end else text)[:_SUBJECT_WORDS]


def _stems(words: Sequence[str]) -> frozenset[str]:
    lowered = (word.lower().rstrip(".") for word in words)
    empty = (
        pattern("experience", "words"),
        pattern("stances", "required_after"),
        pattern("stances", "preferred_after"),
    )
    return frozenset(
        _stem(word) for word in lowered if word not in _general() and not any(each.fullmatch(word) for each in empty)
    )


@cache
def _general() -> frozenset[str]:
    """Words that say nothing about the subject: little words, numbers, bounds, and words of requirement."""
    table = vocabulary()["experience"]
    phrases = [*table["bounds"]["at_least"], *table["bounds"]["at_most"]]
    return frozenset(
        [*table["general"], *table["numbers"], *(word for each in phrases for word in _WORD.findall(each))]
    )


def _stem(word: str) -> str:
    """A word without the endings of nouns and verbs: "nurse" and "nursing" are alike; "Java", "JavaScript" are not."""
    while True:
        ending = next(
            (each for each in _SUFFIXES if word.endswith(each) and len(word) - len(each) >= _STEM_LETTERS), None
        )
        if ending is None:
            return word
        word = word.removesuffix(ending)


def check_years(job: Sequence[Statement], resume: Sequence[Statement], *, today: float) -> list[Verdict]:
    """One verdict for each number of years that the job requires; ``today`` is the month since the year 0."""
    found = []
    stated = [each for each in resume if isinstance(each.value, Years)]
    dated = [each for each in resume if isinstance(each.value, Worked)]
    for need in job:
        if need.stance == "required":
            subject = need.value.subject
            held = _held(subject, [*stated, *_by_dates(dated, subject, today)])
            outcome: ConditionOutcome = "unknown" if held is None else _compare(need.value, held.value)
            found.append(Verdict("years", outcome, need.words, "" if held is None else held.words))
    return found


def _by_dates(dated: Sequence[Statement], subject: frozenset[str], today: float) -> list[Statement]:
    """Years by the dates of employments: in general, and in a subject that the entries name."""
    found = []
    for worked in dated:
        until = worked.value.until
        for about in dict.fromkeys((frozenset[str](), subject)):
            low, high = total_years(worked.value, today, about)
            if low or not about:
                words = f"{worked.words} ({low:.1f} years by dates{until})"
                found.append(Statement(Years(low, high, about), "held", words))
    return found


def _with_stems(worked: Worked) -> Worked:
    """Employments whose words are stems, as subjects are."""
    return worked._replace(spans=tuple(span._replace(words=_stems(sorted(span.words))) for span in worked.spans))


def _held(subject: frozenset[str], resume: Sequence[Statement]) -> Statement | None:
    """What a resume states about years in a subject, as one interval; None if it says nothing.

    Years in any subject are a lower bound of all years; all years are an upper bound of those in a subject. Statements
    about one subject may add up.
    """
    most_of_all = max((each.value.high for each in resume if not each.value.subject), default=math.inf)
    if not subject:
        longest = max(resume, key=lambda each: each.value.low, default=None)
        if longest is None or (longest.value.low <= 0 and math.isinf(most_of_all)):
            return None
        high = max(most_of_all, longest.value.low)
        return Statement(Years(longest.value.low, high, subject), "held", longest.words)
    same = [each for each in resume if 2 * len(subject & each.value.subject) >= len(subject)]
    if same:
        longest = max(same, key=lambda each: each.value.low)
        is_whole = all(subject <= each.value.subject for each in same)
        high = sum(each.value.high for each in same) if is_whole else math.inf
        return Statement(
            Years(longest.value.low, min(high, max(most_of_all, longest.value.low)), subject), "held", longest.words
        )
    general = next((each for each in resume if each.value.high == most_of_all), None)
    return None if general is None else Statement(Years(0, most_of_all, subject), "held", general.words)


def _compare(need: Years, held: Years) -> ConditionOutcome:
    if held.high < need.low or (need.is_limit and held.low > need.high):
        return "fail"
    if held.low < need.low or held.low > need.high:
        return "unknown"
    return "unknown" if need.is_limit and held.high > need.high else "pass"


_FAR_APART = 2


def read_seniority(document: SplitDocument) -> list[Statement]:
    """The level that a title names, as a rank from 0 (trainee) to 5 (director)."""
    title = pattern("not_seniority", "words").sub(" ", document.title) if document.title else ""
    ranks = [rank for rank, words in _ranks() if words.search(title)]
    return [Statement(max(ranks), "mentioned", document.title)] if ranks else []


@cache
def _ranks() -> list[tuple[int, re.Pattern[str]]]:
    return [(level["rank"], any_of(level["words"])) for level in vocabulary()["seniority"]]


def check_seniority(job: Sequence[Statement], resume: Sequence[Statement]) -> list[Verdict]:
    """Titles at most one level apart pass; a title without a level says nothing."""
    if not job:
        return []
    if not resume:
        return [Verdict("seniority", "unknown", job[0].words, "")]
    is_near = abs(job[0].value - resume[0].value) < _FAR_APART
    return [Verdict("seniority", "pass" if is_near else "fail", job[0].words, resume[0].words)]
