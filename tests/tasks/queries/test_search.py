"""Lexical search: LanceDB ranks like bm25s, and a table without an index is scanned."""

import logging

import numpy as np
import pyarrow as pa
import pytest

from data.errors import InputError
from data.store.base import LocalStore
from data.vectors.lance import LanceTable, create_table, table_schema
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
    columns = {name: ["x"] * COUNT for name in schema.names}
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
