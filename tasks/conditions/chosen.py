"""The documents and pairs that matching may use: open jobs, filters and exclusion lists. Never imports prefect."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from data.outputs.exclusions import Exclusions, read_exclusions
from data.schema import KINDS, DocumentKind, sha256_json
from data.store.base import Store
from data.vectors.filters import is_one_of, open_on
from data.vectors.lance import LanceTable
from data.vectors.pointer import Pointer
from tasks.queries.served import past_jobs, served_table
from tasks.queries.similar import versions_of
from tasks.run.settings import MatchSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Chosen:
    """What a match of one served state may use.

    Attributes:
        among: SQL conditions that the code made, by kind.
        where: Filters that the user wrote, by kind.
        past: Ids of the jobs past their ``valid_through`` that are left out, sorted.
        left_out: Number of documents that filters and the exclusion list leave out, by kind.
        pairs: ``doc_id`` of job and resume that are never matched with each other.
        kept: Hash of the ids that filters and the list keep, by kind; empty without either.
    """

    among: Mapping[DocumentKind, str] = field(default_factory=dict)
    where: Mapping[DocumentKind, str] = field(default_factory=dict)
    past: list[str] = field(default_factory=list)
    left_out: Mapping[DocumentKind, int] = field(default_factory=dict)
    pairs: frozenset[tuple[str, str]] = frozenset()
    kept: Mapping[DocumentKind, str] = field(default_factory=dict)

    @property
    def filtered(self) -> int:
        """Number of documents of both kinds that filters and the exclusion list leave out."""
        return sum(self.left_out.values())

    @property
    def identity(self) -> dict[str, object]:
        """What the documents that are left out add to the id of the matches."""
        without: dict[str, object] = {"without": sha256_json(self.past)} if self.past else {}
        return {**without, "kept": dict(self.kept)} if self.kept else without

    def changed(self, former: Mapping[str, object]) -> frozenset[DocumentKind]:
        """Kinds of which other documents are left out than in the matches with the manifest ``former``."""
        known = former.get("kept")
        kept = known if isinstance(known, dict) else {}
        found = {kind for kind in KINDS if kept.get(kind) != self.kept.get(kind)}
        return frozenset(found | ({"job"} if former.get("without") != self.identity.get("without") else set()))

    @property
    def ranking(self) -> dict[str, object]:
        """What the excluded pairs add to the recipe: any change of them ranks every document again."""
        return {"excluded_pairs": sha256_json(sorted(self.pairs))} if self.pairs else {}


def choose(store: Store, pointer: Pointer, settings: MatchSettings, day: date) -> Chosen:
    """Find what a match may use today.

    The ids that a filter keeps are read, and not its text compared: a filter may call ``current_date``.

    Raises:
        InputError: A filter cannot be used, or the exclusion list cannot be read.
    """
    tables = {kind: served_table(store, pointer, kind) for kind in KINDS}
    past = [] if settings.past_jobs else past_jobs(tables["job"], day)
    clauses: dict[DocumentKind, list[str]] = {kind: [] for kind in KINDS}
    if past:
        clauses["job"].append(open_on(day))
    pairs: frozenset[tuple[str, str]] = frozenset()
    if settings.exclude is not None:
        listed = read_exclusions(settings.exclude)
        known = {kind: _known_ids(tables[kind], listed.ids(kind)) for kind in KINDS}
        _warn_of_unknown(listed, known, settings.exclude)
        known = {kind: _with_versions(tables[kind], known[kind]) for kind in KINDS}
        pairs = frozenset(
            (job, resume)
            for pair in listed.pairs
            for job in known["job"].get(pair[0], ())
            for resume in known["resume"].get(pair[1], ())
        )
        for kind in KINDS:
            if doomed := {doc_id for each in listed.documents[kind] for doc_id in known[kind].get(each, ())}:
                clauses[kind].append(f"NOT {is_one_of('doc_id', doomed)}")
    among = {kind: " AND ".join(parts) for kind, parts in clauses.items() if parts}
    if not settings.where and settings.exclude is None:
        return Chosen(among=among, past=past)
    for kind, where in settings.where.items():
        for note in tables[kind].unreadable_values(where):
            logger.warning("%s", note)
    kept = {kind: _ids(tables[kind], settings.where.get(kind), among.get(kind)) for kind in KINDS}
    left_out = {kind: tables[kind].count() - len(kept[kind]) for kind in KINDS}
    left_out["job"] -= len(past)
    return Chosen(
        among, dict(settings.where), past, left_out, pairs, {kind: sha256_json(ids) for kind, ids in kept.items()}
    )


def not_excluded(settings: MatchSettings, table: LanceTable, kind: DocumentKind) -> str | None:
    """SQL condition for the documents that the exclusion list does not exclude from everything; None without any.

    A listed document excludes the similar ones, too: they share its place.

    Raises:
        InputError: The exclusion list cannot be read.
    """
    ids = frozenset[str]() if settings.exclude is None else read_exclusions(settings.exclude).documents[kind]
    if not ids:
        return None
    listed = f"{is_one_of('doc_id', ids)} OR {is_one_of('source_id', ids)}"
    versions = versions_of(table, table.read(["doc_id"], where=listed)["doc_id"].to_pylist())
    doomed = {doc_id for found in versions.values() for doc_id in found}
    return f"NOT {is_one_of('doc_id', doomed)}" if doomed else None


def _ids(table: LanceTable, where: str | None, among: str | None) -> list[str]:
    return sorted(
        doc_id
        for batch in table.batches(["doc_id"], where=where, among=among)
        for doc_id in batch["doc_id"].to_pylist()
    )


def _known_ids(table: LanceTable, ids: Iterable[str]) -> dict[str, list[str]]:
    """The ``doc_id`` of each document that an id means; several sources may use one id."""
    wanted, found = set(ids), dict[str, list[str]]()
    if not wanted:
        return found
    for batch in table.batches(["doc_id", "source_id"]):
        for doc_id, source_id in zip(batch["doc_id"].to_pylist(), batch["source_id"].to_pylist(), strict=True):
            for name in wanted & {doc_id, source_id}:
                found.setdefault(name, []).append(doc_id)
    return found


def _with_versions(table: LanceTable, known: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Ids of a list with the documents that they mean, other versions of these included."""
    versions = versions_of(table, {doc_id for found in known.values() for doc_id in found})
    return {name: sorted({each for doc_id in found for each in versions[doc_id]}) for name, found in known.items()}


def _warn_of_unknown(listed: Exclusions, known: Mapping[DocumentKind, Mapping[str, list[str]]], path: str) -> None:
    for kind in KINDS:
        if unknown := sorted(listed.ids(kind) - known[kind].keys()):
            logger.warning(
                "%s of %s ids of %ss in the exclusion list %s name no served document, such as '%s'.",
                f"{len(unknown):,}",
                f"{len(listed.ids(kind)):,}",
                kind,
                path,
                unknown[0],
            )
