"""Match two tables in many processes: units of work that read the store and write to it.

First products: stripes of jobs against all resumes, whose candidates go to the store. Then rankings: one part per block
of queries, from these candidates. A unit is done once its file is there, so any process may repeat or resume it. The
result has the bits of one process: products are tiles of the same shape, and the best candidates of a row do not depend
on the order of the tiles. Never imports prefect.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from data.errors import StoreError
from data.outputs.matches import DIRECTIONS, KINDS_OF, Direction, MatchPart, put_part, read_former_matches
from data.schema import DocumentKind
from data.store.base import Store
from data.vectors.pointer import Pointer
from llm2vec_core.ranking.dense import TILE_ROWS, Neighbours, StoredNeighbours, nearest_of
from tasks.conditions.verdicts import Conditions
from tasks.encoders.fit import served_fit
from tasks.run.settings import Settings
from tasks.stages import match_blocks
from tasks.stages.match_blocks import Side, changed_queries, nearest_on_machine, plan_parts, read_sides

STRIPE_TILES = 16
"""Tiles of a stripe. A stripe keeps candidates of every resume, so many thin stripes would take much room."""

MOST_STRIPES = 64
"""Stripes of a match; with more jobs the stripes get wider."""


class MatchWork(BaseModel):
    """A match as data for other processes.

    Attributes:
        settings: Settings of the run.
        pointer: Served state.
        match: Id of the matches.
        recipe: Recipe of former matches that rows are copied from.
        weight: Weight of vector search; None to fuse by rank.
        among: SQL conditions of the documents to match, by kind.
        where: Filters of the user, by kind.
        excluded: Ids of job and resume that are never matched with each other.
        day: Day of the match, for conditions.
        run_id: Run that matches.
    """

    model_config = ConfigDict(frozen=True)

    settings: Settings
    pointer: Pointer
    match: str
    recipe: str
    weight: float | None
    among: dict[DocumentKind, str]
    where: dict[DocumentKind, str]
    excluded: list[tuple[str, str]]
    day: date
    run_id: str

    @property
    def products(self) -> str:
        """Key of the folder of candidates; it goes when the match is finished."""
        return f"matches/{self.match}/products"


class MatchUnit(BaseModel):
    """One unit of work.

    Attributes:
        kind: ``both``: a stripe of jobs against all resumes, for both directions. ``near``: some changed queries of a
            direction against all documents. ``rank``: a part of the matches.
        start: First row of a stripe, or number of the part.
        stop: End of the rows of a stripe.
        direction: Direction of ``near`` and ``rank``.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["both", "near", "rank"]
    start: int
    stop: int = 0
    direction: Direction = "resumes_for_job"


RunUnits = Callable[[Callable[[MatchWork, MatchUnit], int], MatchWork, Sequence[MatchUnit]], Iterator[int]]
"""Runs units, in any order and process, and yields what each one returned."""


def parts_by_units(
    work: MatchWork, sides: Mapping[DocumentKind, Side], run_units: RunUnits, *, advance: Callable[[int], object]
) -> Iterator[MatchPart]:
    """Parts of a match that other processes compute and write.

    Nothing starts before the first part is asked for: until then parts of another cut may be in the store.

    Args:
        work: The match.
        sides: Both tables, as this process read them.
        run_units: Runs units of work.
        advance: Called with the number of documents just finished, as in ``plan_parts``.
    """
    former = read_former_matches(work.settings.store(), recipe=work.recipe)
    changed = {direction: len(changed_queries(direction, sides, former)) for direction in DIRECTIONS}
    for units in (_product_units(sides, changed), _part_units(sides)):
        for finished in run_units(do_unit, work, units):
            advance(finished)
    for unit in _part_units(sides):
        yield MatchPart(unit.direction, unit.start, functools.partial(_missing, unit))


def do_unit(work: MatchWork, unit: MatchUnit) -> int:
    """Do a unit of work and write its file, unless it is there.

    Returns:
        Number of documents that are finished by it.
    """
    opened = _opened(work)
    if unit.kind == "rank":
        part = opened.parts[unit.direction, unit.start]
        put_part(opened.store, work.match, part)
        queries = opened.sides[KINDS_OF[unit.direction][0]]
        return min(match_blocks.BLOCK_ROWS, len(queries) - unit.start * match_blocks.BLOCK_ROWS)
    keys = _product_keys(work, unit)
    if not all(opened.store.exists(key) for key in keys):
        for key, found in zip(keys, opened.near(unit), strict=True):
            _put_array(opened.store, key, found.keys)
    return unit.stop - unit.start if unit.kind == "both" else 0


def forget_products(store: Store) -> None:
    """Remove all candidates: of the match that is finished, and of killed ones that nobody resumes.

    The caller holds the lease, so no other match is running.
    """
    for folder in {key.partition("/products/")[0] for key in store.list("matches") if "/products/" in key}:
        store.delete(f"{folder}/products")


