"""Forms of words: one token for the inflections of a word, and for its other names.

"Engineers" and "engineering" become "engineer", "ReactJS" becomes "react", and "RN" becomes "register" and "nursing".
So a query finds a text in either form. The stemmer is Snowball's for English. It cuts words to stems that nobody would
show ("manag"), so a common stem is written as a word that has it ("manage"). ``word_forms.toml`` holds the aliases, and
the words that the stemmer would mix up ("excellent" and "excel").

Only plain ASCII words of four letters or more are stemmed. So are words of other languages without accents, by the
same rules in texts and queries.

Does not belong here: splitting texts (``words``). A changed list or stemmer needs a new version of everything that
holds tokens: ``LEXICAL_FINGERPRINT`` of ``evaluation.systems``, and ``TABLE_LAYOUT`` of the data room.

Source: Porter, "Snowball: A language for stemming algorithms" (2001), the stemmer "english", by PyStemmer.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_MIN_CHARS = 4
_FOLDER = Path(__file__).parent

BASE_WORDS = "base_words.txt"
"""One word for each common stem that is no word; ``tools/make_base_words.py`` makes the file."""


@cache
def stemmer() -> Any:  # noqa: ANN401 - PyStemmer has no types
    """Snowball's stemmer for English, without a cache of its own."""
    import Stemmer

    return Stemmer.Stemmer("english", 0)


@cache
def aliases() -> Mapping[str, tuple[str, ...]]:
    """Words that stand for a name, with the words of the name."""
    return {alias: tuple(name.split()) for name, listed in _read()["aliases"].items() for alias in listed.split()}


@cache
def exceptions() -> Mapping[str, str]:
    """Words whose base is not their stem, with their base."""
    read = _read()
    other = {word: base for base, listed in read["bases"].items() for word in listed.split()}
    return other | {word: word for word in read["unchanged"]["words"].split()}


@cache
def base_words() -> Mapping[str, str]:
    """Stems that are no words, with the word that stands for each."""
    words = (_FOLDER / BASE_WORDS).read_text(encoding="utf-8").split()
    return dict(zip(stemmer().stemWords(words), words, strict=True))


@cache
def _read() -> dict[str, dict[str, str]]:
    return tomllib.loads((_FOLDER / "word_forms.toml").read_text(encoding="utf-8"))


def forms_of(word: str) -> tuple[str, ...]:
    """Tokens that stand for a lower-cased word: its base, or the bases of the name that it is an alias of."""
    return tuple(base_of(each) for each in aliases().get(word, (word,)))


def base_of(word: str) -> str:
    """One word for all inflections of a lower-cased word."""
    if len(word) < _MIN_CHARS or not (word.isascii() and word.isalpha()):
        return word
    if word in exceptions():
        return exceptions()[word]
    stem = str(stemmer().stemWord(word))
    return base_words().get(stem, stem)
