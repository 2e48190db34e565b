"""The run ledger: what every run did, kept under ``runs/<run_id>/``. Never imports prefect.

A run of its own keeps ``summary.json`` when it ends, however it ends, or when it was refused the lease; a stage of a
parent run keeps its report as ``stages/<flow>.json``, where a parent that started it on another machine finds it.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter

from data.errors import LeaseHeldError, RefusedError, StoreError
from data.store.base import Store
from data.store.credentials import mask_credentials
from data.store.lease import hold_lease
from tasks.ledger.lineage import emit_end, emit_start
from tasks.ledger.usage import estimate_cost
from tasks.run.reports import StageReport, Usage
from tasks.run.settings import Settings
from tasks.run.writing import new_run_id, utc_now

_Report = TypeVar("_Report", bound=StageReport)

RunState = Literal["completed", "failed", "refused", "cancelled"]


@dataclass
class Run:
    """A run of a flow while it goes on.

    Attributes:
        id: Under which the lease is held; a stage has its parent's.
        flow: Name of the flow.
        parent: Run that this is a stage of, if it is.
        reports: What its stages did.
        summary: What else the ledger keeps of it.
    """

    id: str
    flow: str
    parent: str | None
    started_at: datetime
    reports: tuple[StageReport, ...] = ()
    summary: Mapping[str, object] | None = None

    def did(self, report: _Report) -> _Report:
        """Keep what a stage did, and hand its report on."""
        self.reports = (*self.reports, report)
        return report

    def seconds(self) -> float:
        """Time since it began."""
        return (utc_now() - self.started_at).total_seconds()


@contextlib.contextmanager
def recorded_run(
    settings: Settings, *, flow: str, parent: str | None, parameters: Mapping[str, object]
) -> Iterator[Run]:
    """A run that writes, and what it did in the ledger and as lineage events.

    A run of its own holds the store's lease under its id, which its tasks pass to :func:`tasks.run.writing.lease_of`; a
    stage works under its parent's.

    Args:
        settings: Settings of the run.
        flow: Name of the flow.
        parent: Run that this is a stage of, if it is.
        parameters: What the run was asked with.

    Yields:
        The run, to which the flow adds what it did.

    Raises:
        LeaseHeldError: Another living writer is at work, and still is after ``lease.wait_s``. The ledger keeps that.
    """
    run_id = parent or new_run_id()
    with contextlib.ExitStack() as lease:
        if parent is None:
            try:
                lease.enter_context(hold_lease(settings.store(), owner=run_id, wait_s=settings.lease.wait_s))
            except LeaseHeldError as refusal:
                _keep_refusal(settings, run_id, flow, parameters=parameters, refusal=refusal)
                raise
        run = Run(run_id, flow, parent, utc_now())
        emit_start(settings, run)
        try:
            yield run
        except BaseException as error:  # a cancelled run is recorded, too
            message = mask_credentials(f"{type(error).__name__}: {error}")
            with contextlib.suppress(StoreError):  # a full disk must not hide what went wrong
                _keep(settings, run, state=_state_of(error), parameters=parameters, error=message)
            emit_end(settings, run, error=message)
            raise
        _keep(settings, run, state="completed", parameters=parameters)
        emit_end(settings, run)


def _state_of(error: BaseException) -> RunState:
    if isinstance(error, RefusedError):
        return "refused"
    return "failed" if isinstance(error, Exception) else "cancelled"


def _keep(
    settings: Settings, run: Run, *, state: RunState, parameters: Mapping[str, object], error: str | None = None
) -> None:
    store = settings.store()
    if run.parent is not None:
        if state == "completed":
            reports = TypeAdapter(list[Any]).dump_json(list(run.reports), indent=2)
            store.put_if_absent(_stage_key(run.parent, run.flow), reports)
        return
    reports_of = {"reports": [report.model_dump(mode="json") for report in run.reports]}
    summary = {
        "run_id": run.id,
        "flow": run.flow,
        "state": state,
        "started_at": run.started_at.isoformat(),
        "finished_at": utc_now().isoformat(),
        "seconds": run.seconds(),
        "parameters": parameters,
        **({} if error is None else {"error": error}),
        **(run.summary if run.summary is not None else reports_of),
        "usage": usage_of(run.reports),
        "cost": estimate_cost(settings.cost, run.seconds()).model_dump(),
    }
    _write_summary(store, summary)


def _keep_refusal(
    settings: Settings, run_id: str, flow: str, *, parameters: Mapping[str, object], refusal: LeaseHeldError
) -> None:
    """Keep that a run was refused the lease: without it, nobody could tell later why a night is missing."""
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
        _write_summary(settings.store(), summary)


def _write_summary(store: Store, summary: Mapping[str, object]) -> None:
    content = mask_credentials(json.dumps(summary, indent=2, default=str)) + "\n"
    store.put_if_absent(f"runs/{summary['run_id']}/summary.json", content.encode())


def usage_of(reports: tuple[StageReport, ...]) -> dict[str, dict[str, float | None]]:
    """Work of a model by stage, of the stages that did any."""
    found = {report.stage: getattr(report, "usage", None) for report in reports}
    return {stage: usage.summary() for stage, usage in found.items() if isinstance(usage, Usage)}


def read_stage(store: Store, parent: str, flow: str) -> bytes | None:
    """Reports that a stage of a run kept, as a JSON list; None when it did not get to its end."""
    return store.read(_stage_key(parent, flow))


def _stage_key(parent: str, flow: str) -> str:
    return f"runs/{parent}/stages/{flow}.json"


def read_summary(store: Store, run_id: str) -> dict[str, Any] | None:
    """Summary of a run by its id."""
    raw = store.read(f"runs/{run_id}/summary.json")
    return None if raw is None else json.loads(raw)


def latest_summary(store: Store, *, flow: str | None = None, state: RunState | None = None) -> dict[str, Any] | None:
    """Summary of the newest run that began, of a flow or in a state if one is named; run ids begin with the time."""
    keys = sorted((key for key in store.list("runs") if key.endswith("/summary.json")), reverse=True)
    for key in keys:
        summary: dict[str, Any] = json.loads(store.read(key) or b"{}")
        began = summary.get("started_at") is not None
        if began and (flow is None or summary.get("flow") == flow) and (state is None or summary.get("state") == state):
            return summary
    return None


def peak_rss_bytes() -> int:
    """Highest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
