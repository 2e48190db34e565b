"""The match flow: from served tables to ranked pairs."""

from __future__ import annotations

from prefect import flow

from flows.request import RunRequest, recorded, run_name
from tasks.run.reports import MatchReport
from tasks.stages.match import match_all


@flow(name="match", flow_run_name=run_name)
def match(request: RunRequest | None = None) -> MatchReport:
    """Rank resumes for every job and jobs for every resume.

    Args:
        request: Settings of the run.
    """
    with recorded("match", request) as record:
        return record.did(match_all(record.run))
