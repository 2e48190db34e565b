"""Served tables to ranked pairs."""

from __future__ import annotations

from prefect import flow

from flows.request import RunRequest
from tasks.match import match_all
from tasks.refs import MatchReport
from tasks.writing import writing_run


@flow(name="match")
def match(request: RunRequest = RunRequest()) -> MatchReport:  # noqa: B008 - frozen
    """Rank resumes for every job, and jobs for every resume."""
    settings = request.settings()
    with writing_run(settings.store(), parent=request.parent_run, wait_s=settings.lease.wait_s) as run_id:
        return match_all(settings, run_id=run_id)
