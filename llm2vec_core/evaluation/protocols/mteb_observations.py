"""Scores of single items, from mteb's predictions.

mteb passes a task's predictions to ``_save_task_predictions`` when a prediction folder is given. Here they are captured
in memory instead of written. Importing this module imports mteb, which is slow.
Belongs here: converting results of mteb's task classes to ``Observations``. Does not belong here: scoring
resamples of them (``observations``), running mteb (``sentence``).
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mteb._evaluators.retrieval_metrics import mrr
from mteb.abstasks import (
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskClusteringLegacy,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
)
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.text.summarization import AbsTaskSummarization

from llm2vec_core.evaluation.metrics import RANKING_METRICS
from llm2vec_core.evaluation.statistics.observations import (
    AveragePrecision,
    Clustering,
    Correlation,
    MeanOfDraws,
    MeanOfItems,
    Observations,
    VMeasure,
)
from llm2vec_core.evaluation.tasks.queries import QueryScores

CAUGHT = Path("caught-in-memory")
"""Prediction folder to pass to mteb; nothing is written there."""

_PAIR_SIMILARITIES = {
    # mteb's name of the metric's first part: the predictions that it is computed from, and whether higher is closer
    "similarity": ("similarity_scores", 1),
    "cosine": ("cosine_scores", 1),
    "dot": ("dot_scores", 1),
    "manhattan": ("manhattan_distances", -1),
    "euclidean": ("euclidean_distances", -1),
}
_TREC_NAMES = {
    "ndcg_at": "ndcg_cut",
    "map_at": "map_cut",
    "recall_at": "recall",
    "precision_at": "P",
    "hit_rate_at": "success",
}


class Recorder:
    """Captures mteb's predictions for a task: one set of observations per split and language.

    Attributes:
        observations: The captured predictions, without parts that cannot be scored per item.
        num_parts: Splits and languages that mteb scored.
        queries: Scores per query of a ranking task, for the last split and language.
    """

    def __init__(self, task: AbsTask) -> None:
        """Attach to a task; then run mteb on it with :data:`CAUGHT` as prediction folder."""
        self.observations: list[Observations] = []
        self.num_parts = 0
        self.queries: QueryScores | None = None
        self._task = task
        self._main_score: str = task.metadata.main_score
        if isinstance(task, AbsTaskRetrieval):
            self._specific_scores = task.task_specific_scores
            task.task_specific_scores = self._catch_queries  # type: ignore[method-assign]
            task._save_task_predictions = _nothing  # type: ignore[method-assign]
        else:
            task._save_task_predictions = self._catch_predictions  # type: ignore[method-assign]
        if isinstance(task, AbsTaskClustering):
            self._random = _RecordingRandom(task.seed)
            task.rng_state = self._random

    def _catch_predictions(
        self,
        predictions: Any,  # noqa: ANN401 (each task class has its own)
        model: object,
        prediction_folder: Path,
        hf_split: str,
        hf_subset: str,
    ) -> None:
        observed: Observations | None = None
        task = self._task
        if isinstance(task, AbsTaskSummarization):
            observed = _summaries(predictions, self._main_score)
        elif isinstance(task, AbsTaskClustering):
            observed = _clusterings(predictions, self._rows(hf_split, hf_subset)[task.label_column_name], self._random)
        elif isinstance(task, AbsTaskClusteringLegacy):
            observed = _cluster_sets(predictions, self._rows(hf_split, hf_subset)[task.label_column_name])
        elif isinstance(task, AbsTaskSTS):
            observed = _similarity(predictions, self._rows(hf_split, hf_subset)["score"], self._main_score)
        elif isinstance(task, AbsTaskPairClassification):
            observed = _pairs(predictions, self._rows(hf_split, hf_subset)[task.label_column_name], self._main_score)
        elif isinstance(task, AbsTaskClassification) and self._main_score == "accuracy":
            observed = _accuracy(predictions, self._rows(hf_split, hf_subset)[task.label_column_name])
        self._keep(observed)

    def _catch_queries(
        self,
        scores: Mapping[str, Mapping[str, float]],
        qrels: Any,  # noqa: ANN401 (mteb's types)
        results: Any,  # noqa: ANN401
        hf_split: str,
        hf_subset: str,
    ) -> dict[str, float]:
        self.queries = _queries(scores, qrels, results, self._main_score)
        values = self.queries.metrics.get(self._main_score)
        self._keep(None if values is None else MeanOfItems(values))
        return self._specific_scores(scores, qrels, results, hf_split=hf_split, hf_subset=hf_subset)  # type: ignore[arg-type]

    def _keep(self, observed: Observations | None) -> None:
        self.num_parts += 1
        if observed is not None and observed.num_items > 1:
            self.observations.append(observed)

    def _rows(self, split: str, subset: str) -> Any:  # noqa: ANN401 (a datasets.Dataset, or a list in old tasks)
        """The scored rows; old pair tasks store all of them in one row."""
        dataset: Any = self._task.dataset
        rows = dataset[split] if subset not in dataset and subset == "default" else dataset[subset][split]
        return rows[0] if len(rows) == 1 and isinstance(self._task, AbsTaskPairClassification) else rows


class _RecordingRandom(random.Random):
    """A ``random.Random`` that records its draws."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.sampled: list[int] | None = None
        self.chosen: list[list[int]] = []

    def sample(self, *arguments: Any, **options: Any) -> list[Any]:  # noqa: ANN401 (random's signature)
        self.sampled = super().sample(*arguments, **options)
        return self.sampled

    def choices(self, *arguments: Any, **options: Any) -> list[Any]:  # noqa: ANN401 (as above)
        chosen = super().choices(*arguments, **options)
        self.chosen.append(chosen)
        return chosen


