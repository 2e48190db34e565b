"""Analysis of a ranking task per query: scores of query groups, and the worst queries with their texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from llm2vec_core.evaluation.results import SliceScore, WorstQuery
from llm2vec_core.evaluation.statistics.observations import MeanOfItems
from llm2vec_core.evaluation.statistics.stats import Estimate, estimate
from llm2vec_core.evaluation.tasks.folders import EvalTask
from llm2vec_core.evaluation.tasks.layouts import TaskRow

LENGTH = "length"
"""Name of the slices that every retrieval task has: thirds of its queries by word count."""

WORST_QUERIES = 10
"""Number of queries that a report shows with their texts."""

_MIN_QUERIES_BY_LENGTH = 30
_QUERY_CHARS, _DOCUMENT_CHARS = 400, 200
_RELEVANT_SHOWN = 2


@dataclass(frozen=True)
class QueryScores:
    """Scores of each query of a ranking task, in the order of the queries' ids.

    Attributes:
        metrics: Name of a metric to its value for each query, from 0 to 100.
        first: Id of each query's first document.
        clusters: Number of each query's cluster (``clusters``); None if each query is its own.
    """

    metrics: Mapping[str, Float[np.ndarray, " num_queries"]]
    first: Sequence[str]
    clusters: Int[np.ndarray, " num_queries"] | None = None

    def estimates(self, *, content_sha256: str) -> dict[str, Estimate]:
        """Mean of each metric, and its variation over other queries."""
        return {
            name: estimate(
                float(values.mean()), [MeanOfItems(values)], content_sha256=content_sha256, clusters=self.clusters
            )
            for name, values in self.metrics.items()
        }


def slice_scores(eval_task: EvalTask, by_system: Mapping[str, QueryScores]) -> list[SliceScore]:
    """Main score of each system on each group of queries.

    Args:
        eval_task: A retrieval task, with groups and texts of its queries.
        by_system: Name of the system to the scores of its queries.
    """
    found = []
    for (name, value), places in _slices(_in_order(eval_task)).items():
        for system, queries in by_system.items():
            values = queries.metrics[eval_task.main_score][places]
            clusters = None if queries.clusters is None else np.unique(queries.clusters[places], return_inverse=True)[1]
            mean = estimate(
                float(values.mean()),
                [MeanOfItems(values)],
                content_sha256=eval_task.content_sha256,
                clusters=clusters,
            )
            low, high = mean.interval() or (None, None)
            if low is not None:
                low = max(0.0, low)  # scores are not negative, but intervals of few queries may be
            found.append(
                SliceScore(
                    task=eval_task.name,
                    name=name,
                    value=value,
                    system=system,
                    num_queries=len(values),
                    score=mean.score,
                    ci_low=low,
                    ci_high=high,
                )
            )
    return found


def worst_queries(eval_task: EvalTask, by_system: Mapping[str, QueryScores]) -> list[WorstQuery]:
    """The queries with the lowest scores of the best system, with texts; ties by id.

    Args:
        eval_task: A retrieval task.
        by_system: Name of the system to the scores of its queries; at least one.
    """
    values = {name: queries.metrics[eval_task.main_score] for name, queries in by_system.items()}
    best = max(values, key=lambda name: float(values[name].mean()))
    queries = _in_order(eval_task)
    documents = {row["_id"]: row for row in eval_task.tables["corpus"]}
    relevant: dict[str, dict[str, int]] = {}
    for row in eval_task.tables["qrels"]:
        relevant.setdefault(row["query"], {})[row["document"]] = row["score"]
    found = []
    for place in np.argsort(values[best], kind="stable")[:WORST_QUERIES]:
        query, first = queries[place], by_system[best].first[place]
        judged = relevant[query["_id"]]
        wanted = sorted((each for each in judged if judged[each] > 0), key=lambda each: -judged[each])
        others = {name: float(scores[place]) for name, scores in values.items() if name != best}
        other = max(others, key=lambda name: others[name], default=None)
        found.append(
            WorstQuery(
                task=eval_task.name,
                system=best,
                query=query["_id"],
                text=_shortened(query["text"], _QUERY_CHARS),
                score=float(values[best][place]),
                best_other=other,
                best_other_score=None if other is None else others[other],
                first=_document(documents[first]) if first in documents else "",
                first_relevance=judged.get(first, 0),
                relevant=tuple(_document(documents[each]) for each in wanted[:_RELEVANT_SHOWN]),
            )
        )
    return found


def _in_order(eval_task: EvalTask) -> list[TaskRow]:
    """Queries in the order of :class:`QueryScores`."""
    return sorted(eval_task.tables["queries"], key=lambda row: str(row["_id"]))


def _slices(queries: Sequence[TaskRow]) -> dict[tuple[str, str], list[int]]:
    """Positions of the queries of each group, by its name and value."""
    found: dict[tuple[str, str], list[int]] = {}
    names = sorted({name for row in queries for name in row.get("slices", {})})
    for name in names:
        values = sorted({row["slices"][name] for row in queries if name in row.get("slices", {})})
        for value in values:
            of_value = [at for at, row in enumerate(queries) if row.get("slices", {}).get(name) == value]
            found[name, value] = of_value
    if len(queries) >= _MIN_QUERIES_BY_LENGTH:
        words = np.array([len(row["text"].split()) for row in queries])
        by_length = np.argsort(words, kind="stable")
        for third in np.array_split(by_length, 3):
            shortest, longest = words[third].min(), words[third].max()
            found[LENGTH, f"{shortest} to {longest} words"] = sorted(third.tolist())
    return found


def _document(row: TaskRow) -> str:
    return _shortened(f"{row.get('title') or ''}: {row['text']}".removeprefix(": "), _DOCUMENT_CHARS)


def _shortened(text: str, num_chars: int) -> str:
    """A text on one line, truncated after a word."""
    line = " ".join(text.split())
    return line if len(line) <= num_chars else f"{line[:num_chars].rsplit(' ', 1)[0]} …"