def _product_units(sides: Mapping[DocumentKind, Side], changed: Mapping[Direction, int]) -> list[MatchUnit]:
    """Stripes of jobs if all documents need a ranking; otherwise the queries that changed, tile by tile.

    Args:
        sides: Both tables.
        changed: Number of queries that need a ranking, by direction.
    """
    num_jobs = len(sides["job"])
    if changed == {direction: len(sides[KINDS_OF[direction][0]]) for direction in DIRECTIONS}:
        tiles = -(-num_jobs // TILE_ROWS)
        rows = TILE_ROWS * max(min(STRIPE_TILES, -(-tiles // 4)), -(-tiles // MOST_STRIPES), 1)
        return [
            MatchUnit(kind="both", start=start, stop=min(start + rows, num_jobs)) for start in range(0, num_jobs, rows)
        ]
    return [
        MatchUnit(kind="near", direction=direction, start=start, stop=min(start + TILE_ROWS, count))
        for direction, count in changed.items()
        for start in range(0, count, TILE_ROWS)
    ]


def _part_units(sides: Mapping[DocumentKind, Side]) -> list[MatchUnit]:
    return [
        MatchUnit(kind="rank", direction=direction, start=number)
        for direction, (query_kind, _) in KINDS_OF.items()
        for number in range(-(-len(sides[query_kind]) // match_blocks.BLOCK_ROWS))
    ]


def _product_keys(work: MatchWork, unit: MatchUnit) -> list[str]:
    directions = DIRECTIONS if unit.kind == "both" else (unit.direction,)
    return [f"{work.products}/{unit.kind}-{unit.start:012d}-{direction}.npy" for direction in directions]


class _Opened:
    """A match as one process works on it: its own files of both tables, which live as long as the process."""

    def __init__(self, work: MatchWork) -> None:
        self.work, self.store = work, work.settings.store()
        scratch = Path(tempfile.mkdtemp(prefix="l2v-match-"))
        weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
        conditions = Conditions(work.settings.match.conditions, work.day)
        self.sides = read_sides(
            self.store,
            work.pointer,
            scratch,
            among=work.among,
            where=work.where,
            conditions=conditions,
        )
        self._conditions = conditions
        self._former = read_former_matches(self.store, recipe=work.recipe)

    @functools.cached_property
    def _changed(self) -> dict[Direction, np.ndarray]:
        """Rows of the queries that need a ranking, by direction."""
        return {direction: changed_queries(direction, self.sides, self._former) for direction in DIRECTIONS}

    @functools.cached_property
    def parts(self) -> dict[tuple[Direction, int], MatchPart]:
        """All parts, over the candidates in the store; every stripe must be there."""
        work = self.work
        planned = plan_parts(
            self.sides,
            work.settings.match,
            weight=work.weight,
            excluded=work.excluded,
            conditions=self._conditions,
            fit=served_fit(self.store, work.pointer),
            former=self._former,
            neighbours={direction: self._neighbours(direction) for direction in DIRECTIONS},
            checkpoint=work.pointer.checkpoint,
            run_id=work.run_id,
            advance=lambda count: None,
        )
        return {(part.direction, part.number): part for part in planned}

    def near(self, unit: MatchUnit) -> list[Neighbours]:
        """Candidates of a stripe, one for each of its files."""
        k = self.work.settings.match.candidates
        if unit.kind == "both":
            jobs, resumes = self.sides["job"], self.sides["resume"]
            ranked = (min(max(jobs.num_ranked - unit.start, 0), unit.stop - unit.start), resumes.num_ranked)
            stripe = jobs.vectors[unit.start : unit.stop]
            return list(nearest_on_machine(stripe, resumes.vectors, k=k, ranked=ranked, first_left=unit.start))
        queries, found = (self.sides[kind] for kind in KINDS_OF[unit.direction])
        rows = self._changed[unit.direction][unit.start : unit.stop]
        return [nearest_of(rows, queries.vectors, found.vectors[: found.num_ranked], k=k)]

    def _neighbours(self, direction: Direction) -> Neighbours:
        units = _product_units(self.sides, {direction: len(rows) for direction, rows in self._changed.items()})
        parts: list[tuple[int, np.ndarray]] = []
        for unit in units:
            for key in _product_keys(self.work, unit):
                if key.endswith(f"-{direction}.npy"):
                    # A stripe has all candidates of its own jobs, and some of every resume.
                    first = 0 if (unit.kind, direction) == ("both", "jobs_for_resume") else unit.start
                    parts.append((first, np.load(self.store.local_path(key), mmap_mode="r")))
        return StoredNeighbours(parts) if parts else Neighbours(0, self.work.settings.match.candidates)


@functools.lru_cache(maxsize=1)
def _opened_as(work: str) -> _Opened:
    return _Opened(MatchWork.model_validate_json(work))


def _opened(work: MatchWork) -> _Opened:
    """The match, opened once per process."""
    return _opened_as(work.model_dump_json())


def _put_array(store: Store, key: str, values: np.ndarray) -> None:
    with store.scratch() as scratch:
        path = scratch / "candidates.npy"
        np.save(path, values)
        store.put_if_absent(key, path)


def _missing(unit: MatchUnit) -> None:
    raise StoreError(
        f"Part {unit.start} of {unit.direction} was matched by a worker, but it is not in the store.",
        hint="Every worker must reach the same store. Run `l2v match` again: it resumes.",
    )
