"""Interactive search over what is served. Never imports prefect."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from data.errors import InputError, VectorSpaceError
from data.schema import DocumentKind, encoded_text
from data.store.base import Store
from data.vectors.filters import is_one_of
from data.vectors.lance import LanceTable, open_table
from data.vectors.pointer import Pointer, read_pointer
from llm2vec_core.ranking.fusion import top_k
from llm2vec_core.ranking.hybrid import Hit, Ranking, fuse_legs, weigh_legs
from llm2vec_core.ranking.lexical import LexicalIndex, number_words, tokenize
from tasks.encoders.checkpoints import base_models_dir, checkpoint_dir, find_checkpoint, load_encoder, load_reranker
from tasks.encoders.fusing import served_weight
from tasks.run.settings import Settings

if TYPE_CHECKING:
    from llm2vec_core.ranking.reranking import Reranker

SearchMode = Literal["hybrid", "dense", "lexical"]

MAX_QUERY_CHARS = 20_000
"""A long posting has half as many; more is a whole collection, or a mistake."""

SCAN_ROWS = 5_000
"""Documents that are looked at for words when a table has no word index: a few seconds of work."""

logger = logging.getLogger(__name__)

_SHOWN = ("doc_id", "source", "source_id", "title")


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
        Best first: ids, title, score, what each leg said, and the words of the query that the document holds, those
        that fewest of the hits hold first.

    Raises:
        InputError: An empty or too long query, a filter that cannot be used, or nothing served yet.
        VectorSpaceError: ``checkpoint`` is not the one that made the served vectors.
    """
    _require_query(query)
    store = settings.store()
    pointer = served(store)
    if checkpoint is not None:
        require_same_space(store, pointer, checkpoint)
    table = open_table(store, generation=pointer.generation, kind=kind, version=pointer.version_of(kind))
    candidates = max(limit, settings.match.candidates)
    found: dict[str, dict[str, Any]] = {}
    dense = lexical = None
    words = tokenize(query)
    vector = None
    if mode != "lexical":
        encoder = load_encoder(checkpoint_dir(store, pointer.checkpoint), settings.encode)
        vector = encoder.reader_of(settings.encode.long_texts)([query], normalize=True).vectors[0]
        dense = ranking(table.nearest(vector, limit=candidates, columns=_columns(table), where=where), found)
    if mode != "dense":
        lexical = ranking(by_words(table, words, limit=candidates, where=where), found)
    fused = max(limit, settings.match.reranked) if mode == "hybrid" and settings.match.reranker is not None else limit
    weight = served_weight(settings, store, pointer) if mode == "hybrid" else None
    if weight is not None and vector is not None and dense is not None and lexical is not None:
        hits = weigh_by_id(table, words, vector, dense=dense, lexical=lexical, weight=weight, limit=fused)
    else:
        hits = fuse_by_id(dense=dense, lexical=lexical, limit=fused)
    if mode == "hybrid" and settings.match.reranker is not None:
        hits = rerank_by_id(
            load_reranker(settings.match.reranker, base_models_dir(store)), table, query, hits, limit=limit
        )
    rows = [found[doc_id] for doc_id in hits]
    return [
        {
            "rank": rank,
            **{name: row[name] for name in _SHOWN},
            **{name: value for name, value in asdict(hit).items() if name != "index"},
            "matched_terms": terms,
        }
        for rank, (hit, row, terms) in enumerate(
            zip(hits.values(), rows, _matched_terms(words, rows), strict=True), start=1
        )
    ]


def _require_query(query: str) -> None:
    if not query.strip():
        raise InputError("The query is empty; expected some words.", hint='For example: l2v search "cloud engineer".')
    if len(query) > MAX_QUERY_CHARS:
        raise InputError(
            f"The query has {len(query):,} characters; {MAX_QUERY_CHARS:,} at most were expected.",
            hint="Search for a part of it, or ingest the documents and run `l2v match`.",
        )


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


def _columns(table: LanceTable) -> list[str]:
    return [*_SHOWN, "words"] if table.has_words else [*_SHOWN, "text"]


def by_words(table: LanceTable, words: Sequence[str], *, limit: int, where: str | None) -> pa.Table:
    """Documents that hold a word, by BM25: from the word index, or from a scan of bounded length without one."""
    if words and table.has_word_index:
        return table.best_words(words, limit=limit, columns=_columns(table), where=where)
    rows = pa.Table.from_batches(
        table.batches(_columns(table), where=where, limit=SCAN_ROWS if words else 1),  # reads the filter, at least
        schema=table.schema_of(_columns(table)),
    )
    if words and len(rows):
        logger.warning(
            "The table has no word index: BM25 is taken over %s of its %s documents. `l2v embed` builds the index.",
            f"{len(rows):,}",
            f"{table.count():,}",
        )
    vocabulary: dict[str, int] = {}
    index = LexicalIndex([number_words(words_of(row), vocabulary) for row in rows.to_pylist()], vocabulary)
    scores = index.scores(number_words([word for word in words if word in vocabulary], vocabulary))
    best = [at for at in top_k(scores, limit) if scores[at] > 0]
    return rows.take(pa.array(best, pa.int64())).append_column("score", pa.array(scores[best], pa.float32()))


