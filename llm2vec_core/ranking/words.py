"""The tokenizer of this domain: names such as "C++", "CI/CD" and "B.Sc." stay whole, inflections become one token.

Text in scripts without spaces between words is split into pairs of characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import NamedTuple

from llm2vec_core.ranking.word_forms import forms_of

_CACHED_COMPOUNDS = 1 << 17
_ABBREVIATED = 2  # maximum letters of a part of an abbreviation: "b.sc", "ph.d"
_HYPHENS = str.maketrans({"\u2010": "-", "\u2011": "-"})  # hyphen and non-breaking hyphen, as PDFs write them
_POSSESSIVE = re.compile(r"['\u2019]s\b")
_PLACEHOLDER = re.compile(r"\[[A-Z]+(?:_[A-Z]+)?_\d{1,6}\]")
"""Placeholder of personal data, such as ``[EMAIL_1]``; no word."""

# Blocks of scripts that put no space between words, or (Hangul) attach particles to them. A Japanese word may change
# between Han and kana.
_UNSPACED = (
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",
    "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff",
    "\u0e01-\u0e3a\u0e40-\u0e5b",
    "\u0e81-\u0edf",
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f",
    "\u1780-\u17e9",
)
_UNSPACED_RUN = re.compile("|".join(f"[{block}]+" for block in _UNSPACED))
_UNSPACED_START = re.compile(f"[{''.join(_UNSPACED)}]")


def _compounds(letters: str) -> re.Pattern[str]:
    word = rf"{letters}+(?:\+\+)?(?:(?<![^\W_][^\W_])\#(?![^\W_]))?"  # a word, "c++", or one letter with a sharp: "c#"
    return re.compile(rf"(?:(?<![\w.])\.(?=net\b))?{word}(?:[-./&]{word})*")


_COMPOUND = _compounds(r"[^\W_]")
_INNER = re.compile(r"[-&]|(?<!\d)\.|\.(?!\d)")  # separators inside a compound, but not the point of "3.11"


class _Marks(NamedTuple):
    """Patterns for texts with combining marks, which are slower and seldom needed.

    Attributes:
        any_of: Matches any mark.
        compound: Like ``_COMPOUND``, for letters with marks.
        unwritten: Removes the point that lowering leaves of the Turkish capital I, and Hebrew and Arabic vowels.
        character: A character with its marks, as a reader sees it.
    """

    any_of: re.Pattern[str]
    compound: re.Pattern[str]
    unwritten: dict[int, None]
    character: re.Pattern[str]


@cache
def _marks() -> _Marks:
    marks = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)) in {"Mn", "Mc"})
    vowels = (0x307, *range(0x591, 0x5C8), *range(0x610, 0x61B), *range(0x64B, 0x660), 0x670)
    return _Marks(
        any_of=re.compile(f"[{marks}]"),
        compound=_compounds(rf"(?:[^\W_][{marks}]*)"),
        unwritten={code: None for code in vowels if chr(code) in marks},
        character=re.compile(rf"[^\W_][{marks}]*"),
    )


def tokenize(text: str) -> list[str]:
    """Split a text into lower-cased words, keeping the names of this domain whole, and all forms of a word alike.

    Each word of :func:`split_words` is replaced by its base or by the name that it is an alias of
    (:mod:`~llm2vec_core.ranking.word_forms`): "Managing teams in ReactJS" gives "manage", "team", "in", "react".
    Words of three letters or fewer, and words with a mark or a sign, have no other forms: "C++" and "C#" stay apart.

    Args:
        text: Any text.

    Returns:
        Words in the order of the text; an empty list without words.
    """
    return [token for compound in _compounds_of(text) for token in _tokens_of(compound)]


def split_words(text: str) -> list[str]:
    """Split a text into lower-cased words as they are written.

    "C", "C++", "C#", "F#", ".NET", "Node.js", "R", "Go" and "IT" are words. A compound is kept whole and followed by
    its parts, so that a query finds it in either spelling: "CI/CD" gives "ci/cd", "ci", "cd"; "front-end" gives
    "front-end", "front", "end" and "frontend"; "B.Sc." also gives "bsc". A part of one character counts only beside a
    slash: "R/Python" is about R, but "R&D" and "C-level" name no language. Vowel signs belong to their word; the ones
    that Arabic and Hebrew usually omit are removed. There are no stop words ("IT" and "Go" would be two). Case is lost:
    "IT" and "it" are the same word.

    Chinese, Japanese, Korean, Thai, Lao, Burmese and Khmer are split where another script begins. Each run of them
    gives its overlapping pairs of characters; a single character stays alone. Placeholders such as ``[EMAIL_1]`` are no
    words.

    Args:
        text: Any text.

    Returns:
        Words in the order of the text; an empty list without words.
    """
    return [word for compound in _compounds_of(text) for word in _words_of(compound)]


def places_of_words(text: str) -> list[list[tuple[str, int]]]:
    """Words of a text by the place where they begin: with each word the place behind it.

    A compound takes one place for each of its parts. So "machine learning-based" has the words "machine" from 0 to 1,
    "learning-based" from 1 to 3, "learning" from 1 to 2 and "based" from 2 to 3, and a phrase is a path.

    Args:
        text: Any text.
    """
    places: list[list[tuple[str, int]]] = []
    for compound in _compounds_of(text):
        first = len(places)
        for word, start, end in _placed_words(compound):
            places.extend([] for _ in range(first + end - len(places)))
            places[first + start].append((word, first + end))
    return places


def spellings(text: str, tokens: Collection[str]) -> dict[str, str]:
    """The first word of a text that each token stands for, as it is written there, in lower case.

    Args:
        text: Any text.
        tokens: Tokens as of :func:`tokenize`; those that the text does not contain are left out.
    """
    found: dict[str, str] = {}
    for compound in _compounds_of(text):
        if found.keys() >= set(tokens):
            break
        for word in _words_of(compound):
            for token in forms_of(word):
                if token in tokens:
                    found.setdefault(token, word)
    return found


def _compounds_of(text: str) -> Iterator[str]:
    """Words and compounds of a text, lower-cased; runs of a script without spaces are one compound."""
    if "[" in text:
        text = _PLACEHOLDER.sub(" ", text)
    lowered = _POSSESSIVE.sub("", unicodedata.normalize("NFKC", text).translate(_HYPHENS).lower())
    compound = _COMPOUND
    if not lowered.isascii():
        if _marks().any_of.search(lowered):
            lowered, compound = lowered.translate(_marks().unwritten), _marks().compound
        if _UNSPACED_START.search(lowered):
            lowered = _UNSPACED_RUN.sub(r" \g<0> ", lowered)
    return (match.group() for match in compound.finditer(lowered))


@lru_cache(maxsize=_CACHED_COMPOUNDS)
def _tokens_of(compound: str) -> tuple[str, ...]:
    """Tokens of a word or compound. Texts repeat few of them, so most are looked up."""
    return tuple(form for word in _words_of(compound) for form in forms_of(word))


def _words_of(compound: str) -> Iterator[str]:
    """Pairs of characters in a script without spaces; otherwise the compound and its parts."""
    return (word for word, _, _ in _placed_words(compound))


def _placed_words(compound: str) -> Iterator[tuple[str, int, int]]:
    """Words of a compound with the place of their first part and the place behind the last one."""
    if compound.isascii() or not _UNSPACED_START.match(compound):
        yield from _with_parts(compound)
        return
    characters = _marks().character.findall(compound)
    words = map("".join, pairwise(characters)) if len(characters) > 1 else characters
    yield from ((word, at, at + 1) for at, word in enumerate(words))


def _with_parts(compound: str) -> Iterator[tuple[str, int, int]]:
    """A compound, its alternatives between slashes, and their parts of at least two characters, with their places."""
    alternatives = compound.split("/")
    parts_of = [[each] if each == ".net" else _INNER.split(each) for each in alternatives]
    yield compound, 0, sum(map(len, parts_of))
    start = 0
    for alternative, parts in zip(alternatives, parts_of, strict=True):
        end = start + len(parts)
        if len(alternatives) > 1:
            yield alternative, start, end
        if len(parts) > 1:
            # "ASP.NET" is a kind of .NET
            named = (".net" if part == "net" and f".{part}" in alternative else part for part in parts)
            yield from ((part, at, at + 1) for at, part in enumerate(named, start) if len(part) > 1)
            if _is_also_one_word(alternative, parts):
                yield "".join(parts), start, end
        start = end


def _is_also_one_word(compound: str, parts: Sequence[str]) -> bool:
    """Whether a compound is also written as one word: two words, or an abbreviation with points or hyphens."""
    is_short = len(parts) == 2 or all(len(part) <= _ABBREVIATED for part in parts)
    return is_short and "&" not in compound and all(part.isalpha() for part in parts)
