"""Interactive search over the served documents. Never imports prefect."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from data.conditions.statement import worst
from data.documents.rows import has_surrogates
from data.errors import InputError
from data.redaction.placeholders import without_placeholders
from data.schema import DocumentKind, encoded_text
from data.vectors.filters import is_one_of, open_on, past_on
from data.vectors.lance import LanceTable
from llm2vec_core.ranking.fit import FitClass
from llm2vec_core.ranking.fusion import Weighted, fuse, lexical_leg, top_k
from llm2vec_core.ranking.lexical import LexicalIndex, number_words
from llm2vec_core.ranking.reranking import NUM_READ
from llm2vec_core.ranking.words import spellings
from tasks.conditions.chosen import not_excluded
from tasks.conditions.verdicts import Conditions, verdicts_on_hits
from tasks.encoders.checkpoints import base_models_dir, load_reranker
from tasks.encoders.fit import Fit, other_kind
from tasks.encoders.query_encoder import load_query_encoder
from tasks.encoders.tuned_fusion import served_weight
from tasks.queries.opened import OpenedState
from tasks.queries.served import require_same_space, served, split_as_served, words_of
from tasks.queries.similar import both, count_similar, newest_only, similar_columns
from tasks.run.context import utc_now
from tasks.run.settings import Settings

if TYPE_CHECKING:
    from llm2vec_core.ranking.reranking import Reranker

SearchMode = Literal["hybrid", "dense", "lexical"]

Leg = Sequence[tuple[str, float]]
"""Hits of one retriever: ``doc_id`` and score, best first."""

MAX_QUERY_CHARS = 20_000
"""Maximum length of a query. A long posting has half as many characters."""

SCAN_ROWS = 5_000
"""Maximum number of documents to scan without a word index; takes a few seconds."""

logger = logging.getLogger(__name__)

_SHOWN = ("doc_id", "source", "source_id", "title")


@dataclass(frozen=True)
class Hit:
    """A document of a ranking.

    Attributes:
        score: Score that it is ranked by: fused, or of the only search used.
        dense_score: Cosine with the query; None if vector search did not find the document.
        dense_rank: Rank in vector search, starting at 1.
        lexical_score: BM25; None if keyword search did not find the document.
        lexical_rank: Rank in keyword search.
        fit: Share of random documents of the other kind for which the document has a lower cosine than for the query,
            0 to 1. None without vector search, or if the served documents are too few for limits.
        fit_class: ``strong``, ``possible`` or ``none``; None likewise, and for a query that is much shorter than a
            document.
    """

    score: float
    dense_score: float | None = None
    dense_rank: int | None = None
    lexical_score: float | None = None
    lexical_rank: int | None = None
    fit: float | None = None
    fit_class: FitClass | None = None


def search(
    settings: Settings,
    query: str,
    *,
    kind: DocumentKind,
    mode: SearchMode = "hybrid",
    limit: int = 10,
    where: str | None = None,
    past_jobs: bool | None = None,
    checkpoint: str | None = None,
    opened: OpenedState | None = None,
) -> list[dict[str, object]]:
    """Find served documents of a kind for a query.

    Args:
        settings: Settings of the run.
        query: A few words, or a whole posting.
        kind: Kind of documents to find.
        mode: Keyword search, vector search, or the fusion of both.
        limit: Maximum number of documents.
        where: SQL filter over columns of the table, applied before ranking.
        past_jobs: Also find jobs past their ``valid_through`` (default: as in ``match.past_jobs``).
        checkpoint: Encode the query with this checkpoint (default: the served one).
        opened: Tables and limits that stay open for the next search (default: they are opened for this one).

    Returns:
        Documents, best first: ids, title, last day of a job and whether it is past, the fields of :class:`Hit`, and the
        query words in the document, as it writes them. Words that occur in fewer hits come first. If all are of class
        ``none``, nobody fits (:func:`tasks.encoders.fit.nobody_fits`). Similar documents share a place: ``num_similar``
        counts those that the newest stands for. ``verdict`` and ``conditions`` say whether the hit meets what the query
        asks for, or the reverse: a query for resumes is read as a job, and one for jobs as a resume. As in bulk
        matching, documents of the exclusion list are left out, and so are hits that fail if
        ``match.conditions.on_fail`` is ``remove``.

    Raises:
        InputError: The query is empty, too long or not UTF-8, the filter cannot be used, or nothing is served.
        VectorSpaceError: ``checkpoint`` did not write the served vectors.
    """
    query = without_placeholders(query)
    require_query(query)
    store, opened = settings.store(), opened or OpenedState()
    pointer = served(store)
    if checkpoint is not None:
        require_same_space(store, pointer, checkpoint)
    table = opened.table(store, pointer, kind)
    today = utc_now().date()
    still_open = None
    if kind == "job" and not (settings.match.past_jobs if past_jobs is None else past_jobs):
        still_open = _still_open(table, today)
    among = both(still_open, not_excluded(settings.match, table, kind))
    shown = both(among, newest_only(table, where=where, among=among))
    conditions = Conditions(settings.match.conditions, today)
    candidates = max(limit, settings.match.candidates)
    found: dict[str, dict[str, Any]] = {}
    words = split_as_served(table, query)
    dense: Leg = ()
    lexical: Leg = ()
    if mode != "lexical":
        encoder = load_query_encoder(store, pointer.checkpoint, settings.encode)
        vector = encoder.encode(query, long_texts=settings.encode.long_texts)[0]
        dense = ranking(
            table.nearest(vector, limit=candidates, columns=_columns(table), where=where, among=shown), found
        )
    if mode != "dense":
        lexical = ranking(by_words(table, words, limit=candidates, where=where, among=shown), found)
    reranker = settings.match.reranker if mode == "hybrid" else None
    num_judged = limit if reranker is None else max(limit, NUM_READ)
    num_ranked = len(dense) + len(lexical) if conditions.removes else num_judged
    if mode == "dense":
        hits = {doc_id: Hit(score, *_in_leg(dense, at)) for at, (doc_id, score) in enumerate(dense[:num_ranked], 1)}
    elif mode == "lexical":
        hits = {
            doc_id: Hit(score, None, None, *_in_leg(lexical, at))
            for at, (doc_id, score) in enumerate(lexical[:num_ranked], 1)
        }
    else:
        weight = served_weight(settings, store, pointer)
        hits = fuse_legs(table, words, vector, dense=dense, lexical=lexical, weight=weight, limit=num_ranked)
    verdicts = verdicts_on_hits(table, conditions, query, kind=kind, ids=list(hits), limit=num_judged)
    hits = {doc_id: hits[doc_id] for doc_id in verdicts}
    if reranker is not None:
        hits = rerank_hits(load_reranker(reranker, base_models_dir(store)), table, query, hits, limit=limit)
    if mode != "lexical":
        fit = opened.fit(store, pointer, kind)
        hits = with_fit(hits, table, kind, vector, fit)
        if fit is not None and not fit.has_class(other_kind(kind), query):
            hits = {doc_id: replace(hit, fit_class=None) for doc_id, hit in hits.items()}
    if still_open is not None and not hits:
        logger.warning("No open job was found; jobs past their valid_through are left out. --past finds them, too.")
    for note in () if where is None else table.unreadable_values(where):
        logger.warning("%s", note)
    rows = [found[doc_id] for doc_id in hits]
    texts = table.read(["doc_id", "title", "text"], where=is_one_of("doc_id", hits)).to_pylist() if hits else []
    text_of = {row["doc_id"]: encoded_text(row["title"], row["text"]) for row in texts}
    return [
        {
            "rank": rank,
            **{name: row[name] for name in _SHOWN},
            **_validity(row, kind, today),
            **asdict(hit),
            "num_similar": num_similar,
            "matched_terms": as_written(terms, text_of[row["doc_id"]]),
            "verdict": worst(verdict.outcome for verdict in verdicts[row["doc_id"]]),
            "conditions": [verdict._asdict() for verdict in verdicts[row["doc_id"]]],
        }
        for rank, (hit, row, terms, num_similar) in enumerate(
            zip(
                hits.values(),
                rows,
                _matched_terms(words, rows),
                count_similar(table, rows, where=where, among=among),
                strict=True,
            ),
            start=1,
        )
    ]


def _still_open(table: LanceTable, day: date) -> str | None:
    """Condition for the jobs that are not past their last day; None if all of them are."""
    if not table.has_column("valid_through") or not table.count(where=past_on(day)):
        return None
    return open_on(day)


def _validity(row: dict[str, Any], kind: DocumentKind, day: date) -> dict[str, object]:
    """Last day of a job, and whether it is past. Resumes have none."""
    if kind != "job":
        return {}
    last = row.get("valid_through")
    return {"valid_through": last, "past": last is not None and last < day.isoformat()}


def require_query(query: str) -> None:
    """Check that a query has words, valid characters and at most :data:`MAX_QUERY_CHARS` of them.

    Raises:
        InputError: It does not.
    """
    if has_surrogates(query):  # bytes of the command line that are not UTF-8
        raise InputError(
            f"The query is not valid UTF-8: {query.encode('utf-8', 'surrogateescape')[:100]!r}.",
            hint="Set the terminal or the calling program to UTF-8.",
        )
    if not query.strip():
        raise InputError("The query is empty; expected some words.", hint='For example: l2v search "cloud engineer".')
    if len(query) > MAX_QUERY_CHARS:
        raise InputError(
            f"The query has {len(query):,} characters; expected {MAX_QUERY_CHARS:,} or fewer.",
            hint="Search for a part of it, or ingest the text as a document and run `l2v match`.",
        )


def _columns(table: LanceTable) -> list[str]:
    further = [name for name in ("valid_through",) if table.has_column(name)]
    return [*_SHOWN, *similar_columns(table), *further, "words" if table.has_words else "text"]


def by_words(
    table: LanceTable, words: Sequence[str], *, limit: int, where: str | None, among: str | None = None
) -> pa.Table:
    """Find documents by BM25, in the word index or, without one, in the first :data:`SCAN_ROWS` rows."""
    if words and table.has_word_index:
        return table.best_words(words, limit=limit, columns=_columns(table), where=where, among=among)
    rows = pa.Table.from_batches(
        # One row is enough to check the filter.
        table.batches(_columns(table), where=where, among=among, limit=SCAN_ROWS if words else 1),
        schema=table.schema_of(_columns(table)),
    )
    if words and len(rows):
        logger.warning(
            "The table has no word index, so BM25 reads only %s of its %s documents. `l2v embed` builds the index.",
            f"{len(rows):,}",
            f"{table.count():,}",
        )
    vocabulary: dict[str, int] = {}
    index = LexicalIndex([number_words(words_of(row), vocabulary) for row in rows.to_pylist()], vocabulary)
    scores = index.scores(number_words([word for word in words if word in vocabulary], vocabulary))
    best = lexical_leg(scores, limit)
    best = best[best >= 0]
    return rows.take(pa.array(best, pa.int64())).append_column("score", pa.array(scores[best], pa.float32()))


def ranking(rows: pa.Table, found: dict[str, dict[str, Any]]) -> list[tuple[str, float]]:
    """Ids and scores, best first, ties by id. The rows are added to ``found``."""
    by_id = rows.sort_by("doc_id").to_pylist()
    found.update((row["doc_id"], row) for row in by_id)
    best = top_k(np.array([row["score"] for row in by_id]), len(by_id))
    return [(by_id[at]["doc_id"], by_id[at]["score"]) for at in best]


def fuse_legs(
    table: LanceTable,
    words: Sequence[str],
    vector: Float32[np.ndarray, " dim"],
    *,
    dense: Leg,
    lexical: Leg,
    weight: float | None,
    limit: int,
) -> dict[str, Hit]:
    """Fuse the vector and keyword hits of a query, as matching does. Document numbers follow the order of the ids.

    Args:
        table: Table of the documents; missing scores are read from it.
        words: Words of the query.
        vector: Vector of the query, of length one.
        dense: Hits by cosine.
        lexical: Hits by BM25.
        weight: Weight of vector search; None to fuse by rank.
        limit: Maximum number of hits.

    Returns:
        ``doc_id`` to hit, best first.
    """
    mentioned = [doc_id for leg in (dense, lexical) for doc_id, _ in leg]
    ids = sorted(set(mentioned))
    number_of = {doc_id: number for number, doc_id in enumerate(ids)}
    weighted = None
    if weight is not None:
        cosines, bm25 = _all_scores(table, words, vector, dense=dense, lexical=lexical)
        both = (np.array([[scores.get(doc_id, 0.0) for doc_id in mentioned]]) for scores in (cosines, bm25))
        weighted = Weighted(weight, *both)
    numbers = (np.array([[number_of[doc_id] for doc_id, _ in leg]], np.int64) for leg in (dense, lexical))
    fused = fuse(*numbers, limit=limit, weighted=weighted)
    columns = (fused.documents, fused.scores, fused.dense_ranks, fused.lexical_ranks)
    rows = zip(*(column[fused.is_hit].tolist() for column in columns), strict=True)
    return {
        ids[number]: Hit(score, *_in_leg(dense, dense_rank), *_in_leg(lexical, lexical_rank))
        for number, score, dense_rank, lexical_rank in rows
    }


def _in_leg(leg: Leg, rank: int) -> tuple[float | None, int | None]:
    """Score and rank of a document in one search; rank 0 means that it was not found."""
    return (leg[rank - 1][1], rank) if rank else (None, None)


def _all_scores(
    table: LanceTable, words: Sequence[str], vector: Float32[np.ndarray, " dim"], *, dense: Leg, lexical: Leg
) -> tuple[dict[str, float], dict[str, float]]:
    """Cosine and BM25 of every document of either search; missing scores are read from the table."""
    cosines, bm25 = dict(dense), dict(lexical)
    if unmeasured := [doc_id for doc_id in bm25 if doc_id not in cosines]:
        rows = table.read(["doc_id", "vector"], where=is_one_of("doc_id", unmeasured))
        vectors = rows["vector"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
        cosines |= dict(zip(rows["doc_id"].to_pylist(), (vectors @ vector).tolist(), strict=True))
    unscored = [doc_id for doc_id in cosines if doc_id not in bm25]
    if words and unscored and table.has_word_index:
        rows = table.best_words(words, limit=len(unscored), columns=["doc_id"], where=is_one_of("doc_id", unscored))
        bm25 |= dict(zip(rows["doc_id"].to_pylist(), rows["score"].to_pylist(), strict=True))
    return cosines, bm25


def with_fit(
    hits: dict[str, Hit], table: LanceTable, kind: DocumentKind, vector: Float32[np.ndarray, " dim"], fit: Fit | None
) -> dict[str, Hit]:
    """Hits with their fit and class, in the same order.

    Args:
        hits: ``doc_id`` to hit.
        table: Table of the documents; their vectors are read from it.
        kind: Kind of the documents.
        vector: Vector of the query, of length one.
        fit: Limits and background; None leaves the hits as they are.
    """
    if fit is None or not hits:
        return hits
    rows = table.read(["doc_id", "vector"], where=is_one_of("doc_id", hits))
    vectors = rows["vector"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
    shares, classes = fit.of_pairs(kind, vectors @ vector, np.arange(len(rows)), vectors)
    judged = dict(zip(rows["doc_id"].to_pylist(), zip(shares, classes, strict=True), strict=True))
    return {doc_id: replace(hit, fit=judged[doc_id][0], fit_class=judged[doc_id][1]) for doc_id, hit in hits.items()}


def rerank_hits(
    reranker: Reranker, table: LanceTable, query: str, hits: dict[str, Hit], *, limit: int
) -> dict[str, Hit]:
    """Order hits by a cross-encoder, whose score replaces the fused one; ties by id."""
    if not hits:
        return hits
    rows = table.read(["doc_id", "title", "text"], where=is_one_of("doc_id", hits)).sort_by("doc_id").to_pylist()
    scores = reranker.scores(query, [encoded_text(row["title"], row["text"]) for row in rows])
    return {
        rows[at]["doc_id"]: replace(hits[rows[at]["doc_id"]], score=float(scores[at])) for at in top_k(scores, limit)
    }


def _matched_terms(words: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """For each row, the query words that it contains: rarest among the rows first, then in query order."""
    asked = list(dict.fromkeys(words))
    held = [set(words_of(row)).intersection(asked) for row in rows]
    frequency = Counter(word for each in held for word in each)
    return [sorted((word for word in asked if word in each), key=frequency.__getitem__) for each in held]


def as_written(terms: Sequence[str], text: str) -> list[str]:
    """Words of a text that some tokens stand for, each once; a token that it does not have stays."""
    found = spellings(text, terms)
    return list(dict.fromkeys(found.get(term, term) for term in terms))
