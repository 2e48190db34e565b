"""Match two tables, one block of queries at a time. Never imports prefect.

The matches of a document depend on the document and on all documents that are ranked for it, because each of those
changes the idf of BM25. If none of them changed since the latest matches, the rows of the document are copied. So a
night with new resumes ranks jobs for the new resumes only, and resumes for all jobs. The result is the same as
matching everything.

Memory holds ids and the candidates of every document (8 bytes each, 12 during the search). Vectors, words and BM25
weights of both sides are in memory-mapped scratch files.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int32, Int64

from data.outputs.matches import DIRECTIONS, KINDS_OF, MATCH_SCHEMA, Direction, FormerMatches, MatchPart
from data.schema import KINDS, DocumentKind
from data.store.base import Store
from data.store.digests import DIGEST_BYTES, DigestIndex, Digests
from data.vectors.lance import LanceTable
from data.vectors.pointer import Pointer
from llm2vec_core.device.precision import machine_precision
from llm2vec_core.ranking.dense import Neighbours, nearest_both_ways, nearest_of
from llm2vec_core.ranking.fusion import Fused, Weighted, fuse, fusion_name, kept_hits, lexical_leg
from llm2vec_core.ranking.lexical import LexicalIndex, TokenLists, number_words
from tasks.conditions.pairs import FactFile, PairConditions, stated_digest
from tasks.conditions.verdicts import Conditions
from tasks.encoders.fit import Fit
from tasks.queries.served import served_table, words_of
from tasks.queries.similar import newest_of_groups, place_digest, similar_columns
from tasks.run.settings import MatchSettings

BLOCK_ROWS = 2048
"""Number of documents to match and write together. Bounds the memory; part of the parts' keys."""

MATCHED_TERMS = 20
"""Maximum number of shared words to show. A long posting and a long resume share hundreds."""

_ROWS_PER_COPY = 4096
_SCORES_AT_ONCE = 1 << 22
_QUERIES_AT_ONCE = 64


@dataclass(frozen=True)
class Side:
    """One kind of documents: first those that are ranked, then older ones of similar documents, each by their ids.

    Attributes:
        ids: ``doc_id`` of each document.
        vectors: Vectors, mapped from a file.
        words: Word numbers, mapped from a file.
        vocabulary: Word to number, shared by both sides. Numbers follow the order of the words, so that other documents
            do not change the order of sums over words.
        digests: Hash of the id, words and vector of each document, and of what its facts are read from.
        num_ranked: Number of documents that stand for their similar ones and may be ranked: the first ones.
        num_similar: Number of similar documents that each document has among the others.
        facts: What each document states about conditions; None if no condition is checked.
        weights_dir: Directory for BM25 weights; None keeps them in memory.
    """

    ids: list[str]
    vectors: Float32[np.ndarray, "documents dim"]
    words: TokenLists
    vocabulary: dict[str, int]
    digests: Digests
    num_ranked: int
    num_similar: Int64[np.ndarray, " documents"]
    facts: FactFile | None = None
    weights_dir: Path | None = None

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.ids)

    def numbers_of(self, ids: pa.ChunkedArray) -> Int64[np.ndarray, " ids"]:
        """Numbers of documents of this side, by id."""
        order, in_order = self._by_id
        return order[np.searchsorted(in_order, np.array(ids.to_pylist(), "S32"))]

    @cached_property
    def _by_id(self) -> tuple[Int64[np.ndarray, " documents"], np.ndarray]:
        """Numbers of the documents in the order of their ids, and these ids."""
        ids = np.array(self.ids, "S32")
        order = np.argsort(ids)
        return order, ids[order]

    @cached_property
    def word_list(self) -> pa.Array:
        """Words in the order of their numbers."""
        return pa.array(list(self.vocabulary), pa.string())


