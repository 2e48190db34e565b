"""The run ledger, a record of every run under ``runs/<run_id>/``. Never imports prefect.

When a run begins, it writes ``start.json`` (its flow and the time) and ``settings.json`` (resolved, secrets masked).
When it ends or fails, it writes ``summary.json``. A killed run leaves no summary; see :func:`unfinished_runs`. A run
that was refused the lease writes only its summary. A stage of a run writes its report to ``stages/<flow>.json``,
where a night that started it on another machine finds it.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from data.errors import LeaseHeldError, RefusedError, StoreError
from data.store.base import Store
from data.store.credentials import mask_credentials
from data.store.lease import hold_lease, living_owner
from tasks.ledger.lineage import emit_end, emit_start
from tasks.ledger.record import RunRecord
from tasks.ledger.usage import estimate_cost
from tasks.run.context import Run, new_run_id, utc_now
from tasks.run.precision import with_served_precision
from tasks.run.reports import StageReport, Usage
from tasks.run.resolved import shown
from tasks.run.settings import Settings

RunState = Literal["completed", "failed", "refused", "cancelled"]


@contextlib.contextmanager
def recorded_run(settings: Settings, *, flow: str, parameters: Mapping[str, object]) -> Iterator[RunRecord]:
    """Run a flow under the lease of the store; record it in the ledger and send lineage events.

    Args:
        settings: Settings of the run.
        flow: Name of the flow.
        parameters: The request, as stored in the ledger.

    Yields:
        Its record, to which the flow adds the reports of its stages.

    Raises:
        LeaseHeldError: Another writer still holds the lease after ``lease.wait_s``. The ledger records the refusal.
    """
    run_id, store = new_run_id(), settings.store()
    with contextlib.ExitStack() as stack:
        try:
            lease = stack.enter_context(hold_lease(store, owner=run_id, wait_s=settings.lease.wait_s))
        except LeaseHeldError as refusal:
            _keep_refusal(store, run_id, flow, parameters=parameters, refusal=refusal)
            raise
        settings = with_served_precision(settings, store)
        run = Run(run_id, settings, store, lease)
        store.put_if_absent(
            _start_key(run_id), json.dumps({"flow": flow, "started_at": run.clock().isoformat()}).encode()
        )
        store.put_if_absent(_settings_key(run_id), json.dumps(shown(settings), indent=2).encode())
        with _recorded(RunRecord(run, flow, is_stage=False, started_at=run.clock()), parameters) as record:
            yield record


@contextlib.contextmanager
def recorded_stage(run: Run, *, flow: str) -> Iterator[RunRecord]:
    """Run a stage of a run, and store its reports for the run; see :func:`read_stage`."""
    with _recorded(RunRecord(run, flow, is_stage=True, started_at=run.clock()), {}) as record:
        yield record


@contextlib.contextmanager
def _recorded(record: RunRecord, parameters: Mapping[str, object]) -> Iterator[RunRecord]:
    emit_start(record)
    try:
        yield record
    except BaseException as error:  # a cancelled run is recorded, too
        message = mask_credentials(f"{type(error).__name__}: {error}")
        with contextlib.suppress(StoreError):  # a full disk must not hide the error
            _keep(record, state=_state_of(error), parameters=parameters, error=message)
        emit_end(record, error=message)
        raise
    _keep(record, state="completed", parameters=parameters)
    emit_end(record)


def _state_of(error: BaseException) -> RunState:
    if isinstance(error, RefusedError):
        return "refused"
    return "failed" if isinstance(error, Exception) else "cancelled"


def _keep(record: RunRecord, *, state: RunState, parameters: Mapping[str, object], error: str | None = None) -> None:
    run = record.run
    if record.is_stage:
        if state == "completed":
            reports = TypeAdapter(list[Any]).dump_json(list(record.reports), indent=2)
            run.store.put_if_absent(_stage_key(run.id, record.flow), reports)
        return
    reports_of = {"reports": [report.model_dump(mode="json") for report in record.reports]}
    summary = {
        "run_id": run.id,
        "flow": record.flow,
        "state": state,
        "started_at": record.started_at.isoformat(),
        "finished_at": run.clock().isoformat(),
        "seconds": record.seconds(),
        "parameters": parameters,
        **({} if error is None else {"error": error}),
        **(record.summary if record.summary is not None else reports_of),
        "usage": usage_of(record.reports),
        "cost": estimate_cost(run.settings.cost, record.seconds()).model_dump(),
    }
    _write_summary(run.store, summary)


def keep_failed_start(settings: Settings, flow: str, error: Exception) -> None:
    """Record a run that failed before its flow began, because the orchestrator did not start."""
    moment = utc_now().isoformat()
    summary = {
        "run_id": new_run_id(),
        "flow": flow,
        "state": "failed",
        "started_at": moment,
        "finished_at": moment,
        "error": f"{type(error).__name__}: {error}",
    }
    with contextlib.suppress(StoreError):  # a full disk must not hide the error
        _write_summary(settings.store(), summary)


def _keep_refusal(
    store: Store, run_id: str, flow: str, *, parameters: Mapping[str, object], refusal: LeaseHeldError
) -> None:
    """Record that a run was refused the lease, so that a missing night can be explained."""
    summary = {
        "run_id": run_id,
        "flow": flow,
        "state": "refused",
        "started_at": None,
        "finished_at": utc_now().isoformat(),
        "parameters": parameters,
        "error": f"{type(refusal).__name__}: {refusal}",
    }
    with contextlib.suppress(StoreError):  # a full disk must not hide the refusal
        _write_summary(store, summary)


def _write_summary(store: Store, summary: Mapping[str, object]) -> None:
    content = mask_credentials(json.dumps(summary, indent=2, default=str)) + "\n"
    store.put_if_absent(f"runs/{summary['run_id']}/summary.json", content.encode())


def usage_of(reports: tuple[StageReport, ...]) -> dict[str, dict[str, float | None]]:
    """Usage by stage, of stages that used a model."""
    found = {report.stage: getattr(report, "usage", None) for report in reports}
    return {stage: usage.summary() for stage, usage in found.items() if isinstance(usage, Usage)}


def read_stage(store: Store, parent: str, flow: str) -> bytes | None:
    """Reports of a stage of a run, as a JSON list; None if it did not complete."""
    return store.read(_stage_key(parent, flow))


def _stage_key(parent: str, flow: str) -> str:
    return f"runs/{parent}/stages/{flow}.json"


def _settings_key(run_id: str) -> str:
    return f"runs/{run_id}/settings.json"


def _start_key(run_id: str) -> str:
    return f"runs/{run_id}/start.json"


def read_settings(store: Store, run_id: str) -> dict[str, Any] | None:
    """Settings of a run, secrets masked; None for a run of an earlier version, which did not store them."""
    raw = store.read(_settings_key(run_id))
    return None if raw is None else json.loads(raw)


def read_summary(store: Store, run_id: str) -> dict[str, Any] | None:
    """Summary of a run by its id."""
    raw = store.read(f"runs/{run_id}/summary.json")
    return None if raw is None else json.loads(raw)


def latest_summary(store: Store, *, flow: str | None = None, state: RunState | None = None) -> dict[str, Any] | None:
    """Summary of the most recently started run with a given flow or state."""
    for summary in summaries(store):
        if (flow is None or summary.get("flow") == flow) and (state is None or summary.get("state") == state):
            return summary
    return None


def summaries(store: Store) -> Iterator[dict[str, Any]]:
    """Summaries of the runs that ended, newest first. Run ids begin with the start time."""
    keys = sorted((key for key in store.list("runs") if key.endswith("/summary.json")), reverse=True)
    for key in keys:
        summary: dict[str, Any] = json.loads(store.read(key) or b"{}")
        if summary.get("started_at") is not None:
            yield summary


def began_at(run_id: str) -> datetime:
    """Start time of a run, to the second, from its id.

    Raises:
        ValueError: The text is not a run id.
    """
    return datetime.strptime(run_id.split("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


class UnfinishedRun(BaseModel):
    """A run that began and left no summary.

    Attributes:
        flow: Name of its flow; None for a run of an earlier version that completed no stage.
        state: ``running`` while its process lives and holds the lease; otherwise ``killed``.
        stages_done: Stages that completed, in order.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    flow: str | None
    state: Literal["running", "killed"]
    started_at: str | None
    stages_done: tuple[str, ...]

    def sentence(self) -> str:
        """For alerts and tables."""
        return f"{self.state}; stages done: {', '.join(self.stages_done) or 'none'}"


_STAGES = ("ingest", "train", "evaluate", "embed", "match", "export")


def unfinished_runs(store: Store) -> list[UnfinishedRun]:
    """Runs that began and left no summary, newest first.

    Only the run that holds the lease may be alive. The others were killed, or lost power, memory or disk space.
    """
    files = defaultdict(set)
    for key in store.list("runs"):
        _, run_id, name = key.split("/", 2)
        files[run_id].add(name)
    # A run writes its summary before it releases the lease, so check for the summary again after the lease.
    left, living = [run_id for run_id in files if "summary.json" not in files[run_id]], living_owner(store)
    found = []
    for run_id in sorted(left, reverse=True):
        if read_summary(store, run_id) is not None:
            continue
        start = json.loads(store.read(_start_key(run_id)) or b"{}")
        done = tuple(stage for stage in _STAGES if f"stages/{stage}.json" in files[run_id])
        found.append(
            UnfinishedRun(
                run_id=run_id,
                flow=start.get("flow", "nightly" if done else None),  # only nights have stages
                state="running" if run_id == living else "killed",
                started_at=start.get("started_at"),
                stages_done=done,
            )
        )
    return found


def peak_rss_bytes() -> int:
    """Highest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
