"""The protocols: how a system is scored on a type of task.

CONTRIBUTING.md, "Adding", says how to add one.

Belongs here: the registry and its entries. Does not belong here: the computation (``sentence`` for everything that mteb
scores, ``word``, ``lexical_pairs``), the record of the result (``scoring``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from llm2vec_core.errors import InputError
from llm2vec_core.evaluation.metrics import WHOLE_RANKING_METRICS
from llm2vec_core.evaluation.statistics.observations import Observations, RatioOfSums, score_all
from llm2vec_core.evaluation.systems import PAIR_TYPES, RANKING_TYPES, WITHOUT_ENCODER, System
from llm2vec_core.evaluation.tasks.benchmarks import BenchmarkTask
from llm2vec_core.evaluation.tasks.folders import EvalTask
from llm2vec_core.evaluation.tasks.queries import QueryScores
from llm2vec_core.evaluation.tasks.types import MTEB_TASK_TYPES, WORD_TASK_TYPE, EvalTaskType
from llm2vec_core.ranking.tuning import MIN_JUDGED_QUERIES

ScorableTask: TypeAlias = EvalTask | BenchmarkTask
"""A task of a folder, or of a benchmark."""


@dataclass(frozen=True)
class Measured:
    """Result of a protocol.

    Attributes:
        metrics: Metrics from 0 to 100, the main score among them.
        observations: Scores of single items, for intervals; empty if unknown.
        task_result: mteb's own result as JSON, if mteb scored the task.
        queries: Scores of each query of a ranking task.
    """

    metrics: Mapping[str, float]
    observations: Sequence[Observations]
    task_result: str | None = None
    queries: QueryScores | None = None


@dataclass(frozen=True)
class ScoringProtocol:
    """A protocol that scores systems on some types of tasks.

    Attributes:
        name: Short name.
        types: Types of tasks that it scores.
        accepts: Returns whether it scores a system on a task of these types.
        measure: Scores the system on the task.
    """

    name: str
    types: frozenset[EvalTaskType]
    accepts: Callable[[System, ScorableTask], bool]
    measure: Callable[[System, ScorableTask], Measured]


def can_score(system: System, eval_task: ScorableTask) -> bool:
    """Whether a system can be scored on a task."""
    return _find(system, eval_task) is not None


def protocol_of(system: System, eval_task: ScorableTask) -> ScoringProtocol:
    """The protocol that scores a system on a task.

    Raises:
        InputError: No protocol does; ask :func:`can_score` first.
    """
    found = _find(system, eval_task)
    if found is None:
        raise InputError(
            f"The {system.mode} system {system.name!r} cannot do {eval_task.name}: {eval_task.type} needs vectors.",
            hint=f"It can do: {', '.join(sorted(RANKING_TYPES))}.",
        )
    return found


def _find(system: System, eval_task: ScorableTask) -> ScoringProtocol | None:
    fitting = (each for each in PROTOCOLS if eval_task.type in each.types)
    return next((each for each in fitting if each.accepts(system, eval_task)), None)


# --- words ---------------------------------------------------------------------------------------------------------


def _has_word_vectors(system: System, eval_task: ScorableTask) -> bool:
    return isinstance(eval_task, EvalTask) and system.supports(eval_task.type)


def _probe_words(system: System, eval_task: ScorableTask) -> Measured:
    """A linear probe on word states. Whole sentences are resampled, because their words belong together."""
    from llm2vec_core.evaluation.protocols.word import probe_words

    assert isinstance(eval_task, EvalTask), "only task folders have words"
    assert system.encoder is not None, "can_score rejects systems without vectors"
    result = probe_words(system.encoder, eval_task, label_shift=system.label_shift)
    if eval_task.main_score == "accuracy":
        return Measured(result.metrics, [RatioOfSums(result.correct, result.num_words)])
    entities = result.true_positives, result.num_predicted, result.num_gold
    if eval_task.main_score == "f1" and all(count is not None for count in entities):
        found, predicted, gold = (np.asarray(count) for count in entities)
        return Measured(result.metrics, [RatioOfSums(2 * found, predicted + gold)])
    return Measured(result.metrics, [])


# --- pairs by words alone ------------------------------------------------------------------------------------------


def _is_lexical_with_texts(system: System, eval_task: ScorableTask) -> bool:
    return system.mode in WITHOUT_ENCODER and system.supports(eval_task.type) and isinstance(eval_task, EvalTask)


def _score_lexical_pairs(system: System, eval_task: ScorableTask) -> Measured:
    """BM25 or word overlap of each pair."""
    from llm2vec_core.evaluation.protocols.lexical_pairs import (
        lexical_similarities,
        observe_lexical_pairs,
        overlap_similarities,
    )

    assert isinstance(eval_task, EvalTask), "only task folders have their texts loaded"
    compare = overlap_similarities if system.mode == "overlap" else lexical_similarities
    observed = observe_lexical_pairs(eval_task, compare)
    return Measured({eval_task.main_score: score_all(observed)}, [observed])


# --- rankings to the last document -----------------------------------------------------------------------------------


def _ranks_whole(system: System, eval_task: ScorableTask) -> bool:
    """Whether a task asks for a metric of whole rankings, and the system scores every document."""
    return asks_for_whole_ranking(eval_task) and system.mode in ("dense", "lexical")


def asks_for_whole_ranking(eval_task: ScorableTask) -> bool:
    """Whether a task's main score is computed over whole rankings, as WorkRB and TalentCLEF do."""
    return isinstance(eval_task, EvalTask) and eval_task.main_score in WHOLE_RANKING_METRICS


