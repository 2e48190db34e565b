"""The indexes of what is served are measured on real queries: what they miss is found."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from data.config import VectorIndexConfig
from data.vectors.index_watch import MIN_WATCHED_RECALL, read_watch, watch_indexes
from data.vectors.lance import create_table, keep_probe, open_table, table_schema
from data.vectors.vector_index import settle_table

DIM, ROWS = 16, 2000
NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)


def rows(count, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, DIM)).astype(np.float32)
    columns = {field.name: [None if field.nullable else "x"] * count for field in table_schema(DIM)}
    columns |= {
        "doc_id": [f"{seed:016x}{number:016x}" for number in range(count)],
        "num_chars": list(range(count)),
        "metadata": ["{}"] * count,
        "posted_at": ["2026-01-31"] * count,
        "vector": list(vectors / np.linalg.norm(vectors, axis=1, keepdims=True)),
    }
    return pa.table(columns, schema=table_schema(DIM))


@pytest.fixture
def tables(store, monkeypatch):
    monkeypatch.setattr("data.vectors.vector_index.SAMPLE_SIZE", 30)
    made = {}
    for seed, (kind, count) in enumerate({"job": ROWS, "resume": 40}.items()):
        table = create_table(store, generation="g", kind=kind, embedding_dim=DIM)
        table.upsert([rows(count, seed)])
        table.build_word_index()
        made[kind] = table
    return made


def test_exact_search_finds_everything_and_needs_no_measuring(store, tables, make_pointer):
    pointer = make_pointer(jobs=tables["job"].version, resumes=tables["resume"].version)
    assert read_watch(store, pointer, "job") is None
    found = watch_indexes(store, pointer, now=NOW)
    assert [(each.recall_at_10, each.words_indexed, each.faults) for each in found.values()] == [(None, True, [])] * 2
    assert read_watch(store, pointer, "job") == found["job"]
    assert found["job"].sentence() == "exact; words indexed"
    assert read_watch(store, pointer.model_copy(update={"jobs": 99}), "job") is None, "another version is served"


def test_an_index_that_misses_documents_and_words_that_are_not_indexed_are_faults(store, tables, make_pointer):
    version = settle_table(
        store, generation="g", kind="job", version=tables["job"].version, config=VectorIndexConfig(max_exact_ms=0)
    )
    pointer = make_pointer(jobs=version, resumes=tables["resume"].version)
    watch = watch_indexes(store, pointer, now=NOW)["job"]
    assert watch.recall_at_10 >= MIN_WATCHED_RECALL
    assert watch.queries == 40, "the resumes are the queries"
    assert watch.faults == []

    table = open_table(store, generation="g", kind="job")
    table.upsert([rows(500, 7)])  # neither index knows these rows
    weak = watch_probe(store, pointer, table.version)
    assert not weak.words_indexed
    assert weak.recall_at_10 < MIN_WATCHED_RECALL
    assert len(weak.faults) == 2
    assert "not all indexed" in weak.sentence()


def watch_probe(store, pointer, version):
    """What is found of a version whose search settings read too few partitions."""
    probe = open_table(store, generation="g", kind="job", version=pointer.jobs).probe
    keep_probe(store, generation="g", kind="job", version=version, probe=probe.model_copy(update={"nprobes": 1}))
    return watch_indexes(store, pointer.model_copy(update={"jobs": version}), now=NOW)["job"]
