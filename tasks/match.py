"""Matching: every job against every resume, both ways, over what is served."""

from __future__ import annotations

import time
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from data.matches import make_latest, match_id, read_manifest, write_matches
from tasks.artifacts import progress
from tasks.bulk import plan_parts, read_sides
from tasks.policies import STORAGE
from tasks.refs import MatchReport
from tasks.search import served
from tasks.settings import Settings
from tasks.writing import lease_of


@task(task_run_name="match jobs and resumes", cache_policy=NO_CACHE, **STORAGE)
def match_all(settings: Settings, *, run_id: str) -> MatchReport:
    """Rank resumes for every job and jobs for every resume; a served state that was matched before costs nothing."""
    started = time.monotonic()
    store = settings.store()
    pointer = served(store)
    # The block size decides memory, not results.
    match = match_id(pointer, settings.match.model_dump(exclude={"block_rows"}))
    known = read_manifest(store, match)
    if known is not None:
        lease_of(store, run_id).check()
        make_latest(store, match)
        return MatchReport(match=match, **_counts(known), reused=True, seconds=time.monotonic() - started)
    with store.scratch() as scratch:
        sides = read_sides(store, pointer, scratch)
        manifest: dict[str, Any] = {**{f"{kind}s": len(side) for kind, side in sides.items()}, "run_id": run_id}
        with progress("match", 2 * len(sides["job"]) + len(sides["resume"])) as advance:
            rows = write_matches(
                store,
                match,
                plan_parts(sides, settings.match, checkpoint=pointer.checkpoint, run_id=run_id, advance=advance),
                cut=str(settings.match.block_rows),
                manifest=manifest,
                fence=lease_of(store, run_id).check,
            )
    return MatchReport(
        match=match, **_counts({**manifest, "rows": rows}), reused=False, seconds=time.monotonic() - started
    )


def _counts(manifest: dict[str, Any]) -> dict[str, int]:
    return {name: int(manifest[name]) for name in ("jobs", "resumes", "rows")}