def read_sides(
    store: Store,
    pointer: Pointer,
    scratch: Path,
    *,
    among: Mapping[DocumentKind, str] | None = None,
    where: Mapping[DocumentKind, str] | None = None,
    conditions: Conditions | None = None,
) -> dict[DocumentKind, Side]:
    """Read both served tables once, and write vectors and words to files in ``scratch``.

    Args:
        store: Where the tables are.
        pointer: Served versions.
        scratch: Empty directory.
        among: SQL conditions of the documents to match, by kind (default: all of them).
        where: Filters of the user, likewise.
        conditions: Conditions whose facts are read (default: none).
    """
    among, where = among or {}, where or {}
    vocabulary: dict[str, int] = {}
    sides: dict[DocumentKind, Side] = {
        kind: _spill(
            store,
            served_table(store, pointer, kind),
            scratch / kind,
            vocabulary,
            kind=kind,
            among=among.get(kind),
            where=where.get(kind),
            conditions=conditions,
        )
        for kind in KINDS
    }
    in_order = sorted(vocabulary)
    numbers = np.empty(len(vocabulary), np.int32)
    numbers[[vocabulary[word] for word in in_order]] = np.arange(len(vocabulary))
    for side in sides.values():
        side.words.renumber(numbers)
    vocabulary = {word: number for number, word in enumerate(in_order)}
    return {kind: replace(side, vocabulary=vocabulary) for kind, side in sides.items()}


def plan_parts(
    sides: Mapping[DocumentKind, Side],
    settings: MatchSettings,
    *,
    weight: float | None = None,
    excluded: Collection[tuple[str, str]] = (),
    conditions: Conditions | None = None,
    fit: Fit | None = None,
    former: FormerMatches | None = None,
    neighbours: Mapping[Direction, Neighbours] | None = None,
    checkpoint: str,
    run_id: str,
    advance: Callable[[int], object],
) -> Iterator[MatchPart]:
    """Match both directions, one part per block of queries.

    If all documents need a ranking, one pass of products yields the cosines of both directions. A killed run keeps its
    parts and recomputes these cosines.

    Args:
        sides: Result of :func:`read_sides`.
        settings: Numbers of matches and of candidates.
        weight: Weight of vector search; None to fuse by rank.
        excluded: Ids of job and resume that are never matched with each other.
        conditions: Conditions of pairs, whose facts the sides hold (default: none).
        fit: Limits and background of the fit; None to leave it empty.
        former: Matches of the same recipe, to copy rows from.
        neighbours: Nearest documents of the queries that need a ranking (:func:`changed_queries`), by direction.
            Default: computed first.
        checkpoint: Fingerprint of the encoder.
        run_id: Run that matches.
        advance: Called with the number of documents just finished: each job once for its products, and each document
            once for its ranking.
    """
    ranked_for = {direction: changed_queries(direction, sides, former) for direction in DIRECTIONS}
    if neighbours is None:
        neighbours = _neighbours(sides, ranked_for, settings, advance)
    for direction, (query_kind, found_kind) in KINDS_OF.items():
        matching = _Direction(
            direction,
            queries=sides[query_kind],
            found=sides[found_kind],
            rows=ranked_for[direction],
            neighbours=neighbours[direction],
            former=former,
            settings=settings,
            weight=weight,
            excluded=_pair_numbers(excluded, sides, query_kind, found_kind),
            pairs=_pair_conditions(conditions, sides),
            fit=fit,
        )
        for number, start in enumerate(range(0, len(matching.queries), BLOCK_ROWS)):
            block = slice(start, min(start + BLOCK_ROWS, len(matching.queries)))
            yield MatchPart(direction, number, partial(matching.part, block, checkpoint=checkpoint, run_id=run_id))
            advance(block.stop - block.start)


def changed_queries(
    direction: Direction, sides: Mapping[DocumentKind, Side], former: FormerMatches | None
) -> Int64[np.ndarray, " rows"]:
    """Documents whose matches may differ from the former ones."""
    query_kind, found_kind = KINDS_OF[direction]
    queries = sides[query_kind].digests
    if former is None or not np.array_equal(sides[found_kind].digests, former.documents[found_kind]):
        return np.arange(len(queries))
    return np.flatnonzero(~DigestIndex(former.documents[query_kind]).contains(queries))


def _pair_numbers(
    pairs: Collection[tuple[str, str]], sides: Mapping[DocumentKind, Side], query: DocumentKind, found: DocumentKind
) -> Int64[np.ndarray, " pairs"]:
    """Numbers of pairs of job and resume: row of the query times the number of found documents, plus row of the other.

    Pairs of which a document is not among the sides are left out.
    """
    row_of = {kind: {doc_id: row for row, doc_id in enumerate(sides[kind].ids)} if pairs else {} for kind in KINDS}
    known = [
        {"job": row_of["job"][job], "resume": row_of["resume"][resume]}
        for job, resume in pairs
        if job in row_of["job"] and resume in row_of["resume"]
    ]
    return np.array([rows[query] * len(sides[found]) + rows[found] for rows in known], np.int64)


