"""Backfill: choose unchanged documents to encode again.

The request is stored until its tables are served, so the same command resumes a killed backfill.
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from data.errors import InputError, StoreError
from data.schema import KINDS, DocumentKind, canonical_json
from data.snapshots.snapshot import Snapshot, contents_of, open_snapshot, snapshot_ids
from data.store.base import Store
from data.store.digests import DigestIndex, Digests, no_digests, pack_digests
from data.vectors.shards import forget_contents
from tasks.run.context import Run
from tasks.run.stage_task import stage_task

_KEY = "backfill.json"
_DONE = b"{}"


class BackfillRequest(BaseModel):
    """Documents to encode again: those that meet all given conditions.

    Attributes:
        since: First day.
        until: End date (exclusive).
        source: Only documents of this source.
        date_field: Metadata field with the document's date (ISO 8601); None: the day of the first kept snapshot that
            contains the current content of the document.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    since: date | None = None
    until: date | None = None
    source: str | None = None
    date_field: str | None = None

    def covers(self, day: date | None) -> bool:
        """Return whether a document of that day is chosen; one without a date is chosen only if no days are given."""
        if day is None:
            return self.since is None and self.until is None
        return (self.since is None or self.since <= day) and (self.until is None or day < self.until)


class _Pending(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    request: BackfillRequest
    fingerprint: str
    is_forgotten: bool = False


@stage_task("begin backfill")
def begin_backfill(run: Run, request: BackfillRequest, fingerprint: str, snapshots: dict[DocumentKind, str]) -> int:
    """Forget the vectors of the chosen documents, or resume an unfinished backfill.

    Returns:
        Number of contents to encode again, including those that are done.

    Raises:
        InputError: No document matches, or another backfill is unfinished.
    """
    store = run.store
    run.lease.check()
    contents: dict[DocumentKind, Digests] = {
        kind: select_contents(store, open_snapshot(store, kind, snapshots[kind]), request) for kind in KINDS
    }
    num_contents = sum(len(digests) for digests in contents.values())
    if not num_contents:
        raise InputError(
            "No document matches these dates and this source.",
            hint="--since is inclusive and --until is exclusive; see --date-field.",
        )
    raw = store.read(_KEY)
    pending = _pending(raw)
    if pending is None or pending.fingerprint != fingerprint:  # vectors of another checkpoint are no longer served
        pending = _Pending(request=request, fingerprint=fingerprint)
        raw = _swap(store, raw, pending)
    elif pending.request != request:
        raise InputError(
            f"Another backfill is unfinished: {pending.request.model_dump_json(exclude_none=True)}.",
            hint="Run that one again first; it resumes where it stopped.",
        )
    if not pending.is_forgotten:
        for kind, digests in contents.items():
            forget_contents(store, digests, fingerprint=fingerprint, encode_key=run.settings.encode.encode_key(kind))
        _swap(store, raw, pending.model_copy(update={"is_forgotten": True}))
    return num_contents


@stage_task("end backfill")
def end_backfill(run: Run) -> None:
    """Remove the stored request, because the tables are served."""
    run.lease.check()
    run.store.compare_and_swap(_KEY, expected=run.store.read(_KEY), content=_DONE)


def backfilled_contents(store: Store, snapshot: Snapshot) -> Digests | None:
    """Contents that an unfinished backfill encodes again; None without a backfill."""
    pending = _pending(store.read(_KEY))
    return None if pending is None else select_contents(store, snapshot, pending.request)


def select_contents(store: Store, snapshot: Snapshot, request: BackfillRequest) -> Digests:
    """Distinct contents of the documents that a backfill chooses from a snapshot.

    Raises:
        InputError: A date cannot be read.
    """
    days = None if request.date_field else _first_days(store, snapshot)
    chosen = [no_digests()]
    start = 0
    for batch in snapshot.batches(["content_sha256", "source", "metadata"]):
        rows = batch.to_pylist()
        is_meant = [
            (request.source is None or row["source"] == request.source)
            and request.covers(
                _day_of(row["metadata"], request.date_field) if days is None else days[start + number].astype(date)
            )
            for number, row in enumerate(rows)
        ]
        chosen.append(pack_digests(batch["content_sha256"])[np.array(is_meant, dtype=np.bool_)])
        start += len(batch)
    return np.unique(np.concatenate(chosen))


def _first_days(store: Store, snapshot: Snapshot) -> np.ndarray:
    """Day of the first kept snapshot that holds each content of ``snapshot``, in the order of its documents."""
    contents = contents_of(snapshot)
    days = np.full(len(contents), np.datetime64(date.max, "D"))
    kind = snapshot.manifest.kind
    for name in snapshot_ids(store, kind):
        found = open_snapshot(store, kind, name)
        day = np.datetime64(datetime.fromisoformat(found.manifest.created_at).astimezone(UTC).date(), "D")
        is_there = DigestIndex(contents_of(found)).contains(contents)
        days[is_there] = np.minimum(days[is_there], day)
    return days


def _day_of(metadata: str, field: str | None) -> date | None:
    value = json.loads(metadata).get(field)
    if value in (None, ""):
        return None
    try:
        return datetime.fromisoformat(str(value)).date()
    except ValueError as error:
        raise InputError(
            f"'{value}' in field '{field}' is not a date.", hint="Expected ISO 8601, as in 2026-11-22."
        ) from error


def _pending(raw: bytes | None) -> _Pending | None:
    if raw in (None, _DONE):
        return None
    try:
        return _Pending.model_validate_json(raw or b"")
    except ValidationError as error:
        raise StoreError(f"{_KEY} is damaged.", hint="Remove it, and run the backfill again.") from error


def _swap(store: Store, raw: bytes | None, pending: _Pending) -> bytes:
    content = canonical_json(pending.model_dump(mode="json")).encode()
    store.compare_and_swap(_KEY, expected=raw, content=content)
    return content
