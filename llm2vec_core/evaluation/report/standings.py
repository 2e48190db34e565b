"""Selections from a report for its tables, plots and sentences: tasks in order, averages, best systems, ties.

No averages are computed here: means over tasks are part of the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llm2vec_core.evaluation.metrics import METRIC_MEANINGS, RANKING_METRICS, WORD_METRIC_MEANINGS
from llm2vec_core.evaluation.published import JOB_TASKS, canonical_model
from llm2vec_core.evaluation.report.content import ReportContent
from llm2vec_core.evaluation.results import (
    ALL_SCOPE,
    WORD_SCOPE,
    Average,
    Comparison,
    PublishedScore,
    SystemReport,
    TaskScore,
)
from llm2vec_core.evaluation.systems import SystemTraits
from llm2vec_core.evaluation.tasks.types import EVAL_TASK_TYPES, WORD_TASK_TYPE, EvalTaskType
from llm2vec_core.model.modes import stage_title

_SHORT_NAMES = {
    "Retrieval": "Retr.",
    "Reranking": "Rerank.",
    "Clustering": "Clust.",
    "PairClassification": "PairClass.",
    "Classification": "Class.",
    "STS": "STS",
    "Summarization": "Summ.",
    ALL_SCOPE: "Avg",
    WORD_SCOPE: "Words",
}


def scope_title(scope: str) -> str:
    """Name of a scope as in the head of the paper's Table 1; other names stay as they are."""
    return _SHORT_NAMES.get(scope, scope)


POOLING_NAMES: dict[str, str] = {"eos": "EOS", "last": "EOS", "mean": "Mean", "weighted_mean": "W. mean"}
"""Poolings as in the heads of the paper's Table 5. Pooling the last token shares the column of EOS pooling, which
appends a token."""

_ENCODER_ONLY = frozenset({"BERT", "all-MiniLM-L6-v2"})
"""Models built as encoders; they form the paper's first group."""


_SENTENCES_SHOWN = 15
"""Maximum number of comparisons over all tasks that are shown unfolded."""

MAX_PAIRS_LISTED = 45
"""Maximum number of pairs of systems (ten systems) for which every pair is listed per task."""

_UNKNOWN = "As mteb defines it."
"""Meaning of a metric that ``evaluation.metrics`` does not explain."""


def seen_sentences(report: ReportContent) -> list[str]:
    """What of each task is in a training set."""
    return [found.sentence() for found in report.seen]


def clustered_tasks(report: ReportContent) -> list[str]:
    """Tasks whose items are drawn in clusters, with both numbers."""
    found = {
        score.task: f"{score.task}: {score.num_items:,} in {score.num_clusters:,} clusters"
        for system in report.systems
        for score in system.scores
        if score.num_clusters is not None
    }
    return list(found.values())


def job_anchors(report: ReportContent, published: Sequence[PublishedScore]) -> list[str]:
    """Published figures of the job benchmarks among the tasks."""
    tasks = {score.task for system in report.systems for score in system.scores}
    return [
        f"{figure.scope}: {figure.model} {figure.score:.1f}, published by {figure.source}."
        for figure in published
        if figure.scope in JOB_TASKS and figure.scope in tasks
    ]


# --- tasks ---------------------------------------------------------------------------------------------------------


def task_key(score: TaskScore) -> str:
    """Identity of a task: its name and content, so that results on different data never share a row."""
    return f"{score.task} {score.content_sha256}"


def tasks_by_category(report: ReportContent) -> dict[EvalTaskType, dict[str, TaskScore]]:
    """One score of each task, by category in the order of the paper's Table 1; word-level tasks come last.

    Returns:
        Category to task key to the first system's score of it; categories without a task are left out.
    """
    found: dict[str, TaskScore] = {}
    for system in report.systems:
        for score in system.scores:
            found.setdefault(task_key(score), score)
    by_category = {
        category: {key: score for key, score in found.items() if score.type == category}
        for category in (*EVAL_TASK_TYPES, WORD_TASK_TYPE)
    }
    return {category: tasks for category, tasks in by_category.items() if tasks}


def sentence_tasks(report: ReportContent) -> dict[EvalTaskType, dict[str, TaskScore]]:
    """The tasks of the seven categories."""
    return {category: tasks for category, tasks in tasks_by_category(report).items() if category != WORD_TASK_TYPE}


