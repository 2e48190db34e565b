"""The repository's own lists of personal names, read from ``names.toml``.

Does not belong here: recognising names (``person_names``), the fairness audit (``llm2vec_core.evaluation.fairness``).
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES_FILE = Path(__file__).parent / "names.toml"
"""Its bytes are part of the redaction identity: any change, even in a comment, redacts all documents again."""


@dataclass(frozen=True)
class NameGroup:
    """Female and male first names, and family names, that readers commonly associate with one group."""

    female: tuple[str, ...]
    male: tuple[str, ...]
    surnames: tuple[str, ...]


@dataclass(frozen=True)
class NameLists:
    """All lists for recognising names, case-folded.

    Attributes:
        first: First names.
        surnames: Family names.
        ambiguous: First names that are also words, places or products.
        phrases: Organisations and places that begin with a name.
        words: Words that are not part of a name, such as headings and occupations.
        institutions: Words after a name that make it a place or an organisation, such as "Hospital".
        royals: Words before a name that make it a place or an organisation, such as "Queen".
        resume_words: Words for a resume in names of files.
        file_words: Other words in names of files, such as versions and languages.
        han_surnames: Chinese, Japanese and Korean family names in Han characters.
    """

    first: frozenset[str]
    surnames: frozenset[str]
    ambiguous: frozenset[str]
    phrases: frozenset[str]
    words: frozenset[str]
    institutions: frozenset[str]
    royals: frozenset[str]
    resume_words: frozenset[str]
    file_words: frozenset[str]
    han_surnames: tuple[str, ...]


@functools.cache
def name_groups() -> dict[str, NameGroup]:
    """Groups of names by label."""
    return {
        label: NameGroup(tuple(group["female"]), tuple(group["male"]), tuple(group["surnames"]))
        for label, group in _read()["groups"].items()
    }


@functools.cache
def name_lists() -> NameLists:
    """The names of all groups, and the other lists."""
    more, groups = _read()["more"], name_groups().values()
    first = [*more["first"], *(name for group in groups for name in (*group.female, *group.male))]
    surnames = [*more["surnames"], *(name for group in groups for name in group.surnames)]
    return NameLists(
        first=_folded(first),
        surnames=_folded(surnames),
        ambiguous=_folded(_read()["ambiguous"]["words"]),
        phrases=_folded(_read()["not_persons"]["phrases"]),
        words=_folded([*_read()["not_persons"]["words"], *_read()["not_persons"]["foreign_words"]]),
        institutions=_folded(_read()["not_persons"]["institutions"]),
        royals=_folded(_read()["not_persons"]["royals"]),
        resume_words=_folded(_read()["files"]["resumes"]),
        file_words=_folded(_read()["files"]["others"]),
        han_surnames=(*_read()["han"]["one"], *_read()["han"]["two"]),
    )


def _folded(names: list[str]) -> frozenset[str]:
    return frozenset(name.casefold() for name in names)


@functools.cache
def _read() -> dict[str, Any]:
    return tomllib.loads(NAMES_FILE.read_text(encoding="utf-8"))
