"""A stage of a night: in this process, or as a deployment on the workers of its pool."""

from __future__ import annotations

import json
from typing import Any, TypeVar, cast

from prefect import Flow
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from pydantic import TypeAdapter

from flows.request import RunRequest
from llm2vec_core.errors import CoreError
from tasks.ledger.runs import read_stage
from tasks.run.reports import StageReport

POLL_SECONDS = 5.0
"""Seconds between two looks at a stage that runs elsewhere."""

_Report = TypeVar("_Report", bound=StageReport)


class StageFailedError(CoreError):
    """A stage that ran on another worker did not get to its end."""


def run_stage(flow: Flow[..., _Report], kept_as: type[_Report], request: RunRequest, **parameters: Any) -> _Report:  # noqa: ANN401
    """Run a stage of a night and wait for its report.

    With ``deployments.gpu_stages`` it is started as the deployment of its flow, and works under the lease of the run
    that ``request`` names as its parent: a stage whose parent is gone can commit nothing. Its report comes back through
    the store, which both workers share.

    Args:
        flow: Flow of the stage; its deployment has the same name.
        kept_as: Type of its report.
        request: Settings, and the run that this is a stage of.
        parameters: Further parameters of the flow.

    Raises:
        StageFailedError: The stage failed on its worker, whose log says why.
    """
    settings = request.settings()
    if not settings.deployments.gpu_stages:
        report: _Report = flow(request=request, **parameters)
        return report
    values = TypeAdapter(dict[str, Any]).dump_python({"request": request, **parameters}, mode="json")
    name = f"{flow.name}/{flow.name}"
    # Called from synchronous code, so this is the run and no coroutine.
    stage = cast(
        FlowRun,
        run_deployment(name, parameters=values, timeout=None, poll_interval=POLL_SECONDS),
    )
    kept = read_stage(settings.store(), str(request.parent_run), flow.name)
    if stage.state is None or not stage.state.is_completed() or kept is None:
        state = "nothing" if stage.state is None else f"{stage.state.name}: {stage.state.message}"
        raise StageFailedError(
            f"The stage {flow.name} ended on its worker as {state}.",
            hint=f"The log of flow run '{stage.name}' says more. Run the night again: it goes on from what is done.",
        )
    return kept_as.model_validate(json.loads(kept)[0])
