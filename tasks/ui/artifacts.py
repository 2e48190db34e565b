"""Show a run to people: progress on the terminal; progress, pages, tables, plots, links and events in the Prefect UI.

Outside of a run, no artifact is published and no server is called.
"""

from __future__ import annotations

import base64
import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event

from tasks.ui.console import progress_bar

_SECONDS_BETWEEN_UPDATES = 5.0

GATE_REFUSED = "llm2vec.gate-refused"
"""Event of a night whose gate kept the served encoder; an automation reacts to it."""

SOURCE_UNREAD = "llm2vec.source-unread"
"""Event of a night that could not read a source that is not required; an automation reacts to it."""

_KEYS = (
    *("nightly", "ingest-counts", "table-counts", "generation-gate", "fairness", "maintenance"),
    *("encode-documents", "evaluate", "match", "train", "evaluation", "evaluation-%"),
)
"""Keys of our artifacts; ``%`` stands for any text. Other projects on the server keep theirs."""

_PAGE, _MAX_PAGES = 50, 400
_PRUNED_AT_ONCE = 2000

Advance = Callable[..., None]


@contextlib.contextmanager
def progress(description: str, total: int | None) -> Iterator[Advance]:
    """Progress of a long task: a bar on a terminal, log lines elsewhere, and a Prefect artifact in a run.

    Args:
        description: Name of the task.
        total: All units; None if their number is not known. Then there is no artifact.

    Yields:
        ``advance(count, note="")``.
    """
    artifact = None if total is None else _ProgressArtifact(description, total)
    with progress_bar(description, total) as advance_bar:

        def advance(count: int = 1, *, note: str = "") -> None:
            advance_bar(count, note)
            if artifact is not None:
                artifact.advance(count)

        yield advance
        if artifact is not None:
            artifact.finish()


def publish_markdown(key: str, markdown: str, *, description: str) -> None:
    """Publish a Markdown page as an artifact of the run."""
    if _is_in_run():
        create_markdown_artifact(markdown, key=key, description=description)


def publish_table(key: str, rows: Sequence[Mapping[str, Any]], *, description: str) -> None:
    """Publish a table as an artifact of the run."""
    if _is_in_run():
        create_table_artifact([dict(row) for row in rows], key=key, description=description)


def publish_link(key: str, url: str, *, text: str, description: str) -> None:
    """Publish a link as an artifact of the run."""
    if _is_in_run():
        create_link_artifact(url, link_text=text, key=key, description=description)


def publish_plot(key: str, png: bytes, *, description: str) -> None:
    """Publish a plot as an artifact of the run. The image is in its URL, because a browser cannot reach the store."""
    if _is_in_run():
        address = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        create_image_artifact(address, key=key, description=description)


def prune_artifacts(*, older_than: datetime, limit: int = _PRUNED_AT_ONCE) -> int:
    """Remove old artifacts of our runs from the server, except the newest of each key.

    Args:
        older_than: Artifacts that were made later stay.
        limit: Maximum number to remove: each takes a request.

    Returns:
        Number of artifacts that were removed.
    """
    doomed: list[UUID] = []
    with get_client(sync_client=True) as client:
        for key in _KEYS:
            chosen = ArtifactFilter(key=ArtifactFilterKey(like_=key) if "%" in key else ArtifactFilterKey(any_=[key]))
            newest: set[str | None] = set()
            for page in range(_MAX_PAGES):
                found = client.read_artifacts(
                    artifact_filter=chosen, sort=ArtifactSort.CREATED_DESC, limit=_PAGE, offset=page * _PAGE
                )
                for each in found:
                    if each.key in newest and each.created is not None and each.created < older_than:
                        doomed.append(each.id)
                    newest.add(each.key)
                if len(found) < _PAGE:
                    break
        for artifact_id in doomed[:limit]:
            client.delete_artifact(artifact_id)
    return len(doomed[:limit])


def emit_alert(event: str, run_id: str, **payload: str) -> None:
    """Send an event of a night, such as :data:`GATE_REFUSED`, to which an automation reacts."""
    resource = {"prefect.resource.id": f"llm2vec.run.{run_id}", "prefect.resource.name": f"night {run_id}"}
    emit_event(event, resource=resource, payload={"run_id": run_id, **payload})


def _is_in_run() -> bool:
    return FlowRunContext.get() is not None or TaskRunContext.get() is not None


class _ProgressArtifact:
    """The progress artifact of a long task, created after some seconds and then updated every few seconds.

    A short task gets none, because two server calls take longer than some tasks.
    """

    def __init__(self, description: str, total: int) -> None:
        self._description = description
        self._total = max(total, 1)
        self._done = 0
        self._updated_at = time.monotonic()
        self._in_task = TaskRunContext.get() is not None
        self._id: UUID | None = None

    def advance(self, count: int) -> None:
        self._done += count
        if self._in_task and time.monotonic() - self._updated_at > _SECONDS_BETWEEN_UPDATES:
            self._updated_at = time.monotonic()
            self._update(min(100.0, 100 * self._done / self._total))

    def finish(self) -> None:
        if self._id is not None:
            self._update(100.0)

    def _update(self, percent: float) -> None:
        if self._id is None:
            key = re.sub(r"[^a-z0-9]+", "-", self._description.lower()).strip("-")
            # Called from synchronous code, so this is the id, not a coroutine.
            self._id = cast(UUID, create_progress_artifact(percent, key=key, description=self._description))
        else:
            update_progress_artifact(self._id, progress=percent)
