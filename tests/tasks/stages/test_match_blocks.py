"""Bulk matching over real tables gives the same result as ranking each query separately."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.outputs.matches import DIRECTIONS, MATCH_SCHEMA, latest_match_files, read_former_matches, write_matches
from data.store.base import LocalStore
from data.vectors.lance import create_table, table_schema
from data.vectors.pointer import Pointer
from llm2vec_core.ranking.fit import FitLimits
from llm2vec_core.ranking.fusion import convex_combination, either_leg, top_k
from llm2vec_core.ranking.lexical import LexicalIndex
from llm2vec_core.ranking.words import tokenize
from tasks.encoders.fit import Fit
from tasks.run.settings import MatchSettings
from tasks.stages import match_blocks
from tasks.stages.match_blocks import plan_parts, read_sides
from tests.llm2vec_core.ranking import plain_reference

DIM = 4
LIMITS = FitLimits(possible=1, strong=4, random_possible=0.1, random_strong=0.01, jobs=60, resumes=60, mutual=30)
WORDS = ["nurse", "c++", "python", "ward", "cloud", "it", "driver", "the"]


def rows(kind, count, *, seed):
    """Documents in no order of their ids, with integers as vectors, so that products are exact and tie often."""
    rng = np.random.default_rng(seed)
    ids = [f"{number:032x}" for number in rng.permutation(count) * 7 + seed]
    texts = [" ".join(rng.choice(WORDS, rng.integers(0, 9))) for _ in ids]
    vectors = list(rng.integers(-2, 3, size=(count, DIM)).astype(np.float32))
    return table_of(
        kind, ids, texts, vectors, [int(number) if number < 4 else None for number in rng.integers(0, 9, count)]
    )


def table_of(kind, ids, texts, vectors, groups):
    """A table; documents with the same number are similar, and the one with the lowest id is the newest."""
    members = {}
    for doc_id, group in sorted(zip(ids, groups, strict=True)):
        members.setdefault(group, []).append(doc_id)
    places = {
        doc_id: (None if doc_id == held[-1] else held[-1], place)
        for group, held in members.items()
        if group is not None and len(held) > 1
        for place, doc_id in enumerate(held, start=1)
    }
    columns = {field.name: [None if field.nullable else "x"] * len(ids) for field in table_schema(DIM)}
    columns |= {
        "doc_id": ids,
        "kind": [kind] * len(ids),
        "metadata": ["{}"] * len(ids),
        "num_chars": [1] * len(ids),
        "words": [" ".join(tokenize(text)) for text in texts],
        "vector": list(vectors),
        "similar_to": [places.get(doc_id, (None, None))[0] for doc_id in ids],
        "similar_order": [places.get(doc_id, (None, None))[1] for doc_id in ids],
    }
    return pa.table(columns, schema=table_schema(DIM))


def served_pointer(generation, versions):
    return Pointer(
        sequence=1,
        generation=generation,
        checkpoint="f",
        jobs=versions["job"],
        resumes=versions["resume"],
        snapshots={},
        fencing_epoch=1,
        run_id="run",
        promoted_at=datetime(2026, 3, 1, tzinfo=UTC),
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    store = LocalStore(tmp_path_factory.mktemp("var"))
    tables = {"job": rows("job", 23, seed=1), "resume": rows("resume", 17, seed=2)}
    versions = {}
    for kind, documents in tables.items():
        table = create_table(store, generation="g", kind=kind, embedding_dim=DIM)
        table.upsert([documents.slice(0, 9), documents.slice(9)])
        versions[kind] = table.version
    pointer = served_pointer("g", versions)
    return store, pointer, {kind: table.sort_by("doc_id").to_pylist() for kind, table in tables.items()}


def match(store, pointer, folder, settings, weight=None):
    told = []
    sides = read_sides(store, pointer, folder)
    told_by = {"checkpoint": "f", "run_id": "run", "advance": told.append}
    parts = list(plan_parts(sides, settings, weight=weight, fit=fit_of(sides), **told_by))
    built = [part.build() for part in parts]
    for part, table in zip(parts, built, strict=True):
        assert table.schema.equals(MATCH_SCHEMA)
        assert set(table["direction"].to_pylist()) <= {part.direction}
    assert sum(told) == 2 * len(sides["job"]) + len(sides["resume"])
    return pa.concat_tables(built).to_pylist()


def fit_of(sides):
    """Limits and a background of half of the documents."""
    return Fit(LIMITS, {kind: np.array(side.vectors[::2]) for kind, side in sides.items()}, {"job": 0, "resume": 0})


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(match_blocks, "BLOCK_ROWS", 8)


def is_older(row):
    return (row["similar_order"] or 1) > 1


def group_of(row):
    return row["similar_to"] or row["doc_id"]


@pytest.mark.parametrize(
    ("block_rows", "weight"), [(1, None), (5, None), (1000, None), (5, 0.35), (1000, 0.0), (5, 1.0)]
)
def test_every_query_is_ranked_as_if_alone(served, tmp_path, monkeypatch, block_rows, weight):
    monkeypatch.setattr(match_blocks, "BLOCK_ROWS", block_rows)
    store, pointer, documents = served
    settings = MatchSettings(top_k=6, candidates=8)
    found = match(store, pointer, tmp_path, settings, weight)
    expected = []
    documents = {kind: sorted(held, key=is_older) for kind, held in documents.items()}
    background = {kind: np.array([row["vector"] for row in held[::2]]) for kind, held in documents.items()}
    for direction in DIRECTIONS:
        query_kind, found_kind = ("job", "resume") if direction == "resumes_for_job" else ("resume", "job")
        corpus = documents[found_kind]
        index = LexicalIndex.of_texts([row["words"] for row in corpus])
        ranked = [row for row in corpus if not is_older(row)]
        vectors = np.array([row["vector"] for row in ranked])
        for query in documents[query_kind]:
            cosines, bm25 = vectors @ np.array(query["vector"]), index.scores(query["words"])[: len(ranked)]
            dense = top_k(cosines, settings.candidates).tolist()
            lexical = [at for at in top_k(bm25, settings.candidates).tolist() if bm25[at] > 0]
            if weight is None:
                fused = plain_reference.by_rank([dense, lexical])
            else:
                either = either_leg(cosines, bm25, limit=settings.candidates)
                scores = convex_combination(cosines[either], bm25[either], weight=weight)
                # the block rounds as single queries do, where integers tie
                fused = [(int(either[place]), scores[place]) for place in top_k(scores, len(either))]
            for rank, (at, score) in enumerate(fused[: settings.top_k], start=1):
                in_dense, in_lexical = at in dense, at in lexical
                expected.append(
                    {
                        "direction": direction,
                        f"{query_kind}_id": query["doc_id"],
                        f"{found_kind}_id": corpus[at]["doc_id"],
                        "rank": rank,
                        "score": pytest.approx(score),
                        "fusion": "rrf" if weight is None else f"weighted {weight:.2f}",
                        "dense_score": cosines[at] if in_dense else None,
                        "dense_rank": dense.index(at) + 1 if in_dense else None,
                        "lexical_score": pytest.approx(bm25[at], rel=1e-5) if in_lexical else None,
                        "lexical_rank": lexical.index(at) + 1 if in_lexical else None,
                        "matched_terms": index.matched_terms(query["words"], at),
                        "verdict": None,
                        "conditions": None,
                        "fit": pytest.approx(np.mean(background[query_kind] @ corpus[at]["vector"] < cosines[at])),
                        "fit_class": LIMITS.classes(cosines[at : at + 1])[0],
                        "num_similar": sum(group_of(row) == group_of(corpus[at]) for row in corpus) - 1,
                        "checkpoint": "f",
                        "run_id": "run",
                    }
                )
    assert found == expected


def test_words_are_numbered_in_their_order_whatever_the_tables_hold(served, tmp_path):
    store, pointer, documents = served
    sides = read_sides(store, pointer, tmp_path)
    for kind, side in sides.items():
        assert list(side.vocabulary) == sorted(side.vocabulary)
        said = [" ".join(side.word_list.take(pa.array(numbers, pa.int64())).to_pylist()) for numbers in side.words]
        assert said == [row["words"] for row in sorted(documents[kind], key=is_older)]


class Nights:
    """Two tables that change from night to night, matched incrementally in one store and as a whole in another."""

    def __init__(self, folder, seed, *, exact, similar=False):
        self.folder, self.exact, self.similar = folder, exact, similar
        self.rng = np.random.default_rng(seed)
        self.documents = {"job": {}, "resume": {}}
        self.night = 0
        for kind, count in (("job", 30), ("resume", 24)):
            self.change(kind, add=count)

    def change(self, kind, *, add=0, alter=0, remove=0):
        held = self.documents[kind]
        for doc_id in self.rng.permutation(sorted(held))[: alter + remove]:
            del held[str(doc_id)]
            if alter > 0:
                held[str(doc_id)] = self._draw()
                alter -= 1
        for _ in range(add):
            held[self.rng.bytes(16).hex()] = self._draw()

    def _draw(self):
        vector = self.rng.integers(-2, 3, DIM) if self.exact else self.rng.normal(size=DIM)
        group = self.rng.choice([None, None, 0, 1, 2]) if self.similar else None
        return " ".join(self.rng.choice(WORDS, self.rng.integers(0, 9))), vector.astype(np.float32), group

    def match(self, *, incremental):
        """Publish the matches of tonight's tables; all rows, and how many queries BM25 had to rank."""
        store = LocalStore(self.folder / ("incremental" if incremental else f"whole-{self.night}"))
        versions = {}
        for kind, held in self.documents.items():
            table = create_table(store, generation=f"g{self.night}", kind=kind, embedding_dim=DIM)
            table.upsert([table_of(kind, list(held), *zip(*held.values(), strict=True))])
            versions[kind] = table.version
        pointer = served_pointer(f"g{self.night}", versions)
        settings = MatchSettings(top_k=5, candidates=7)
        with store.scratch() as scratch:
            sides = read_sides(store, pointer, scratch)
            parts = plan_parts(
                sides,
                settings,
                fit=fit_of(sides),
                former=read_former_matches(store, recipe="r"),
                checkpoint="f",
                run_id="run",
                advance=lambda count: None,
            )
            write_matches(
                store,
                f"m{self.night}",
                parts,
                cut="8",
                manifest={"recipe": "r"},
                documents={kind: side.digests for kind, side in sides.items()},
                fence=lambda: None,
            )
        return pa.concat_tables(pq.read_table(path, partitioning=None) for path in latest_match_files(store))


