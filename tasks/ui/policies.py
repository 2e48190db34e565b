"""When a task is tried again: only for what can heal by itself."""

from __future__ import annotations

from typing import Any

from data.errors import ConflictError, InputError, RefusedError, StoreError


def can_heal(task: Any, task_run: Any, state: Any) -> bool:  # noqa: ANN401 - Prefect's signature
    """Whether a failed task is worth a second try: storage trouble is, a caller's mistake or a refusal never."""
    try:
        state.result()
    except (InputError, RefusedError, ConflictError):
        return False
    except (StoreError, ConnectionError, TimeoutError):
        return True
    except Exception:  # a fault of the program or its input: the same again
        return False
    return False


STORAGE: dict[str, Any] = {"retries": 2, "retry_delay_seconds": [5, 30], "retry_condition_fn": can_heal}
"""Options of tasks that write to the store."""
