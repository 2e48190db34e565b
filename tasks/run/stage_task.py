"""Prefect tasks as all stages declare them: no Prefect cache, and a retry when storage failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE

from data.errors import ConflictError, InputError, RefusedError, StoreError

_Params = ParamSpec("_Params")
_Result = TypeVar("_Result")


def can_heal(task: Any, task_run: Any, state: Any) -> bool:  # noqa: ANN401 - Prefect's signature
    """Return whether a failed task is worth a retry: after storage trouble, but not after a mistake or a refusal."""
    try:
        state.result()
    except (InputError, RefusedError, ConflictError):
        return False
    except (StoreError, ConnectionError, TimeoutError):
        return True
    except Exception:  # a bug or a bad input: a retry would fail the same way
        return False
    return False


def stage_task(
    run_name: str, *, retried: bool = True
) -> Callable[[Callable[_Params, _Result]], Task[_Params, _Result]]:
    """Declare a task of a stage.

    Prefect's cache stays off: every task reads from the store which work is done.

    Args:
        run_name: Name of its runs; ``{parameter}`` stands for a parameter.
        retried: Retry after storage trouble, see :func:`can_heal`.
    """
    retries: dict[str, Any] = {"retries": 2, "retry_delay_seconds": [5, 30], "retry_condition_fn": can_heal}

    def declare(function: Callable[_Params, _Result]) -> Task[_Params, _Result]:
        return task(task_run_name=run_name, cache_policy=NO_CACHE, **(retries if retried else {}))(function)

    return declare