def count_ranked(monkeypatch):
    """Numbers of queries that BM25 scores from now on."""
    counts, score = [], LexicalIndex.scores_of
    monkeypatch.setattr(
        LexicalIndex, "scores_of", lambda self, queries: counts.append(len(queries)) or score(self, queries)
    )
    return counts


@pytest.mark.parametrize("seed", range(6))
def test_incremental_matches_are_those_of_a_whole_run(tmp_path, monkeypatch, seed):
    nights = Nights(tmp_path, seed, exact=seed % 2 == 0, similar=True)
    nights.match(incremental=True)
    for nights.night in range(1, 5):
        for kind in nights.documents:
            if nights.rng.random() < 0.6:
                add, alter, remove = nights.rng.integers(0, 3, 3)
                nights.change(kind, add=add, alter=alter, remove=remove)
        incremental, whole = nights.match(incremental=True), nights.match(incremental=False)
        floats = ["score", "dense_score", "lexical_score", "fit"]
        assert incremental.drop_columns(floats).equals(whole.drop_columns(floats))
        for name in floats:
            found, expected = (table[name].to_numpy(zero_copy_only=False) for table in (incremental, whole))
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_new_resumes_are_ranked_for_and_every_job_is_ranked_anew(tmp_path, monkeypatch):
    nights = Nights(tmp_path, 0, exact=True)
    nights.match(incremental=True)
    nights.change("resume", add=1, alter=1, remove=1)
    nights.night = 1
    ranked = count_ranked(monkeypatch)
    nights.match(incremental=True)
    assert sum(ranked) == len(nights.documents["job"]) + 2
    nights.night, ranked[:] = 2, []
    nights.match(incremental=True)
    assert ranked == [], "the tables have other versions, but hold what was matched"


