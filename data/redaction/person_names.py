"""Recognising names of persons: marked names, known names, and names on the repository's lists.

Every repetition in a pattern is bounded, as in ``contacts``.

Does not belong here: the lists (``names``), replacing names (``redact``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from data.redaction.contacts import PHONE, Span
from data.redaction.names import name_lists

_JOINTS = (" ", "  ", ". ", ", ")
_TOKEN = re.compile(r"(?<![^\W_])[A-Z\u00c0-\u024f\u0370-\u052f](?:[^\W\d_]|['’-](?=[^\W\d_])){0,40}")
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['’-](?=[^\W\d_])){0,40}")
_SEQUENCE = r"[^\W\d_][\w'’.-]{0,30}(?:,? {1,2}[^\W\d_][\w'’.-]{0,30}){0,3}"
_LABELLED = re.compile(
    r"(?:^|[|\"'{,;(•*\t])[ \"']{0,4}"
    r"(?:(?:full|candidate|applicant|first|last|given|family|middle|maiden|sur|fore)[ _]?)?"
    rf"name[\"']? {{0,3}}[:|=–-] {{0,4}}[\"']?(?P<name>{_SEQUENCE})",
    re.IGNORECASE | re.MULTILINE,
)
_ADDRESSED = re.compile(
    rf"\b(?:Mrs?|Ms|Miss|Mx|Dr|Prof|Professor|Sir|Herr|Frau|Mme|Señora?)\.? (?P<name>{_SEQUENCE.replace(',?', '')})"
)
_HEADER_LINES = 6
_HEADER_CHARS = 60
_CONTACT_LINES = 2
_HEADER_END = re.compile(r"[|,•·–(\t]|  | - ")
_MAX_NAME_TOKENS = 4
_MIN_LONE_CHARS = 3
_SENTENCE_START = re.compile(r"(?:^|[.!?:;\n])[\s\"'(*\u2022-]{0,8}\Z")
_SENTENCE_START_CHARS = 9
_PARTICLES = frozenset(
    {"van", "von", "de", "da", "del", "der", "den", "di", "la", "le", "bin", "ibn", "al", "el", "dos", "ter"}
)


def find_stated_names(text: str) -> Iterator[Span]:
    """Find marked names: in the head of a resume, after "Name:", after a title such as "Ms"."""
    yield from _labelled_names(text)
    yield from _header_names(text)


def find_parts(names: Iterable[str], text: str) -> Iterator[Span]:
    """Find known names in a text: whole names, forms such as ``jane_doe``, and parts that are not ordinary words."""
    for name in names:
        parts = [match.group() for match in _WORD.finditer(name)]
        if not parts:
            continue
        whole = r"[ ._,-]{1,3}".join(map(re.escape, parts))
        for match in re.finditer(rf"(?<![^\W_]){whole}(?![^\W_])", text, re.IGNORECASE):
            if _names_one(match, text) if len(parts) == 1 else _names_several(match.group()):
                yield Span(match.start(), match.end(), "name")
        lone = [part for part in parts if len(part) >= _MIN_LONE_CHARS and not _is_word(part)] if len(parts) > 1 else []
        for part in lone:
            for match in re.finditer(rf"(?<![^\W_]){re.escape(part)}(?![^\W_])", text, re.IGNORECASE):
                if match.group()[0].isupper():
                    yield Span(match.start(), match.end(), "name")


def _names_several(found: str) -> bool:
    """Return whether several words are a name: "Will Mark" and "will_mark" are, but "will mark" may not be."""
    return found[0].isupper() or " " not in found


def _names_one(match: re.Match[str], text: str) -> bool:
    """Return whether one word is a name: "Grace" is, but "grace" and "An" at the start of a sentence are not."""
    found = match.group()
    if found[0].islower():
        return False
    is_word = len(found) < _MIN_LONE_CHARS or _is_word(found)
    before = max(0, match.start() - _SENTENCE_START_CHARS)
    return not (is_word and _SENTENCE_START.search(text, before, match.start()))


def _labelled_names(text: str) -> Iterator[Span]:
    for pattern in (_LABELLED, _ADDRESSED):
        for match in pattern.finditer(text):
            yield from _leading_name(text, match.start("name"), match.end("name"))


def _leading_name(text: str, start: int, end: int) -> Iterator[Span]:
    """Capitalised tokens at the beginning of a part of a text, or tokens in a script without capitals."""
    stop = start
    for match in _WORD.finditer(text, start, end):
        token = match.group()
        if (token[0].islower() and token not in _PARTICLES) or _is_heading(token):
            break
        stop = match.end()
        if "\n" in text[start:stop]:
            break
    if stop > start:
        yield Span(start, stop, "name")


def _header_names(text: str) -> Iterator[Span]:
    """Find the line of the head that looks like a name: capitalised, not a heading, and on a list or near contacts."""
    lists = name_lists()
    head = list(_head_lines(text))
    has_contact = any("@" in line or PHONE.search(line) for _, line in head)
    for number, (start, line) in enumerate(head):
        candidate = _HEADER_END.split(line, maxsplit=1)[0].strip(" *#\"'_")
        tokens = _WORD.findall(candidate)
        looks_right = (
            2 <= len(tokens) <= _MAX_NAME_TOKENS
            and not any(char.isdigit() or char in ":/@&" for char in candidate)
            and all(_is_capitalised(token) or token in _PARTICLES for token in tokens)
            and not any(_is_heading(token) for token in tokens)
        )
        if not looks_right:
            continue
        folded = [token.casefold() for token in tokens]
        is_listed = folded[0] in lists.first or folded[-1] in lists.surnames or folded[-1] in lists.first
        if is_listed or (has_contact and number < _CONTACT_LINES):
            at = start + line.index(candidate)
            yield Span(at, at + len(candidate), "name")
            return


def _head_lines(text: str) -> Iterator[tuple[int, str]]:
    start = seen = 0
    while start < len(text) and seen < _HEADER_LINES:
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        if text[start:end].strip():
            seen += 1
            if end - start <= 4 * _HEADER_CHARS:
                yield start, text[start:end]
        start = end + 1


def find_listed_names(text: str) -> Iterator[Span]:
    """Find names on the repository's lists. Names that are also words ("Will", "May") need a surname beside them."""
    lists = name_lists()
    tokens = [match for match in _TOKEN.finditer(text) if _is_capitalised(match.group())]
    taken = -1
    for number, match in enumerate(tokens):
        first = _base(match.group()).casefold()
        if match.start() < taken or first not in lists.first:
            continue
        before = tokens[number - 1] if number and text[tokens[number - 1].end() : match.start()] in _JOINTS else None
        if before is not None and before.group().casefold() in lists.royals:
            continue
        start = match.start()
        end, has_surname = match.start() + len(_base(match.group())), False
        is_institution = False
        for following in tokens[number + 1 : number + _MAX_NAME_TOKENS]:
            if not _joins(text[end : following.start()]):
                break
            token = _base(following.group())
            folded = token.casefold()
            if folded in lists.institutions:
                is_institution = True
                break
            is_surname = folded in lists.surnames
            is_initial = len(token) == 1
            if not (is_surname or is_initial or (first not in lists.ambiguous and not _is_heading(token))):
                break
            has_surname = has_surname or is_surname
            end = following.start() + len(token)
        if before is not None and text[before.end() : start] == ", " and before.group().casefold() in lists.surnames:
            start, has_surname = before.start(), True  # "Smith, John"
        if (
            is_institution
            or text[start:end].casefold() in lists.phrases
            or (first in lists.ambiguous and not has_surname)
        ):
            continue
        taken = end
        yield Span(start, end, "name")


def _joins(between: str) -> bool:
    return between in _JOINTS[:-1] or between.strip(" ") in _PARTICLES


def _base(token: str) -> str:
    """Remove the possessive ending of a token."""
    return token[:-2] if token.endswith(("'s", "’s")) else token


def _is_capitalised(token: str) -> bool:
    return token[0].isupper()


def _is_heading(token: str) -> bool:
    return _base(token).casefold() in name_lists().words


def _is_word(token: str) -> bool:
    folded = token.casefold()
    return folded in name_lists().ambiguous or folded in name_lists().words or folded in _PARTICLES


NameModel = Callable[[str], Iterable[tuple[int, int]]]
"""Find names of persons in a text; yields (start, end)."""


def load_name_model(name: str) -> NameModel:
    """Load a spaCy pipeline that recognises persons.

    Raises:
        ImportError: spaCy is not installed.
        OSError: The pipeline is not installed.
    """
    import spacy  # type: ignore[import-not-found]  # optional, for redact.name_model

    pipeline = spacy.load(name)

    def find(text: str) -> Iterator[tuple[int, int]]:
        return ((entity.start_char, entity.end_char) for entity in pipeline(text).ents if entity.label_ == "PERSON")

    return find
