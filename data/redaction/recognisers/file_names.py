"""Recognising names of persons in names of files, such as ``Anna_Example_CV.pdf``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath

from data.redaction.names import name_lists
from data.redaction.recognisers.spans import Span

_WORD = re.compile(r"[^\W\d_]{2,60}(?:['’][^\W\d_]{1,40}){0,3}")
_MAX_NAME_WORDS = 4


def find_file_names(name: str) -> Iterator[Span]:
    """Find the words of a person's name in the name of a file or folder.

    Beside a word such as "CV", all words that are no headings, occupations or versions are taken for a name. Without
    one, two to four capitalised words are, if none of them is such a word.

    Args:
        name: Name, perhaps with folders and an ending.
    """
    path = PurePath(name)
    stem = name[: len(name) - len(path.suffix)] if path.suffix and len(path.suffix) <= 5 else name
    words = list(_WORD.finditer(stem))
    others = [word for word in words if not _is_known(word.group())]
    is_resume = any(word.group().casefold() in name_lists().resume_words for word in words)
    is_a_name = 1 < len(words) <= _MAX_NAME_WORDS and len(others) == len(words) and _are_capitalised(words)
    if is_resume or is_a_name:
        yield from (Span(*word.span(), "name") for word in others)


def _is_known(word: str) -> bool:
    folded, lists = word.casefold(), name_lists()
    return folded in lists.resume_words or folded in lists.file_words or folded in lists.words


def _are_capitalised(words: list[re.Match[str]]) -> bool:
    return all(word.group()[0].isupper() for word in words)