def scores_by_task(systems: Sequence[SystemReport]) -> list[dict[str, TaskScore]]:
    """For each system its scores by task key."""
    return [{task_key(score): score for score in system.scores} for system in systems]


def word_tasks(report: ReportContent) -> dict[EvalTaskType, dict[str, TaskScore]]:
    """The word-level tasks."""
    return {category: tasks for category, tasks in tasks_by_category(report).items() if category == WORD_TASK_TYPE}


# --- averages and comparisons --------------------------------------------------------------------------------------


def averages_of(report: ReportContent, scope: str) -> dict[str, Average]:
    """Name of the system to its average of a scope, in the order of the systems."""
    found = {average.system: average for average in report.averages if average.scope == scope}
    return {system.name: found[system.name] for system in report.systems if system.name in found}


def num_tasks(report: ReportContent, scope: str) -> int:
    """Number of tasks behind the averages of a scope; zero if there are none."""
    return max((average.num_tasks for average in report.averages if average.scope == scope), default=0)


def category_scopes(report: ReportContent) -> tuple[str, ...]:
    """The categories that have averages, in the order of Table 1."""
    scopes = {average.scope for average in report.averages}
    return tuple(category for category in EVAL_TASK_TYPES if category in scopes)


def comparisons_by_scope(report: ReportContent) -> dict[str, list[Comparison]]:
    """The comparisons of each scope: over all, the categories, the words, then task by task."""
    order = (ALL_SCOPE, *EVAL_TASK_TYPES, WORD_SCOPE)
    order += tuple(task.task for tasks in tasks_by_category(report).values() for task in tasks.values())
    scopes = dict.fromkeys(comparison.scope for comparison in report.comparisons)
    ranked = sorted(scopes, key=lambda scope: order.index(scope) if scope in order else len(order))
    return {scope: [one for one in report.comparisons if one.scope == scope] for scope in ranked}


def ties(report: ReportContent) -> frozenset[tuple[str, str, str]]:
    """Pairs of systems without a significant difference: scope and both names, in either order."""
    undecided = [comparison for comparison in report.comparisons if not comparison.is_significant]
    return frozenset(
        (one.scope, *pair) for one in undecided for pair in ((one.better, one.worse), (one.worse, one.better))
    )


def tied_with(report: ReportContent, system: str | None, scope: str) -> list[str]:
    """Systems that do not differ significantly from one system, among those with an average of the scope."""
    undecided = ties(report)
    return [name for name in averages_of(report, scope) if (scope, name, system) in undecided]


def best_system(report: ReportContent, scope: str) -> str | None:
    """The system with the highest average of a scope; None if fewer than two systems have one."""
    averages = averages_of(report, scope)
    return max(averages, key=lambda name: averages[name].score) if len(averages) > 1 else None


def overall_sentences(report: ReportContent) -> tuple[list[str], list[str]]:
    """Findings over all tasks, in words: those to show, and those to fold.

    Up to :data:`_SENTENCES_SHOWN` all are shown, otherwise only those with the best system.
    """
    found = comparisons_by_scope(report).get(ALL_SCOPE, [])
    best = best_system(report, ALL_SCOPE)
    is_shown = [len(found) <= _SENTENCES_SHOWN or best in (one.better, one.worse) for one in found]
    pairs = list(zip(found, is_shown, strict=True))
    return [one.sentence() for one, shown in pairs if shown], [one.sentence() for one, shown in pairs if not shown]


def has_many_pairs(report: ReportContent) -> bool:
    """Whether some scope compares more pairs than a table lists."""
    return any(len(found) > MAX_PAIRS_LISTED for found in comparisons_by_scope(report).values())


# --- queries and metrics -------------------------------------------------------------------------------------------


def other_query_tasks(report: ReportContent) -> list[str]:
    """Tasks with scores of single queries but without their own section."""
    headlines = [headline.task for headline in report.headlines]
    tasks = dict.fromkeys([one.task for one in report.slices] + [one.task for one in report.worst])
    return [task for task in tasks if task not in headlines]


