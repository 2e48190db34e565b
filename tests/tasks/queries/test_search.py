"""Lexical search: LanceDB ranks like LexicalIndex, and a table without an index is scanned."""

import logging
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest

from data.errors import InputError
from data.store.base import LocalStore
from data.vectors.filters import open_on
from data.vectors.lance import LanceTable, create_table, open_table, table_schema
from data.vectors.pointer import POINTER_KEY, Pointer
from llm2vec_core.ranking.fusion import convex_combination, either_leg, top_k
from llm2vec_core.ranking.lexical import LexicalIndex
from tasks.queries.search import MAX_QUERY_CHARS, Hit, by_words, fuse_legs, ranking, rerank_hits, search
from tasks.run.settings import Settings

COUNT = 400


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, 301)
    drawn = [rng.choice(300, rng.integers(5, 60), p=weights / weights.sum()) for _ in range(COUNT)]
    return [" ".join(f"w{number}" for number in each) for each in drawn]


@pytest.fixture
def table(tmp_path, texts):
    return table_of(tmp_path, texts, np.tile(np.float32([1, 0]), (COUNT, 1)))


def table_of(folder, texts, vectors):
    schema = table_schema(vectors.shape[1])
    columns = {field.name: [None if field.nullable else "x"] * COUNT for field in schema}
    columns |= {"doc_id": [f"{number:032x}" for number in range(COUNT)], "metadata": ["{}"] * COUNT}
    columns |= {"num_chars": [1] * COUNT, "words": texts, "vector": list(vectors)}
    table = create_table(LocalStore(folder), generation="g", kind="job", embedding_dim=vectors.shape[1])
    table.upsert([pa.table(columns, schema=schema)])
    return table


def best(table, query):
    found = by_words(table, query.split(), limit=10, where=None)
    pairs = zip(found["doc_id"].to_pylist(), found["score"].to_pylist(), strict=True)
    return {int(doc_id, 16): score for doc_id, score in pairs}


def test_all_engines_find_the_same_documents(table, texts, caplog):
    index = LexicalIndex.of_texts(texts)
    queries = ["w0 w5 w40", "w7 w7 w299", *texts[:40]]
    with caplog.at_level(logging.WARNING, "tasks.queries.search"):
        scanned = [best(table, query) for query in queries]
    assert "no word index" in caplog.text
    table.build_word_index()
    indexed = [best(table, query) for query in queries]
    overlaps = []
    for query, by_scan, by_index in zip(queries, scanned, indexed, strict=True):
        scores = index.scores(query)
        expected = set(top_k(scores, 10).tolist())
        overlaps += [len(expected & set(by_index)) / 10, len(expected & set(by_scan)) / 10]
        for number, score in by_index.items():
            assert score == pytest.approx(scores[number], rel=1e-4)
    assert np.mean(overlaps) >= 0.95


