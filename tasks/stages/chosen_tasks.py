"""Load the evaluation tasks that the settings choose. Never imports prefect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.errors import InputError
from data.sample.eval_tasks import write_sample_tasks
from data.store.base import Store
from llm2vec_core.errors import EvalTaskError
from llm2vec_core.evaluation.protocols.registry import ScorableTask
from llm2vec_core.evaluation.tasks.benchmarks import load_benchmark, require_data
from llm2vec_core.evaluation.tasks.folders import discover_eval_tasks, load_eval_task
from tasks.run.settings import EvaluateSettings


def load_tasks(store: Store, chosen: EvaluateSettings) -> list[ScorableTask]:
    """Load the chosen tasks from the sample, task folders and benchmarks.

    Args:
        store: Store with a scratch folder.
        chosen: Places to look in, and names of tasks.

    Raises:
        InputError: No task was found, or a named task is missing.
        EvalTaskError: A task folder is unusable, or the data of a benchmark are not available.
    """
    require_places(chosen)
    eval_tasks: list[ScorableTask] = []
    there = list(chosen.sample_tasks)
    with store.scratch() as scratch:
        folders = write_sample_tasks(scratch / "sample", _among(chosen.tasks, chosen.sample_tasks))
        eval_tasks += [load_eval_task(folder) for folder in folders]
    for tasks_dir in _task_dirs(chosen):
        found = {folder.name: folder for folder in discover_eval_tasks(tasks_dir)}
        there += found
        names = _among(chosen.tasks, list(found))
        eval_tasks += [load_eval_task(found[name], max_items=chosen.max_items) for name in names]
    for benchmark in chosen.benchmarks:
        listed = {eval_task.name: eval_task for eval_task in load_benchmark(benchmark)}
        there += listed
        asked = [listed[name] for name in _among(chosen.tasks, list(listed))]
        require_data(benchmark, asked)
        eval_tasks += asked
    _require_found(chosen, there, eval_tasks)
    return _distinct(eval_tasks)


def _distinct(eval_tasks: Sequence[ScorableTask]) -> list[ScorableTask]:
    """Drop repeated tasks: two folders with equal content are one task.

    Raises:
        EvalTaskError: Two tasks with the same name have different content.
    """
    found: dict[str, ScorableTask] = {}
    for eval_task in eval_tasks:
        same = found.setdefault(eval_task.name, eval_task)
        if same.content_sha256 != eval_task.content_sha256:
            raise EvalTaskError(
                f"Two evaluation tasks with different content are called {eval_task.name}.",
                hint="Give one of them another name in its task.json, or leave it out with --tasks.",
            )
    return list(found.values())


def _among(asked: Sequence[str] | None, there: Sequence[str]) -> list[str]:
    """The requested names that exist (default: all of them)."""
    return [name for name in there if asked is None or name in asked]


def _task_dirs(chosen: EvaluateSettings) -> list[Path]:
    folders = [Path(folder).expanduser() for folder in chosen.tasks_dirs]
    return [folder for folder in folders if folder.is_dir() or not chosen.skip_missing_tasks_dirs]


def _require_found(chosen: EvaluateSettings, there: Sequence[str], eval_tasks: Sequence[ScorableTask]) -> None:
    """Refuse unknown names and a run without tasks."""
    missing = [name for name in chosen.tasks or () if name not in there]
    if missing and not chosen.skip_missing_tasks_dirs:
        raise InputError(
            f"No evaluation task {', '.join(map(repr, missing))} in the sample, the task folders or the benchmarks "
            "of this run.",
            hint=f"Found: {', '.join(there) or 'none'}. Pass the --tasks-dir or --benchmark that contains it.",
        )
    if not eval_tasks:
        raise _no_tasks()


def require_places(chosen: EvaluateSettings) -> None:
    """Refuse settings that name no source of evaluation tasks.

    Raises:
        InputError: No task of the sample, no folder and no benchmark is named.
    """
    if not (chosen.sample_tasks or chosen.tasks_dirs or chosen.benchmarks):
        raise _no_tasks()


def _no_tasks() -> InputError:
    return InputError(
        "There is no evaluation task to run.",
        hint="Set evaluate.sample_tasks, tasks_dirs or benchmarks, or pass --tasks-dir or --benchmark.",
    )