def metric_meanings(report: ReportContent) -> list[tuple[str, str]]:
    """Name and meaning of every metric that the report shows."""
    used = [task.main_score_name for tasks in sentence_tasks(report).values() for task in tasks.values()]
    scored = {score.task for system in report.systems for score in system.scores}
    if any(headline.task in scored for headline in report.headlines):
        used += RANKING_METRICS.values()
    titles = {metric: title for title, metric in RANKING_METRICS.items()}
    meanings = [(titles.get(metric, metric), METRIC_MEANINGS.get(metric, _UNKNOWN)) for metric in dict.fromkeys(used)]
    words = dict.fromkeys(task.main_score_name for tasks in word_tasks(report).values() for task in tasks.values())
    return meanings + [(f"{metric}, word-level", WORD_METRIC_MEANINGS.get(metric, _UNKNOWN)) for metric in words]


# --- groups of systems ---------------------------------------------------------------------------------------------


def system_groups(report: ReportContent) -> list[tuple[str, list[SystemReport]]]:
    """Systems as the paper's Table 1 groups them.

    Returns:
        Title and systems: keyword and hybrid search, encoder-only models, then each base model in order of appearance.
    """
    titles = {"search": "Keyword and hybrid search", "encoder": "Encoder-only"}
    groups: dict[str, list[SystemReport]] = {"search": [], "encoder": []}
    for system in report.systems:
        groups.setdefault(_group_key(system), []).append(system)
    return [(titles.get(key, key.removeprefix("base ")), systems) for key, systems in groups.items() if systems]


def _group_key(system: SystemReport) -> str:
    if system.mode != "dense":
        return "search"
    if system.traits is None:
        return "base Other encoders"
    if canonical_model(system.traits.base_model) in _ENCODER_ONLY:
        return "encoder"
    return f"base {system.traits.base_model}"


@dataclass(frozen=True)
class AblationRow:
    """A way of training with its averages over all tasks.

    Attributes:
        training: Attention and stages as in the paper's Table 5, such as ``Bi + MNTP``.
        system: Name of the system, if several share training and pooling; distinguishes the rows.
        averages: Averages by name of the pooling.
    """

    training: str
    system: str
    averages: dict[str, Average]


@dataclass(frozen=True)
class Ablation:
    """Averages of one base model by attention, training and pooling."""

    base_model: str
    rows: tuple[AblationRow, ...]


_TRAINING_ORDER = ("Uni", "Bi", "Bi + MNTP", "Uni + SimCSE", "Bi + SimCSE", "Bi + MNTP + SimCSE")


def ablations(report: ReportContent) -> tuple[Ablation, ...]:
    """Table 5 and Figure 3 of the paper: one per base model with averages of at least two variants."""
    averages = averages_of(report, ALL_SCOPE)
    by_base: dict[str, list[tuple[SystemTraits, Average]]] = {}
    for system in report.systems:
        if system.mode == "dense" and system.traits is not None and system.name in averages:
            by_base.setdefault(system.traits.base_model, []).append((system.traits, averages[system.name]))
    return tuple(
        Ablation(base_model, _ablation_rows(found))
        for base_model, found in by_base.items()
        if len({traits.model_dump_json() for traits, _ in found}) > 1
    )


def _ablation_rows(found: Iterable[tuple[SystemTraits, Average]]) -> tuple[AblationRow, ...]:
    """One row per training; systems with the same traits get further rows, marked with their names."""
    rows: dict[tuple[str, str], dict[str, Average]] = {}
    for traits, average in found:
        training, pooling = training_name(traits), POOLING_NAMES[traits.pooling_mode]
        is_taken = pooling in rows.get((training, ""), {})
        rows.setdefault((training, average.system if is_taken else ""), {})[pooling] = average
    known = [*_TRAINING_ORDER, *(f"{training}, standardised" for training in _TRAINING_ORDER)]
    ordered = sorted(rows, key=lambda row: known.index(row[0]) if row[0] in known else len(known))
    return tuple(AblationRow(training, system, rows[training, system]) for training, system in ordered)


def training_name(traits: SystemTraits) -> str:
    """Attention and training as in the rows of the paper's Table 5; echo and standardisation get their own rows."""
    attention = "Uni" if traits.attention == "causal" else "Bi"
    stages = [stage_title(stage).short for stage in traits.stages]
    standardised = ", standardised" if traits.standardised else ""
    return " + ".join([attention, *stages]) + (", echo" if traits.echo else "") + standardised
