"""Records of an evaluation: scores with intervals, comparisons, decisions, and the systems that they belong to."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from llm2vec_core.evaluation.systems import SystemMode, SystemTraits
from llm2vec_core.evaluation.tasks.types import EvalTaskType

ALL_SCOPE = "all"
"""Scope of every sentence-level task; the other scopes are categories and names of tasks."""

WORD_SCOPE = "word"
"""Scope of every word-level task."""


def metric_scope(task: str, metric: str) -> str:
    """Scope of comparisons by a metric of a task that is not its main score."""
    return f"{task} {metric}"


class ResultRecord(BaseModel):
    """A record that is stored as JSON and never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TaskScore(ResultRecord):
    """Score of one system on one task.

    Attributes:
        task: Name of the task.
        type: Its category.
        main_score_name: The main metric of the task.
        main_score: Its value from 0 to 100; correlations can be below zero.
        metrics: Every metric computed, on the same scale. Retrieval and reranking: ``ndcg_at_10``, ``map_at_1000``
            (MAP), ``mrr_at_10``, ``precision_at_5``, ``recall_at_100`` and others.
        ci_low: Lower end of the 95 % bootstrap interval of the main score; None if the items are unknown.
        ci_high: Upper end.
        intervals: Intervals of the metrics with values per query, including the main score.
        seconds: Wall time, including encoding.
        encode_seconds: Part of it that was spent on encoding.
        num_items: Pairs, queries, test texts, items, samples or sentences scored.
        num_clusters: Clusters of items that intervals and tests draw; None if each item is drawn by itself.
        num_texts: Distinct texts encoded for this task, without those that an earlier task encoded.
        num_tokens: Number of their tokens.
        num_cut_tokens: Tokens of these texts that were cut; 0 in records of versions that did not count them.
        content_sha256: Identity of the task's content.
        system_fingerprint: Identity of the system.
        is_official: Whether this is an official MTEB task, so that published figures are comparable.
    """

    task: str
    type: EvalTaskType
    main_score_name: str
    main_score: float
    metrics: dict[str, float]
    ci_low: float | None = None
    ci_high: float | None = None
    intervals: dict[str, tuple[float, float]] = Field(default_factory=dict)
    seconds: float
    encode_seconds: float = 0.0
    num_items: int
    num_clusters: int | None = None
    num_texts: int
    num_tokens: int = 0
    num_cut_tokens: int = 0
    content_sha256: str
    system_fingerprint: str
    is_official: bool = False

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens encoded per second of encoding; None if nothing was encoded."""
        return self.num_tokens / self.encode_seconds if self.num_tokens and self.encode_seconds else None


class SystemReport(ResultRecord):
    """One system and its scores.

    Attributes:
        name: Short name, for its column head.
        description: Description in a sentence.
        fingerprint: Identity of the system.
        mode: Its way of ranking.
        traits: Its place in the ablation: base model, attention, training, pooling; None for BM25.
        scores: One per task that it supports.
    """

    name: str
    description: str = ""
    fingerprint: str
    mode: SystemMode
    traits: SystemTraits | None = None
    scores: tuple[TaskScore, ...]


class Average(ResultRecord):
    """Mean main score of a system over tasks, with its interval.

    Attributes:
        system: Name of the system.
        scope: A category, :data:`ALL_SCOPE` or :data:`WORD_SCOPE`.
        num_tasks: Number of tasks behind the mean, the same tasks for all systems of a scope.
    """

    system: str
    scope: str
    num_tasks: int
    score: float
    ci_low: float | None = None
    ci_high: float | None = None


class Comparison(ResultRecord):
    """Test of the difference between two systems on the same items.

    Attributes:
        scope: Name of the task, or a category, or ``all``.
        better: Name of the system with the higher score.
        worse: Name of the other system.
        difference: Points between them, zero or more.
        ci_low: Lower end of the 95 % interval of the difference.
        ci_high: Upper end.
        p_value: Two-sided paired bootstrap test, Holm-corrected over the pairs of systems of this scope.
        smallest_difference: Smallest difference in points that these items detect with 80 % power at the 5 % level.
        is_significant: Whether the corrected p-value is below 0.05.
    """

    scope: str
    better: str
    worse: str
    difference: float = Field(ge=0)
    ci_low: float
    ci_high: float
    p_value: float = Field(ge=0, le=1)
    smallest_difference: float
    is_significant: bool

    def sentence(self) -> str:
        """The finding in words."""
        interval = f"95 % interval {self.ci_low:.1f} to {self.ci_high:.1f}".replace("-", "−")
        if self.is_significant:
            return (
                f"{self.better} and {self.worse} differ: {self.better} is {self.difference:.1f} points higher "
                f"({interval}, p {_printed_p(self.p_value)})."
            )
        return (
            f"These items can't tell {self.better} and {self.worse} apart: {self.difference:.1f} points ({interval}, "
            f"p {_printed_p(self.p_value)}). They would show a difference of {self.smallest_difference:.1f} points."
        )


def _printed_p(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


class Distribution(ResultRecord):
    """Spread of a score over the queries of a retrieval or reranking task.

    Attributes:
        task: Name of the task.
        metric: Metric of each query.
        system: Name of the system.
        quantiles: Its values at 0, 5, 10, ..., 100 % of the queries, from 0 to 100.
        share_zero: Share of the queries that score zero.
    """

    task: str
    metric: str
    system: str
    quantiles: tuple[float, ...]
    share_zero: float


class SliceScore(ResultRecord):
    """Score of a system on one group of queries.

    Attributes:
        task: Name of the retrieval task.
        name: Property of the queries, such as ``seniority``.
        value: Its value for these queries, such as ``lead``.
        system: Name of the system.
        num_queries: Number of queries.
        score: Their main score, from 0 to 100.
        ci_low: Lower end of its 95 % interval; None for a single query.
        ci_high: Upper end.
    """

    task: str
    name: str
    value: str
    system: str
    num_queries: int
    score: float
    ci_low: float | None = None
    ci_high: float | None = None


class WorstQuery(ResultRecord):
    """A query on which the best system of a task scored low.

    Attributes:
        task: Name of the retrieval task.
        system: Name of that system.
        query: Identity of the query.
        text: Its text, possibly shortened.
        score: Its main score, from 0 to 100.
        best_other: Name of the best other system on it; None without other systems.
        best_other_score: Its score.
        first: Beginning of the document that the system ranked first; empty if it found none.
        first_relevance: Judgment of that document, zero without one.
        relevant: Beginnings of the relevant documents.
    """

    task: str
    system: str
    query: str
    text: str
    score: float
    best_other: str | None = None
    best_other_score: float | None = None
    first: str
    first_relevance: int
    relevant: tuple[str, ...]


class Decision(ResultRecord):
    """The system to serve from now on, with the reason.

    Attributes:
        served: Name of the system that is served.
        reason: The reason, as one plain sentence.
        candidate: Name of the new system that was evaluated, if there was one.
        incumbent: Name of the system served before, if there was one.
        findings: Findings of the gate, one sentence per category.
        refused: Whether the candidate is worse beyond chance. A candidate that is only not proven to be better is not
            served either, but that needs nobody's attention.
    """

    served: str
    reason: str
    candidate: str | None = None
    incumbent: str | None = None
    findings: tuple[str, ...] = ()
    refused: bool = False


class TaskOverlap(ResultRecord):
    """What of a task is in a training set.

    Attributes:
        task: Name of the task.
        training_set: Name of the training set.
        scored_seen: Scored texts that are in it, or share eight words in a row with one of its texts.
        num_scored: Number of distinct scored texts.
        documents_seen: Documents of the corpus whose title or text is in it.
        num_documents: Number of documents; zero for a task without a corpus.
    """

    task: str
    training_set: str
    scored_seen: int
    num_scored: int
    documents_seen: int = 0
    num_documents: int = 0

    def sentence(self) -> str:
        """The overlap in words."""
        documents = (
            f" and {self.documents_seen:,} of its {self.num_documents:,} documents" if self.num_documents else ""
        )
        return (
            f"{self.task}: {self.training_set} contains {self.scored_seen:,} of its {self.num_scored:,} scored texts"
            f"{documents}."
        )


class Headline(ResultRecord):
    """A retrieval task that a report shows first, in its own section with many metrics.

    Attributes:
        task: Name of the task.
        title: Title of the section, such as ``{count} job descriptions``.
        caption: Caption of its table; ``{count}`` is also the number of queries.
        note: A remark on the task for the notes of the report.
    """

    task: str
    title: str
    caption: str
    note: str = ""

    @staticmethod
    def with_count(text: str, count: int) -> str:
        """Insert the number of queries into a title or caption."""
        return text.replace("{count}", str(count))


class PublishedScore(ResultRecord):
    """A published figure.

    Attributes:
        model: Name of the base model or encoder, such as ``LLaMA-2-7B`` or ``all-MiniLM-L6-v2``.
        system: The row, such as ``Uni + w. Mean``, ``LLM2Vec`` or ``Bi + MNTP, mean``.
        scope: Name of a task, a category, or ``all``.
        score: The figure.
        source: Paper or page with the figure.
        other_score: Figure of another source for the same cell, if it differs.
        other_source: That source.
    """

    model: str
    system: str
    scope: str
    score: float
    source: str
    other_score: float | None = None
    other_source: str | None = None
