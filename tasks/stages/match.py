"""Matching: every served job against every served resume, both ways."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import date
from typing import Any, NamedTuple

from data.outputs.matches import KINDS_OF, LATEST_MATCHES, match_id, read_former_matches, read_manifest, write_matches
from data.schema import KINDS, DocumentKind, sha256_json
from data.store.base import Store
from data.vectors.pointer import Pointer
from llm2vec_core.ranking.fusion import DENSE_VOTES, RRF_K
from tasks.conditions.chosen import choose
from tasks.conditions.pairs import count_verdicts
from tasks.conditions.verdicts import Conditions
from tasks.encoders.fit import GenerationFit, Settled, known_fit, served_fit, settle_fit
from tasks.encoders.tuned_fusion import find_fusion, tune_fusion
from tasks.queries.served import served, served_table
from tasks.run.context import Run
from tasks.run.reports import MatchReport
from tasks.run.settings import Settings
from tasks.run.settled import keep_settled_match, settled_match
from tasks.run.stage_task import stage_task
from tasks.stages.match_blocks import BLOCK_ROWS, plan_parts, read_sides
from tasks.ui.artifacts import progress
from tasks.workers.matching import MatchWork, forget_products, parts_by_units
from tasks.workers.ray import match_on_ray

_VERSION = 4
"""Record version; bump it when ranking changes, so that older matches are not copied."""


@stage_task("match jobs and resumes")
def match_all(run: Run) -> MatchReport:
    """Rank resumes for every job and jobs for every resume. Each served state is matched once.

    Rows of the latest matches are copied where they are still valid (``match_blocks``). Jobs past their
    ``valid_through`` are left out, and documents that a filter or the exclusion list leaves out. Which ones these are
    is part of the id of the matches: a night matches again when one more is past its last day, and otherwise reuses
    the matches.
    """
    started = time.monotonic()
    store, settings, fence = run.store, run.settings, run.lease.check
    pointer = served(store)
    tuned = tune_fusion(run, generation=pointer.generation, checkpoint=pointer.checkpoint)
    weight = tuned.weight if tuned is not None else None
    today = run.clock().date()
    conditions = Conditions(settings.match.conditions, today)
    plain = {**_decisive(settings, weight, conditions), "past_jobs": settings.match.past_jobs}
    unchanged = settled_match(store, pointer, plain, today) if _is_plain(settings) else None
    if unchanged is not None and read_manifest(store, unchanged.match) is not None:
        fence()
        LATEST_MATCHES.put(store, unchanged.match)
        return unchanged.model_copy(update={"seconds": time.monotonic() - started})
    chosen = choose(store, pointer, settings.match, today)
    decisive = {**_decisive(settings, weight, conditions), **chosen.ranking}
    settled = settle_fit(run, pointer.generation, {kind: served_table(store, pointer, kind) for kind in KINDS})
    match = match_id(pointer, {**decisive, **_limits(settled.record), **chosen.identity})
    known = read_manifest(store, match)
    if known is not None:
        fence()
        LATEST_MATCHES.put(store, match)
        report = _report(store, match, known, settled, reused=True, started=started)
        return _settle(run, pointer, plain, report, since=today)
    with store.scratch() as scratch:
        sides = read_sides(store, pointer, scratch, among=chosen.among, where=chosen.where, conditions=conditions)
        for side in sides.values():
            if side.facts is not None:
                side.facts.keep(fence=fence)
        recipe = _recipe(pointer, decisive)
        manifest: dict[str, Any] = {
            **{f"{kind}s": len(side) for kind, side in sides.items()},
            **({"past_jobs": len(chosen.past)} if chosen.past else {}),
            **({"filtered": chosen.filtered} if chosen.filtered else {}),
            "similar": sum(len(side) - side.num_ranked for side in sides.values()),
            **chosen.identity,
            "run_id": run.id,
            "recipe": recipe,
            "fusion": "by rank" if tuned is None else tuned.sentence(),
            "fit": None if settled.record is None else settled.record.limits.model_dump(),
        }
        with progress("match", 2 * len(sides["job"]) + len(sides["resume"])) as advance:
            if settings.match.engine == "ray":
                work = MatchWork(
                    settings=settings,
                    pointer=pointer,
                    match=match,
                    recipe=recipe,
                    weight=weight,
                    among=dict(chosen.among),
                    where=dict(chosen.where),
                    excluded=sorted(chosen.pairs),
                    day=today,
                    run_id=run.id,
                )
                parts = parts_by_units(work, sides, match_on_ray, advance=advance)
            else:
                parts = plan_parts(
                    sides,
                    settings.match,
                    weight=weight,
                    excluded=chosen.pairs,
                    conditions=conditions,
                    fit=served_fit(store, pointer),
                    former=read_former_matches(store, recipe=recipe),
                    checkpoint=pointer.checkpoint,
                    run_id=run.id,
                    advance=advance,
                )
            write_matches(
                store,
                match,
                parts,
                documents={kind: side.digests for kind, side in sides.items()},
                cut=str(BLOCK_ROWS),
                manifest=manifest,
                fence=fence,
            )
            forget_products(store)
    report = _report(store, match, read_manifest(store, match) or {}, settled, reused=False, started=started)
    return _settle(run, pointer, plain, report, since=today)


def _is_plain(settings: Settings) -> bool:
    """Whether neither a filter nor an exclusion list leaves out documents: what they mean may change at any time."""
    return not settings.match.where and settings.match.exclude is None


def _settle(
    run: Run, pointer: Pointer, decisive: Mapping[str, object], report: MatchReport, *, since: date
) -> MatchReport:
    """Record until which day the matches stay valid, for a night without changes; returns the report."""
    if _is_plain(run.settings):
        until = None if run.settings.match.past_jobs else _first_last_day(run, pointer, since)
        keep_settled_match(run.store, pointer, decisive, report, since=since, until=until)
    return report


def _first_last_day(run: Run, pointer: Pointer, day: date) -> date | None:
    """The first last day of the jobs that are open on a day; None if none of them has one."""
    table = served_table(run.store, pointer, "job")
    if not table.has_column("valid_through"):
        return None
    days = table.read(["valid_through"])["valid_through"].to_pylist()
    return min((last for last in map(date.fromisoformat, filter(None, days)) if last >= day), default=None)


def _report(
    store: Store, match: str, manifest: Mapping[str, Any], settled: Settled, *, reused: bool, started: float
) -> MatchReport:
    """The report of finished matches."""
    counts = {
        name: int(manifest.get(name, 0)) for name in ("jobs", "resumes", "rows", "past_jobs", "filtered", "similar")
    }
    unfit: dict[DocumentKind, int] = {}
    if settled.record is not None:
        fitting = manifest["fitting"]
        unfit = {kind: counts[f"{kind}s"] - int(fitting[direction]) for direction, (kind, _) in KINDS_OF.items()}
    return MatchReport(
        match=match,
        **counts,
        verdicts=count_verdicts(store, match),
        nobody_fits=unfit,
        fit_note=settled.note or (settled.record.limits.sentence() if settled.record else ""),
        reused=reused,
        seconds=time.monotonic() - started,
    )


class KnownMatches(NamedTuple):
    """Former matches, compared with the current settings.

    Attributes:
        is_complete: Whether the served state was matched with these settings.
        are_copied: Whether rows of the latest matches are copied where no document changed.
        left_out_others: Kinds of which the latest matches left out other documents.
    """

    is_complete: bool
    are_copied: bool
    left_out_others: frozenset[DocumentKind] = frozenset()


def known_matches(run: Run, pointer: Pointer) -> KnownMatches:
    """What :func:`match_all` would reuse if ``pointer`` was served."""
    weight = None
    if run.settings.match.fusion == "tuned":
        tuned = find_fusion(run.store, run.settings, pointer.generation)
        if tuned is None:
            return KnownMatches(is_complete=False, are_copied=False)
        weight = tuned.weight
    today = run.clock().date()
    chosen = choose(run.store, pointer, run.settings.match, today)
    conditions = Conditions(run.settings.match.conditions, today)
    decisive = {**_decisive(run.settings, weight, conditions), **chosen.ranking}
    limits = _limits(known_fit(run.store, pointer.generation))
    latest = LATEST_MATCHES.name(run.store)
    former = read_manifest(run.store, latest) if latest else None
    return KnownMatches(
        is_complete=read_manifest(run.store, match_id(pointer, {**decisive, **limits, **chosen.identity})) is not None,
        are_copied=read_former_matches(run.store, recipe=_recipe(pointer, decisive)) is not None,
        left_out_others=chosen.changed(former or {}),
    )


def _decisive(settings: Settings, weight: float | None, conditions: Conditions) -> dict[str, object]:
    """Everything besides the served state that decides the matches."""
    chosen = settings.match.model_dump(include={"top_k", "candidates"})
    by_rank = {"rrf_k": RRF_K, "dense_votes": DENSE_VOTES}
    return {**chosen, **by_rank, "weight": weight, "version": _VERSION, **conditions.key}


def _recipe(pointer: Pointer, decisive: dict[str, object]) -> str:
    return sha256_json([pointer.checkpoint, decisive])


def _limits(record: GenerationFit | None) -> dict[str, object]:
    """What the limits of fit add to the id of the matches. Copied rows get their fit anew, so no recipe holds it."""
    return {} if record is None else {"fit": record.limits.model_dump()}
