"""Served tables to ranked pairs."""

from __future__ import annotations

from prefect import flow

from flows.names import run_name
from flows.request import RunRequest
from tasks.run.reports import MatchReport
from tasks.stages.match import match_all


@flow(name="match", flow_run_name=run_name)
def match(request: RunRequest = RunRequest()) -> MatchReport:  # noqa: B008 - frozen
    """Rank resumes for every job, and jobs for every resume.

    Args:
        request: Settings of the run.
    """
    with request.recorded("match") as run:
        return run.did(match_all(request.settings(), run_id=run.id))
