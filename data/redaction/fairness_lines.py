"""Attributes that the fairness audit writes into resumes: lines at the top, and pronouns in the text."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from data.redaction.names import name_groups

_FILE = Path(__file__).parent / "fairness_lines.toml"

_PRONOUNS: dict[str, tuple[str, str, str, str]] = {
    "he": ("he", "him", "his", "himself"),
    "she": ("she", "her", "her", "herself"),
    "they": ("they", "them", "their", "themselves"),
}
_ANY_PRONOUN = re.compile(r"\b(he|she|him|his|hers?|himself|herself)\b", re.IGNORECASE)
_CASE_OF = {"he": 0, "she": 0, "him": 1, "his": 2, "her": 2, "hers": 2, "himself": 3, "herself": 3}


def pronoun_swaps() -> dict[str, dict[str, Callable[[str], str]]]:
    """For the attribute ``pronouns``: per group, a function that rewrites a resume with a pronoun line on top."""
    return {"pronouns": {label: functools.partial(_with_pronouns, forms=forms) for label, forms in _PRONOUNS.items()}}


def _with_pronouns(text: str, *, forms: tuple[str, str, str, str]) -> str:
    def swap(match: re.Match[str]) -> str:
        found = match.group()
        form = forms[_CASE_OF[found.casefold()]]
        return form.capitalize() if found[0].isupper() else form

    return f"Pronouns: {forms[0]}/{forms[1]}\n{_ANY_PRONOUN.sub(swap, text)}"


@functools.cache
def fairness_lines() -> dict[str, dict[str, tuple[str, ...]]]:
    """Lines for the head of a resume, by attribute and group. The last attribute holds the neutral edits."""
    found = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    names = {
        f"{label}, {gender}": tuple(
            f"{first} {group.surnames[number % len(group.surnames)]}"
            for number, first in enumerate(getattr(group, gender))
        )
        for label, group in name_groups().items()
        for gender in ("female", "male")
    }
    return {
        "name": names,
        "school": {
            label: tuple(f"Education: {school}" for school in schools) for label, schools in found["schools"].items()
        },
        "graduation year": {
            label: tuple(f"Graduated in {year}" for year in years) for label, years in found["graduation_years"].items()
        },
        "neutral edit": {label: tuple(lines) for label, lines in found["neutral_edits"].items()},
    }
