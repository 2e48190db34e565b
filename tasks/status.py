"""What is served, how old it is, and what the last run did. Never imports prefect."""

from __future__ import annotations

from data.generations import list_generations, read_pointer
from tasks.runs import latest_summary
from tasks.settings import Settings
from tasks.writing import utc_now


def status(settings: Settings) -> dict[str, object]:
    """The state of the store, on one screen."""
    store = settings.store()
    pointer = read_pointer(store)
    last = latest_summary(store)
    return {
        "home": str(settings.home_dir),
        "served": None if pointer is None else pointer.model_dump(mode="json"),
        "age_hours": None if pointer is None else (utc_now() - pointer.promoted_at).total_seconds() / 3600,
        "generations": generations(settings),
        "last_run": last,
    }


def generations(settings: Settings) -> list[dict[str, object]]:
    """All generations, oldest first, and which one is served."""
    store = settings.store()
    pointer = read_pointer(store)
    return [
        {
            "generation": found.generation,
            "checkpoint": found.checkpoint,
            "created_at": found.created_at.isoformat(),
            "served": pointer is not None and pointer.generation == found.generation,
        }
        for found in list_generations(store)
    ]
