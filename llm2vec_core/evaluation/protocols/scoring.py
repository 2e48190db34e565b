"""One system on one task: the score, its interval, and what it took.

Belongs here: which protocol a task gets, and the record of the result. Does not belong here: the protocols themselves
(``sentence`` for what mteb scores, ``lexical_pairs``, ``word``), keeping results (``tasks``), comparing (``compare``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import Float

from llm2vec_core.errors import InputError
from llm2vec_core.evaluation.protocols.encode_once import Cost
from llm2vec_core.evaluation.results import TaskScore
from llm2vec_core.evaluation.statistics.observations import Observations, RatioOfSums, score_all
from llm2vec_core.evaluation.statistics.stats import Estimate, estimate
from llm2vec_core.evaluation.systems import PAIR_TYPES, RANKING_TYPES, System
from llm2vec_core.evaluation.tasks.folders import WORD_TASK_TYPE, EvalTask, EvalTaskType
from llm2vec_core.evaluation.tasks.queries import QueryScores
from llm2vec_core.ranking.tuning import MIN_JUDGED_QUERIES

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask


class ScorableTask(Protocol):
    """What is needed of a task: a folder's (``EvalTask``) or a benchmark's (``BenchmarkTask``)."""

    @property
    def name(self) -> str:
        """Name of the task."""

    @property
    def type(self) -> EvalTaskType:
        """Its category."""

    @property
    def main_score(self) -> str:
        """The metric that stands for the task."""

    @property
    def content_sha256(self) -> str:
        """Identity of what is scored."""

    @property
    def is_official(self) -> bool:
        """Whether published figures compare."""

    def mteb_task(self) -> AbsTask:
        """The task of mteb, its data loaded."""


@dataclass(frozen=True)
class Outcome:
    """What scoring a task gave.

    Attributes:
        score: The record.
        estimate: The main score and how it would vary over other items.
        queries: What each query of a retrieval or reranking task scored.
        task_result: mteb's own result as JSON, where mteb scored the task.
    """

    score: TaskScore
    estimate: Estimate
    queries: QueryScores | None = None
    task_result: str | None = None

    @property
    def by_item(self) -> Float[np.ndarray, " num_queries"] | None:
        """Main score of each query of a retrieval or reranking task, in the order of the queries' identities."""
        return None if self.queries is None else self.queries.metrics[self.score.main_score_name]


@dataclass(frozen=True)
class _Measured:
    """What a protocol found."""

    metrics: Mapping[str, float]
    observations: Sequence[Observations]
    task_result: str | None = None
    queries: QueryScores | None = None


def can_score(system: System, eval_task: ScorableTask) -> bool:
    """Whether a system can do a task.

    BM25 does pair tasks only where their texts are at hand, and a weight is tuned only where each half of the queries
    has enough judgments.
    """
    if system.mode == "tuned":
        if not isinstance(eval_task, EvalTask) or not system.supports(eval_task.type):
            return False
        return _num_judged_queries(eval_task) >= 2 * MIN_JUDGED_QUERIES
    if system.mode == "lexical" and eval_task.type in PAIR_TYPES:
        return isinstance(eval_task, EvalTask)
    return system.supports(eval_task.type)


def evaluate_task(system: System, eval_task: ScorableTask) -> Outcome:
    """Score one system on one task.

    Args:
        system: What to score.
        eval_task: What to score it on.

    Returns:
        The outcome. A metric without a value (a correlation with constant predictions, as a collapsed encoder makes
        them) is 0 if it is the main score and left out otherwise.

    Raises:
        InputError: The system cannot do the task; ask :func:`can_score` first.
        EvalTaskError: The task asks for a main score that is not computed for its type, or its data is missing.
        CoreError: The encoder returned vectors that are not finite.
    """
    if not can_score(system, eval_task):
        raise InputError(
            f"The {system.mode} system {system.name!r} cannot do {eval_task.name}: {eval_task.type} asks for vectors.",
            hint=f"It can do: {', '.join(sorted(RANKING_TYPES))}.",
        )
    before = system.encoder.cost if system.encoder else Cost()
    start = time.perf_counter()
    measured = _measure(system, eval_task)
    cost = (system.encoder.cost if system.encoder else Cost()) - before
    main_score = measured.metrics.get(eval_task.main_score, 0.0)
    found = estimate(main_score, measured.observations, content_sha256=eval_task.content_sha256)
    interval = found.interval()
    known = measured.queries.estimates(content_sha256=eval_task.content_sha256) if measured.queries else {}
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
        num_texts=cost.num_texts,
        num_tokens=cost.num_tokens,
        content_sha256=eval_task.content_sha256,
        system_fingerprint=system.fingerprint,
        is_official=eval_task.is_official,
    )
    return Outcome(score, found, measured.queries, measured.task_result)


def _num_judged_queries(eval_task: EvalTask) -> int:
    judged = {row["query"] for row in eval_task.tables["qrels"]}
    return sum(row["_id"] in judged for row in eval_task.tables["queries"])


def _measure(system: System, eval_task: ScorableTask) -> _Measured:
    """Run the protocol of the task's type."""
    if isinstance(eval_task, EvalTask) and eval_task.type == WORD_TASK_TYPE:
        return _measure_words(system, eval_task)
    if isinstance(eval_task, EvalTask) and system.mode == "lexical" and eval_task.type in PAIR_TYPES:
        from llm2vec_core.evaluation.protocols.lexical_pairs import observe_lexical_pairs

        observed = observe_lexical_pairs(eval_task)
        return _Measured({eval_task.main_score: score_all(observed)}, [observed])
    from llm2vec_core.evaluation.protocols.sentence import run_mteb

    run = run_mteb(system, eval_task.mteb_task())
    return _Measured(run.metrics, run.observations, run.task_result, run.queries)


def _measure_words(system: System, eval_task: EvalTask) -> _Measured:
    """A linear probe on the words' states; sentences are what is drawn, since their words belong together."""
    from llm2vec_core.evaluation.protocols.word import probe_words

    assert system.encoder is not None, "can_score admits no system without vectors"
    result = probe_words(system.encoder, eval_task, label_shift=system.label_shift)
    if eval_task.main_score == "accuracy":
        return _Measured(result.metrics, [RatioOfSums(result.correct, result.num_words)])
    entities = result.true_positives, result.num_predicted, result.num_gold
    if eval_task.main_score == "f1" and all(count is not None for count in entities):
        found, predicted, gold = (np.asarray(count) for count in entities)
        return _Measured(result.metrics, [RatioOfSums(2 * found, predicted + gold)])
    return _Measured(result.metrics, [])


def _num_items(eval_task: ScorableTask, observations: Sequence[Observations]) -> int:
    if isinstance(eval_task, EvalTask):
        return eval_task.num_items
    return sum(observed.num_items for observed in observations)
