"""Stored matches: ranked pairs of jobs and resumes in both directions, as Parquet files under one id."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.schema import DocumentKind, canonical_json, column, sha256_json
from data.store.base import Store, storage_errors
from data.store.digests import Digests
from data.store.records import Latest
from data.vectors.pointer import Pointer

Direction = Literal["resumes_for_job", "jobs_for_resume"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

KINDS_OF: dict[Direction, tuple[DocumentKind, DocumentKind]] = {
    "resumes_for_job": ("job", "resume"),
    "jobs_for_resume": ("resume", "job"),
}
"""Kinds of the query documents and the ranked documents."""

LATEST_MATCHES = Latest("matches/latest.json", "match")
"""The record that names the matches for exports and readers."""

_MANIFEST = "manifest.json"
_CUT = "cut.txt"
_DOCUMENTS = "documents.npz"

_WORDS = pa.list_(pa.field("element", pa.string()))  # "element" is Parquet's own name for list items

_CONDITIONS = pa.list_(
    pa.field(
        "element",
        pa.struct([pa.field(name, pa.string()) for name in ("condition", "outcome", "asked", "found")]),
    )
)
"""Name, outcome, the words that ask, and the words that answer."""

MATCH_SCHEMA = pa.schema(
    [
        column("direction", pa.string(), "resumes_for_job: ranked for the job; jobs_for_resume: ranked for the resume"),
        column("job_id", pa.string(), "doc_id of the job"),
        column("resume_id", pa.string(), "doc_id of the resume"),
        column("rank", pa.int32(), "place in the ranking of its direction, the first being 1"),
        column("score", pa.float32(), "fused score that the rank comes from; its scale depends on the fusion"),
        column(
            "fusion",
            pa.string(),
            "rrf: the score is a weighted sum of reciprocal ranks; weighted W: W of the scaled cosine and 1 - W of the "
            "scaled BM25, 0 to 1",
        ),
        column("dense_score", pa.float32(), "cosine of the two vectors, -1 to 1", nullable=True),
        column("dense_rank", pa.int32(), "place in the dense ranking; empty: not among its candidates", nullable=True),
        column("lexical_score", pa.float32(), "BM25 score, zero or more", nullable=True),
        column("lexical_rank", pa.int32(), "place in the BM25 ranking; empty: not among its candidates", nullable=True),
        column(
            "matched_terms",
            _WORDS,
            "the weightiest words that both share, in a base form, at most 20, the weightiest first",
        ),
        column(
            "verdict",
            pa.string(),
            "the worst outcome of the conditions: fail, unknown or pass; empty: neither side asks for anything",
            nullable=True,
        ),
        column("conditions", _CONDITIONS, "each condition that one side asks for, with its outcome", nullable=True),
        column(
            "fit",
            pa.float32(),
            "share of random queries of the direction (jobs or resumes) for which the ranked document has a lower "
            "cosine; empty: the background was too small",
            nullable=True,
        ),
        column(
            "fit_class",
            pa.string(),
            "strong, possible or none, by the cosine and the limits of the encoder; if all matches of a document are "
            "none, nobody fits; empty: the background was too small",
            nullable=True,
        ),
        column(
            "num_similar",
            pa.int32(),
            "other documents that the ranked one stands for, because it is the newest of them: equal or nearly equal "
            "content, or resumes of one person; empty: an earlier version matched",
            nullable=True,
        ),
        column("checkpoint", pa.string(), "fingerprint of the encoder"),
        column("run_id", pa.string(), "run that matched"),
    ]
)


def match_id(pointer: Pointer, settings: dict[str, object]) -> str:
    """Id of the matches for a served state and match settings."""
    return sha256_json([pointer.generation, pointer.jobs, pointer.resumes, settings])[:32]


def read_manifest(store: Store, match: str) -> dict[str, object] | None:
    """Manifest of finished matches; None if they are not finished."""
    raw = store.read(f"matches/{match}/{_MANIFEST}")
    return None if raw is None else json.loads(raw)


@dataclass(frozen=True)
class MatchPart:
    """One block of matches.

    Attributes:
        direction: Direction of all rows.
        number: Position among the parts of its direction.
        build: Computes the rows, in :data:`MATCH_SCHEMA`.
    """

    direction: Direction
    number: int
    build: Callable[[], pa.Table]

    @property
    def path(self) -> str:
        """File name below the folder of the matches."""
        return f"direction={self.direction}/part-{self.number:05d}.parquet"


@dataclass(frozen=True)
class FormerMatches:
    """Finished matches whose parts may still be valid.

    Attributes:
        documents: Digest of each matched document, in the order of the matching.
        paths: Files by direction.
    """

    documents: Mapping[DocumentKind, Digests]
    paths: Mapping[Direction, list[Path]]

    def rows(self, direction: Direction, query_ids: Sequence[str]) -> pa.Table:
        """Rows of the given queries, in :data:`MATCH_SCHEMA` and in any order; reads only files that hold some.

        Args:
            direction: Direction of the rows.
            query_ids: Ids of query documents, sorted.

        Raises:
            StoreError: A file is missing.
        """
        if not query_ids or not self.paths[direction]:
            return MATCH_SCHEMA.empty_table()
        import pyarrow.dataset as ds  # it imports pandas

        query = pc.field(_query_column(direction))
        among = (query >= query_ids[0]) & (query <= query_ids[-1]) & query.isin(list(query_ids))
        with storage_errors("read the former matches"):
            found = ds.dataset(self.paths[direction]).to_table(filter=among)
        return found.add_column(0, MATCH_SCHEMA.field(0), pa.repeat(direction, len(found))).cast(MATCH_SCHEMA)


def read_former_matches(store: Store, *, recipe: str) -> FormerMatches | None:
    """The latest matches; None unless they have the same recipe and record their documents."""
    match = LATEST_MATCHES.name(store)
    manifest = read_manifest(store, match) if match else None
    documents = store.read(f"matches/{match}/{_DOCUMENTS}") if match else None
    if match is None or manifest is None or documents is None or manifest.get("recipe") != recipe:
        return None
    with np.load(io.BytesIO(documents), allow_pickle=False) as found:
        digests: dict[DocumentKind, Digests] = {"job": found["job"], "resume": found["resume"]}
    paths = {direction: _parts_of(store, match, direction) for direction in DIRECTIONS}
    return FormerMatches(digests, paths)


def forget_documents(store: Store) -> None:
    """Remove the digests of matched documents: the next matches then carry nothing over."""
    for key in list(store.list("matches")):
        if key.endswith(f"/{_DOCUMENTS}"):
            store.delete(key)


def _parts_of(store: Store, match: str, direction: Direction) -> list[Path]:
    return [store.local_path(key) for key in store.list(f"matches/{match}/direction={direction}")]


def write_matches(
    store: Store,
    match: str,
    parts: Iterable[MatchPart],
    *,
    cut: str,
    manifest: dict[str, object],
    documents: Mapping[DocumentKind, Digests],
    fence: Callable[[], None],
) -> int:
    """Write matches part by part, then the manifest, and make them the latest.

    Each part is stored when it is finished. A killed run resumes after the stored parts if its ``cut`` is the same.

    Args:
        store: Store to write to.
        match: Id from :func:`match_id`.
        parts: Parts to write. Not read if the matches are finished.
        cut: Determines, with ``match``, the rows of each part. Stored parts with another cut are dropped.
        manifest: Data to record besides the number of rows; ``recipe`` identifies the ranking.
        documents: Digest of each document, in the order of the matching. The next matches use them to find changes.
        fence: Called before the commit; raises when this writer lost its lease.

    Returns:
        Number of rows. The manifest also holds ``fitting``: by direction, the documents that somebody fits.

    Raises:
        StoreError: Writing failed; the former matches are still the latest.
    """
    known = read_manifest(store, match)
    if known is None:
        rows, fitting = _put_parts(store, match, parts, cut=cut)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{str(kind): digests for kind, digests in documents.items()})
        known = {**manifest, "rows": rows, "fitting": fitting}
        fence()
        store.put_if_absent(f"matches/{match}/{_DOCUMENTS}", buffer.getvalue())
        store.put_if_absent(f"matches/{match}/{_MANIFEST}", canonical_json(known).encode())
    LATEST_MATCHES.put(store, match)
    return int(str(known["rows"]))


def _put_parts(store: Store, match: str, parts: Iterable[MatchPart], *, cut: str) -> tuple[int, dict[str, int]]:
    """Write the unfinished parts.

    Returns:
        The number of rows of all parts, and by direction the number of documents that somebody fits.
    """
    root = f"matches/{match}"
    if store.read(f"{root}/{_CUT}") != cut.encode():
        store.delete(root)
        store.put_if_absent(f"{root}/{_CUT}", cut.encode())
    rows = 0
    fitting: dict[str, int] = dict.fromkeys(DIRECTIONS, 0)
    for part in parts:
        table = put_part(store, match, part)
        rows += len(table)
        fitting[part.direction] += _num_fitting(table, part.direction)
    return rows, fitting


def put_part(store: Store, match: str, part: MatchPart) -> pa.Table:
    """Write a part of matches, unless it is there.

    Returns:
        Its rows; of a part that was there, only the columns that are counted.
    """
    key = f"matches/{match}/{part.path}"
    finished = store.read(key)
    if finished is not None:
        return pq.read_table(io.BytesIO(finished), columns=[_query_column(part.direction), "fit_class"])
    table = part.build()
    with store.scratch() as scratch:
        path = scratch / "part.parquet"
        with storage_errors("write the matches"):
            pq.write_table(table.drop_columns(["direction"]), path, compression="zstd")
        store.put_if_absent(key, path)
    return table


def _query_column(direction: Direction) -> str:
    return f"{KINDS_OF[direction][0]}_id"


def _num_fitting(matches: pa.Table, direction: Direction) -> int:
    """Number of documents with a strong or possible match."""
    fits = pc.is_in(matches["fit_class"], pa.array(["strong", "possible"]))
    return int(pc.count_distinct(matches.filter(fits)[_query_column(direction)]).as_py())


def latest_match_files(store: Store) -> list[Path]:
    """Parquet files of the latest matches; empty before the first."""
    match = LATEST_MATCHES.name(store)
    return [] if match is None else match_files(store, match)


def match_files(store: Store, match: str) -> list[Path]:
    """Parquet files of matches by their id."""
    return [store.local_path(key) for key in store.list(f"matches/{match}") if key.endswith(".parquet")]
