"""Keep the store small and fast: compact and index tables, and remove unneeded files."""

from __future__ import annotations

import logging
import time

from prefect import flow

from flows.request import RunRequest, recorded, run_name
from tasks.run.reports import MaintainReport
from tasks.stages.maintain import STEPS, maintain_step
from tasks.ui.artifacts import publish_table

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
        report = record.did(MaintainReport(steps=steps, seconds=time.monotonic() - started))
    for step in steps:
        if step.error:
            logger.warning("maintenance of %s failed: %s", step.step, step.error)
    publish_table("maintenance", [step.model_dump() for step in steps], description=f"Maintenance {record.run.id}")
    return report
