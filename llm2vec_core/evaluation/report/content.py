"""What a report says, as one record that is stored beside its pages.

Belongs here: the record itself. Does not belong here: what is read out of it (``standings``), how it looks (``pages``).
"""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from llm2vec_core.evaluation.results import (
    Average,
    Comparison,
    Decision,
    Distribution,
    Headline,
    Record,
    SliceScore,
    SystemReport,
    WorstQuery,
)
from llm2vec_core.training.settings import StageCurve


class ReportContent(Record):
    """Everything a report says: what the pages, tables and plots are made from.

    Attributes:
        title: Heading of the page.
        created_at: When, with its time zone.
        run_id: The run that made it.
        systems: What was compared, in the order of the columns; each name once.
        averages: Means over tasks. A page prints these and computes none of its own.
        comparisons: Pairs of systems, by task, category and over all.
        distributions: How the scores spread over the queries of retrieval and reranking tasks.
        slices: Scores of kinds of queries, by retrieval task.
        worst: The queries of each retrieval task on which its best system is worst, the worst first.
        decision: What is served, if the report decided something.
        training: Curves of the stages behind the candidate.
        notes: Paragraphs of plain text, such as what so little training can do.
        not_run: Systems that belong into the tables of headline tasks and could not be scored, and why.
        headlines: Tasks that the page shows first, each in a section of its own.
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
    machine: dict[str, str] = Field(default_factory=dict)