def _pair_conditions(conditions: Conditions | None, sides: Mapping[DocumentKind, Side]) -> PairConditions | None:
    facts = {kind: side.facts for kind, side in sides.items() if side.facts is not None}
    return None if conditions is None or len(facts) < len(sides) else PairConditions(conditions, facts)


def _neighbours(
    sides: Mapping[DocumentKind, Side],
    ranked_for: Mapping[Direction, Int64[np.ndarray, " rows"]],
    settings: MatchSettings,
    advance: Callable[[int], object],
) -> dict[Direction, Neighbours]:
    """Nearest documents of the queries that need a ranking, one row each."""
    job, resume = sides["job"].vectors, sides["resume"].vectors
    ranked = (sides["job"].num_ranked, sides["resume"].num_ranked)
    if (len(ranked_for["resumes_for_job"]), len(ranked_for["jobs_for_resume"])) == (len(job), len(resume)):
        of_jobs, of_resumes = nearest_on_machine(job, resume, k=settings.candidates, ranked=ranked, on_rows=advance)
    else:
        of_jobs = nearest_of(ranked_for["resumes_for_job"], job, resume[: ranked[1]], k=settings.candidates)
        of_resumes = nearest_of(ranked_for["jobs_for_resume"], resume, job[: ranked[0]], k=settings.candidates)
        advance(len(job))
    return {"resumes_for_job": of_jobs, "jobs_for_resume": of_resumes}


def nearest_on_machine(
    left: Float32[np.ndarray, "left dim"],
    right: Float32[np.ndarray, "right dim"],
    *,
    k: int,
    ranked: tuple[int, int],
    first_left: int = 0,
    on_rows: Callable[[int], object] = lambda rows: None,
) -> tuple[Neighbours, Neighbours]:
    """:func:`~llm2vec_core.ranking.dense.nearest_both_ways`, on this machine's GPU if it has one."""
    search: Callable[..., tuple[Neighbours, Neighbours]] = nearest_both_ways
    if machine_precision() == "bf16":  # a GPU that computes; torch is not loaded to find out that there is none
        from llm2vec_core.device.precision import default_device
        from llm2vec_core.ranking.dense_device import nearest_both_ways_on

        search = partial(nearest_both_ways_on, default_device())
    return search(left, right, k=k, ranked=ranked, first_left=first_left, on_rows=on_rows)


