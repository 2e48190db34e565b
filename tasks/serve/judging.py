"""Routes that show pairs and keep answers on them: the only ones that write. They exist with ``--judge`` only."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from data.outputs.feedback import Answer, PairAnswer
from tasks.queries.judge import judge, next_pair
from tasks.run.settings import Settings

_MAX_ID_CHARS = 500


class JudgedPair(BaseModel):
    """A job and a resume by their ``doc_id``, or their ids in the source."""

    model_config = ConfigDict(extra="forbid")

    job: str = Field(description="Served job.", max_length=_MAX_ID_CHARS)
    resume: str = Field(description="Served resume.", max_length=_MAX_ID_CHARS)


class AnsweredPair(JudgedPair):
    """An answer on a pair."""

    answer: Answer = Field(description="Whether the resume fits the job.")


class PairWanted(BaseModel):
    """A request for the next pair."""

    model_config = ConfigDict(extra="forbid")

    after: JudgedPair | None = Field(None, description="Pair that was shown before and skipped (default: none).")


class ShownPair(BaseModel):
    """A pair with the evidence for it."""

    job: dict[str, str] = Field(description="doc_id, title and text of the job.")
    resume: dict[str, str] = Field(description="doc_id, title and text of the resume.")
    fit: str = Field(description="One sentence: whether they fit.")
    requirements: str = Field(description="One sentence: how many skills that the job asks for are named.")
    explanation: dict[str, Any] = Field(description="As from /explain.")


class NextPair(BaseModel):
    """The next pair of the latest matches."""

    by: str = Field(description="Name under which answers are kept.")
    pair: ShownPair | None = Field(description="The pair; null if none is left to judge.")


class Judging(NamedTuple):
    """Who judges on a server.

    Attributes:
        settings: Settings with the store to write to.
        by: Name under which answers are kept.
    """

    settings: Settings
    by: str

    def add_routes(self, api: FastAPI, responses: dict[int | str, dict[str, Any]]) -> None:
        """Add the routes to an application."""

        @api.post("/judge", response_model=PairAnswer, responses=responses, summary="Judge a pair")
        def judge_pair(asked: AnsweredPair) -> PairAnswer:
            """Append an answer. An earlier one of the same person stays, and no longer counts."""
            return judge(self.settings, job=asked.job, resume=asked.resume, answer=asked.answer, by=self.by)

        @api.post("/judge/next", response_model=NextPair, responses=responses, summary="Show the next pair")
        def show_pair(asked: PairWanted) -> dict[str, Any]:
            """The next pair of the latest matches that this person has not judged, with its evidence."""
            after = None if asked.after is None else (asked.after.job, asked.after.resume)
            return {"by": self.by, "pair": next_pair(self.settings, self.by, after=after)}
