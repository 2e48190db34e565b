"""Clusters of a task's items: queries or pairs that count as one observation.

A bootstrap that draws dependent items one by one gives intervals that are too narrow. By default, queries with the same
relevant documents form a cluster, and so do pairs that share a sentence. A row may name its cluster itself.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Int

from llm2vec_core.evaluation.tasks.folders import EvalTask
from llm2vec_core.evaluation.tasks.layouts import TaskRow

Clusters = Int[np.ndarray, " num_items"]
"""Number of the cluster of each item, from zero, in the order of the observations."""


def item_clusters(eval_task: object) -> Clusters | None:
    """Clusters of the items of a task.

    Args:
        eval_task: The task. Only task folders have clusters; the rows of a benchmark are not known before it runs.

    Returns:
        The clusters, or None if each item is its own cluster.
    """
    if not isinstance(eval_task, EvalTask):
        return None
    if eval_task.type in ("STS", "PairClassification"):
        rows = eval_task.tables["pairs"]
        found = _named(rows) if _names_clusters(rows) else _sharing_sentences(rows)
    elif eval_task.type == "Retrieval":
        rows = sorted(eval_task.tables["queries"], key=lambda row: str(row["_id"]))  # the order of the scores
        found = _named(rows) if _names_clusters(rows) else _same_relevant(rows, eval_task.tables["qrels"])
    else:
        return None
    return None if len(np.unique(found)) == len(found) else found


def _names_clusters(rows: Sequence[TaskRow]) -> bool:
    return any("cluster" in row for row in rows)


def _named(rows: Sequence[TaskRow]) -> Clusters:
    """Clusters by the key of each row; a row without one is alone."""
    return _numbered([("cluster", row["cluster"]) if "cluster" in row else ("row", at) for at, row in enumerate(rows)])


def _same_relevant(queries: Sequence[TaskRow], qrels: Sequence[TaskRow]) -> Clusters:
    relevant: dict[str, set[str]] = {}
    for row in qrels:
        if row["score"] > 0:
            relevant.setdefault(row["query"], set()).add(row["document"])
    return _numbered([frozenset(relevant.get(query["_id"], ())) for query in queries])


def _sharing_sentences(pairs: Sequence[TaskRow]) -> Clusters:
    """Connected components of the pairs, where a shared sentence connects two."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    numbers = _numbered([row["sentence1"] for row in pairs] + [row["sentence2"] for row in pairs])
    sides = numbers.reshape(2, -1)
    size = int(numbers.max()) + 1
    _, component = connected_components(coo_array((np.ones(len(pairs)), (sides[0], sides[1])), shape=(size, size)))
    return _numbered(component[sides[0]].tolist())


def _numbered(keys: Sequence[Hashable]) -> Clusters:
    """Equal keys get equal numbers, in order of appearance."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys])