def _nothing(*arguments: object, **options: object) -> None:
    """Replaces the writing of predictions if scores per query are captured elsewhere."""


def _similarity(predictions: Mapping[str, Any], gold: Sequence[float], main_score: str) -> Correlation | None:
    """STS: metrics such as ``cosine_spearman``."""
    kind, _, correlation = main_score.rpartition("_")
    key, _ = _PAIR_SIMILARITIES.get(kind or "similarity", ("", 1))
    if predictions.get(key) is None or correlation not in ("spearman", "pearson"):
        return None
    # unsigned distances: mteb applies its own signs, and observations that do not match its score are not used
    predicted = np.asarray(predictions[key], dtype=float)
    return Correlation(np.asarray(gold, dtype=float), predicted, by_rank=correlation == "spearman")


def _pairs(predictions: Mapping[str, Any], labels: Sequence[int], main_score: str) -> AveragePrecision | None:
    """Pair classification: average precision by one similarity, or by the best of all (``max_ap``)."""
    from sklearn.metrics import average_precision_score

    kind, _, metric = main_score.rpartition("_")
    if metric != "ap":
        return None
    gold = np.asarray(labels, dtype=int)
    kinds = [kind] if kind in _PAIR_SIMILARITIES else list(_PAIR_SIMILARITIES)
    found = [
        sign * np.asarray(predictions[key], dtype=float)
        for key, sign in (_PAIR_SIMILARITIES[each] for each in kinds)
        if predictions.get(key) is not None
    ]
    if not found:
        return None
    return AveragePrecision(gold, max(found, key=lambda similarity: float(average_precision_score(gold, similarity))))


def _accuracy(predictions: Sequence[Sequence[Any]], labels: Sequence[Any]) -> MeanOfDraws:
    """Classification: whether each classifier was right on each text."""
    gold = np.asarray(list(labels))
    return MeanOfDraws(np.stack([100.0 * (np.asarray(predicted) == gold) for predicted in predictions]))