@dataclass(frozen=True)
class _Direction:
    """Everything that one direction of matching needs; ``rows`` are the queries that need a ranking."""

    direction: Direction
    queries: Side
    found: Side
    rows: Int64[np.ndarray, " rows"]
    neighbours: Neighbours
    former: FormerMatches | None
    settings: MatchSettings
    weight: float | None
    excluded: Int64[np.ndarray, " pairs"]
    pairs: PairConditions | None
    fit: Fit | None

    @cached_property
    def index(self) -> LexicalIndex:
        """BM25 over the documents to rank."""
        found = self.found
        return LexicalIndex(found.words, found.vocabulary, num_ranked=found.num_ranked, directory=found.weights_dir)

    def part(self, block: slice, *, checkpoint: str, run_id: str) -> pa.Table:
        """Matches of a block of queries: new rankings and copied rows."""
        first, last = (int(place) for place in np.searchsorted(self.rows, [block.start, block.stop]))
        ranked = self._rank(first, last, checkpoint=checkpoint, run_id=run_id)
        if self.former is None or last - first == block.stop - block.start:
            return self._with_fit(ranked)
        changed = {self.queries.ids[row] for row in self.rows[first:last]}
        unchanged = [doc_id for doc_id in self.queries.ids[block] if doc_id not in changed]
        carried = self.former.rows(self.direction, sorted(unchanged))
        place = carried.schema.get_field_index("run_id")
        carried = carried.set_column(place, MATCH_SCHEMA.field("run_id"), pa.repeat(run_id, len(carried)))
        matches = pa.concat_tables([ranked, carried])
        queries = self.queries.numbers_of(matches[f"{KINDS_OF[self.direction][0]}_id"])
        return self._with_fit(matches.take(pa.array(np.lexsort((matches["rank"].to_numpy(), queries)))))

    def _with_fit(self, matches: pa.Table) -> pa.Table:
        """Set fit and class of matches. Copied matches get new ones, because the background is of today."""
        shares: Sequence[float | None] = [None] * len(matches)
        classes: Sequence[str | None] = [None] * len(matches)
        if self.fit is not None and len(matches):
            query_kind, found_kind = KINDS_OF[self.direction]
            queries = self.queries.numbers_of(matches[f"{query_kind}_id"])
            found = self.found.numbers_of(matches[f"{found_kind}_id"])
            cosines = self._cosines(queries, found[:, None])[:, 0]
            shares, classes = self.fit.of_pairs(found_kind, cosines, found, self.found.vectors)
        for name, values in (("fit", shares), ("fit_class", classes)):
            field = MATCH_SCHEMA.field(name)
            matches = matches.set_column(MATCH_SCHEMA.get_field_index(name), field, pa.array(values, field.type))
        return matches

    def _rank(self, first: int, last: int, *, checkpoint: str, run_id: str) -> pa.Table:
        """Rank documents for some of the queries that need a ranking."""
        if first == last or not self.found.num_ranked:
            return MATCH_SCHEMA.empty_table()
        rows = self.rows[first:last]
        dense, cosines = self.neighbours.best(slice(first, last))
        lexical, bm25 = self._by_words(rows, dense)
        weighted = None
        if self.weight is not None:  # in double precision, as a search computes it
            of_both = np.concatenate([cosines, self._cosines(rows, lexical)], axis=1)
            weighted = Weighted(self.weight, cosines=of_both.astype(float), bm25=bm25.astype(float))
        limit = dense.shape[1] + lexical.shape[1] if self._bars_pairs else self.settings.top_k
        fused = fuse(dense, lexical, limit=limit, weighted=weighted)
        if self._bars_pairs:
            fused = kept_hits(fused, self._is_allowed(rows, fused), limit=self.settings.top_k)
        at, rank = np.nonzero(fused.is_hit)
        documents = fused.documents[at, rank]
        terms = [
            words
            for offset, query in enumerate(rows)
            for words in self.index.matched_words(
                self.queries.words[query], fused.documents[offset][fused.is_hit[offset]], limit=MATCHED_TERMS
            )
        ]
        query_kind, found_kind = KINDS_OF[self.direction]
        columns = {
            "direction": pa.repeat(self.direction, len(at)),
            f"{query_kind}_id": pa.array(self.queries.ids, pa.string()).take(pa.array(rows[at])),
            f"{found_kind}_id": pa.array(self.found.ids, pa.string()).take(pa.array(documents)),
            "rank": pa.array(rank + 1, pa.int32()),
            "score": pa.array(fused.scores[at, rank].astype(np.float32)),
            "fusion": pa.repeat(fusion_name(self.weight), len(at)),
            **_leg("dense", fused.dense_ranks[at, rank], cosines[at]),
            **_leg("lexical", fused.lexical_ranks[at, rank], bm25[at, dense.shape[1] :]),
            "matched_terms": self._terms(terms),
            **self._condition_columns(rows[at], documents),
            "fit": pa.nulls(len(at)),
            "fit_class": pa.nulls(len(at)),
            "num_similar": pa.array(self.found.num_similar[documents], pa.int32()),
            "checkpoint": pa.repeat(checkpoint, len(at)),
            "run_id": pa.repeat(run_id, len(at)),
        }
        return pa.table({name: columns[name] for name in MATCH_SCHEMA.names}).cast(MATCH_SCHEMA)

    @property
    def _bars_pairs(self) -> bool:
        """Whether some candidates may not be matched, so that the fusion must rank all of them."""
        return len(self.excluded) > 0 or (self.pairs is not None and self.pairs.conditions.removes)

    def _is_allowed(self, rows: Int64[np.ndarray, " queries"], fused: Fused) -> Bool[np.ndarray, "queries hits"]:
        """Where a pair is not excluded and, if failed conditions remove pairs, fails none."""
        queries = np.broadcast_to(rows[:, None], fused.documents.shape)
        is_allowed = fused.is_hit & ~np.isin(queries * len(self.found) + fused.documents, self.excluded)
        if self.pairs is None or not self.pairs.conditions.removes:
            return is_allowed
        jobs, resumes = self._jobs_and_resumes(queries, fused.documents)
        return self.pairs.passing(jobs, resumes, is_allowed, limit=self.settings.top_k)

    def _condition_columns(
        self, rows: Int64[np.ndarray, " pairs"], documents: Int64[np.ndarray, " pairs"]
    ) -> dict[str, pa.Array]:
        """Verdicts of ranked pairs; null if no condition is checked."""
        if self.pairs is None:
            return {name: pa.nulls(len(rows), MATCH_SCHEMA.field(name).type) for name in ("verdict", "conditions")}
        return self.pairs.columns(*self._jobs_and_resumes(rows, documents))

    def _jobs_and_resumes(self, queries: np.ndarray, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the jobs and of the resumes of pairs of a query and a ranked document."""
        return (queries, documents) if KINDS_OF[self.direction][0] == "job" else (documents, queries)

    def _by_words(
        self, rows: Int64[np.ndarray, " rows"], dense: Int64[np.ndarray, "queries dense"]
    ) -> tuple[Int64[np.ndarray, "queries lexical"], Float32[np.ndarray, "queries candidates"]]:
        """Keyword hits of a block of queries, and BM25 of the vector hits, then of the keyword hits."""
        legs, scores = [], []
        at_once = max(1, _SCORES_AT_ONCE // max(1, self.found.num_ranked))
        for start in range(0, len(rows), at_once):
            part = slice(start, start + at_once)
            bm25 = self.index.scores_of([self.queries.words[query] for query in rows[part]])
            legs.append(lexical_leg(bm25, self.settings.candidates))
            scores.append(np.take_along_axis(bm25, np.concatenate([dense[part], legs[-1]], axis=1), axis=1))
        return np.concatenate(legs), np.concatenate(scores)

    def _cosines(
        self, rows: Int64[np.ndarray, " rows"], documents: Int64[np.ndarray, "queries candidates"]
    ) -> Float32[np.ndarray, "queries candidates"]:
        """Cosines of each query with its own list of documents."""
        cosines = np.empty(documents.shape, np.float32)
        for start in range(0, len(rows), _QUERIES_AT_ONCE):
            part = slice(start, start + _QUERIES_AT_ONCE)
            vectors = self.found.vectors[documents[part]]
            cosines[part] = np.einsum("qd,qcd->qc", self.queries.vectors[rows[part]], vectors)
        return cosines

    def _terms(self, terms: list[list[int]]) -> pa.Array:
        """Turn word numbers into lists of words."""
        offsets = np.cumsum([0, *(len(words) for words in terms)]).astype(np.int32)
        flat = pa.array([word for words in terms for word in words], pa.int64())
        element = MATCH_SCHEMA.field("matched_terms").type
        return pa.ListArray.from_arrays(pa.array(offsets), self.found.word_list.take(flat)).cast(element)


def _leg(name: str, ranks: np.ndarray, scores: np.ndarray) -> dict[str, pa.Array]:
    """Score and rank of each hit in one search; null where that search did not find it."""
    missing = ranks == 0
    of_hit = scores[np.arange(len(ranks)), ranks - 1]
    return {
        f"{name}_score": pa.array(of_hit, pa.float32(), mask=missing),
        f"{name}_rank": pa.array(ranks, pa.int32(), mask=missing),
    }


def _spill(
    store: Store,
    table: LanceTable,
    path: Path,
    vocabulary: dict[str, int],
    *,
    kind: DocumentKind,
    among: str | None,
    where: str | None,
    conditions: Conditions | None,
) -> Side:
    """Read a table once: vectors, words and facts go to files, ids and offsets stay in memory."""
    is_checked = conditions is not None and bool(conditions.config.check)
    facts = FactFile(path.with_suffix(".facts"), store, kind) if is_checked else None
    columns = ["doc_id", "words", "vector"] if table.has_words else ["doc_id", "title", "text", "vector"]
    columns += similar_columns(table)
    columns += [name for name in (conditions.columns(table) if conditions is not None else ()) if name not in columns]
    ids: list[str] = []
    digests: list[bytes] = []
    lengths = array("q")
    members: list[tuple[int, str, int]] = []
    vectors_path, words_path = path.with_suffix(".vectors"), path.with_suffix(".words")
    with vectors_path.open("wb") as vectors, words_path.open("wb") as words:
        for batch in table.batches(columns, where=where, among=among):
            rows = batch.select([name for name in columns if name != "vector"]).to_pylist()
            said = [words_of(row) for row in rows]
            of_batch = batch["vector"].flatten().to_numpy().astype(np.float32, copy=False).reshape(len(rows), -1)
            vectors.write(of_batch.tobytes())
            listed = pa.array(said, pa.list_(pa.string()))
            words.write(_numbered(listed.flatten(), vocabulary).tobytes())
            lengths.extend(listed.value_lengths().to_pylist())
            members.extend(
                (number, row["similar_to"] or row["doc_id"], row["similar_order"])
                for number, row in enumerate(rows, start=len(ids))
                if row.get("similar_order") is not None
            )
            ids.extend(row["doc_id"] for row in rows)
            stated = [b"" if facts is None else stated_digest(kind, row) for row in rows]
            further = [said_by + place_digest(row) for said_by, row in zip(stated, rows, strict=True)]
            digests.extend(map(_digest, ids[-len(rows) :], said, of_batch, further))
            if facts is not None:
                facts.add(rows, stated)
    counts = np.frombuffer(lengths, np.int64) if lengths else np.empty(0, np.int64)
    is_ranked, num_similar = np.ones(len(ids), np.bool_), np.zeros(len(ids), np.int64)
    numbers, keys, places = zip(*members, strict=True) if members else ((), (), ())
    is_ranked[list(numbers)], num_similar[list(numbers)] = newest_of_groups(keys, places)
    order = np.lexsort((np.array(ids, "S32"), ~is_ranked)) if ids else np.empty(0, np.int64)
    starts = np.cumsum(counts) - counts
    if facts is not None:
        facts.reorder(order)
    return Side(
        ids=[ids[at] for at in order],
        vectors=_sorted_rows(vectors_path, order, table.embedding_dim),
        words=TokenLists(_mapped(words_path, np.int32), starts[order], counts[order]),
        vocabulary=vocabulary,
        digests=np.array(digests, f"S{DIGEST_BYTES}")[order],
        num_ranked=int(is_ranked.sum()),
        num_similar=num_similar[order],
        facts=facts,
        weights_dir=path.with_suffix(".bm25"),
    )


def _digest(doc_id: str, words: list[str], vector: Float32[np.ndarray, " dim"], further: bytes) -> bytes:
    """Hash of the parts of a document that its matches depend on: words, vector, what it may state, and its place."""
    said = " ".join((doc_id, *words)).encode()
    return hashlib.blake2b(said + vector.tobytes() + further, digest_size=DIGEST_BYTES).digest()


def _numbered(words: pa.StringArray, vocabulary: dict[str, int]) -> Int32[np.ndarray, " words"]:
    """Numbers of words. Each distinct word is looked up once."""
    distinct = words.dictionary_encode()
    of_distinct = np.array(number_words(distinct.dictionary.to_pylist(), vocabulary), np.int32)
    numbers: Int32[np.ndarray, " words"] = of_distinct[distinct.indices.to_numpy()]
    return numbers


def _sorted_rows(path: Path, order: np.ndarray, dim: int) -> Float32[np.ndarray, "documents dim"]:
    """Copy the rows of a file in another order to a new file."""
    unsorted = _mapped(path, np.float32).reshape(len(order), dim)
    if not len(order):
        return unsorted
    target = np.memmap(path.with_suffix(".sorted"), np.float32, "w+", shape=unsorted.shape)
    for start in range(0, len(order), _ROWS_PER_COPY):
        target[start : start + _ROWS_PER_COPY] = unsorted[order[start : start + _ROWS_PER_COPY]]
    return target


def _mapped(path: Path, dtype: type[np.generic]) -> np.ndarray:
    """Map a file as a writable array. An empty file, which cannot be mapped, becomes an empty array."""
    return np.memmap(path, dtype, "r+") if path.stat().st_size else np.empty(0, dtype)
