"""Use other workers: run a stage of a night as a deployment, or share the shards of a night."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from typing import Any, TypeVar, cast
from uuid import UUID

from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.runtime import flow_run
from pydantic import TypeAdapter

from data.errors import InputError
from data.store.credentials import mask_credentials
from flows.request import RunRequest, run_name
from tasks.errors import StageFailedError
from tasks.ledger.lineage import emit_end, emit_start
from tasks.ledger.record import RunRecord
from tasks.ledger.runs import read_stage
from tasks.run.context import Run
from tasks.run.reports import StageReport
from tasks.stages.embed import encode_shards
from tasks.workers.claims import keep_shard_report, kept_reports, offer_plans, take_plans
from tasks.workers.shards import ShardPlan, ShardReport

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
"""Seconds between two polls of a stage on another worker."""

_Report = TypeVar("_Report", bound=StageReport)


def run_night_stage(
    stage: Flow[..., _Report],
    kept_as: type[_Report],
    request: RunRequest,
    **parameters: Any,  # noqa: ANN401 - those of the flow
) -> _Report:
    """Run a stage of a night and wait for its report.

    With ``deployments.gpu_stages`` the stage is started as the deployment of its flow. It works under the lease of the
    night, so a stage whose night is gone can commit nothing. Its report comes back through the store, which both
    workers share.

    Args:
        stage: Flow of the stage; its deployment has the same name.
        kept_as: Type of its report.
        request: Request of the stage.
        parameters: Further parameters of the flow.

    Raises:
        StageFailedError: The stage failed on its worker, whose log says why.
    """
    run = request.parent()
    report: _Report
    if not run.settings.deployments.gpu_stages:
        report = stage(request=request, **parameters)
        return report
    record = RunRecord(run, stage.name, is_stage=True, started_at=run.clock())
    emit_start(record)  # the worker does not know the endpoint of lineage events
    try:
        report = record.did(_run_on_worker(stage.name, kept_as, request, parameters))
    except BaseException as error:
        emit_end(record, error=mask_credentials(f"{type(error).__name__}: {error}"))
        raise
    emit_end(record)
    return report


def _run_on_worker(name: str, kept_as: type[_Report], request: RunRequest, parameters: dict[str, Any]) -> _Report:
    run = request.parent()
    values = TypeAdapter(dict[str, Any]).dump_python({**parameters, "request": request.for_worker()}, mode="json")
    # Called from synchronous code, so this is the run, not a coroutine.
    done = cast(FlowRun, run_deployment(f"{name}/{name}", parameters=values, timeout=None, poll_interval=POLL_SECONDS))
    kept = read_stage(run.store, run.id, name)
    if done.state is None or not done.state.is_completed() or kept is None:
        state = "nothing" if done.state is None else f"{done.state.name}: {done.state.message}"
        raise StageFailedError(
            f"Stage {name} ended on its worker as {state}.",
            hint=f"See the log of flow run '{done.name}'. Run the night again: it resumes from the completed work.",
        )
    return kept_as.model_validate(json.loads(kept)[0])


@flow(name="encode", flow_run_name=run_name)
def encode(fingerprint: str, request: RunRequest | None = None) -> int:
    """Help the embed stage of a night to encode shards. The embed stage starts this flow.

    Args:
        fingerprint: Checkpoint to encode with.
        request: Settings of the run, and the night.
    """
    if request is None or request.parent_run is None:
        raise InputError(
            "This flow needs the run id of a night.", hint="Set deployments.encoders; the embed stage starts this flow."
        )
    reports = _take_and_encode(request.parent(), fingerprint)
    return sum(report.documents for report in reports)


def share_shards(request: RunRequest, fingerprint: str, plans: Sequence[ShardPlan]) -> list[ShardReport]:
    """Encode planned shards here and on ``deployments.encoders`` - 1 further workers.

    Shards that a worker took and did not finish are encoded here, once no further worker is running.

    Args:
        request: Request of the stage.
        fingerprint: Checkpoint to encode with.
        plans: Documents of each shard.
    """
    run = request.parent()
    offer_plans(run, plans)
    parameters = {"fingerprint": fingerprint, "request": request.for_worker()}
    helpers = [_start(parameters) for _ in range(run.settings.deployments.encoders - 1)]
    _take_and_encode(run, fingerprint)
    # All plans are taken now; a helper that starts later finds none.
    while len(kept_reports(run)) < len(plans) and any(map(_is_working, helpers)):
        time.sleep(POLL_SECONDS)
    done = kept_reports(run)
    for number, plan in enumerate(plans):
        if number not in done:
            logger.warning("Shard %d was taken by a worker that is gone; it is encoded here.", number)
            done[number] = encode_shard(run, fingerprint, plan)
    return [done[number] for number in range(len(plans))]


def _take_and_encode(run: Run, fingerprint: str) -> list[ShardReport]:
    reports = []
    for number, plan in take_plans(run, worker=str(flow_run.name)):
        reports.append(encode_shard(run, fingerprint, plan))
        keep_shard_report(run, number, reports[-1])
    return reports


def encode_shard(run: Run, fingerprint: str, plan: ShardPlan) -> ShardReport:
    """Encode one shard, in its own task, because the next shard is known only when this one is done."""
    (report,) = encode_shards(run, fingerprint, [plan])
    return report


def _start(parameters: dict[str, Any]) -> UUID:
    # Called from synchronous code, so this is the run, not a coroutine.
    return cast(FlowRun, run_deployment("encode/encode", parameters=parameters, timeout=0)).id


def _is_working(run: UUID) -> bool:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run).state
    return state is not None and (state.is_running() or state.is_cancelling())