def test_a_newer_version_takes_the_place_of_the_former_one(tmp_path):
    """Only its place among similar documents changes: the former matches must not be copied."""
    nights = Nights(tmp_path, 0, exact=True)
    for kind, held in nights.documents.items():
        for number, (doc_id, (text, vector, _)) in enumerate(held.items()):
            held[doc_id] = (text, vector, 0 if kind == "resume" and number < 20 else None)
    nights.match(incremental=True)
    assert sorted(num_similar_of(nights.folder).values()) == [0, 0, 0, 0, 19]
    (newest,) = (doc_id for doc_id, others in num_similar_of(nights.folder).items() if others)
    nights.documents["resume"]["0" * 32] = nights.documents["resume"][newest]
    nights.night = 1
    nights.match(incremental=True)
    found = num_similar_of(nights.folder)
    assert (found["0" * 32], newest in found) == (20, False)


def num_similar_of(folder):
    """Number of similar documents of each resume that is ranked for a job."""
    files = latest_match_files(LocalStore(folder / "incremental"))
    rows = [row for path in files if "resumes_for_job" in str(path) for row in pq.ParquetFile(path).read().to_pylist()]
    return {row["resume_id"]: row["num_similar"] for row in rows}


def test_an_empty_side_has_no_matches(served, tmp_path):
    store, pointer, _ = served
    create_table(store, generation="empty", kind="job", embedding_dim=DIM)
    empty = create_table(store, generation="empty", kind="resume", embedding_dim=DIM)
    empty.upsert([rows("resume", 3, seed=2)])
    nothing = pointer.model_copy(update={"generation": "empty", "jobs": 1, "resumes": empty.version})
    assert match(store, nothing, tmp_path, MatchSettings()) == []
