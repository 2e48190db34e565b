"""Matches at rest: ranked pairs of jobs and resumes, both ways, as Parquet under one id.

Does not belong here: how they are ranked (``llm2vec_core``).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from data.generations import Pointer
from data.schema import canonical_json, column, sha256_json
from data.store import Store, storage_errors

Direction = Literal["resumes_for_job", "jobs_for_resume"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

_LATEST_KEY = "matches/latest.json"
_MANIFEST = "manifest.json"
_CUT = "cut.txt"


_WORDS = pa.list_(pa.field("element", pa.string()))  # named as Parquet names it: what is written is what is read

MATCH_SCHEMA = pa.schema(
    [
        column("direction", pa.string(), "resumes_for_job: ranked for the job; jobs_for_resume: ranked for the resume"),
        column("job_id", pa.string(), "doc_id of the job"),
        column("resume_id", pa.string(), "doc_id of the resume"),
        column("rank", pa.int32(), "place in the ranking of its direction, the first being 1"),
        column("score", pa.float32(), "fused score (reciprocal rank fusion) that the rank comes from"),
        column("dense_score", pa.float32(), "cosine of the two vectors, -1 to 1", nullable=True),
        column("dense_rank", pa.int32(), "place in the dense ranking; empty: not among its candidates", nullable=True),
        column("lexical_score", pa.float32(), "BM25 score, zero or more", nullable=True),
        column("lexical_rank", pa.int32(), "place in the BM25 ranking; empty: not among its candidates", nullable=True),
        column("matched_terms", _WORDS, "the weightiest words that both share, at most 20, the weightiest first"),
        column("checkpoint", pa.string(), "fingerprint of the encoder"),
        column("run_id", pa.string(), "run that matched"),
    ]
)


def match_id(pointer: Pointer, settings: dict[str, object]) -> str:
    """Identity of the matches of a served state under match settings."""
    return sha256_json([pointer.generation, pointer.jobs, pointer.resumes, settings])[:32]


def read_manifest(store: Store, match: str) -> dict[str, object] | None:
    """Manifest of finished matches, or None."""
    raw = store.read(f"matches/{match}/{_MANIFEST}")
    return None if raw is None else json.loads(raw)


@dataclass(frozen=True)
class MatchPart:
    """One block of matches, made when it is asked for.

    Attributes:
        direction: Of all its rows.
        number: Place among the parts of its direction.
        build: Makes the rows, in :data:`MATCH_SCHEMA`.
    """

    direction: Direction
    number: int
    build: Callable[[], pa.Table]

    @property
    def path(self) -> str:
        """Where it lies below the matches."""
        return f"direction={self.direction}/part-{self.number:05d}.parquet"


def write_matches(
    store: Store,
    match: str,
    parts: Iterable[MatchPart],
    *,
    cut: str,
    manifest: dict[str, object],
    fence: Callable[[], None],
) -> int:
    """Write matches part by part, then their manifest, then make them the latest.

    Parts are kept as they are finished: a run that was killed goes on after them, if it cuts the matches the same way.

    Args:
        store: Where to.
        match: Their :func:`match_id`.
        parts: What to write. Not taken from when the matches are there.
        cut: What decides which rows a part holds besides ``match``: parts of another cut are dropped.
        manifest: What to record beside the number of rows.
        fence: Called before the commit; raises when this writer lost its lease.

    Returns:
        Number of rows.

    Raises:
        StoreError: Writing failed; the latest matches are the former ones.
    """
    known = read_manifest(store, match)
    if known is None:
        known = _put_matches(store, match, parts, cut=cut, manifest=manifest, fence=fence)
    make_latest(store, match)
    return int(str(known["rows"]))


def _put_matches(
    store: Store,
    match: str,
    parts: Iterable[MatchPart],
    *,
    cut: str,
    manifest: dict[str, object],
    fence: Callable[[], None],
) -> dict[str, object]:
    root = f"matches/{match}"
    if store.read(f"{root}/{_CUT}") != cut.encode():
        store.delete(root)
        store.put_if_absent(f"{root}/{_CUT}", cut.encode())
    rows = 0
    with store.scratch() as scratch:
        for part in parts:
            key = f"{root}/{part.path}"
            finished = store.read(key)
            if finished is None:
                table = part.build()
                path = scratch / "part.parquet"
                with storage_errors("write the matches"):
                    pq.write_table(table.drop_columns(["direction"]), path, compression="zstd")
                store.put_if_absent(key, path)
                rows += len(table)
            else:
                rows += int(pq.read_metadata(io.BytesIO(finished)).num_rows)
    written = {**manifest, "rows": rows}
    fence()
    store.put_if_absent(f"{root}/{_MANIFEST}", canonical_json(written).encode())
    return written


def make_latest(store: Store, match: str) -> None:
    """Name the matches that exports and readers take."""
    content = canonical_json({"match": match}).encode()
    current = store.read(_LATEST_KEY)
    if current != content:
        store.compare_and_swap(_LATEST_KEY, expected=current, content=content)


def latest_match_files(store: Store) -> list[Path]:
    """Parquet files of the latest matches; none before the first."""
    raw = store.read(_LATEST_KEY)
    if raw is None:
        return []
    keys = store.list(f"matches/{json.loads(raw)['match']}")
    return [store.local_path(key) for key in keys if key.endswith(".parquet")]
