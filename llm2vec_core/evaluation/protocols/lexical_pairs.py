"""Similarity of two texts by their words, for pair classification and STS: BM25, and word overlap (Jaccard).

mteb scores such tasks through vectors, which these do not have. So the similarity is computed here, and scored by the
same metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32

from llm2vec_core.errors import EvalTaskError
from llm2vec_core.evaluation.statistics.observations import AveragePrecision, Correlation, Observations
from llm2vec_core.evaluation.tasks.folders import EvalTask
from llm2vec_core.ranking.lexical import ReferenceIndex
from llm2vec_core.ranking.words import tokenize


def lexical_similarities(pairs: Sequence[tuple[str, str]]) -> Float32[np.ndarray, " num_pairs"]:
    """BM25 of each pair, averaged over both directions, with word statistics of all texts of the pairs."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    position = {text: number for number, text in enumerate(texts)}
    index = ReferenceIndex(texts)
    return np.array(
        [(index.score(first, position[second]) + index.score(second, position[first])) / 2 for first, second in pairs],
        dtype=np.float32,
    )


def overlap_similarities(pairs: Sequence[tuple[str, str]]) -> Float32[np.ndarray, " num_pairs"]:
    """Jaccard index of each pair: distinct shared words over distinct words of both; two texts without words: 0."""
    words = [(set(tokenize(first)), set(tokenize(second))) for first, second in pairs]
    return np.array([len(one & other) / max(1, len(one | other)) for one, other in words], dtype=np.float32)


def observe_lexical_pairs(
    eval_task: EvalTask,
    compare: Callable[[Sequence[tuple[str, str]]], Float32[np.ndarray, " num_pairs"]] = lexical_similarities,
) -> Observations:
    """Similarity by words and human judgment of the pairs of a task.

    Args:
        eval_task: A task of pairs.
        compare: Similarity of each pair.

    Raises:
        EvalTaskError: The task's main score is neither an average precision nor a correlation.
    """
    rows = eval_task.tables["pairs"]
    similarities = compare([(row["sentence1"], row["sentence2"]) for row in rows]).astype(float)
    metric = eval_task.main_score.rpartition("_")[2]
    if eval_task.type == "PairClassification" and metric == "ap":
        return AveragePrecision(np.array([row["label"] for row in rows]), similarities)
    if eval_task.type == "STS" and metric in ("spearman", "pearson"):
        gold = np.array([row["score"] for row in rows], dtype=float)
        return Correlation(gold, similarities, by_rank=metric == "spearman")
    raise EvalTaskError(
        f"Words cannot be scored on {eval_task.name} by {eval_task.main_score}.",
        hint="Use a metric such as max_ap for PairClassification, or cosine_spearman for STS.",
    )
