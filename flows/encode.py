"""Shards of a night on several workers: its embed stage and further runs take plans until none is left."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.runtime import flow_run

from data.errors import InputError
from flows.names import run_name
from flows.request import RunRequest
from flows.workers import POLL_SECONDS
from tasks.run.settings import Settings
from tasks.run.writing import lease_of
from tasks.stages.embed import encode_shards
from tasks.workers.claims import keep_report, kept_reports, offer_plans, take_plans
from tasks.workers.shards import ShardPlan, ShardReport

logger = logging.getLogger(__name__)


@flow(name="encode", flow_run_name=run_name)
def encode(fingerprint: str, request: RunRequest = RunRequest()) -> int:  # noqa: B008 - frozen
    """Encode shards of a night beside its embed stage, which starts this; no other run does.

    Args:
        fingerprint: Checkpoint to encode with.
        request: Settings of the run, and the night.
    """
    if request.parent_run is None:
        raise InputError("No night was named.", hint="Set deployments.encoders; the embed stage starts this flow.")
    reports = _take_and_encode(request.settings(), fingerprint, request.parent_run)
    return sum(report.documents for report in reports)


def encode_together(request: RunRequest, fingerprint: str, plans: Sequence[ShardPlan]) -> list[ShardReport]:
    """Encode planned shards here and on ``deployments.encoders`` - 1 further workers.

    What a worker took and did not finish is encoded here, once none of them is running any more.

    Args:
        request: Settings, and the run that holds the lease.
        fingerprint: Checkpoint to encode with.
        plans: Which documents each shard holds.
    """
    settings, run_id = request.settings(), str(request.parent_run)
    store = settings.store()
    offer_plans(store, run_id, plans)
    parameters = {"fingerprint": fingerprint, "request": request.model_dump(mode="json")}
    helpers = [_start(parameters) for _ in range(settings.deployments.encoders - 1)]
    _take_and_encode(settings, fingerprint, run_id)
    # Every plan is taken now: a helper that has not begun yet will find none.
    while len(kept_reports(store, run_id)) < len(plans) and any(map(_is_working, helpers)):
        time.sleep(POLL_SECONDS)
    done = kept_reports(store, run_id)
    for number, plan in enumerate(plans):
        if number not in done:
            logger.warning("Shard %d was taken by a worker that is gone; it is encoded here.", number)
            done[number] = encode_shard(settings, fingerprint, plan)
    return [done[number] for number in range(len(plans))]


def _take_and_encode(settings: Settings, fingerprint: str, run_id: str) -> list[ShardReport]:
    store, reports = settings.store(), []
    for number, plan in take_plans(
        store, run_id, worker=str(flow_run.name), fence=lambda: lease_of(store, run_id).check()
    ):
        reports.append(encode_shard(settings, fingerprint, plan))
        keep_report(store, run_id, number, reports[-1])
    return reports


def encode_shard(settings: Settings, fingerprint: str, plan: ShardPlan) -> ShardReport:
    """Encode one shard, as a task of its own: which ones come is known one after another."""
    (report,) = encode_shards(settings, fingerprint, [plan])
    return report


def _start(parameters: dict[str, Any]) -> UUID:
    # Called from synchronous code, so this is the run and no coroutine.
    return cast(FlowRun, run_deployment("encode/encode", parameters=parameters, timeout=0)).id


def _is_working(run: UUID) -> bool:
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run).state
    return state is not None and (state.is_running() or state.is_cancelling())