def _clusterings(
    predictions: Mapping[str, Sequence[Sequence[int]]], labels: Sequence[Any], drawn: _RecordingRandom
) -> VMeasure | None:
    """Clustering: cluster and group of each repetition's texts; only for groups without sublevels."""
    if len(predictions) != 1:
        return None
    (repetitions,) = predictions.values()
    groups = [label[0] if isinstance(label, list) else label for label in labels]
    if drawn.sampled is not None:
        groups = [groups[position] for position in drawn.sampled]
    _, numbers = np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)
    chosen = drawn.chosen[-len(repetitions) :]
    return VMeasure(
        [
            Clustering(np.asarray(items), numbers[items], np.asarray(clusters))
            for items, clusters in zip(chosen, repetitions, strict=True)
        ],
        num_items=len(groups),
    )


def _cluster_sets(predictions: Sequence[Sequence[int]], labels: Sequence[Sequence[Any]]) -> MeanOfItems | None:
    """Clustering of many separate sets (mteb's first version); each set's V-measure is one item."""
    from sklearn.metrics import v_measure_score

    if len(predictions) != len(labels):  # sets with a single group are not clustered
        return None
    return MeanOfItems(
        np.array([100.0 * v_measure_score(gold, found) for gold, found in zip(labels, predictions, strict=True)])
    )


def _summaries(predictions: Mapping[str, Any], main_score: str) -> MeanOfItems | None:
    """Summarization: the correlation of each text."""
    from scipy.stats import pearsonr, spearmanr

    kind, _, correlation = main_score.rpartition("_")
    key, _ = _PAIR_SIMILARITIES.get(kind or "similarity", ("", 1))
    correlate = {"spearman": spearmanr, "pearson": pearsonr}.get(correlation)
    if predictions.get(key) is None or correlate is None:
        return None
    return MeanOfItems(
        np.array(
            [
                100.0 * correlate(human, predicted).statistic
                for human, predicted in zip(predictions["human_scores"], predictions[key], strict=True)
            ]
        )
    )


def _queries(
    scores: Mapping[str, Mapping[str, float]],
    qrels: Any,  # noqa: ANN401 (mteb's types)
    results: Any,  # noqa: ANN401
    main_score: str,
) -> QueryScores:
    """Retrieval and reranking: metrics per query, by trec_eval (by mteb for the reciprocal rank).

    Queries are ordered by id, so that the rows of all systems align.
    """
    names = sorted(results)
    metrics = {}
    for metric in dict.fromkeys((main_score, *RANKING_METRICS.values())):
        by_query = _by_query(metric, scores, qrels, results)
        if by_query is not None:
            metrics[metric] = np.array([100.0 * by_query[query] for query in names])
    for cutoff in (5, 10):
        metrics[f"rp_at_{cutoff}"] = np.array([_r_precision(qrels[query], results[query], cutoff) for query in names])
    # among equal scores, trec_eval ranks the last id first
    first = [max(results[query], key=lambda each: (results[query][each], each)) for query in names]
    return QueryScores(metrics, first)


def _r_precision(judged: Mapping[str, int], ranked: Mapping[str, float], cutoff: int) -> float:
    """Relevant documents among the first, over the smaller of the cutoff and their number (WorkRB), times 100."""
    first = sorted(ranked, key=lambda document: (ranked[document], document), reverse=True)[:cutoff]
    relevant = {document for document, score in judged.items() if score > 0}
    return 100.0 * len(relevant.intersection(first)) / max(1, min(cutoff, len(relevant)))


def _by_query(
    metric: str,
    scores: Mapping[str, Mapping[str, float]],
    qrels: Any,  # noqa: ANN401 (mteb's types)
    results: Any,  # noqa: ANN401
) -> Mapping[str, float] | None:
    """A metric of each query, from 0 to 1; None if mteb did not compute it per query."""
    parts = re.fullmatch(r"(.+_at)_(\d+)", metric)
    if parts is None:
        return None
    name, cutoff = parts.groups()
    if name == "mrr_at":
        return dict(zip(results, mrr(qrels, results, [int(cutoff)])[f"MRR@{cutoff}"], strict=True))
    key = f"{_TREC_NAMES.get(name)}_{cutoff}"
    if not all(key in values for values in scores.values()):
        return None
    return {query: values[key] for query, values in scores.items()}
