"""The reviewed vocabulary of conditions, and patterns made of its phrases.

Belongs here: loading words, names of languages and countries. Does not belong here: reading statements.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

VOCABULARY_FILE = Path(__file__).with_name("vocabulary.toml")

_LOCALES = ("en", "de", "fr", "es", "it", "nl", "pt", "pl")
"""Languages in which names of languages and countries are known."""


@cache
def vocabulary() -> Mapping[str, Any]:
    """The tables of the vocabulary file."""
    return tomllib.loads(VOCABULARY_FILE.read_text(encoding="utf-8"))


def phrases(table: str, name: str) -> list[str]:
    """A list of phrases of the vocabulary."""
    found: list[str] = vocabulary()[table][name]
    return found


@cache
def pattern(table: str, name: str) -> re.Pattern[str]:
    """Pattern for the phrases of a list, on whole words and in any case."""
    return any_of(phrases(table, name))


def any_of(words: Iterable[str], *, keep_case: bool = False) -> re.Pattern[str]:
    """Pattern for any of some phrases, the longest first. A star stands for any ending, a space for white space."""
    ordered = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<![\w.])(?:{'|'.join(map(_phrase, ordered))})(?!\w)", 0 if keep_case else re.IGNORECASE)


def _phrase(phrase: str) -> str:
    escaped = re.escape(phrase).replace(r"\*", r"\w*").replace(r"\ ", r"\s+").replace(r"licen\?e", "licen[cs]e")
    return escaped.replace("'", "['’]")


class Phrases(NamedTuple):
    """Phrases to look for in a document.

    Attributes:
        pattern: Matches any of them.
        words: The longest word of each in lower case: a sentence without any of these holds none.
        prefixes: Likewise, for words with any ending.
    """

    pattern: re.Pattern[str]
    words: frozenset[str]
    prefixes: tuple[str, ...] = ()


def phrases_for(words: Iterable[str], compiled: re.Pattern[str] | None = None) -> Phrases:
    """Phrases, with a pattern for them (default: on whole words and in any case)."""
    listed = list(words)
    parts = [re.findall(r"[^\W\d_]+\*?", phrase.lower().replace("licen?e", "licen*")) for phrase in listed]
    longest = {max(found, key=lambda word: len(word.rstrip("*"))) for found in parts if found}
    return Phrases(
        compiled or any_of(listed),
        frozenset(word for word in longest if not word.endswith("*")),
        tuple(sorted(word.rstrip("*") for word in longest if word.endswith("*"))),
    )


@cache
def known_phrases(table: str, name: str) -> Phrases:
    """A list of the vocabulary, to look for in a document."""
    return phrases_for(phrases(table, name), pattern(table, name))


@cache
def language_names() -> Mapping[str, str]:
    """Code of each language by its names, in lower case. Babel has the names."""
    from babel import Locale

    found: dict[str, str] = {}
    for locale in _LOCALES:
        names = Locale(locale).languages
        for code in vocabulary()["languages"]["codes"]:
            found.setdefault(names[code].lower(), code)
    for code, words in vocabulary()["languages"]["more"].items():
        found |= dict.fromkeys(words, code)
    found |= {f"{name}kenntnisse{end}": code for name, code in found.items() for end in ("", "n")}
    return {name: code for name, code in found.items() if re.fullmatch(r"[^\W\d_]+", name)}


@cache
def capital_names() -> frozenset[str]:
    """English and German names of languages in lower case. They count only with a capital: "polish" is also a verb."""
    from babel import Locale

    return frozenset(
        Locale(locale).languages[code].lower() for locale in ("en", "de") for code in vocabulary()["languages"]["codes"]
    )


@cache
def country_names() -> Mapping[str, str]:
    """ISO 3166 code of each country by its names and its code, in lower case."""
    from babel import Locale

    found: dict[str, str] = {}
    for locale in _LOCALES:
        found |= {
            name.lower(): code for code, name in Locale(locale).territories.items() if re.fullmatch("[A-Z]{2}", code)
        }
    for code, words in vocabulary()["authorisation"]["countries"].items():
        found |= dict.fromkeys((word.rstrip("*") for word in words), code)
    return found


def country_code(text: str | None) -> str | None:
    """ISO 3166 code of a country given by its code or name; None if it is neither."""
    if text is None:
        return None
    cleaned = text.strip()
    if len(cleaned) == 2 and cleaned.isalpha():
        return {"UK": "GB"}.get(cleaned.upper(), cleaned.upper())
    return country_names().get(cleaned.lower())


@cache
def month_names() -> Mapping[str, str]:
    """English month by its names in lower case, in the languages of the vocabulary."""
    from babel import Locale

    english = Locale("en").months["format"]["wide"]
    return {
        name.lower().rstrip("."): english[number]
        for locale in _LOCALES
        for width in ("wide", "abbreviated")
        for number, name in Locale(locale).months["format"][width].items()
    }


def plain(text: str) -> str:
    """A name in lower case without accents and punctuation, for comparing places."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(char for char in decomposed if not unicodedata.combining(char))
    return " ".join(re.findall(r"\w+", letters))
