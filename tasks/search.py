"""Interactive search over what is served. Never imports prefect."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

import numpy as np

from data.errors import InputError, VectorSpaceError
from data.generations import Pointer, read_pointer
from data.lance import LanceTable, open_table
from data.schema import DocumentKind, encoded_text
from data.store import Store
from llm2vec_core.fusion import top_k
from llm2vec_core.hybrid import Ranking, fuse_legs
from llm2vec_core.lexical import LexicalIndex
from tasks.checkpoints import checkpoint_dir, find_checkpoint, load_encoder
from tasks.settings import Settings

SearchMode = Literal["hybrid", "dense", "lexical"]

_COLUMNS = ["doc_id", "source", "source_id", "title", "text"]


def search(
    settings: Settings,
    query: str,
    *,
    kind: DocumentKind,
    mode: SearchMode = "hybrid",
    limit: int = 10,
    where: str | None = None,
    checkpoint: str | None = None,
) -> list[dict[str, object]]:
    """Find served documents of a kind for a query.

    Args:
        settings: Settings of the run.
        query: What to look for: a few words, or a whole posting.
        kind: Kind of the documents to find.
        mode: Both legs fused, or one of them.
        limit: Number of documents, at most.
        where: SQL filter over columns of the table, applied before ranking.
        checkpoint: Encode the query with this checkpoint instead of the served one.

    Returns:
        Best first: ids, title, score, what each leg said, and the words of the query that the document holds.

    Raises:
        InputError: An empty query, a filter that cannot be used, or nothing served yet.
        VectorSpaceError: ``checkpoint`` is not the one that made the served vectors.
    """
    if not query.strip():
        raise InputError("The query is empty; expected some words.", hint='For example: l2v search "cloud engineer".')
    store = settings.store()
    pointer = served(store)
    if checkpoint is not None:
        require_same_space(store, pointer, checkpoint)
    table = open_table(store, generation=pointer.generation, kind=kind, version=pointer.version_of(kind))
    rows = table.read(_COLUMNS, where=where).to_pylist()
    index = LexicalIndex.of_texts([encoded_text(row["title"], row["text"]) for row in rows])
    candidates = max(limit, settings.match.candidates)
    dense = None if mode == "lexical" else _dense_leg(settings, pointer, table, query, rows, candidates, where)
    lexical = None if mode == "dense" else _lexical_leg(index, query, candidates)
    hits = fuse_legs(dense=dense, lexical=lexical, limit=limit, rrf_k=settings.match.rrf_k)
    return [
        {
            "rank": rank,
            **{name: rows[hit.index][name] for name in ("doc_id", "source", "source_id", "title")},
            **{name: value for name, value in asdict(hit).items() if name != "index"},
            "matched_terms": index.matched_terms(query, hit.index),
        }
        for rank, hit in enumerate(hits, start=1)
    ]


def served(store: Store) -> Pointer:
    """What is served.

    Raises:
        InputError: Nothing is.
    """
    pointer = read_pointer(store)
    if pointer is None:
        raise InputError(
            "Nothing is served yet.", hint="Run `l2v nightly`, or `l2v ingest` and `l2v embed --checkpoint ID`, first."
        )
    return pointer


def require_same_space(store: Store, pointer: Pointer, checkpoint: str) -> None:
    """Refuse to compare vectors of two checkpoints.

    Raises:
        VectorSpaceError: Names both.
    """
    wanted = find_checkpoint(store, checkpoint).fingerprint
    if wanted != pointer.checkpoint:
        raise VectorSpaceError(
            f"The served generation {pointer.generation} was written by checkpoint {pointer.checkpoint[:12]}, "
            f"this query would be encoded by {wanted[:12]}.",
            hint=f"Promote a generation of {wanted[:12]} (`l2v generations list`), "
            f"or leave --checkpoint {pointer.checkpoint[:12]}.",
        )


def lexical_ranking(scores: np.ndarray, limit: int) -> Ranking:
    """Documents that share a word with the query, best first."""
    return [(int(index), float(scores[index])) for index in top_k(scores, limit) if scores[index] > 0]


def _lexical_leg(index: LexicalIndex, query: str, limit: int) -> Ranking:
    return lexical_ranking(index.scores(query), limit)


def _dense_leg(
    settings: Settings,
    pointer: Pointer,
    table: LanceTable,
    query: str,
    rows: list[dict[str, str]],
    limit: int,
    where: str | None,
) -> Ranking:
    encoder = load_encoder(checkpoint_dir(settings.store(), pointer.checkpoint), settings.encode.token_budget)
    vector = encoder.encode(query, normalize=True)[0]
    row_of = {row["doc_id"]: number for number, row in enumerate(rows)}
    found = table.nearest(vector, limit=limit, columns=["doc_id"], where=where)
    pairs = zip(found["doc_id"].to_pylist(), found["score"].to_pylist(), strict=True)
    return sorted(((row_of[doc_id], score) for doc_id, score in pairs), key=lambda pair: (-pair[1], pair[0]))
