"""Status of a store: the served state and its freshness, the last night, and open problems.

Never imports prefect.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from data.errors import InputError
from data.outputs.matches import LATEST_MATCHES, read_manifest
from data.schema import KINDS, DocumentKind
from data.snapshots.manifest import manifest_record
from data.snapshots.tombstones import current_id
from data.store.base import Store
from data.vectors.generations import list_generations
from data.vectors.index_watch import read_watch
from data.vectors.pointer import Pointer, read_pointer
from data.vectors.shards import TokenCount
from data.vectors.token_counts import known_tokens
from tasks.encoders.quarantine import documents_without_vector, listed
from tasks.ledger.runs import (
    UnfinishedRun,
    began_at,
    latest_summary,
    read_settings,
    read_summary,
    summaries,
    unfinished_runs,
)
from tasks.ledger.usage import Cost
from tasks.queries.schedule import next_scheduled_run
from tasks.queries.server_api import server_url
from tasks.run.context import utc_now
from tasks.run.orchestrator import database_trouble, disk_trouble
from tasks.run.reading import cut_sentence, read_sentence
from tasks.run.reports import Usage
from tasks.run.settings import Settings


class Alert(BaseModel):
    """A problem that needs attention."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["stale", "failed", "killed", "refused", "source", "index", "cut", "disk", "orchestrator"]
    message: str


def status(settings: Settings) -> dict[str, object]:
    """Collect the status of a store, for one screen."""
    store = settings.store()
    pointer, unfinished = read_pointer(store), unfinished_runs(store)
    return {
        "home": settings.home_location,
        "served": None if pointer is None else pointer.model_dump(mode="json"),
        "age_hours": None if pointer is None else _hours_since(pointer.promoted_at),
        "fresh_hours": fresh_hours(store, pointer),
        "no_vector": _without_vector(store, pointer),
        "search": {} if pointer is None else {kind: _watch(store, pointer, kind) for kind in KINDS},
        "past_jobs": count_past_jobs(store),
        "tokens": {kind: count.model_dump() for kind, count in _tokens(store, pointer).items()},
        "generations": generations(settings),
        "running": next((run.model_dump() for run in unfinished if run.state == "running"), None),
        "last_run": _last_of(latest_summary(store), [run for run in unfinished if run.state == "killed"]),
        "last_night": _last_night(store, unfinished),
        "next_night": next_scheduled_run("nightly"),
        "alerts": [alert.model_dump() for alert in alerts(settings)],
    }


def count_past_jobs(store: Store) -> int:
    """Number of jobs that the latest matching left out because their ``valid_through`` was past."""
    match = LATEST_MATCHES.name(store)
    manifest = read_manifest(store, match) if match else None
    return int(str((manifest or {}).get("past_jobs", 0)))


def _without_vector(store: Store, pointer: Pointer | None) -> dict[DocumentKind, list[str]]:
    """Documents of what is served that are in quarantine for want of a usable vector, by kind."""
    if pointer is None:
        return {}
    keys = next((each.encode_keys for each in list_generations(store) if each.generation == pointer.generation), {})
    found: dict[DocumentKind, list[str]] = {}
    for kind, encode_key in keys.items():
        made_by = {"fingerprint": pointer.checkpoint, "encode_key": encode_key}
        if names := documents_without_vector(store, kind, pointer.snapshots[kind], **made_by):
            found[kind] = names
    return found


def _watch(store: Store, pointer: Pointer, kind: DocumentKind) -> dict[str, Any] | None:
    watch = read_watch(store, pointer, kind)
    return (
        None
        if watch is None
        else {
            **watch.model_dump(mode="json"),
            "faults": watch.faults,
            "sentence": watch.sentence(),
        }
    )


def _tokens(store: Store, pointer: Pointer | None) -> dict[DocumentKind, TokenCount]:
    """Tokens of what is served that were read and cut, by kind; without the kinds that were not counted yet."""
    return {} if pointer is None else known_tokens(store, pointer.generation, pointer.snapshots)


def _last_night(store: Store, unfinished: list[UnfinishedRun]) -> dict[str, Any] | None:
    killed = [run for run in unfinished if run.state == "killed" and run.flow == "nightly"]
    return _last_of(latest_summary(store, flow="nightly"), killed)


def _last_of(summary: dict[str, Any] | None, killed: list[UnfinishedRun]) -> dict[str, Any] | None:
    """The later of two runs: one that ended, and the newest that was killed."""
    if not killed:
        return summary
    told, run_id = killed[0].started_at, killed[0].run_id
    began = began_at(run_id) if told is None else datetime.fromisoformat(told)
    is_later = summary is None or datetime.fromisoformat(summary["started_at"]) < began
    return killed[0].model_dump() if is_later else summary


