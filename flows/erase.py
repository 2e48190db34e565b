"""Documents out of everything at rest."""

from __future__ import annotations

from prefect import flow

from flows.request import RunRequest
from tasks.erase import erase_all
from tasks.refs import EraseReport
from tasks.writing import writing_run


@flow(name="erase")
def erase(doc_ids: list[str], request: RunRequest = RunRequest()) -> EraseReport:  # noqa: B008 - frozen
    """Erase documents, and prove that nothing of them is left. Killed in the middle, the next call completes it.

    Args:
        doc_ids: Documents to erase.
        request: Settings of the run.
    """
    settings = request.settings()
    with writing_run(settings.store(), parent=request.parent_run) as run_id:
        return erase_all(settings, doc_ids, run_id=run_id)
