"""BM25 similarity of two texts, for pair classification and STS.

mteb scores such tasks through vectors, which BM25 does not have. So its similarity is computed here, and scored by the
same metric.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from llm2vec_core.errors import EvalTaskError
from llm2vec_core.evaluation.statistics.observations import AveragePrecision, Correlation, Observations
from llm2vec_core.evaluation.tasks.folders import EvalTask
from llm2vec_core.ranking.lexical import ReferenceIndex


def lexical_similarities(pairs: Sequence[tuple[str, str]]) -> Float32[np.ndarray, " num_pairs"]:
    """BM25 of each pair, averaged over both directions, with word statistics of all texts of the pairs."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    position = {text: number for number, text in enumerate(texts)}
    index = ReferenceIndex(texts)
    return np.array(
        [(index.score(first, position[second]) + index.score(second, position[first])) / 2 for first, second in pairs],
        dtype=np.float32,
    )


def observe_lexical_pairs(eval_task: EvalTask) -> Observations:
    """BM25 similarity and human judgment of the pairs of a task.

    Raises:
        EvalTaskError: The task's main score is neither an average precision nor a correlation.
    """
    rows = eval_task.tables["pairs"]
    similarities = lexical_similarities([(row["sentence1"], row["sentence2"]) for row in rows]).astype(float)
    metric = eval_task.main_score.rpartition("_")[2]
    if eval_task.type == "PairClassification" and metric == "ap":
        return AveragePrecision(np.array([row["label"] for row in rows]), similarities)
    if eval_task.type == "STS" and metric in ("spearman", "pearson"):
        gold = np.array([row["score"] for row in rows], dtype=float)
        return Correlation(gold, similarities, by_rank=metric == "spearman")
    raise EvalTaskError(
        f"BM25 cannot be scored on {eval_task.name} by {eval_task.main_score}.",
        hint="Use a metric such as max_ap for PairClassification, or cosine_spearman for STS.",
    )
