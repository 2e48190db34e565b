"""Scores of systems on sentence-level tasks, computed by mteb.

Belongs here: running one system on one task, quietly and offline, and the record of the result. Does not belong here:
keeping results (the callers), comparing them (``report``), task folders (``eval_tasks``).
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from llm2vec_core.errors import InputError
from llm2vec_core.evaluation.eval_tasks import EvalTask, EvalTaskType
from llm2vec_core.evaluation.systems import RANKING_TYPES, System

_NOT_SCORES = ("nauc_", "_threshold", "_std", "main_score")
"""Parts of the names of mteb values that are no scores from 0 to 100: abstention curves, thresholds, deviations."""


class TaskScore(BaseModel):
    """How one system did on one task.

    Attributes:
        task: Name of the task.
        type: Its MTEB category.
        main_score_name: The metric that stands for the task.
        main_score: Its value from 0 to 100; correlations can be below zero.
        metrics: Every metric that mteb computed, on the same scale. Retrieval and reranking: ``ndcg_at_10``,
            ``map_at_1000`` (MAP), ``mrr_at_10``, ``precision_at_5``, ``recall_at_100`` and their like.
        ci_low: Lower end of the 95 % interval, once there is one.
        ci_high: Upper end.
        seconds: Wall time, encoding included.
        num_items: Pairs, queries, test texts, items or samples scored.
        num_texts: Distinct texts encoded; zero for a lexical system.
        content_sha256: Identity of the task's content.
        system_fingerprint: Identity of what was scored.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    task: str
    type: EvalTaskType
    main_score_name: str
    main_score: float
    metrics: dict[str, float]
    ci_low: float | None = None
    ci_high: float | None = None
    seconds: float
    num_items: int
    num_texts: int
    content_sha256: str
    system_fingerprint: str


def evaluate_task(system: System, eval_task: EvalTask) -> TaskScore:
    """Score one system on one task with mteb's own protocol and metrics.

    Nothing is read from or written to mteb's cache, and no network is used. Within the task each distinct text is
    encoded once.

    Args:
        system: What to score.
        eval_task: What to score it on.

    Returns:
        The scores. A metric without a value (a correlation with constant predictions, as a collapsed encoder makes
        them) is 0 if it is the main score and left out otherwise.

    Raises:
        InputError: If the system cannot do tasks of this type; ask ``system.supports(eval_task.type)`` first.
        EvalTaskError: If the task asks for a main score that mteb does not compute for its type.
        CoreError: If the encoder returns vectors that are not finite.
    """
    if not system.supports(eval_task.type):
        raise InputError(
            f"The {system.mode} system {system.name!r} cannot do {eval_task.name}: "
            f"{eval_task.type} asks for vectors, and {system.mode} search only ranks.",
            hint=f"It can do: {', '.join(sorted(RANKING_TYPES))}.",
        )
    import mteb

    from llm2vec_core.evaluation.mteb_models import EncodeOnce, build_mteb_model

    encode_once = EncodeOnce(system.encoder) if system.encoder else None
    start = time.perf_counter()
    with _quiet_progress():
        result = mteb.evaluate(
            build_mteb_model(system, encode_once),
            eval_task.mteb_task(),
            cache=None,  # keys results by model name: ours never meet another's
            overwrite_strategy="always",
            co2_tracker=False,
            show_progress_bar=False,
            encode_kwargs={"batch_size": 1024, "show_progress_bar": False},  # our encoders batch by tokens themselves
        )
    seconds = time.perf_counter() - start
    (scores,) = result.task_results[0].scores["test"]
    metrics = _percentages(scores)
    return TaskScore(
        task=eval_task.name,
        type=eval_task.type,
        main_score_name=eval_task.main_score,
        main_score=metrics.get(eval_task.main_score, 0.0),
        metrics=metrics,
        seconds=seconds,
        num_items=eval_task.num_items,
        num_texts=encode_once.num_texts if encode_once else 0,
        content_sha256=eval_task.content_sha256,
        system_fingerprint=system.fingerprint,
    )


def _percentages(scores: Mapping[str, Any]) -> dict[str, float]:
    """The single-number metrics of mteb, times 100."""
    return {
        name: 100.0 * float(value)
        for name, value in scores.items()
        if isinstance(value, float) and math.isfinite(value) and not any(part in name for part in _NOT_SCORES)
    }


@contextlib.contextmanager
def _quiet_progress() -> Iterator[None]:
    """Keep progress bars off streams that are no terminal: logs would fill with them."""
    if sys.stderr.isatty():
        yield
        return
    import datasets
    from mteb._evaluators.text import summarization_evaluator

    # mteb's summarization evaluator shows its bar whatever it is told; the others listen to encode_kwargs
    names, were_enabled = vars(summarization_evaluator), not datasets.are_progress_bars_disabled()
    shown = names["tqdm"]
    names["tqdm"] = functools.partial(shown, disable=True)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        names["tqdm"] = shown
        if were_enabled:
            datasets.enable_progress_bars()
