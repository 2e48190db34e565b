"""Preview of a night, of an embedding and of a backfill.

The stages' own code runs on a store that keeps all writes to itself (``data.store.overlay``): sources are read,
snapshots built, and everything that has a key is looked up. Nothing is encoded, trained or scored, and no table is
written. So a preview counts what a night would do, and says where that depends on scores that it does not have.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np

from data.documents.facets import read_facets
from data.errors import DataError, SourceShrankError
from data.schema import KINDS, DocumentKind
from data.snapshots.snapshot import Snapshot, contents_of, latest_snapshot, open_snapshot
from data.store.base import LocalStore
from data.store.digests import DigestIndex, Digests, first_of_each, no_digests, pack_digests
from data.store.lease import Lease, living_owner
from data.store.overlay import rehearsal
from data.vectors.generations import Generation, generation_id
from data.vectors.lance import open_table
from data.vectors.pointer import Pointer, read_pointer
from data.vectors.shards import unusable_contents
from data.vectors.tables import planned_change
from llm2vec_core.errors import CoreError
from tasks.conditions.chosen import choose
from tasks.encoders.checkpoints import find_checkpoint
from tasks.ledger.runs import latest_summary, read_settings
from tasks.ledger.usage import estimate_cost
from tasks.preview.documents import source_changes
from tasks.preview.figures import (
    PastFigures,
    estimate_encoding,
    estimate_scores,
    estimate_stage,
    estimate_training,
    past_figures,
)
from tasks.preview.gates import encoder_looks, shrink_looks, table_looks
from tasks.preview.records import (
    CountRange,
    MatchPlan,
    NightPreview,
    SettingChange,
    SourceChange,
    StageEstimate,
    TablePlan,
)
from tasks.preview.scores import NEW, plan_scores
from tasks.queries.served import served as served_state
from tasks.run.consequences import effects_of
from tasks.run.context import Run, utc_now
from tasks.run.origins import leaves
from tasks.run.precision import with_served_precision
from tasks.run.resolved import shown
from tasks.run.settings import Settings
from tasks.stages.backfill import BackfillRequest, backfilled_contents, begin_backfill
from tasks.stages.check import check_night
from tasks.stages.embed import latest_snapshots, plan_shards
from tasks.stages.ingest import ingest_kind
from tasks.stages.match import known_matches
from tasks.stages.train import pin_training_data, plan_training


class _NoLease(Lease):
    """Stands in for the lease in a rehearsal, whose commits reach nobody."""

    def __init__(self) -> None:
        self.owner, self.epoch = "preview", 0

    def check(self) -> None:
        """Every commit is allowed."""


@contextmanager
def rehearsed(settings: Settings) -> Iterator[Run]:
    """A run on an overlay of the home. The key file of the redaction is not written, nor is a missing home created."""
    redact = settings.redact.model_copy(update={"key_file": None})  # it decides no document
    settings = settings.model_copy(update={"redact": redact})
    with tempfile.TemporaryDirectory(prefix="l2v-preview-") as empty:
        is_there = "://" in settings.home or Path(settings.home).expanduser().is_dir()
        below = settings.store() if is_there else LocalStore(Path(empty) / "home")
        with rehearsal(below) as store:
            yield Run("preview", with_served_precision(settings, store), store, _NoLease(), utc_now)


def preview_night(settings: Settings) -> NightPreview:
    """Preview a night.

    Raises:
        InputError: The night would end with this error: a source or a setting cannot be used.
        EvalTaskError: A task folder is missing or unusable.
    """
    with rehearsed(settings) as run:
        check_night(run)
        former = {kind: latest_snapshot(run.store, kind) for kind in KINDS}
        refused, notes = _ingest(run)
        snapshots = {kind: open_snapshot(run.store, kind, name) for kind, name in latest_snapshots(run.store).items()}
        pinned = pin_training_data.fn(run, newest=False)
        training = plan_training(run, pinned)
        last = latest_summary(run.store, flow="nightly", state="completed")
        before = read_settings(run.store, last["run_id"]) if last is not None else None
        known = (before or {}).get("evaluate", {}).get("references", [])
        try:
            planned = plan_scores(run, training.checkpoint, is_new=training.checkpoint is None, known_references=known)
            scores, served = planned.scores, planned.served
        except (DataError, CoreError):
            if not settings.deployments.gpu_stages:
                raise
            scores, served = None, (NEW,)  # the tasks are on another machine
        changes = [
            change
            for kind in KINDS
            for change in source_changes(former[kind], snapshots[kind], read=settings.sources_of(kind))
        ]
        changes_with = {fingerprint: _changes_with(run, fingerprint, snapshots) for fingerprint in served}
        tables = _plan_tables(changes_with)
        match = _plan_match(run, changes_with, snapshots)
        figures = past_figures(run.store, settings)
        steps = {str(stage): count for stage, count in training.steps.items()}
        estimates = [
            estimate_stage(figures, "ingest", f"{len(changes)} sources", is_done=False),
            estimate_training(figures, steps),
            *([] if scores is None else [estimate_scores(figures, scores)]),
            *_estimates(figures, tables, match),
        ]
        return NightPreview(
            command="nightly",
            home=settings.home_location,
            refused=refused,
            sources=changes,
            settings=_setting_changes(before, settings),
            last_night=None if last is None else last["run_id"],
            training_steps=steps,
            scores=scores,
            served=list(served),
            tables=tables,
            match=match,
            gates=[
                *shrink_looks(former, snapshots, settings),
                *encoder_looks(run.store, served, settings),
                *table_looks(settings.gate, snapshots, tables, is_served=_is_served(run, served[0])),
            ],
            estimates=estimates,
            cost=_cost(settings, estimates),
            notes=[*notes, *_notes(run, changes, training.is_resumed)],
        )


def preview_embed(settings: Settings, checkpoint: str | None = None, *, full: bool = False) -> NightPreview:
    """Preview ``l2v embed``.

    Args:
        settings: Settings of the run.
        checkpoint: Fingerprint of the checkpoint (default: the served one).
        full: Encode every document again.

    Raises:
        InputError: Nothing is served, or nothing was ingested yet.
    """
    with rehearsed(settings) as run:
        return _preview_embedding(run, "embed", _fingerprint(run, checkpoint), full=full)


def preview_backfill(settings: Settings, meant: BackfillRequest) -> NightPreview:
    """Preview a backfill.

    Raises:
        InputError: No document matches, nothing is served, or another backfill is unfinished.
    """
    with rehearsed(settings) as run:
        fingerprint = _fingerprint(run, None)
        begin_backfill.fn(run, meant, fingerprint, latest_snapshots(run.store))
        return _preview_embedding(run, "backfill", fingerprint)


def _fingerprint(run: Run, checkpoint: str | None) -> str:
    return find_checkpoint(run.store, checkpoint).fingerprint if checkpoint else served_state(run.store).checkpoint


def _preview_embedding(run: Run, command: str, fingerprint: str, *, full: bool = False) -> NightPreview:
    settings = run.settings
    snapshots = {kind: open_snapshot(run.store, kind, name) for kind, name in latest_snapshots(run.store).items()}
    tables = _plan_tables({fingerprint: _changes_with(run, fingerprint, snapshots, full=full)})
    estimates = _estimates(past_figures(run.store, settings), tables, None)
    return NightPreview(
        command=command,
        home=settings.home_location,
        served=[fingerprint],
        tables=tables,
        gates=table_looks(settings.gate, snapshots, tables, is_served=_is_served(run, fingerprint)),
        estimates=estimates,
        cost=_cost(settings, estimates),
        notes=_notes(run, [], False),
    )


def _ingest(run: Run) -> tuple[str | None, list[str]]:
    """Read all sources; return the reason why the night would be refused, and sentences about sources that stay unread.

    If a source shrank too much, it is read all the same, so that the other counts can be shown.
    """
    required = tuple(name for name, source in run.settings.sources.items() if source.required)
    allowed = run.settings.ingest.model_copy(update={"allow_shrink": required})
    unguarded = replace(run, settings=run.settings.model_copy(update={"ingest": allowed}))
    refused, notes = None, []
    for kind in KINDS:
        try:
            report = ingest_kind.fn(run, kind)
        except SourceShrankError as refusal:
            refused = refused or f"{refusal} {refusal.hint}"
            report = ingest_kind.fn(unguarded, kind)
        notes += [f"Source {name} is not read; its documents stay: {why}" for name, why in report.unread.items()]
    return refused, notes


class _Change(NamedTuple):
    """Change of a table: contents to encode, rows to write, rows to remove."""

    encode: int
    upserted: int
    removed: int


_Changes: TypeAlias = dict[DocumentKind, _Change]


def _changes_with(
    run: Run, fingerprint: str, snapshots: Mapping[DocumentKind, Snapshot], *, full: bool = False
) -> _Changes:
    """Changes of both tables if an encoder is served."""
    return {kind: _change_with(run, fingerprint, kind, snapshot, full=full) for kind, snapshot in snapshots.items()}


def _change_with(run: Run, fingerprint: str, kind: DocumentKind, snapshot: Snapshot, *, full: bool) -> _Change:
    if fingerprint == NEW:
        contents = contents_of(snapshot)
        return _Change(int(first_of_each(contents).sum()), len(contents), 0)
    shards = plan_shards.fn(run, fingerprint, {kind: snapshot.manifest.id}, full=full)
    rewritten = contents_of(snapshot) if full else backfilled_contents(run.store, snapshot)
    upserted, removed = planned_change(run.store, _generation(run, fingerprint), snapshot, rewritten=rewritten)
    return _Change(sum(len(shard.rows) for shard in shards), upserted, removed)


def _plan_tables(changes_with: Mapping[str, _Changes]) -> dict[DocumentKind, TablePlan]:
    """Encoding and changes of each table, for all encoders that may be served."""
    found = {}
    for kind in KINDS:
        changes = [changes[kind] for changes in changes_with.values()]
        ranges = {name: CountRange.of(*(getattr(each, name) for each in changes)) for name in _Change._fields}
        found[kind] = TablePlan(**ranges)
    return found


def _generation(run: Run, fingerprint: str) -> Generation:
    """Record of the generation of an encoder, as if it was just created."""
    encode_keys = {kind: run.settings.encode.encode_key(kind) for kind in KINDS}
    name = generation_id(fingerprint=fingerprint, encode_keys=encode_keys)
    return Generation(
        generation=name, checkpoint=fingerprint, encode_keys=encode_keys, embedding_dim=0, created_at=run.clock()
    )


def _is_served(run: Run, fingerprint: str) -> bool:
    """Whether the generation of an encoder with the current settings is served."""
    pointer = read_pointer(run.store)
    return pointer is not None and fingerprint != NEW and _generation(run, fingerprint).generation == pointer.generation


def _plan_match(
    run: Run, changes_with: Mapping[str, _Changes], snapshots: Mapping[DocumentKind, Snapshot]
) -> MatchPlan:
    """Matching after the embedding, for all encoders that may be served."""
    found = [_match_with(run, fingerprint, changes, snapshots) for fingerprint, changes in changes_with.items()]
    kept = {is_reused for is_reused, _ in found}
    sizes = matched_documents(run, snapshots)
    return MatchPlan(
        jobs=sizes["job"],
        resumes=sizes["resume"],
        reused=kept.pop() if len(kept) == 1 else None,
        ranked=CountRange.of(*(num_ranked for _, num_ranked in found)),
    )


def matched_documents(run: Run, snapshots: Mapping[DocumentKind, Snapshot]) -> dict[DocumentKind, int]:
    """Number of documents to match of each kind.

    Jobs past their ``valid_through`` are left out, and served documents that ``match.where`` or the exclusion list
    leaves out. A new document counts as matched.
    """
    sizes = {kind: snapshots[kind].manifest.num_documents for kind in KINDS}
    if not run.settings.match.past_jobs:
        day = run.clock().date().isoformat()
        for batch in snapshots["job"].batches(["metadata"]):
            found = (read_facets(json.loads(text))[0].get("valid_through") for text in batch["metadata"].to_pylist())
            sizes["job"] -= sum(last is not None and last < day for last in found)
    pointer = read_pointer(run.store)
    if pointer is not None and (run.settings.match.where or run.settings.match.exclude is not None):
        left_out = choose(run.store, pointer, run.settings.match, run.clock().date()).left_out
        sizes = {kind: max(0, sizes[kind] - left_out[kind]) for kind in KINDS}
    return sizes


def _match_with(
    run: Run, fingerprint: str, changes: _Changes, snapshots: Mapping[DocumentKind, Snapshot]
) -> tuple[bool, int]:
    """Whether the matches are reused, and the number of documents whose matches are ranked again."""
    sizes = matched_documents(run, snapshots)
    everything = False, sum(sizes.values())
    pointer = read_pointer(run.store)
    if pointer is None or not _is_served(run, fingerprint):
        return everything
    former = known_matches(run, pointer)
    if former.is_complete and not any(change.upserted or change.removed for change in changes.values()):
        return True, 0
    if not former.are_copied:
        return everything
    new = {kind: _num_new(run, pointer, kind, snapshots[kind]) for kind in KINDS}
    is_changed = {
        kind: new[kind] > 0 or kind in former.left_out_others or _has_removed(run, pointer, kind, snapshots[kind])
        for kind in KINDS
    }
    other: dict[DocumentKind, DocumentKind] = {"job": "resume", "resume": "job"}
    return False, sum(sizes[kind] if is_changed[other[kind]] else new[kind] for kind in KINDS)


def _num_new(run: Run, pointer: Pointer, kind: DocumentKind, snapshot: Snapshot) -> int:
    """Documents of a snapshot that are not served with the same text."""
    served, left_out = _served_pairs(run, pointer, kind), DigestIndex(_left_out(run, pointer, kind))
    count = 0
    for batch in snapshot.batches(["doc_id", "content_sha256"]):
        contents = pack_digests(batch["content_sha256"])
        places = served[0].positions(pack_digests(batch["doc_id"]))
        is_same = places >= 0
        is_same[is_same] = served[1][places[is_same]] == contents[is_same]
        count += int((~is_same & ~left_out.contains(contents)).sum())
    return count


def _has_removed(run: Run, pointer: Pointer, kind: DocumentKind, snapshot: Snapshot) -> bool:
    ids = [pack_digests(batch["doc_id"]) for batch in snapshot.batches(["doc_id"])]
    now, served = DigestIndex(np.concatenate([no_digests(), *ids])), _served_pairs(run, pointer, kind)[2]
    return bool((~now.contains(served)).any())


def _left_out(run: Run, pointer: Pointer, kind: DocumentKind) -> Digests:
    encode_key = run.settings.encode.encode_key(kind)
    return unusable_contents(run.store, fingerprint=pointer.checkpoint, encode_key=encode_key)


def _served_pairs(run: Run, pointer: Pointer, kind: DocumentKind) -> tuple[DigestIndex, Digests, Digests]:
    """Index of the served ids, their contents, and the ids, in the same order."""
    table = open_table(run.store, generation=pointer.generation, kind=kind, version=pointer.version_of(kind))
    rows = table.read(["doc_id", "content_sha256"])
    ids = pack_digests(rows["doc_id"])
    return DigestIndex(ids), pack_digests(rows["content_sha256"]), ids


def _setting_changes(before: Mapping[str, Any] | None, settings: Settings) -> list[SettingChange]:
    """Settings that differ from those of the last night."""
    if before is None:
        return []
    former, now = ({".".join(path): value for path, value in leaves(each)} for each in (before, shown(settings)))
    return [
        SettingChange(key=key, before=former.get(key), now=now.get(key), stale=effects_of(key))
        for key in [*now, *(key for key in former if key not in now)]
        if former.get(key) != now.get(key)
    ]


def _estimates(
    figures: PastFigures, tables: Mapping[DocumentKind, TablePlan], match: MatchPlan | None
) -> list[StageEstimate]:
    documents = sum((table.encode for table in tables.values()), CountRange(low=0, high=0))
    estimates = [estimate_encoding(figures, documents)]
    if match is not None:
        work = f"{match.jobs:,} jobs x {match.resumes:,} resumes; {match.ranked} documents ranked again"
        estimates.append(estimate_stage(figures, "match", work, is_done=match.reused))
        estimates.append(estimate_stage(figures, "export", "tables and matches", is_done=match.reused))
    return estimates


def _cost(settings: Settings, estimates: list[StageEstimate]) -> str | None:
    """Cost of the stages that have a figure, as a sentence; None without prices or figures."""
    known = [each for each in estimates if each.seconds_high is not None]
    low, high = (
        estimate_cost(settings.cost, sum(cast(float, getattr(each, name)) for each in known)).sentence()
        for name in ("seconds_low", "seconds_high")
    )
    return (low if low == high else f"{low} to {high}") or None if known else None


def _notes(run: Run, changes: list[SourceChange], is_resumed: bool) -> list[str]:
    notes = []
    owner = living_owner(run.store)
    if owner is not None:
        notes.append(f"Run {owner} is writing now; the preview may be out of date when it ends.")
    for change in changes:
        if not change.is_read:
            notes.append(f"Source {change.source} is not configured; its {change.rows_kept:,} {change.kind}s stay.")
    if is_resumed:
        notes.append("A killed training is resumed, so fewer steps are to do.")
    if run.settings.audit.enabled:
        notes.append("A changed served state is audited; that encodes about 30 versions of each sampled resume.")
    return notes
