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
        main_score_name: The metric that stands for the task.
        main_score: Its value from 0 to 100; correlations can be below zero.
        metrics: Every metric computed, on the same scale. Retrieval and reranking: ``ndcg_at_10``, ``map_at_1000``
            (MAP), ``mrr_at_10``, ``precision_at_5``, ``recall_at_100`` and others.
        ci_low: Lower end of the 95 % bootstrap interval of the main score; none where the items are not known.
        ci_high: Upper end.
        intervals: Intervals of the metrics that are known query by query, the main score among them.
        seconds: Wall time, encoding included.
        encode_seconds: Part of it that was spent on encoding.
        num_items: Pairs, queries, test texts, items, samples or sentences scored.
        num_texts: Distinct texts encoded for this task; texts that another task had encoded before do not count.
        num_tokens: Their tokens.
        content_sha256: Identity of the task's content.
        system_fingerprint: Identity of the system.
        is_official: Whether this is a task of MTEB, so that published figures compare.
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
    num_texts: int
    num_tokens: int = 0
    content_sha256: str
    system_fingerprint: str
    is_official: bool = False

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens encoded per second of encoding; none where nothing was encoded."""
        return self.num_tokens / self.encode_seconds if self.num_tokens and self.encode_seconds else None


class SystemReport(ResultRecord):
    """One system and its scores.

    Attributes:
        name: Short; heads its column.
        description: Description in a sentence.
        fingerprint: Identity of the system.
        mode: How it ranks.
        traits: Its place in the ablation: base model, attention, training, pooling; none for BM25.
        scores: One a task that it can do.
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
        num_tasks: Tasks behind the mean; all systems of a scope did the same ones.
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
        worse: Name of the other.
        difference: Points between them, zero or more.
        ci_low: Lower end of the 95 % interval of the difference.
        ci_high: Upper end.
        p_value: Two-sided paired bootstrap test, Holm-corrected over the pairs of systems of this scope.
        smallest_difference: Points that these items would show in four of five cases (80 % power, 5 % level).
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
        """The finding in plain words."""
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
    """Score of a system on one kind of queries.

    Attributes:
        task: Name of the retrieval task.
        name: Property of the queries, such as ``seniority``.
        value: Its value for these queries, such as ``lead``.
        system: Name of the system.
        num_queries: Number of queries.
        score: Their main score, from 0 to 100.
        ci_low: Lower end of its 95 % interval; none for a single query.
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
        text: Its text, or the beginning of it.
        score: Its main score, from 0 to 100.
        best_other: Name of the other system that did best on it; none where there is no other.
        best_other_score: Its score.
        first: Beginning of the document that the system ranked first; empty where it found none.
        first_relevance: Judgment of that document, zero where there is none.
        relevant: Beginnings of documents that should have been there.
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
    """Which system is served from now on, and why.

    Attributes:
        served: Name of the system that is served.
        reason: The reason, as one plain sentence.
        candidate: Name of the new system that was judged, if there was one.
        incumbent: Name of the system served before, if there was one.
        findings: Findings of the gate, one plain sentence a category.
    """

    served: str
    reason: str
    candidate: str | None = None
    incumbent: str | None = None
    findings: tuple[str, ...] = ()


class Headline(ResultRecord):
    """A retrieval task that a report shows first, in a section of its own with many metrics.

    Attributes:
        task: Name of the task.
        title: Title of the section, such as ``{count} job descriptions``.
        caption: Caption of its table; ``{count}`` is the number of queries here, too.
        note: A remark on the task for the notes of the report.
    """

    task: str
    title: str
    caption: str
    note: str = ""

    @staticmethod
    def with_count(text: str, count: int) -> str:
        """A title or caption with the number of queries in it."""
        return text.replace("{count}", str(count))


class PublishedScore(ResultRecord):
    """A published figure.

    Attributes:
        model: Name of the base model or encoder, such as ``LLaMA-2-7B`` or ``all-MiniLM-L6-v2``.
        system: The row, such as ``Uni + w. Mean``, ``LLM2Vec`` or ``Bi + MNTP, mean``.
        scope: Name of a task, a category, or ``all``.
        score: The figure.
        source: Paper or page that gives it.
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
