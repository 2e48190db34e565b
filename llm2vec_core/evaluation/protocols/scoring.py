"""Score one system on one task, with an interval and the cost in time and tokens.

Belongs here: the record of the result. Does not belong here: choosing the protocol (``registry``), storing results
(``tasks``), comparing them (``statistics.compare``).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from llm2vec_core.evaluation.protocols.encode_once import EncodingCost
from llm2vec_core.evaluation.protocols.registry import ScorableTask, protocol_of
from llm2vec_core.evaluation.results import TaskScore
from llm2vec_core.evaluation.statistics.observations import Observations
from llm2vec_core.evaluation.statistics.stats import Estimate, estimate
from llm2vec_core.evaluation.systems import System
from llm2vec_core.evaluation.tasks.clusters import item_clusters
from llm2vec_core.evaluation.tasks.folders import EvalTask
from llm2vec_core.evaluation.tasks.queries import QueryScores


@dataclass(frozen=True)
class Outcome:
    """Result of scoring a system on a task.

    Attributes:
        score: The record.
        estimate: The main score, and its variation over other items.
        queries: Scores of each query of a retrieval or reranking task.
        task_result: mteb's own result as JSON, if mteb scored the task.
    """

    score: TaskScore
    estimate: Estimate
    queries: QueryScores | None = None
    task_result: str | None = None

    @property
    def by_item(self) -> Float[np.ndarray, " num_queries"] | None:
        """Main score of each query of a retrieval or reranking task, in the order of the query ids."""
        return None if self.queries is None else self.queries.metrics[self.score.main_score_name]


def evaluate_task(system: System, eval_task: ScorableTask) -> Outcome:
    """Score one system on one task.

    Args:
        system: The system.
        eval_task: The task.

    Returns:
        The outcome. A metric without a value, such as the correlation of a collapsed encoder's constant predictions,
        is 0 if it is the main score and left out otherwise.

    Raises:
        InputError: The system does not support the task; check ``registry.can_score`` first.
        EvalTaskError: The task's main score is not computed for its type, or its data are missing.
        CoreError: The encoder returned non-finite vectors.
    """
    protocol = protocol_of(system, eval_task)
    before = system.encoder.cost if system.encoder else EncodingCost()
    start = time.perf_counter()
    measured = protocol.measure(system, eval_task)
    cost = (system.encoder.cost if system.encoder else EncodingCost()) - before
    main_score = measured.metrics.get(eval_task.main_score, 0.0)
    clusters = item_clusters(eval_task)
    found = estimate(main_score, measured.observations, content_sha256=eval_task.content_sha256, clusters=clusters)
    interval = found.interval()
    queries = replace(measured.queries, clusters=clusters) if measured.queries else None
    known = queries.estimates(content_sha256=eval_task.content_sha256) if queries else {}
    intervals = {metric: each.interval() for metric, each in known.items()}
    score = TaskScore(
        task=eval_task.name,
        type=eval_task.type,
        main_score_name=eval_task.main_score,
        main_score=main_score,
        metrics=dict(measured.metrics),
        ci_low=interval[0] if interval else None,
        ci_high=interval[1] if interval else None,
        intervals={metric: each for metric, each in intervals.items() if each is not None},
        seconds=time.perf_counter() - start,
        encode_seconds=cost.seconds,
        num_items=_num_items(eval_task, measured.observations),
        num_clusters=None if clusters is None else int(clusters.max()) + 1,
        num_texts=cost.num_texts,
        num_tokens=cost.num_tokens,
        num_cut_tokens=cost.num_cut_tokens,
        content_sha256=eval_task.content_sha256,
        system_fingerprint=system.fingerprint,
        is_official=eval_task.is_official,
    )
    return Outcome(score, found, queries, measured.task_result)


def _num_items(eval_task: ScorableTask, observations: Sequence[Observations]) -> int:
    if isinstance(eval_task, EvalTask):
        return eval_task.num_items
    return sum(observed.num_items for observed in observations)
