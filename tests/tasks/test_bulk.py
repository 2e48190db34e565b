"""Bulk matching over real tables gives what ranking each query alone gives."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from data.generations import Pointer
from data.lance import create_table, table_schema
from data.matches import DIRECTIONS, MATCH_SCHEMA
from data.store import LocalStore
from llm2vec_core.fusion import reciprocal_rank_fusion, top_k
from llm2vec_core.lexical import LexicalIndex, tokenize
from tasks.bulk import plan_parts, read_sides
from tasks.settings import MatchSettings

DIM = 4
WORDS = ["nurse", "c++", "python", "ward", "cloud", "it", "driver", "the"]


def rows(kind, count, *, seed):
    """Documents in no order of their ids, with integers as vectors, so that products are exact and tie often."""
    rng = np.random.default_rng(seed)
    ids = [f"{number:032x}" for number in rng.permutation(count) * 7 + seed]
    texts = [" ".join(rng.choice(WORDS, rng.integers(0, 9))) for _ in ids]
    columns = {name: ["x"] * count for name in table_schema(DIM).names}
    columns |= {
        "doc_id": ids,
        "kind": [kind] * count,
        "metadata": ["{}"] * count,
        "num_chars": [1] * count,
        "words": [" ".join(tokenize(text)) for text in texts],
        "vector": list(rng.integers(-2, 3, size=(count, DIM)).astype(np.float32)),
    }
    return pa.table(columns, schema=table_schema(DIM))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    store = LocalStore(tmp_path_factory.mktemp("var"))
    tables = {"job": rows("job", 23, seed=1), "resume": rows("resume", 17, seed=2)}
    versions = {}
    for kind, documents in tables.items():
        table = create_table(store, generation="g", kind=kind, embedding_dim=DIM)
        table.upsert([documents.slice(0, 9), documents.slice(9)])
        versions[kind] = table.version
    pointer = Pointer(
        sequence=1,
        generation="g",
        checkpoint="f",
        jobs=versions["job"],
        resumes=versions["resume"],
        snapshots={},
        fencing_epoch=1,
        run_id="run",
        promoted_at=datetime(2026, 3, 1, tzinfo=UTC),
    )
    return store, pointer, {kind: table.sort_by("doc_id").to_pylist() for kind, table in tables.items()}


def match(store, pointer, folder, settings):
    told = []
    sides = read_sides(store, pointer, folder)
    parts = list(plan_parts(sides, settings, checkpoint="f", run_id="run", advance=told.append))
    built = [part.build() for part in parts]
    for part, table in zip(parts, built, strict=True):
        assert table.schema.equals(MATCH_SCHEMA)
        assert set(table["direction"].to_pylist()) <= {part.direction}
    assert sum(told) == 2 * len(sides["job"]) + len(sides["resume"])
    return pa.concat_tables(built).to_pylist()


@pytest.mark.parametrize("block_rows", [1, 5, 1000])
def test_every_query_is_ranked_as_if_alone(served, tmp_path, block_rows):
    store, pointer, documents = served
    settings = MatchSettings(top_k=6, candidates=8, block_rows=block_rows)
    found = match(store, pointer, tmp_path, settings)
    expected = []
    for direction in DIRECTIONS:
        query_kind, found_kind = ("job", "resume") if direction == "resumes_for_job" else ("resume", "job")
        corpus = documents[found_kind]
        index = LexicalIndex.of_texts([row["words"] for row in corpus])
        vectors = np.array([row["vector"] for row in corpus])
        for query in documents[query_kind]:
            cosines, bm25 = vectors @ np.array(query["vector"]), index.scores(query["words"])
            dense = top_k(cosines, settings.candidates).tolist()
            lexical = [at for at in top_k(bm25, settings.candidates).tolist() if bm25[at] > 0]
            for rank, (at, score) in enumerate(reciprocal_rank_fusion([dense, lexical])[: settings.top_k], start=1):
                in_dense, in_lexical = at in dense, at in lexical
                expected.append(
                    {
                        "direction": direction,
                        f"{query_kind}_id": query["doc_id"],
                        f"{found_kind}_id": corpus[at]["doc_id"],
                        "rank": rank,
                        "score": pytest.approx(score),
                        "dense_score": cosines[at] if in_dense else None,
                        "dense_rank": dense.index(at) + 1 if in_dense else None,
                        "lexical_score": pytest.approx(bm25[at], rel=1e-5) if in_lexical else None,
                        "lexical_rank": lexical.index(at) + 1 if in_lexical else None,
                        "matched_terms": index.matched_terms(query["words"], at),
                        "checkpoint": "f",
                        "run_id": "run",
                    }
                )
    assert found == expected


def test_an_empty_side_has_no_matches(served, tmp_path):
    store, pointer, _ = served
    create_table(store, generation="empty", kind="job", embedding_dim=DIM)
    empty = create_table(store, generation="empty", kind="resume", embedding_dim=DIM)
    empty.upsert([rows("resume", 3, seed=2)])
    nothing = pointer.model_copy(update={"generation": "empty", "jobs": 1, "resumes": empty.version})
    assert match(store, nothing, tmp_path, MatchSettings()) == []
