"""Comparison of systems: averages, paired tests, and the spread over queries."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass

import numpy as np

from llm2vec_core.evaluation.protocols.registry import ScorableTask
from llm2vec_core.evaluation.protocols.scoring import Outcome
from llm2vec_core.evaluation.results import (
    ALL_SCOPE,
    WORD_SCOPE,
    Average,
    Comparison,
    Distribution,
    SliceScore,
    SystemReport,
    WorstQuery,
    metric_scope,
)
from llm2vec_core.evaluation.statistics.stats import Estimate, compare_all, mean_estimate
from llm2vec_core.evaluation.tasks.folders import EvalTask
from llm2vec_core.evaluation.tasks.queries import QueryScores, slice_scores, worst_queries
from llm2vec_core.evaluation.tasks.types import EVAL_TASK_TYPES, WORD_TASK_TYPE

_QUANTILES = np.arange(0, 101, 5)


@dataclass(frozen=True)
class ScoredSystem:
    """A system with its scores and outcomes; intervals and comparisons come from the outcomes."""

    report: SystemReport
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True)
class SideBySide:
    """Comparison of several systems on the same tasks.

    Attributes:
        averages: Averages of categories and of all tasks, for systems with scores on all tasks of the scope.
        comparisons: Every pair of systems, by task, by category and over all tasks.
        distributions: Spread over queries, by task and system.
        slices: Scores of query groups of retrieval task folders.
        worst: Their worst queries.
    """

    averages: tuple[Average, ...]
    comparisons: tuple[Comparison, ...]
    distributions: tuple[Distribution, ...]
    slices: tuple[SliceScore, ...] = ()
    worst: tuple[WorstQuery, ...] = ()


def compare_systems(
    systems: Sequence[ScoredSystem], eval_tasks: Sequence[ScorableTask] = (), *, headlines: Collection[str] = ()
) -> SideBySide:
    """Compare systems.

    Args:
        systems: Scored systems.
        eval_tasks: The tasks. Retrieval tasks among them that are task folders get slices and worst queries.
        headlines: Names of tasks to compare by every metric, not only by the main score.
    """
    averages: list[Average] = []
    comparisons: list[Comparison] = []
    for scope, tasks in _scopes(systems).items():
        found = {
            system.report.name: mean_estimate([by_task[task] for task in tasks])
            for system in systems
            if all(task in (by_task := _by_task(system)) for task in tasks)
        }
        averages += [_average(name, scope, len(tasks), each) for name, each in found.items()]
        comparisons += compare_all(scope, found)
    for task, name in _task_names(systems).items():
        done = {system.report.name: by_task[task] for system in systems if task in (by_task := _by_task(system))}
        comparisons += compare_all(name, done)
        if name in headlines:
            comparisons += _compare_metrics(systems, task, name)
    distributions = [_distribution(system.report.name, outcome) for system in systems for outcome in system.outcomes]
    slices: list[SliceScore] = []
    worst: list[WorstQuery] = []
    for eval_task in eval_tasks:
        by_system = _queries(systems, eval_task.content_sha256)
        if isinstance(eval_task, EvalTask) and eval_task.type == "Retrieval" and by_system:
            slices += slice_scores(eval_task, by_system)
            worst += worst_queries(eval_task, by_system)
    return SideBySide(
        tuple(averages),
        tuple(comparisons),
        tuple(each for each in distributions if each is not None),
        tuple(slices),
        tuple(worst),
    )


def category_estimates(outcomes: Sequence[Outcome], *, among: Set[str]) -> dict[str, tuple[list[str], Estimate]]:
    """Mean of the outcomes of each category, over tasks with the given contents.

    Returns:
        Category to the names of its tasks and their mean.
    """
    grouped: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.score.content_sha256 in among:
            grouped.setdefault(outcome.score.type, []).append(outcome)
    return {
        category: ([each.score.task for each in group], mean_estimate([each.estimate for each in group]))
        for category, group in grouped.items()
    }


def _queries(systems: Sequence[ScoredSystem], task: str) -> dict[str, QueryScores]:
    """Scores per query of each system with scores on a task."""
    return {
        system.report.name: outcome.queries
        for system in systems
        for outcome in system.outcomes
        if outcome.score.content_sha256 == task and outcome.queries is not None
    }


def _by_task(system: ScoredSystem) -> dict[str, Estimate]:
    return {outcome.score.content_sha256: outcome.estimate for outcome in system.outcomes}


def _task_names(systems: Sequence[ScoredSystem]) -> dict[str, str]:
    """Content hash of each task to its name; results on different data are never compared."""
    return {outcome.score.content_sha256: outcome.score.task for system in systems for outcome in system.outcomes}


def _scopes(systems: Sequence[ScoredSystem]) -> dict[str, list[str]]:
    """Scope to the content of its tasks: the categories, all sentence-level tasks, all word-level ones."""
    types = {outcome.score.content_sha256: outcome.score.type for system in systems for outcome in system.outcomes}
    scopes: dict[str, list[str]] = {
        **{category: [task for task, kind in types.items() if kind == category] for category in EVAL_TASK_TYPES},
        ALL_SCOPE: [task for task, kind in types.items() if kind != WORD_TASK_TYPE],
        WORD_SCOPE: [task for task, kind in types.items() if kind == WORD_TASK_TYPE],
    }
    return {scope: tasks for scope, tasks in scopes.items() if tasks}


def _compare_metrics(systems: Sequence[ScoredSystem], task: str, task_name: str) -> list[Comparison]:
    """Compare every pair of systems by each metric of a headline task other than its main score."""
    scores = [outcome.score for system in systems for outcome in system.outcomes]
    main_scores = {score.main_score_name for score in scores if score.content_sha256 == task}
    by_metric: dict[str, dict[str, Estimate]] = {}
    for name, queries in _queries(systems, task).items():
        for metric, found in queries.estimates(content_sha256=task).items():
            by_metric.setdefault(metric, {})[name] = found
    return [
        one
        for metric, found in by_metric.items()
        if metric not in main_scores
        for one in compare_all(metric_scope(task_name, metric), found)
    ]


def _average(system: str, scope: str, num_tasks: int, found: Estimate) -> Average:
    low, high = found.interval() or (None, None)
    return Average(system=system, scope=scope, num_tasks=num_tasks, score=found.score, ci_low=low, ci_high=high)


def _distribution(system: str, outcome: Outcome) -> Distribution | None:
    if outcome.by_item is None:
        return None
    return Distribution(
        task=outcome.score.task,
        metric=outcome.score.main_score_name,
        system=system,
        quantiles=tuple(float(value) for value in np.percentile(outcome.by_item, _QUANTILES)),
        share_zero=float(np.mean(outcome.by_item == 0)),
    )
