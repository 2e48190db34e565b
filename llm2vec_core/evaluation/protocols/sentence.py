"""Score a system on a sentence-level task with mteb's protocol and metrics, and keep the scores of single items.

Belongs here: running mteb, quietly and offline. Does not belong here: word-level tasks (``word``), BM25 on pairs
(``lexical_pairs``), intervals and the record of a result (``scoring``).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llm2vec_core.evaluation.statistics.observations import Observations, score_all
from llm2vec_core.evaluation.systems import System
from llm2vec_core.evaluation.tasks.queries import QueryScores

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

logger = logging.getLogger(__name__)

_NOT_SCORES = ("nauc_", "_threshold", "_std", "main_score")
"""Name parts of mteb values that are not scores from 0 to 100: abstention curves, thresholds, deviations."""

_ROUNDING = 2e-3
"""mteb rounds the metrics of rankings to five decimals, on its scale from 0 to 1."""


@dataclass(frozen=True)
class MtebRun:
    """Result of an mteb run.

    Attributes:
        metrics: Every metric that it computed, from 0 to 100; averaged over splits and languages.
        observations: Scores of single items, per split and language; empty if unknown.
        task_result: mteb's own result, as JSON.
        queries: Scores of each query of a ranking task with a single set of queries.
    """

    metrics: dict[str, float]
    observations: Sequence[Observations]
    task_result: str
    queries: QueryScores | None = None


def run_mteb(system: System, task: AbsTask) -> MtebRun:
    """Run a system on a task with mteb's own protocol and metrics.

    mteb's cache is not used, and tasks with loaded data need no network.

    Args:
        system: The system; it must support tasks of this type.
        task: mteb's task.
    """
    import mteb
    from sklearn.exceptions import UndefinedMetricWarning

    from llm2vec_core.evaluation.protocols.mteb_models import build_mteb_model
    from llm2vec_core.evaluation.protocols.mteb_observations import CAUGHT, Recorder

    recorders = [Recorder(part) for part in parts_of(task)]
    with _quiet_progress(), warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("ignore", message="The task .* is superseded", category=UserWarning)
        warnings.filterwarnings("ignore", category=UndefinedMetricWarning)  # a small test set may lack some labels
        result = mteb.evaluate(
            build_mteb_model(system, task),
            task,
            cache=None,  # it keys results by model name, so ours could collide
            overwrite_strategy="always",
            prediction_folder=CAUGHT,
            co2_tracker=False,
            show_progress_bar=False,
            encode_kwargs={"batch_size": 1024, "show_progress_bar": False},  # our encoders make their own batches
        )
    for message in dict.fromkeys(str(warning.message).split("\n")[0] for warning in caught):
        logger.info("%s: %s", task.metadata.name, message)
    (task_result,) = result.task_results
    parts = [scores for split in task_result.scores.values() for scores in split]
    metrics = _mean_of_parts([_percentages(part) for part in parts])
    observations = [observed for recorder in recorders for observed in recorder.observations]
    is_complete = len(observations) == sum(recorder.num_parts for recorder in recorders)
    main_score = metrics.get(task.metadata.main_score)
    if not is_complete or main_score is None or not _agree(observations, main_score):
        logger.info("no intervals for %s: its %s is not known by item", task.metadata.name, task.metadata.main_score)
        observations = []
    queries = recorders[0].queries if len(observations) == 1 else None
    if queries is not None:
        added = {name: float(values.mean()) for name, values in queries.metrics.items() if name not in metrics}
        metrics |= added  # those that mteb does not compute
    return MtebRun(metrics, observations, task_result.model_dump_json(), queries)


def parts_of(task: AbsTask) -> list[AbsTask]:
    """The tasks of an aggregate (CQADupstack has a dozen), or the task itself."""
    tasks: list[AbsTask] | None = getattr(task.metadata, "tasks", None)
    return [task] if tasks is None else list(tasks)


def _agree(observations: Sequence[Observations], main_score: float) -> bool:
    """Whether the item scores agree with mteb's score; otherwise there is no interval."""
    mean = sum(score_all(observed) for observed in observations) / len(observations) if observations else math.nan
    return abs(mean - main_score) <= _ROUNDING


def _percentages(scores: Mapping[str, Any]) -> dict[str, float]:
    """The single-number metrics of mteb, times 100."""
    return {
        name: 100.0 * float(value)
        for name, value in scores.items()
        if isinstance(value, float) and math.isfinite(value) and not any(part in name for part in _NOT_SCORES)
    }


def _mean_of_parts(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means of the metrics that all splits and languages have."""
    return {
        name: sum(part[name] for part in parts) / len(parts) for name in parts[0] if all(name in part for part in parts)
    }


@contextlib.contextmanager
def _quiet_progress() -> Iterator[None]:
    """Disable progress bars on streams other than terminals, because they would fill logs."""
    if sys.stderr.isatty():
        yield
        return
    import datasets
    from mteb._evaluators.text import summarization_evaluator

    # mteb's summarization evaluator always shows its bar; the others respect encode_kwargs
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
