"""Reading the bundled sample: postings, resumes and judged test jobs for trying everything without your own data.

Does not belong here: its evaluation tasks (``eval_tasks``), the ESCO data (``esco``), making the committed files
(``tools.make_sample``). The data card is ``data/README.md``. No text describes a real person.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypedDict

from data.sample.esco import Occupation, SamplePackageError, read_flat_occupations, read_occupations

SAMPLE_DIR = Path(__file__).parent / "files"
BUNDLED_SAMPLE = "bundled:sample"
"""Source path that selects the sample."""

_MIN_JOB_WORDS, _MAX_JOB_WORDS = 40, 70
_MAX_NAMED_SKILLS = 6


@dataclass(frozen=True)
class TestJob:
    """One hand-written job description with the resumes that fit it.

    Attributes:
        id: ``test-001`` and so on.
        label: Job title as shown by a job board.
        seniority: ``junior`` (two years or less), ``mid``, ``senior`` (six years or more) or ``lead``.
        description: Text of the posting.
        pos: Ids of resumes that fit (grade 2).
        neg: Ids of resumes that do not fit (grade 0), near misses first.
        relevance: Grade by resume id: 2 (same occupation) or 1 (related). All other resumes have grade 0.
        occupation: ESCO URI of the job's occupation.
    """

    __test__: ClassVar[bool] = False

    id: str
    label: str
    seniority: str
    description: str
    pos: tuple[str, ...]
    neg: tuple[str, ...]
    relevance: Mapping[str, int]
    occupation: str


class LongText(TypedDict):
    """What stands before and behind the short text of one document; a row of ``long_texts.jsonl``."""

    id: str
    before: str
    after: str


def read_sample_jobs(*, long: bool = True) -> list[dict[str, object]]:
    """Read the postings from the installed packages: the ICT occupations, then a selection of others.

    Args:
        long: Give a third of them the length of real postings.

    Returns:
        Rows of ``id``, ``title``, ``description``, ``uri`` and ``category`` (``ict``, or another field).

    Raises:
        SamplePackageError: A package with ESCO's texts is missing.
    """
    rows: list[dict[str, object]] = [
        _job_row(occupation.uri, occupation.label, _describe(occupation), "ict") for occupation in read_occupations()
    ]
    flat = read_flat_occupations()
    for field, titles in read_phrases()["other_jobs"].items():
        for title in titles:
            if title not in flat:
                raise SamplePackageError(
                    f"Occupation '{title}' was not found in the installed ESCO texts; field '{field}' of the sample "
                    "needs it.",
                    hint="Install the version that requirements.lock names.",
                )
            occupation = flat[title]
            rows.append(_job_row(occupation.uri, title, _fit_words(occupation.description), field))
    return _lengthened(rows, "description") if long else rows


def read_sample_resumes(*, long: bool = True) -> list[dict[str, object]]:
    """Read the resumes: rows of ``id``, ``title``, ``text``, ``occupation``, ``seniority`` and ``category``.

    Args:
        long: Give a third of them the length of real resumes.
    """
    rows = _read_jsonl("resumes.jsonl")
    return _lengthened(rows, "text") if long else rows


def read_sample_relevance() -> list[tuple[str, str, int]]:
    """Read the relevance of the resumes for the ICT postings: (job id, resume id, grade 2 or 1)."""
    lines = (SAMPLE_DIR / "relevance.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [(job, resume, int(grade)) for job, resume, grade in (line.split("\t") for line in lines)]


def read_train_triples() -> list[dict[str, object]]:
    """Read the training triples: rows of ``anchor``, ``positive``, ``negative`` and ``occupation``.

    Test jobs and triples have no occupation in common.
    """
    return _read_jsonl("train_triples.jsonl")


def read_test_jobs(*, long: bool = False) -> list[TestJob]:
    """Read the 100 test jobs, in the order of the file.

    Args:
        long: Give a third of them the length of real postings.
    """
    rows = _read_jsonl("test_jobs.jsonl")
    return [
        TestJob(
            id=row["id"],
            label=row["label"],
            seniority=row["seniority"],
            description=row["description"],
            pos=tuple(row["pos"]),
            neg=tuple(row["neg"]),
            relevance=dict(row["relevance"]),
            occupation=row["occupation"],
        )
        for row in (_lengthened(rows, "description") if long else rows)
    ]


@cache
def read_phrases() -> dict[str, Any]:
    """Read ``files/resume_phrases.toml``: sentence patterns, occupation families, and the selection of other jobs."""
    with (SAMPLE_DIR / "resume_phrases.toml").open("rb") as stream:
        return tomllib.load(stream)


@cache
def read_long_phrases() -> dict[str, Any]:
    """Read ``files/long_phrases.toml``: sentence patterns of the sections of long documents."""
    with (SAMPLE_DIR / "long_phrases.toml").open("rb") as stream:
        return tomllib.load(stream)


def build_job_id(uri: str) -> str:
    """Id of the posting of an occupation: ``job-`` and the first group of the UUID in the occupation's ESCO URI."""
    return f"job-{uri.rsplit('/', 1)[-1].split('-', 1)[0]}"


def render_jsonl(rows: Iterable[object]) -> str:
    """Render rows as JSON lines, byte for byte as committed."""
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def _read_jsonl(name: str) -> list[dict[str, Any]]:
    with (SAMPLE_DIR / name).open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def _lengthened(rows: list[dict[str, Any]], field: str) -> list[dict[str, Any]]:
    """The rows with the sections of those that are long around their short text."""
    around = {row["id"]: row for row in _read_jsonl("long_texts.jsonl")}
    return [
        {**row, field: f"{around[row['id']]['before']}{row[field]}{around[row['id']]['after']}"}
        if row["id"] in around
        else row
        for row in rows
    ]


def _job_row(uri: str, title: str, description: str, category: str) -> dict[str, object]:
    return {"id": build_job_id(uri), "title": title, "description": description, "uri": uri, "category": category}


def _describe(occupation: Occupation) -> str:
    """Describe an ICT occupation in ESCO's words. Skills are appended to a short description."""
    frequency = _skill_frequency()
    rarest_first = sorted(occupation.skills, key=lambda skill: (frequency[skill.label], skill.label))
    skills = [skill.label for skill in rarest_first if not skill.is_knowledge][:_MAX_NAMED_SKILLS]
    closing = f"Essential skills: {', '.join(skills[:3])}."
    text = f"{_fit_words(occupation.description, reserved=len(closing.split()))} {closing}"
    for count in range(4, len(skills) + 1):
        if len(text.split()) >= _MIN_JOB_WORDS:
            break
        longer = f"Essential skills: {', '.join(skills[:count])}."
        text = text.replace(closing, longer)
        closing = longer
    knowledge = [skill.label for skill in rarest_first if skill.is_knowledge]
    if len(text.split()) < _MIN_JOB_WORDS and knowledge:
        text = f"{text} Essential knowledge: {', '.join(knowledge[:6])}."
    return text


@cache
def _skill_frequency() -> Counter[str]:
    return Counter(skill.label for occupation in read_occupations() for skill in occupation.skills)


def _fit_words(text: str, *, reserved: int = 0) -> str:
    """Keep the first sentence and as many of the following ones as fit."""
    kept: list[str] = []
    for sentence in _sentences(text):
        if kept and sum(len(part.split()) for part in [*kept, sentence]) + reserved > _MAX_JOB_WORDS:
            break
        kept.append(sentence)
    return " ".join(kept)


def _sentences(text: str) -> Iterable[str]:
    return re.split(r"(?<=[a-z)]\.)\s+(?=[A-Z])", text)