def _rank_whole(system: System, eval_task: ScorableTask) -> Measured:
    """Every document of the corpus, ranked for every query."""
    from llm2vec_core.evaluation.protocols.whole_rankings import rank_whole

    assert isinstance(eval_task, EvalTask), "only task folders have their texts loaded"
    metrics, observations, queries = rank_whole(system, eval_task)
    return Measured(metrics, observations, queries=queries)


# --- tasks that mteb scores ----------------------------------------------------------------------------------------


def _mteb_accepts(system: System, eval_task: ScorableTask) -> bool:
    """Whether mteb's protocol applies: a weight is tuned only if each half of the queries has enough judgments."""
    if not system.supports(eval_task.type) or (system.mode in WITHOUT_ENCODER and eval_task.type in PAIR_TYPES):
        return False
    if asks_for_whole_ranking(eval_task):
        return False
    if system.mode != "tuned":
        return True
    return isinstance(eval_task, EvalTask) and _num_judged_queries(eval_task) >= 2 * MIN_JUDGED_QUERIES


def _num_judged_queries(eval_task: EvalTask) -> int:
    judged = {row["query"] for row in eval_task.tables["qrels"]}
    return sum(row["_id"] in judged for row in eval_task.tables["queries"])


def _run_mteb(system: System, eval_task: ScorableTask) -> Measured:
    """Mteb's own protocol for the type, over the rows of a folder or the data of a benchmark."""
    from llm2vec_core.evaluation.protocols.sentence import run_mteb
    from llm2vec_core.evaluation.tasks.mteb_tasks import build_mteb_task

    task = build_mteb_task(eval_task) if isinstance(eval_task, EvalTask) else eval_task.mteb_task()
    run = run_mteb(system, task)
    return Measured(run.metrics, run.observations, run.task_result, run.queries)


PROTOCOLS: tuple[ScoringProtocol, ...] = (
    ScoringProtocol("linear probe on words", frozenset({WORD_TASK_TYPE}), _has_word_vectors, _probe_words),
    ScoringProtocol("words of pairs", PAIR_TYPES, _is_lexical_with_texts, _score_lexical_pairs),
    ScoringProtocol("whole rankings", frozenset({"Retrieval"}), _ranks_whole, _rank_whole),
    ScoringProtocol("mteb", frozenset(MTEB_TASK_TYPES), _mteb_accepts, _run_mteb),
)
"""Every protocol; the first one that accepts a system and a task scores them."""
