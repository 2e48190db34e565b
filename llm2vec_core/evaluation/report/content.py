"""The content of a report, as one record that is stored as ``report.json``."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from llm2vec_core.evaluation.results import (
    Average,
    Comparison,
    Decision,
    Distribution,
    Headline,
    ResultRecord,
    SliceScore,
    SystemReport,
    TaskOverlap,
    WorstQuery,
)
from llm2vec_core.ranking.fit import Rate
from llm2vec_core.training.settings import StageCurve


class ReportContent(ResultRecord):
    """All content of a report; pages, tables and plots are made from it.

    Attributes:
        title: Heading of the page.
        created_at: Time of creation, with its time zone.
        run_id: Id of the run that made it.
        systems: Compared systems, in the order of the columns; names are unique.
        averages: Means over tasks. A page prints these and computes none.
        comparisons: Pairs of systems, by task, category and over all.
        distributions: Spread of the scores over the queries of retrieval and reranking tasks.
        slices: Scores of each group of queries, by retrieval task.
        worst: Queries of each retrieval task with the lowest scores of its best system, lowest first.
        decision: The served system, if the evaluation decided that.
        training: Curves of the stages behind the candidate.
        notes: Paragraphs of plain text, such as a remark on short training.
        not_run: Systems missing from the tables of headline tasks, with the reason.
        headlines: Tasks that the page shows first, each in its own section.
        fit_limits: Limits of fit of the served encoder, as a sentence; empty if it has none.
        fit: Whether the rates that these limits and the fit state hold on held-back jobs.
        seen: What of the tasks is in the training sets of the compared encoders.
        machine: Hardware and versions, name to value.
    """

    title: str
    created_at: datetime
    run_id: str
    systems: tuple[SystemReport, ...]
    averages: tuple[Average, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    slices: tuple[SliceScore, ...] = ()
    worst: tuple[WorstQuery, ...] = ()
    decision: Decision | None = None
    training: tuple[StageCurve, ...] = ()
    notes: tuple[str, ...] = ()
    not_run: dict[str, str] = Field(default_factory=dict)
    headlines: tuple[Headline, ...] = ()
    fit_limits: str = ""
    fit: tuple[Rate, ...] = ()
    seen: tuple[TaskOverlap, ...] = ()
    machine: dict[str, str] = Field(default_factory=dict)
