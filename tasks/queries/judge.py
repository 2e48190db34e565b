"""Judging pairs by people: the next pair, adding an answer, agreement, and export. Never imports prefect."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import combinations, count
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.errors import InputError
from data.outputs.feedback import (
    ANSWERS,
    Answer,
    PairAnswer,
    add_answer,
    newest_answers,
    read_answers,
    use_of,
)
from data.outputs.matches import latest_match_files
from data.schema import KINDS, encoded_text
from data.vectors.filters import is_one_of
from data.vectors.lance import LanceTable
from tasks.conditions.skills import requirements_sentence
from tasks.queries.explain import explain, fit_sentence, served_document
from tasks.queries.served import served, served_table
from tasks.run.context import utc_now
from tasks.run.settings import Settings

_MAX_NAME_CHARS = 100
TASK_NAME = "judged-pairs"


def judge(
    settings: Settings, *, job: str, resume: str, answer: Answer, by: str, at: datetime | None = None
) -> PairAnswer:
    """Keep what a person says about a pair of served documents.

    Args:
        settings: Settings of the run.
        job: Id of a served job: its ``doc_id``, or its id in the source.
        resume: Likewise for a resume.
        answer: Whether the resume fits the job.
        by: Name of the person.
        at: Time of the answer (default: now).

    Raises:
        InputError: A document is not served, or the name is empty or too long.
    """
    name = judge_name(by)
    store = settings.store()
    pointer = served(store)
    rows = {
        kind: served_document(served_table(store, pointer, kind), kind, identity, ["content_sha256"])
        for kind, identity in zip(KINDS, (job, resume), strict=True)
    }
    said = PairAnswer(
        job=rows["job"]["doc_id"],
        resume=rows["resume"]["doc_id"],
        answer=answer,
        by=name,
        at=at or utc_now(),
        job_content=rows["job"]["content_sha256"],
        resume_content=rows["resume"]["content_sha256"],
    )
    add_answer(store, said)
    return said


def judge_name(by: str) -> str:
    """The name of a person who judges, without needless blanks.

    Raises:
        InputError: It is empty or too long.
    """
    name = " ".join(by.split())
    if not name or len(name) > _MAX_NAME_CHARS:
        raise InputError(
            f"The name of the judge has {len(name)} characters; expected 1 to {_MAX_NAME_CHARS}.",
            hint="Pass a name or initials.",
        )
    return name


def unjudged_pairs(settings: Settings, by: str, *, after: tuple[str, str] | None = None) -> Iterator[tuple[str, str]]:
    """Pairs of the latest matches that a person has not judged: the first place of every job, then the second.

    Args:
        settings: Settings of the run.
        by: Name of the person.
        after: Go on behind this pair, if the latest matches have it (default: start with the first one).

    Raises:
        InputError: Nothing was matched yet.
    """
    store = settings.store()
    files = latest_match_files(store)
    if not files:
        raise InputError("There are no matches to judge.", hint="Run `l2v match`, or name a job and a resume.")
    done = {(each.job, each.resume) for each in read_answers(store) if each.by == " ".join(by.split())}
    is_behind = after is None
    for rank in count(1):
        pairs = _pairs_of_rank(files, rank)
        if not pairs:
            break
        for pair in pairs:
            if is_behind and pair not in done:
                yield pair
            is_behind = is_behind or pair == after
    if not is_behind:
        yield from unjudged_pairs(settings, by)


def _pairs_of_rank(files: Sequence[Path], rank: int) -> list[tuple[str, str]]:
    """Job and resume of the matches that rank resumes for a job, of one rank, sorted."""
    found: list[tuple[str, str]] = []
    for path in files:
        if "direction=resumes_for_job" in path.parts:
            rows = pq.read_table(path, columns=["rank", "job_id", "resume_id"], partitioning=None)
            chosen = rows.filter(pc.equal(rows["rank"], rank))
            found += zip(chosen["job_id"].to_pylist(), chosen["resume_id"].to_pylist(), strict=True)
    return sorted(found)


def next_pair(settings: Settings, by: str, *, after: tuple[str, str] | None = None) -> dict[str, Any] | None:
    """The next pair that a person has not judged, with its evidence; None if none is left.

    Args:
        settings: Settings of the run.
        by: Name of the person.
        after: Pair that was skipped, see :func:`unjudged_pairs`.

    Returns:
        ``job`` and ``resume`` with ``doc_id``, ``title`` and ``text``; sentences about ``fit`` and ``requirements``;
        the ``explanation``.

    Raises:
        InputError: Nothing was matched yet.
    """
    for pair in unjudged_pairs(settings, by, after=after):
        texts = pair_texts(settings, *pair)
        if texts is not None:
            found = explain(settings, job=pair[0], resume=pair[1])
            documents: dict[str, Any] = {
                str(kind): {"doc_id": doc_id, "title": found[kind]["title"] or "", "text": text}
                for kind, doc_id, (_, text) in zip(KINDS, pair, texts, strict=True)
            }
            requirements = requirements_sentence(found["requirements"])
            return {**documents, "fit": fit_sentence(found), "requirements": requirements, "explanation": found}
    return None


def pair_texts(settings: Settings, job: str, resume: str) -> list[tuple[str, str]] | None:
    """Title and text of a job and a resume by their ``doc_id``; None if one of them is no longer served."""
    store = settings.store()
    pointer = served(store)
    found = []
    for kind, doc_id in zip(KINDS, (job, resume), strict=True):
        rows = (
            served_table(store, pointer, kind).read(["title", "text"], where=is_one_of("doc_id", [doc_id])).to_pylist()
        )
        if not rows:
            return None
        found.append((f"{kind}: {rows[0]['title'] or doc_id}", rows[0]["text"]))
    return found


@dataclass(frozen=True)
class JudgeAgreement:
    """How far two people agree.

    Attributes:
        judges: Both names.
        pairs: Number of pairs that both judged.
        same: Share of these with the same answer.
        kappa: Cohen's kappa over yes, no and unsure: 1 is full agreement, 0 that of chance. None if both gave one
            answer only.
    """

    judges: tuple[str, str]
    pairs: int
    same: float
    kappa: float | None


def agreement(answers: Iterable[PairAnswer]) -> list[JudgeAgreement]:
    """JudgeAgreement of all two people who judged some pairs in common.

    Source: Cohen 1960, "A coefficient of agreement for nominal scales"; computed by scikit-learn.
    """
    from sklearn.metrics import cohen_kappa_score

    by_pair = newest_answers(answers)
    names = sorted({name for each in by_pair.values() for name in each})
    found = []
    for first, second in combinations(names, 2):
        both = [
            (each[first].answer, each[second].answer) for each in by_pair.values() if {first, second} <= each.keys()
        ]
        if both:
            left, right = map(list, zip(*both, strict=True))
            varied = len({*left, *right}) > 1
            kappa = float(cohen_kappa_score(left, right, labels=list(ANSWERS))) if varied else None
            same = sum(one == other for one, other in both) / len(both)
            found.append(JudgeAgreement((first, second), len(both), same, kappa))
    return found


def judgments_report(settings: Settings) -> dict[str, Any]:
    """Numbers of answers, by person and by answer, and the agreement of each two people."""
    answers = read_answers(settings.store())
    newest = [each for pair in newest_answers(answers).values() for each in pair.values()]
    people = {
        name: {"pairs": sum(each.by == name for each in newest)}
        | {answer: sum(each.by == name and each.answer == answer for each in newest) for answer in ANSWERS}
        for name in sorted({each.by for each in newest})
    }
    return {
        "answers": len(answers),
        "pairs": len(newest_answers(answers)),
        "people": people,
        "agreement": [asdict(each) for each in agreement(answers)],
    }


def export_judgments(settings: Settings, folder: Path) -> dict[str, int]:
    """Write judged pairs as judgments for training, and as an evaluation task; each job is in one of them.

    ``train.jsonl`` is a source for ``judgments.sources``; the folder ``judged-pairs`` is a reranking task. A pair
    counts by the majority of its newest answers.

    Args:
        settings: Settings of the run.
        folder: New or empty folder. An erasure does not reach it.

    Returns:
        Numbers of exported jobs by use (``train``, ``evaluate``), of exported pairs, and of what is left out: pairs
        without a majority (``undecided``), with a document that is not served or has changed (``changed``), and jobs
        whose answers do not suffice, because nobody fits or, to evaluate, everybody does (``one_sided``).

    Raises:
        InputError: The folder is not empty, or nothing is served.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"The folder {folder} is not empty.", hint="Name a new folder.")
    store = settings.store()
    decided, counts = _decided(newest_answers(read_answers(store)))
    pointer = served(store)
    texts = {
        kind: _texts(served_table(store, pointer, kind), {pair[at] for pair in decided})
        for at, kind in enumerate(KINDS)
    }
    judged: dict[str, dict[Answer, list[str]]] = {}
    for (job, resume), said in decided.items():
        known = texts["job"].get(job), texts["resume"].get(resume)
        if (
            known[0] is None
            or known[1] is None
            or (known[0][1], known[1][1]) != (said.job_content, said.resume_content)
        ):
            counts["changed"] += 1
            continue
        of_job = judged.setdefault(known[0][0], {"yes": [], "no": []})
        if known[1][0] not in (*of_job["yes"], *of_job["no"]):
            of_job[said.answer].append(known[1][0])
    train, evaluate = [], []
    for text, said_of in sorted(judged.items()):
        use = use_of(text)
        if not said_of["yes"] or (use == "evaluate" and not said_of["no"]):
            counts["one_sided"] += 1
            continue
        counts[use] += 1
        counts["exported_pairs"] += len(said_of["yes"]) + len(said_of["no"])
        if use == "train":
            train.append({"description": text, "pos": said_of["yes"], "neg": said_of["no"]})
        else:
            evaluate.append({"query": text, "positive": said_of["yes"], "negative": said_of["no"]})
    if train:
        _write_lines(folder / "train.jsonl", train)
    if evaluate:
        task = {"name": TASK_NAME, "type": "Reranking", "main_score": "map", "note": "pairs judged by people"}
        _write_lines(folder / TASK_NAME / "samples.jsonl", evaluate)
        (folder / TASK_NAME / "task.json").write_text(json.dumps(task, indent=2) + "\n", encoding="utf-8")
    return {name: counts[name] for name in ("train", "evaluate", "exported_pairs", "undecided", "changed", "one_sided")}


def _decided(
    pairs: Mapping[tuple[str, str], Mapping[str, PairAnswer]],
) -> tuple[dict[tuple[str, str], PairAnswer], Counter[str]]:
    """One answer, yes or no, for each pair with a majority of those who were sure."""
    found: dict[tuple[str, str], PairAnswer] = {}
    counts: Counter[str] = Counter()
    for pair, answers in pairs.items():
        votes = Counter(each.answer for each in answers.values())
        if votes["yes"] == votes["no"]:
            counts["undecided"] += 1
            continue
        winner = "yes" if votes["yes"] > votes["no"] else "no"
        found[pair] = max((each for each in answers.values() if each.answer == winner), key=lambda each: each.at)
    return found, counts


def _texts(table: LanceTable, ids: set[str]) -> dict[str, tuple[str, str]]:
    """Encoded text and content hash of served documents, by ``doc_id``."""
    if not ids:
        return {}
    rows = table.read(["doc_id", "title", "text", "content_sha256"], where=is_one_of("doc_id", ids)).to_pylist()
    return {row["doc_id"]: (encoded_text(row["title"] or "", row["text"]), row["content_sha256"]) for row in rows}


def _write_lines(path: Path, rows: Iterable[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
