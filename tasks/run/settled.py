"""The state that a night left in order, so that a night without changes opens no table. Never imports LanceDB.

Opening and reading both tables takes longer than all decisions of such a night. A record beside the tables holds what a
night reported about them, under a key of all that it depends on: snapshots, table versions, settings, limits of fit,
and the files of the tables with their sizes. A missing or shortened file is another key, so the tables are opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from pydantic import BaseModel, ConfigDict

from data.errors import StoreError
from data.schema import KINDS, DocumentKind, sha256_json
from data.store.base import Store
from data.store.records import Record, T
from data.vectors.lance import TABLE_LAYOUT, generation_key
from data.vectors.pointer import Pointer, read_pointer
from tasks.run.context import Run
from tasks.run.reports import EmbedReport, MatchReport
from tasks.run.settings import Settings

_VERSION = 1
"""Record version; bump it when the checks of a night change, so that the next night opens the tables."""


class _Settled(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    report: EmbedReport


class _SettledMatch(BaseModel):
    """Matches that stay valid until a day.

    Attributes:
        key: Hash of the served state, the settings and the limits of fit.
        since: First day on which the same jobs are past their ``valid_through``.
        until: Last such day; None if no open job has one.
        report: Report of a run that reuses the matches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    since: date
    until: date | None
    report: MatchReport


def settled_report(
    run: Run, fingerprint: str, snapshots: Mapping[DocumentKind, str] | Mapping[str, str]
) -> EmbedReport | None:
    """What an embedding of these snapshots would report without any work to do; None if it has to look."""
    pointer = read_pointer(run.store)
    if pointer is None or pointer.checkpoint != fingerprint or pointer.snapshots != dict(snapshots):
        return None
    found = _read(run.store, Record(_Settled, _report_key(pointer)))
    return found.report if found is not None and found.key == _key(run.store, run.settings, pointer) else None


def keep_settled(run: Run, pointer: Pointer, report: EmbedReport) -> None:
    """Record that nothing is left to do for what is served. A document without a vector is looked at every night."""
    if report.no_vector or report.generation != pointer.generation:
        return
    unchanged = report.model_copy(
        update={
            **dict.fromkeys(("encoded_documents", "encoded_tokens", "truncated_documents"), 0),
            **dict.fromkeys(("upserted", "removed"), dict.fromkeys(report.documents, 0)),
            "usage": None,
            "seconds": 0.0,
        }
    )
    record = _Settled(key=_key(run.store, run.settings, pointer), report=unchanged)
    _replace(run.store, _report_key(pointer), record)


def settled_match(store: Store, pointer: Pointer, decisive: Mapping[str, object], day: date) -> MatchReport | None:
    """The report of the matches of what is served, if they are valid on a day; None if the tables have to be read."""
    found = _read(store, Record(_SettledMatch, _match_key(pointer)))
    if found is None:
        return None
    is_valid = found.since <= day and (found.until is None or day <= found.until)
    return found.report if is_valid and found.key == _matched_key(store, pointer, decisive) else None


def keep_settled_match(
    store: Store,
    pointer: Pointer,
    decisive: Mapping[str, object],
    report: MatchReport,
    *,
    since: date,
    until: date | None,
) -> None:
    """Record which matches belong to what is served, and until which day."""
    reused = report.model_copy(update={"reused": True, "seconds": 0.0})
    key = _matched_key(store, pointer, decisive)
    _replace(store, _match_key(pointer), _SettledMatch(key=key, since=since, until=until, report=reused))


def _read(store: Store, record: Record[T]) -> T | None:
    """A record; None if there is none, or if it is damaged. The caller then reads the tables."""
    raw = store.read(record.key)
    try:
        return record.parse(raw)
    except StoreError:
        return None


def _replace(store: Store, key: str, record: BaseModel) -> None:
    raw, content = store.read(key), record.model_dump_json().encode()
    if raw != content:
        store.compare_and_swap(key, expected=raw, content=content)


def _report_key(pointer: Pointer) -> str:
    return f"{generation_key(pointer.generation)}/settled.json"


def _match_key(pointer: Pointer) -> str:
    return f"{generation_key(pointer.generation)}/matched.json"


def _key(store: Store, settings: Settings, pointer: Pointer) -> str:
    """Hash of all that an embedding of the served documents depends on."""
    folder = generation_key(pointer.generation)
    files = [(each.key, each.size_bytes) for each in store.entries(folder) if ".lance/" in each.key]
    decisive = settings.model_dump(mode="json", include={"encode", "gate", "index"})
    made_by = [TABLE_LAYOUT, *(settings.encode.encode_key(kind) for kind in KINDS)]
    backfill = (store.read("backfill.json") or b"").decode()
    return sha256_json([_state(store, pointer), decisive, made_by, files, backfill])


def _matched_key(store: Store, pointer: Pointer, decisive: Mapping[str, object]) -> str:
    return sha256_json([_state(store, pointer), dict(decisive)])


def _state(store: Store, pointer: Pointer) -> list[object]:
    """The served state with its limits of fit."""
    served = [pointer.generation, pointer.jobs, pointer.resumes, pointer.snapshots]
    return [_VERSION, served, (store.read(f"{generation_key(pointer.generation)}/fit.json") or b"").decode()]