def test_a_query_without_words_finds_nothing_and_reads_next_to_nothing(table, monkeypatch, caplog):
    limits, batches = [], LanceTable.batches

    def noted(self, *args, limit=None, **options):
        limits.append(limit)
        return batches(self, *args, limit=limit, **options)

    monkeypatch.setattr(LanceTable, "batches", noted)
    for _ in range(2):
        assert best(table, "") == {}
        table.build_word_index()
    assert limits == [1, 1]
    assert not caplog.records
    assert best(table, "absent") == {}
    with pytest.raises(InputError, match="nowhere"):
        by_words(table, [], limit=10, where="nowhere = 1")


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_a_weight_counts_both_scores_of_every_candidate(tmp_path, texts, weight):
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((COUNT, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    table = table_of(tmp_path, texts, vectors)
    table.build_word_index()
    index = LexicalIndex.of_texts(texts)
    for query, vector in zip(texts[:10], vectors[::-1], strict=False):
        words = query.split()
        dense = ranking(table.nearest(vector, limit=20, columns=["doc_id"]), {})
        lexical = ranking(by_words(table, words, limit=20, where=None), {})
        hits = fuse_legs(table, words, vector, dense=dense, lexical=lexical, weight=weight, limit=15)
        cosines, bm25 = vectors @ vector, index.scores(query)
        candidates = either_leg(cosines, bm25, limit=20)
        expected = convex_combination(cosines[candidates], bm25[candidates], weight=weight)
        best = {int(candidates[at]): expected[at] for at in top_k(expected, 15)}
        assert {int(doc_id, 16): hit.score for doc_id, hit in hits.items()} == pytest.approx(best, rel=1e-4)


def test_a_cross_encoder_orders_the_hits_by_what_they_say(table):
    hits = {f"{number:032x}": Hit(1.0, dense_rank=number + 1) for number in range(5)}

    class ByLength:
        def scores(self, query, texts):
            assert (query, texts) == ("w1", ["x\nx"] * 5)
            return np.float32([1, 3, 2, 3, 0])

    found = rerank_hits(ByLength(), table, "w1", hits, limit=4)
    assert [int(doc_id, 16) for doc_id in found] == [1, 3, 2, 0], "ties by id"
    assert [(hit.score, hit.dense_rank) for hit in found.values()] == [(3, 2), (3, 4), (2, 3), (1, 1)]
    assert rerank_hits(ByLength(), table, "w1", {}, limit=4) == {}


@pytest.mark.parametrize("query", ["", " \n", "x" * (MAX_QUERY_CHARS + 1)])
def test_a_query_that_cannot_be_one_is_the_callers_mistake(tmp_path, query):
    with pytest.raises(InputError, match="query"):
        search(Settings(home=str(tmp_path)), query, kind="job")


@pytest.fixture
def board(tmp_path, monkeypatch):
    """Served jobs, one of which has its last day today and one of which had it yesterday."""
    monkeypatch.setattr("tasks.queries.search.utc_now", lambda: datetime(2026, 3, 1, 23, tzinfo=UTC))
    settings = Settings(home=str(tmp_path / "home"))
    store = settings.store()
    schema = table_schema(2)
    last_days = {"open": None, "today": "2026-03-01", "past": "2026-02-28"}
    columns = {field.name: [None if field.nullable else "x"] * 3 for field in schema}
    columns |= {"doc_id": [f"{number:032x}" for number in range(3)], "source_id": list(last_days)}
    columns |= {"metadata": ["{}"] * 3, "num_chars": [1] * 3, "words": ["ward"] * 3, "vector": [[1.0, 0.0]] * 3}
    versions = {}
    for kind in ("job", "resume"):
        table = create_table(store, generation="g", kind=kind, embedding_dim=2)
        table.upsert([pa.table(columns | {"valid_through": list(last_days.values())}, schema=schema)])
        table.build_word_index()
        versions[f"{kind}s"] = table.version
    pointer = Pointer(
        sequence=1, generation="g", checkpoint="f", **versions, snapshots={}, fencing_epoch=1, run_id="run",
        promoted_at=datetime(2026, 2, 1, tzinfo=UTC),
    )  # fmt: skip
    store.compare_and_swap(POINTER_KEY, expected=None, content=pointer.model_dump_json().encode())
    return settings


def test_jobs_past_their_last_day_are_found_only_on_request(board, caplog):
    def found(kind="job", **options):
        return [hit["source_id"] for hit in search(board, "ward", kind=kind, mode="lexical", **options)]

    assert found() == ["open", "today"]
    assert found(past_jobs=True) == ["open", "today", "past"]
    assert found(kind="resume") == ["open", "today", "past"], "resumes have no last day"
    assert found(where="source_id = 'past' -- a comment") == []
    assert "--past" in caplog.text
    assert found(where="source_id = 'past' OR source_id = 'open'") == ["open"]
    for where in ("source_id = 'open') OR (source_id = 'past'", "nowhere = 1"):
        with pytest.raises(InputError):
            found(where=where)
    hits = search(board, "ward", kind="job", mode="lexical", past_jobs=True)
    assert [(hit["valid_through"], hit["past"]) for hit in hits] == [
        (None, False), ("2026-03-01", False), ("2026-02-28", True),
    ]  # fmt: skip
    table = open_table(board.store(), generation="g", kind="job")
    nearest = table.nearest(np.float32([1, 0]), limit=5, columns=["source_id"], among=open_on(date(2026, 3, 2)))
    assert nearest["source_id"].to_pylist() == ["open"]