def ranking(rows: pa.Table, found: dict[str, dict[str, Any]]) -> list[tuple[str, float]]:
    """Ids and scores, best first, ties by id; what the rows hold is added to ``found``."""
    hits = rows.to_pylist()
    found.update((row["doc_id"], row) for row in hits)
    return sorted(((row["doc_id"], row["score"]) for row in hits), key=lambda pair: (-pair[1], pair[0]))


def fuse_by_id(
    *, dense: list[tuple[str, float]] | None, lexical: list[tuple[str, float]] | None, limit: int
) -> dict[str, Hit]:
    """Fuse the legs that there are: ``doc_id`` to hit, best first, ties by id."""
    ids = sorted({doc_id for leg in (dense, lexical) for doc_id, _ in leg or ()})
    number_of = {doc_id: number for number, doc_id in enumerate(ids)}
    hits = fuse_legs(
        dense=_numbered(dense, number_of),
        lexical=_numbered(lexical, number_of),
        limit=limit,
    )
    return {ids[hit.index]: hit for hit in hits}


def weigh_by_id(
    table: LanceTable,
    words: Sequence[str],
    vector: Float32[np.ndarray, " dim"],
    *,
    dense: list[tuple[str, float]],
    lexical: list[tuple[str, float]],
    weight: float,
    limit: int,
) -> dict[str, Hit]:
    """Fuse both legs by their scores: ``doc_id`` to hit, best first, ties by id.

    What one leg brings, the other may not: the scores that are missing are read from the table.
    """
    cosines, bm25 = dict(dense), dict(lexical)
    if unmeasured := [doc_id for doc_id in bm25 if doc_id not in cosines]:
        rows = table.read(["doc_id", "vector"], where=is_one_of("doc_id", unmeasured))
        vectors = rows["vector"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
        cosines |= dict(zip(rows["doc_id"].to_pylist(), (vectors @ vector).tolist(), strict=True))
    unscored = [doc_id for doc_id in cosines if doc_id not in bm25]
    if words and unscored and table.has_word_index:
        rows = table.best_words(words, limit=len(unscored), columns=["doc_id"], where=is_one_of("doc_id", unscored))
        bm25 |= dict(zip(rows["doc_id"].to_pylist(), rows["score"].to_pylist(), strict=True))
    ids = sorted(cosines)
    number_of = {doc_id: number for number, doc_id in enumerate(ids)}
    hits = weigh_legs(
        dense=[(number_of[doc_id], score) for doc_id, score in dense],
        lexical=[(number_of[doc_id], score) for doc_id, score in lexical],
        cosines={number_of[doc_id]: score for doc_id, score in cosines.items()},
        bm25={number_of[doc_id]: score for doc_id, score in bm25.items()},
        weight=weight,
        limit=limit,
    )
    return {ids[hit.index]: hit for hit in hits}


def rerank_by_id(
    reranker: Reranker, table: LanceTable, query: str, hits: dict[str, Hit], *, limit: int
) -> dict[str, Hit]:
    """The hits in the order of a cross-encoder, whose score takes the place of the fused one; ties by id."""
    if not hits:
        return hits
    rows = table.read(["doc_id", "title", "text"], where=is_one_of("doc_id", hits)).sort_by("doc_id").to_pylist()
    scores = reranker.scores(query, [encoded_text(row["title"], row["text"]) for row in rows])
    return {
        rows[at]["doc_id"]: replace(hits[rows[at]["doc_id"]], score=float(scores[at])) for at in top_k(scores, limit)
    }


def _numbered(leg: list[tuple[str, float]] | None, number_of: dict[str, int]) -> Ranking | None:
    return None if leg is None else [(number_of[doc_id], score) for doc_id, score in leg]


def _matched_terms(words: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """For each row, the words that it holds; those in the fewest of the rows first, then as the query has them."""
    asked = list(dict.fromkeys(words))
    held = [set(words_of(row)).intersection(asked) for row in rows]
    frequency = Counter(word for each in held for word in each)
    return [sorted((word for word in asked if word in each), key=frequency.__getitem__) for each in held]


def words_of(row: dict[str, Any]) -> list[str]:
    """Words of a row; tables of the first layout hold the text only."""
    return row["words"].split() if "words" in row else tokenize(encoded_text(row["title"], row["text"]))
