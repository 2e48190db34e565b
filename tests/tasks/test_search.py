"""The word leg of search: LanceDB ranks as bm25s does, and a table without its index is scanned."""

import logging

import numpy as np
import pyarrow as pa
import pytest

from data.errors import InputError
from data.lance import create_table, table_schema
from data.store import LocalStore
from llm2vec_core.fusion import top_k
from llm2vec_core.lexical import LexicalIndex
from tasks.search import MAX_QUERY_CHARS, by_words, search
from tasks.settings import Settings

COUNT = 400


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, 301)
    drawn = [rng.choice(300, rng.integers(5, 60), p=weights / weights.sum()) for _ in range(COUNT)]
    return [" ".join(f"w{number}" for number in each) for each in drawn]


@pytest.fixture
def table(tmp_path, texts):
    columns = {name: ["x"] * COUNT for name in table_schema(2).names}
    columns |= {"doc_id": [f"{number:032x}" for number in range(COUNT)], "metadata": ["{}"] * COUNT}
    columns |= {"num_chars": [1] * COUNT, "words": texts, "vector": [[1.0, 0.0]] * COUNT}
    table = create_table(LocalStore(tmp_path), generation="g", kind="job", embedding_dim=2)
    table.upsert([pa.table(columns, schema=table_schema(2))])
    return table


def best(table, query):
    found = by_words(table, query.split(), limit=10, where=None)
    pairs = zip(found["doc_id"].to_pylist(), found["score"].to_pylist(), strict=True)
    return {int(doc_id, 16): score for doc_id, score in pairs}


def test_all_engines_find_the_same_documents(table, texts, caplog):
    index = LexicalIndex.of_texts(texts)
    queries = ["w0 w5 w40", "w7 w7 w299", *texts[:40]]
    with caplog.at_level(logging.WARNING, "tasks.search"):
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


def test_a_query_without_words_finds_nothing(table):
    assert best(table, "") == {}
    table.build_word_index()
    assert best(table, "") == {}
    assert best(table, "absent") == {}


@pytest.mark.parametrize("query", ["", " \n", "x" * (MAX_QUERY_CHARS + 1)])
def test_a_query_that_cannot_be_one_is_the_callers_mistake(tmp_path, query):
    with pytest.raises(InputError, match="query"):
        search(Settings(home=str(tmp_path)), query, kind="job")
