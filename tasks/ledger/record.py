"""The record of an active run: its flow and the reports of its stages. Never imports prefect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from tasks.run.context import Run
from tasks.run.reports import StageReport

_Report = TypeVar("_Report", bound=StageReport)


@dataclass
class RunRecord:
    """The record that the ledger writes when the run ends.

    Attributes:
        run: The run context.
        flow: Name of the flow.
        is_stage: Whether this is a stage of the run, not the whole run.
        started_at: When the flow began.
        reports: Reports of its stages so far.
        summary: Further fields of the summary.
    """

    run: Run
    flow: str
    is_stage: bool
    started_at: datetime
    reports: tuple[StageReport, ...] = ()
    summary: Mapping[str, object] | None = None

    def did(self, report: _Report) -> _Report:
        """Keep the report of a stage, and return it."""
        self.reports = (*self.reports, report)
        return report

    def seconds(self) -> float:
        """Seconds since the flow began."""
        return (self.run.clock() - self.started_at).total_seconds()
