"""Keep the store small and fast: compact, index, and remove what nothing needs any more."""

from __future__ import annotations

import logging
import time

from prefect import flow

from flows.request import RunRequest
from tasks.artifacts import publish_table
from tasks.maintain import STEPS, maintain_step
from tasks.refs import MaintainReport
from tasks.writing import writing_run

logger = logging.getLogger(__name__)


@flow(name="maintain")
def maintain(request: RunRequest = RunRequest()) -> MaintainReport:  # noqa: B008 - frozen
    """Carry out every step of maintenance; one that fails is reported, and the others go on.

    Args:
        request: Settings of the run.
    """
    started = time.monotonic()
    settings = request.settings()
    with writing_run(settings.store(), parent=request.parent_run, wait_s=settings.lease.wait_s) as run_id:
        steps = [maintain_step(settings, step, run_id=run_id) for step in STEPS]
    for step in steps:
        if step.error:
            logger.warning("maintenance of %s failed: %s", step.step, step.error)
    publish_table("maintenance", [step.model_dump() for step in steps], description=f"Maintenance {run_id}")
    return MaintainReport(steps=steps, seconds=time.monotonic() - started)
