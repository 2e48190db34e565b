"""Served tables to ranked pairs."""

from __future__ import annotations

from prefect import flow

from flows.request import RunRequest
from tasks.match import match_all
from tasks.refs import MatchReport
from tasks.writing import new_run_id, writer_lease


@flow(name="match")
def match(request: RunRequest = RunRequest()) -> MatchReport:  # noqa: B008 - frozen
    """Rank resumes for every job, and jobs for every resume."""
    settings = request.settings()
    run_id = new_run_id()
    with writer_lease(settings.store(), run_id=run_id, parent=request.parent_run) as owner:
        return match_all(settings, run_id=run_id, lease_owner=owner)
