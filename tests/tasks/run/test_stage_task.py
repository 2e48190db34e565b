"""Stage tasks: Prefect does not cache them, and retries only transient errors."""

from types import SimpleNamespace

import pytest
from prefect.cache_policies import NO_CACHE

from data.errors import ConflictError, FencedError, InputError, StoreError
from tasks.run.stage_task import can_heal, stage_task


@pytest.mark.parametrize(
    ("error", "heals"),
    [
        (StoreError("No space left on device."), True),
        (ConnectionError("reset"), True),
        (TimeoutError("slow"), True),
        (ConflictError("somebody was faster"), False),
        (InputError("no such file"), False),
        (FencedError("another run took over"), False),
        (ValueError("a fault of the program"), False),
    ],
)
def test_only_trouble_with_storage_is_tried_again(error: Exception, heals: bool) -> None:
    def result() -> None:
        raise error

    assert can_heal(None, None, SimpleNamespace(result=result)) is heals


def test_a_task_is_never_cached_and_retried_unless_it_says_otherwise() -> None:
    retried = stage_task("work on {kind}")(lambda kind: kind)
    once = stage_task("work", retried=False)(lambda: None)
    assert (retried.retries, once.retries) == (2, 0)
    assert retried.retry_condition_fn is can_heal
    assert retried.cache_policy == once.cache_policy == NO_CACHE
    assert retried.task_run_name == "work on {kind}"
