"""Status of a store: what is served, how fresh it is, what the last night did, and what needs attention.

Never imports prefect.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from data.errors import InputError
from data.store.base import Store
from data.vectors.generations import list_generations
from data.vectors.pointer import Pointer, read_pointer
from tasks.ledger.runs import latest_summary, read_settings, read_summary
from tasks.ledger.usage import Cost
from tasks.queries.schedule import next_scheduled_run
from tasks.run.context import utc_now
from tasks.run.reports import Usage
from tasks.run.settings import Settings


class Alert(BaseModel):
    """A problem that needs attention."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["stale", "failed", "refused"]
    message: str


def status(settings: Settings) -> dict[str, object]:
    """Collect the status of a store, for one screen."""
    store = settings.store()
    pointer = read_pointer(store)
    return {
        "home": settings.home_location,
        "served": None if pointer is None else pointer.model_dump(mode="json"),
        "age_hours": None if pointer is None else _hours_since(pointer.promoted_at),
        "fresh_hours": fresh_hours(store, pointer),
        "generations": generations(settings),
        "last_run": latest_summary(store),
        "last_night": latest_summary(store, flow="nightly"),
        "next_night": next_scheduled_run("nightly"),
        "alerts": [alert.model_dump() for alert in alerts(settings)],
    }


def run_status(settings: Settings, run_id: str) -> dict[str, Any]:
    """Read the summary of one run, and the settings that it used, from the ledger.

    Raises:
        InputError: The ledger has no such run.
    """
    store = settings.store()
    summary, kept = read_summary(store, run_id), read_settings(store, run_id)
    if summary is None and kept is None:
        raise InputError(
            f"The ledger of {settings.home_location} has no run '{run_id}'.",
            hint="`l2v status --json` shows the id of the last run and the last night.",
        )
    return {"run": summary or {"run_id": run_id, "state": "running, or killed"}, "settings": kept}


def run_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of a table that shows one run: its result, then one row for each setting."""
    run = found["run"]
    names = ("run_id", "flow", "state", "started_at", "finished_at", "error")
    rows = [(name, str(run[name])) for name in names if run.get(name) is not None]
    if found["settings"] is None:
        return [*rows, ("settings", "not stored: an earlier version made the run")]
    return [*rows, *_setting_rows(found["settings"])]


def _setting_rows(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict) and value:
            rows += _setting_rows(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", json.dumps(value, ensure_ascii=False)))
    return rows


def alerts(settings: Settings) -> list[Alert]:
    """Problems of the store; empty on a good day."""
    store = settings.store()
    found = []
    hours, limit = fresh_hours(store, read_pointer(store)), settings.freshness.max_age_hours
    if hours is None:
        found.append(Alert(kind="stale", message="Nothing is served yet. Run `l2v nightly`."))
    elif hours > limit:
        message = f"The last good night was {hours:.1f} hours ago; more than {limit:g} is an alert. Run `l2v nightly`."
        found.append(Alert(kind="stale", message=message))
    night = latest_summary(store, flow="nightly") or {}
    if "error" in night:
        found.append(Alert(kind="failed", message=f"Night {night['run_id']} {night['state']}: {night['error']}"))
    elif night.get("refused"):
        found.append(Alert(kind="refused", message=f"Night {night['run_id']}: {night['refused']}"))
    return found


def fresh_hours(store: Store, pointer: Pointer | None) -> float | None:
    """Hours since the served documents were last known to equal the sources; None before that.

    A night without changes promotes nothing, but it does confirm that the served documents are fresh.
    """
    if pointer is None:
        return None
    night = latest_summary(store, flow="nightly", state="completed")
    confirmed = [pointer.promoted_at]
    if night is not None:
        confirmed.append(datetime.fromisoformat(night["finished_at"]).astimezone(UTC))
    return _hours_since(max(confirmed))


def _hours_since(time: datetime) -> float:
    return (utc_now() - time).total_seconds() / 3600


def status_rows(state: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of a table that shows a status."""
    rows = [("home", state["home"])]
    pointer, night = state["served"], state["last_night"] or {}
    if pointer is None:
        rows.append(("served", "nothing yet: run `l2v nightly`"))
    else:
        rows += [
            ("serving", f"{pointer['generation']}, checkpoint {pointer['checkpoint'][:12]}"),
            ("since", f"{pointer['promoted_at']} ({state['age_hours']:.1f} hours)"),
            ("fresh", f"as the sources were {state['fresh_hours']:.1f} hours ago"),
        ]
    rows.append(("last night", f"{night['run_id']} ({night['state']})" if night else "none"))
    if "stages" in night:
        rows += _night_rows(night)
    if state["next_night"]:
        rows.append(("next night", state["next_night"]))
    return rows + [(f"alert: {alert['kind']}", alert["message"]) for alert in state["alerts"]]


def _night_rows(night: dict[str, Any]) -> list[tuple[str, str]]:
    ingested = [counts for counts in night["stages"]["ingest"].values() if isinstance(counts, dict)]
    read, kept, bad = (sum(c[name] for c in ingested) for name in ("rows_in", "rows_kept", "rows_quarantined"))
    rows = [
        ("ingested", f"{read:,} rows: {kept:,} kept, {bad:,} quarantined"),
        ("encoded", f"{night['encoded_documents']:,} documents; {night['training_steps']:,} training steps"),
        ("took", ", ".join(filter(None, [f"{night['seconds']:,.0f} s", Cost(**night["cost"]).sentence()]))),
    ]
    rows += [(f"speed of {stage}", Usage.model_validate(usage).sentence()) for stage, usage in night["usage"].items()]
    return [*rows, ("report", night["report"]), ("exports", night["exports"])]


def generations(settings: Settings) -> list[dict[str, object]]:
    """All generations, oldest first, with a mark on the served one."""
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
