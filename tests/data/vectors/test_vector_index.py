import numpy as np
import pyarrow as pa
import pytest

from data.config import VectorIndexConfig
from data.errors import StoreError
from data.vectors.lance import LanceTable, create_table, open_table, table_schema
from data.vectors.vector_index import settle_table

DIM, ROWS = 16, 3000
ALWAYS = VectorIndexConfig(max_exact_ms=0)


def rows(numbers, seed=0):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(30, DIM))
    vectors = (centres[rng.integers(0, 30, len(numbers))] + 0.4 * rng.normal(size=(len(numbers), DIM))).astype(
        np.float32
    )
    columns = {field.name: [None if field.nullable else "x"] * len(numbers) for field in table_schema(DIM)}
    columns |= {
        "doc_id": [f"{number:032x}" for number in numbers],
        "num_chars": numbers,
        "metadata": ["{}"] * len(numbers),
        "posted_at": ["2026-01-31"] * len(numbers),
        "vector": list(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)),
    }
    return pa.table(columns, schema=table_schema(DIM))


@pytest.fixture(autouse=True)
def small_sample(monkeypatch):
    monkeypatch.setattr("data.vectors.vector_index.SAMPLE_SIZE", 40)


@pytest.fixture
def table(store):
    table = create_table(store, generation="g", kind="job", embedding_dim=DIM)
    table.upsert([rows(list(range(ROWS)))])
    return table


def settle(store, table, config=ALWAYS):
    version = settle_table(store, generation="g", kind="job", version=table.version, config=config)
    return open_table(store, generation="g", kind="job", version=version)


def recall(table, *, limit=10, where=None):
    """Share of the exact nearest that a search finds, and whether every one found is scored exactly."""
    vectors = np.stack(table.read(["vector"])["vector"].to_pylist())
    ids = table.read(["doc_id"])["doc_id"].to_pylist()
    found = []
    for query in rows(list(range(30)), seed=5)["vector"].to_pylist():
        best = {ids[each] for each in np.argsort(-vectors @ np.array(query, np.float32))[:limit]}
        hits = table.nearest(np.array(query, np.float32), limit=limit, columns=["doc_id"], where=where)
        found.append(len(best & set(hits["doc_id"].to_pylist())) / limit)
    return float(np.mean(found))


def test_there_is_no_index_while_exact_search_is_fast(store, table):
    before = table.version
    settled = settle(store, table, VectorIndexConfig(max_exact_ms=60_000))
    assert (settled.probe, settled.version, settled.has_vector_index) == (None, before, False)


def test_an_index_is_tuned_to_find_what_exact_search_finds(store, table):
    settled = settle(store, table)
    assert settled.has_vector_index
    assert settled.probe.recall_at_10 >= 0.99
    assert recall(settled) >= 0.97
    assert settled.probe.nprobes < 54, "not all partitions: an index that finds everything by searching everything"
    settled.probe = settled.probe.model_copy(update={"nprobes": 1})
    assert recall(settled) < 0.97, "fewer partitions find less, so the tuning mattered"


def test_a_version_without_tuning_is_searched_exactly(store, table):
    table.create_vector_index(num_partitions=50)
    opened = open_table(store, generation="g", kind="job")
    assert opened.has_vector_index
    assert opened.probe is None
    assert recall(opened) == 1.0


def test_a_filtered_search_is_exact(store, table):
    settled = settle(store, table)
    settled.probe = settled.probe.model_copy(update={"nprobes": 1})
    assert recall(settled, where="num_chars >= 0") == 1.0


def test_rows_that_came_later_are_found(store, table):
    settle(store, table)
    newest = open_table(store, generation="g", kind="job")
    newest.upsert([rows(list(range(ROWS, ROWS + 300)), seed=1)])
    assert recall(settle(store, newest)) >= 0.97


def test_an_index_that_fails_leaves_exact_search(store, table, monkeypatch, caplog):
    def fail(*_, **__):
        raise StoreError("Could not: No space left on device.")

    monkeypatch.setattr(LanceTable, "create_vector_index", fail)
    settled = settle(store, table)
    assert "No space left" in caplog.text
    assert settled.probe is None
    assert settled.count() == ROWS
