"""MTEB's benchmarks by name, from mteb's registry; their data come from the hub or its local cache.

Importing this module is fast; mteb is loaded when a benchmark is requested.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llm2vec_core.errors import EvalTaskError, InputError
from llm2vec_core.evaluation.protocols.sentence import parts_of
from llm2vec_core.evaluation.tasks.types import MTEB_TASK_TYPES, EvalTaskType

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

PAPER_BENCHMARK = "MTEB(eng, v1)"
"""The 56 English data sets of the LLM2Vec paper."""

PAPER_SUBSET = "llm2vec-15"
"""Its 15 data sets in the paper's ablation."""

_HUB_TIMEOUT_S = 10.0
_SHOWN = 6


@dataclass(frozen=True)
class BenchmarkTask:
    """A task of a benchmark, without loaded data.

    Attributes:
        name: Name of the task.
        type: Its category.
        main_score: The main metric of the task.
        content_sha256: Hash of the scored content: data set, revision, splits and languages.
        datasets: Names of its data sets on the hub, with their revisions.
    """

    name: str
    type: EvalTaskType
    main_score: str
    content_sha256: str
    datasets: tuple[tuple[str, str], ...]
    _task: AbsTask = field(repr=False, compare=False)

    @property
    def is_official(self) -> bool:
        """Always true: published figures are comparable."""
        return True

    def mteb_task(self) -> AbsTask:
        """A fresh, loaded copy of the mteb task.

        Raises:
            EvalTaskError: The data could not be loaded.
        """
        task = copy.deepcopy(self._task)  # mteb's tasks contain the state of their random numbers
        task.metadata = copy.deepcopy(task.metadata)  # belongs to the class, and refers to the parts of an aggregate
        for part in parts_of(task):
            try:
                part.load_data()
            except Exception as error:  # datasets and the hub raise many types
                path, revision = _dataset(part)
                raise EvalTaskError(
                    f"The data of {self.name} ({path} at revision {revision}) could not be loaded: "
                    f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}.",
                    hint="Connect to the hub, or fill its cache (HF_HOME) on a machine that can.",
                ) from error
        return task


def load_benchmark(name: str, *, names: Sequence[str] | None = None) -> list[BenchmarkTask]:
    """The tasks of a benchmark.

    Args:
        name: A name of mteb's registry, such as ``MTEB(eng, v1)`` (the paper's 56 data sets) or ``MTEB(eng, v2)``; or
            ``llm2vec-15``, the paper's subset.
        names: Tasks to return. Default: all.

    Raises:
        InputError: mteb knows no such benchmark, or the benchmark has no such task.
        EvalTaskError: The benchmark has tasks of unsupported types.
    """
    tasks = _registered(name)
    if names is not None:
        known = {task.metadata.name: task for task in tasks}
        if unknown := [each for each in names if each not in known]:
            raise InputError(
                f"{name} has no task {', '.join(map(repr, unknown))}.", hint=f"Its tasks: {', '.join(sorted(known))}."
            )
        tasks = [known[each] for each in dict.fromkeys(names)]
    foreign = sorted({task.metadata.type for task in tasks} - set(MTEB_TASK_TYPES))
    if foreign:
        raise EvalTaskError(
            f"{name} has tasks of unsupported types: {', '.join(foreign)}.",
            hint=f"Scored are: {', '.join(MTEB_TASK_TYPES)}. Choose tasks by name.",
        )
    return [_benchmark_task(task) for task in tasks]


def load_official(name: str) -> list[BenchmarkTask]:
    """A task of MTEB by name, such as ``STSBenchmark``, or the tasks of a benchmark.

    Raises:
        InputError: mteb knows neither a task nor a benchmark of this name.
        EvalTaskError: As :func:`load_benchmark`; or the data of a task are not available.
    """
    import mteb

    known = name in {task.metadata.name for task in mteb.get_tasks()}
    tasks = [_benchmark_task(mteb.get_task(name))] if known else load_benchmark(name)
    require_data(name, tasks)
    return tasks


def require_data(benchmark: str, tasks: Sequence[BenchmarkTask]) -> None:
    """Refuse a benchmark with missing data before spending hours on a part of it.

    Raises:
        EvalTaskError: The hub is unreachable and the local cache lacks data sets, which the message lists.
    """
    if not tasks or _hub_answers(tasks[0].datasets[0][0]):
        return
    from datasets import config

    cache = Path(config.HF_DATASETS_CACHE)
    missing = [
        task.name for task in tasks if not all((cache / _cache_name(path)).is_dir() for path, _ in task.datasets)
    ]
    if missing:
        shown = ", ".join(missing[:_SHOWN]) + (f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else "")
        raise EvalTaskError(
            f"{benchmark} needs data that are not available: the hub is unreachable, and its cache {cache} lacks "
            f"{len(missing)} of {len(tasks)} tasks: {shown}.",
            hint="Connect to the hub, fill the cache (HF_HOME) on a machine that can, or pass --tasks-dir with local "
            "task folders.",
        )


def _cache_name(dataset: str) -> str:
    """Folder of a data set in the cache of ``datasets``."""
    from datasets.naming import camelcase_to_snakecase

    *namespace, name = dataset.split("/")
    return "___".join([*namespace, camelcase_to_snakecase(name)])


def _registered(name: str) -> list[AbsTask]:
    """The tasks of a benchmark, as mteb has them."""
    import mteb

    if name == PAPER_SUBSET:
        from llm2vec_core.evaluation.published import MTEB_15

        return [task for task in _registered(PAPER_BENCHMARK) if task.metadata.name in MTEB_15]
    try:
        benchmark = mteb.get_benchmark(name)
    except (KeyError, ValueError) as error:
        english = [each.name for each in mteb.get_benchmarks() if each.name.startswith("MTEB(eng")]
        raise InputError(
            f"mteb has no benchmark {name!r}.", hint=f"English ones: {', '.join([*english, PAPER_SUBSET])}."
        ) from error
    return list(benchmark.tasks)


def _benchmark_task(task: AbsTask) -> BenchmarkTask:
    """Describe a task without loading its data."""
    parts = parts_of(task)
    identity = [
        [part.metadata.name, *_dataset(part), sorted(part.eval_splits), sorted(map(str, part.hf_subsets or ()))]
        for part in parts
    ]
    decisive = json.dumps([task.metadata.name, task.metadata.main_score, identity])
    (kind,) = [known for known in MTEB_TASK_TYPES if known == task.metadata.type]
    return BenchmarkTask(
        name=task.metadata.name,
        type=kind,
        main_score=task.metadata.main_score,
        content_sha256=hashlib.sha256(decisive.encode()).hexdigest(),
        datasets=tuple(_dataset(part) for part in parts),
        _task=task,
    )


def _dataset(task: AbsTask) -> tuple[str, str]:
    return str(task.metadata.dataset["path"]), str(task.metadata.dataset["revision"])


def _hub_answers(dataset: str) -> bool:
    """Whether the hub is reachable."""
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(dataset, timeout=_HUB_TIMEOUT_S)
    except Exception:  # no network, a proxy, an outage, or offline mode
        return False
    return True
