"""Keep the store small and fast: compact and index tables, and remove unneeded files."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta

import httpx
from prefect import flow
from prefect.exceptions import PrefectException

from flows.request import RunRequest, recorded, run_name
from tasks.run.reports import MaintainReport, MaintainStep
from tasks.stages.maintain import STEPS, maintain_step
from tasks.ui.artifacts import prune_artifacts, publish_table
from tasks.ui.embedded import prune_history

_ARTIFACTS_STAY = timedelta(days=30)

logger = logging.getLogger(__name__)


@flow(name="maintain", flow_run_name=run_name)
def maintain(request: RunRequest | None = None) -> MaintainReport:
    """Carry out every step of maintenance. A step that fails is reported; the others still run.

    Args:
        request: Settings of the run.
    """
    started = time.monotonic()
    with recorded("maintain", request) as record:
        steps = [maintain_step(record.run, step) for step in STEPS]
        steps += [_prune_artifacts(record.run.clock()), *prune_history()]
        report = record.did(MaintainReport(steps=steps, seconds=time.monotonic() - started))
    for step in steps:
        if step.error:
            logger.warning("maintenance of %s failed: %s", step.step, step.error)
    publish_table("maintenance", [step.model_dump() for step in steps], description=f"Maintenance {record.run.id}")
    return report


def _prune_artifacts(now: datetime) -> MaintainStep:
    """Remove old artifacts from the Prefect server, whose database would otherwise grow with every night."""
    try:
        count = prune_artifacts(older_than=now - _ARTIFACTS_STAY)
    except (httpx.HTTPError, PrefectException) as error:
        return MaintainStep(step="artifacts", count=0, freed_bytes=0, error=f"{type(error).__name__}: {error}")
    return MaintainStep(step="artifacts", count=count, freed_bytes=0)
