"""What people said about pairs of a job and a resume: yes, no or unsure, with who and when.

``judgments/<time>-<hash>.json``: one immutable record for each answer. A second answer of one person on one pair counts
instead of the first, which stays. An erasure removes the answers on the documents that it erases.

Belongs here: the records, and which side of the split a job is on. Does not belong here: agreement and export
(``tasks.queries.judge``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from data.schema import sha256_text
from data.store.base import Store
from data.store.records import Record

Answer = Literal["yes", "no", "unsure"]
ANSWERS: tuple[Answer, ...] = get_args(Answer)

Use = Literal["train", "evaluate"]

_FOLDER = "judgments"


class PairAnswer(BaseModel):
    """One answer of one person on one pair.

    Attributes:
        job: ``doc_id`` of the job.
        resume: ``doc_id`` of the resume.
        answer: Whether the resume fits the job.
        by: Name of the person.
        at: Time of the answer, in UTC.
        job_content: Content hash of the job that was judged.
        resume_content: Likewise for the resume.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str
    resume: str
    answer: Answer
    by: str
    at: datetime
    job_content: str
    resume_content: str


def add_answer(store: Store, answer: PairAnswer) -> str:
    """Append an answer; returns its key. Needs no lease: nothing that exists is changed."""
    content = answer.model_dump_json().encode()
    key = f"{_FOLDER}/{answer.at:%Y%m%dT%H%M%S}-{hashlib.sha256(content).hexdigest()[:16]}.json"
    store.put_if_absent(key, content)
    return key


def read_answers(store: Store) -> list[PairAnswer]:
    """All answers, oldest first.

    Raises:
        StoreError: A record is damaged.
    """
    return sorted((answer for _, answer in _stored_answers(store)), key=lambda each: each.at)


def _stored_answers(store: Store) -> Iterator[tuple[str, PairAnswer]]:
    """Every answer with its key. An answer that an erasure removes meanwhile is left out."""
    for key in list(store.list(_FOLDER)):
        answer = Record(PairAnswer, key, hint="Remove it, or restore a backup.").read(store)
        if answer is not None:
            yield key, answer


def newest_answers(answers: Iterable[PairAnswer]) -> dict[tuple[str, str], dict[str, PairAnswer]]:
    """The last answer of each person, by pair of job and resume."""
    found: dict[tuple[str, str], dict[str, PairAnswer]] = {}
    for each in sorted(answers, key=lambda each: each.at):
        found.setdefault((each.job, each.resume), {})[each.by] = each
    return found


def erase_answers(store: Store, doc_ids: Collection[str]) -> int:
    """Remove the answers on erased documents; returns their number."""
    doomed = [key for key, answer in _stored_answers(store) if answer.job in doc_ids or answer.resume in doc_ids]
    for key in doomed:
        store.delete(key)
    return len(doomed)


def use_of(job_text: str) -> Use:
    """Whether the answers on a job train or evaluate, by the hash of its text: half of the jobs each.

    A job is on one side with all of its pairs. So no pair, and no text of a job, is on both.
    """
    return "evaluate" if int(sha256_text(f"judged job\n{job_text}")[0], 16) % 2 else "train"
