"""Matching: every job against every resume, both ways, over what is served."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32
from prefect import task
from prefect.cache_policies import NO_CACHE

from data.generations import Pointer
from data.lance import open_table
from data.matches import DIRECTIONS, MATCH_SCHEMA, Direction, make_latest, match_id, read_manifest, write_matches
from data.schema import DocumentKind, encoded_text
from data.store import Store
from llm2vec_core.fusion import top_k
from llm2vec_core.hybrid import fuse_legs
from llm2vec_core.lexical import LexicalIndex
from tasks.artifacts import Advance, progress
from tasks.policies import STORAGE
from tasks.refs import MatchReport
from tasks.search import served
from tasks.settings import MatchSettings, Settings
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
    sides = {"job": _Side(store, pointer, "job"), "resume": _Side(store, pointer, "resume")}
    manifest: dict[str, Any] = {"jobs": len(sides["job"].ids), "resumes": len(sides["resume"].ids), "run_id": run_id}
    with progress("match", manifest["jobs"] + manifest["resumes"]) as advance:
        parts = (
            part
            for direction in DIRECTIONS
            for part in _match_direction(direction, sides, pointer, settings.match, run_id=run_id, advance=advance)
        )
        rows = write_matches(store, match, parts, manifest=manifest, fence=lease_of(store, run_id).check)
    return MatchReport(
        match=match, **_counts({**manifest, "rows": rows}), reused=False, seconds=time.monotonic() - started
    )


class _Side:
    """One kind of documents, as matching needs it."""

    def __init__(self, store: Store, pointer: Pointer, kind: DocumentKind) -> None:
        table = open_table(store, generation=pointer.generation, kind=kind, version=pointer.version_of(kind))
        rows = table.read(["doc_id", "title", "text", "vector"]).sort_by("doc_id")
        self.ids: list[str] = rows["doc_id"].to_pylist()
        self.texts = [
            encoded_text(title, text)
            for title, text in zip(rows["title"].to_pylist(), rows["text"].to_pylist(), strict=True)
        ]
        column = rows["vector"].combine_chunks()
        self.vectors: Float32[np.ndarray, "documents dim"] = column.flatten().to_numpy().reshape(len(rows), -1)


def _match_direction(
    direction: Direction,
    sides: dict[str, _Side],
    pointer: Pointer,
    settings: MatchSettings,
    *,
    run_id: str,
    advance: Advance,
) -> Iterator[pa.Table]:
    """Matches of one direction, a block of queries at a time."""
    query_kind, found_kind = ("job", "resume") if direction == "resumes_for_job" else ("resume", "job")
    queries, found = sides[query_kind], sides[found_kind]
    index = LexicalIndex.of_texts(found.texts)
    for start in range(0, len(queries.ids), settings.block_rows):
        block = queries.vectors[start : start + settings.block_rows]
        cosines = block @ found.vectors.T
        nearest = top_k(cosines, settings.candidates)
        rows: list[dict[str, object]] = []
        for offset, candidates in enumerate(nearest):
            number = start + offset
            text = queries.texts[number]
            hits = fuse_legs(
                dense=[(int(at), float(cosines[offset, at])) for at in candidates],
                lexical=_lexical_ranking(index.scores(text), settings.candidates),
                limit=settings.top_k,
                rrf_k=settings.rrf_k,
            )
            rows += [
                {
                    "direction": direction,
                    f"{query_kind}_id": queries.ids[number],
                    f"{found_kind}_id": found.ids[hit.index],
                    "rank": rank,
                    "score": hit.score,
                    "dense_score": hit.dense_score,
                    "dense_rank": hit.dense_rank,
                    "lexical_score": hit.lexical_score,
                    "lexical_rank": hit.lexical_rank,
                    "matched_terms": index.matched_terms(text, hit.index),
                    "checkpoint": pointer.checkpoint,
                    "run_id": run_id,
                }
                for rank, hit in enumerate(hits, start=1)
            ]
            advance(1)
        if rows:
            yield pa.Table.from_pylist(rows, schema=MATCH_SCHEMA)


def _counts(manifest: dict[str, Any]) -> dict[str, int]:
    return {name: int(manifest[name]) for name in ("jobs", "resumes", "rows")}


def _lexical_ranking(scores: np.ndarray, limit: int) -> list[tuple[int, float]]:
    return [(int(index), float(scores[index])) for index in top_k(scores, limit) if scores[index] > 0]