def run_status(settings: Settings, run_id: str) -> dict[str, Any]:
    """Read the summary and the settings of one run from the ledger.

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
    if summary is None:
        summary = next((run.model_dump() for run in unfinished_runs(store) if run.run_id == run_id), {"run_id": run_id})
    return {"run": summary, "settings": kept}


def run_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Rows of a table that shows one run: its result, then one row for each setting."""
    run = found["run"]
    names = ("run_id", "flow", "state", "started_at", "finished_at", "stages_done", "error")
    rows = [(name, str(run[name])) for name in names if run.get(name) is not None]
    if found["settings"] is None:
        return [*rows, ("settings", "not stored, because an earlier version made the run")]
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
    pointer = read_pointer(store)
    hours, limit = fresh_hours(store, pointer), settings.freshness.max_age_hours
    if hours is None:
        found.append(Alert(kind="stale", message="Nothing is served yet. Run `l2v nightly`."))
    elif hours > limit:
        message = (
            f"The served documents match the sources of {hours:.1f} hours ago; the limit is {limit:g} hours. "
            "Run `l2v nightly`."
        )
        found.append(Alert(kind="stale", message=message))
    folder = store.machine.local_path("prefect")
    if disk := disk_trouble(folder):
        found.append(Alert(kind="disk", message=f"{disk} {disk.hint}"))
    elif server_url() is None and (database := database_trouble(folder)):
        found.append(Alert(kind="orchestrator", message=f"{database} {database.hint}"))
    night = _last_night(store, unfinished_runs(store)) or {}
    if night.get("state") == "killed":
        message = (
            f"Night {night['run_id']} was {UnfinishedRun(**night).sentence()}. Run `l2v nightly`: it resumes there."
        )
        found.append(Alert(kind="killed", message=message))
    elif "error" in night:
        found.append(Alert(kind="failed", message=f"Night {night['run_id']} {night['state']}: {night['error']}"))
    elif night.get("refused"):
        found.append(Alert(kind="refused", message=f"Night {night['run_id']}: {night['refused']}"))
    for name, reason in _unread_sources(night).items():
        message = (
            f"Night {night['run_id']} kept the former documents of source '{name}', which it could not read: {reason}"
        )
        found.append(Alert(kind="source", message=message))
    watched = {} if pointer is None else {kind: _watch(store, pointer, kind) for kind in KINDS}
    for kind, watch in watched.items():
        for fault in watch["faults"] if watch else ():
            message = f"Search of {kind}s: {fault} Run `l2v embed`: it builds the indexes again."
            found.append(Alert(kind="index", message=message))
    for kind, count in _tokens(store, pointer).items():
        if (too_much := cut_sentence(kind, count, settings.encode)) is not None:
            found.append(Alert(kind="cut", message=too_much))
    return found


def _unread_sources(night: dict[str, Any]) -> dict[str, str]:
    """Sources that are not required and that a night could not read, with the reason."""
    ingested = night.get("stages", {}).get("ingest", {}).values() if isinstance(night.get("stages"), dict) else ()
    return {
        name: why for counts in ingested if isinstance(counts, dict) for name, why in counts.get("unread", {}).items()
    }


def fresh_hours(store: Store, pointer: Pointer | None) -> float | None:
    """Age of the served source data in hours; None if nothing is served.

    A night without changes promotes nothing, but it confirms that the served documents are fresh. A rollback serves
    older documents again, with their age.
    """
    if pointer is None:
        return None
    read_at = [_read_at(store, pointer, kind) for kind in KINDS]
    return _hours_since(min(read_at))


def _read_at(store: Store, pointer: Pointer, kind: DocumentKind) -> datetime:
    """Time when the sources last matched the served state: in the newest such night, or when they were ingested."""
    snapshot_id = current_id(store, kind, pointer.snapshots[kind])
    manifest = manifest_record(kind, snapshot_id).read(store)
    if manifest is None:  # it was removed by hand
        return pointer.promoted_at
    try:
        built = began_at(manifest.run_id)  # an erasure rewrites a snapshot, but its data are no fresher
    except ValueError:
        built = datetime.fromisoformat(manifest.created_at)
    for summary in summaries(store):
        began = datetime.fromisoformat(summary["started_at"])
        if began <= built:
            break
        given = summary.get("stages", {}).get("ingest", {}).get(kind, {}).get("snapshot")
        if summary["state"] == "completed" and given is not None and current_id(store, kind, given) == snapshot_id:
            return began
    return built


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
            ("fresh", f"as of {state['fresh_hours']:.1f} hours ago"),
        ]
    if state["tokens"]:
        rows.append(("read", read_sentence({kind: TokenCount(**count) for kind, count in state["tokens"].items()})))
    for kind, names in state["no_vector"].items():
        rows.append(("no vector", f"{len(names):,} {kind}s in quarantine: {listed(names)}"))
    for kind, watch in state["search"].items():
        measured = "not measured yet" if watch is None else watch["sentence"]
        rows.append((f"search of {kind}s", measured))
    if state["past_jobs"]:
        left_out = f"{state['past_jobs']:,} jobs past their valid_through; `l2v search --past` finds them"
        rows.append(("not matched", left_out))
    rows.append(("last night", _night_sentence(night) if night else "none"))
    if "stages" in night:
        rows += _night_rows(night)
    if state["running"]:
        running = UnfinishedRun(**state["running"])
        rows.append(("running", f"{running.run_id} ({running.flow or 'flow unknown'}); {running.sentence()}"))
    if state["next_night"]:
        rows.append(("next night", state["next_night"]))
    return rows + [(f"alert: {alert['kind']}", alert["message"]) for alert in state["alerts"]]


def _night_sentence(night: dict[str, Any]) -> str:
    state = UnfinishedRun(**night).sentence() if night["state"] == "killed" else night["state"]
    return f"{night['run_id']} ({state})"


def _night_rows(night: dict[str, Any]) -> list[tuple[str, str]]:
    ingested = [counts for counts in night["stages"]["ingest"].values() if isinstance(counts, dict)]
    read, kept, bad = (sum(c[name] for c in ingested) for name in ("rows_in", "rows_kept", "rows_quarantined"))
    marks: Counter[str] = Counter()
    for counts in ingested:
        marks.update(counts.get("marks", {}))
    marked = "".join(f"; {count:,} marked {mark}" for mark, count in marks.most_common())
    rows = [
        ("ingested", f"{read:,} rows: {kept:,} kept, {bad:,} quarantined{marked}"),
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
