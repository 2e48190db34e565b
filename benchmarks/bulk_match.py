"""Time to match two whole tables, compared with one LanceDB query per row.

``ratio``: time for the exact top-10 of every row, by one LanceDB query per row over blocked products; both return the
same scores. ``gemm_share``: FLOP/s of the products with both running top-k's, over this machine's measured
peak. ``seconds_nhs``: a night's complete matching (both directions, BM25, fusion, Parquet) of real postings and resumes
with given vectors; needs the development data. ``incremental_share``: the part of these seconds that the next
night takes when 1 % of the resumes are new.

    python -m benchmarks.bulk_match [--quick]
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.outputs.matches import read_former_matches, write_matches
from data.schema import DocumentKind
from data.store.base import LocalStore
from data.vectors.lance import LanceTable, create_table, table_schema
from data.vectors.pointer import Pointer
from llm2vec_core.planning.peak import measure_peak_flops
from llm2vec_core.ranking.dense import nearest_both_ways
from llm2vec_core.ranking.words import tokenize
from tasks.run.settings import MatchSettings
from tasks.stages.match_blocks import plan_parts, read_sides

DIM = 384
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data" / "corpora"


def unit_vectors(rows: int, *, seed: int) -> np.ndarray:
    """Vectors of length one around a few hundred centres, like those of documents."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(300, DIM))
    vectors = centres[rng.integers(len(centres), size=rows)] + rng.normal(size=(rows, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def document_rows(kind: DocumentKind, words: list[str], vectors: np.ndarray) -> Iterator[pa.Table]:
    """Rows of a table for given words and vectors, in parts."""
    schema = table_schema(vectors.shape[1])
    for start in range(0, len(words), 5000):
        part = range(start, min(start + 5000, len(words)))
        columns: dict[str, object] = {
            name: [None if schema.field(name).nullable else ""] * len(part) for name in schema.names
        }
        columns |= {
            "doc_id": [f"{number:032x}" for number in part],
            "kind": [kind] * len(part),
            "metadata": ["{}"] * len(part),
            "num_chars": [0] * len(part),
            "words": words[part.start : part.stop],
            "vector": list(vectors[part.start : part.stop]),
        }
        yield pa.table(columns, schema=schema)


def build_table(store: LocalStore, kind: DocumentKind, words: list[str], vectors: np.ndarray) -> LanceTable:
    """A table with its indexes."""
    table = create_table(store, generation="g", kind=kind, embedding_dim=vectors.shape[1])
    table.upsert(document_rows(kind, words, vectors))
    table.build_word_index()
    return table


def seconds_of(call: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def measure_products(rows: int) -> dict[str, float]:
    """FLOP/s with both top-100s, over the peak measured before and after."""
    left, right = unit_vectors(rows, seed=1), unit_vectors(rows, seed=2)
    before = measure_peak_flops()
    seconds = seconds_of(lambda: nearest_both_ways(left, right, k=100))
    peak = max(before, measure_peak_flops())
    return {"gemm_share": 2 * rows**2 * DIM / seconds / peak, "peak_gflops": peak / 1e9}


def measure_ratio(folder: Path, rows: int, asked: int) -> dict[str, float]:
    """Seconds per query of both ways to the same top-10."""
    vectors, queries = unit_vectors(rows, seed=3), unit_vectors(rows, seed=4)
    table = build_table(LocalStore(folder), "resume", ["x"] * rows, vectors)
    table.nearest(queries[0], limit=10, columns=["doc_id"])  # loads the index into memory for both
    answers: list[np.ndarray] = []
    one_by_one = seconds_of(
        lambda: answers.extend(
            table.nearest(query, limit=10, columns=["doc_id"])["score"].to_numpy() for query in queries[:asked]
        )
    )
    blocked = seconds_of(lambda: nearest_both_ways(queries, vectors, k=10))
    found, _ = nearest_both_ways(queries[:asked], vectors, k=10)
    np.testing.assert_allclose(found.best(slice(None))[1], np.stack(answers), atol=1e-5)
    return {"ratio": (one_by_one / asked) / (blocked / rows), "query_ms": one_by_one / asked * 1e3}


def measure_nhs(folder: Path) -> dict[str, float]:
    """Seconds from served tables to published matches, and the share of that after 1 % of the resumes were replaced."""
    store = LocalStore(folder)
    tables: dict[DocumentKind, LanceTable] = {}
    files: dict[DocumentKind, tuple[str, str]] = {
        "job": ("jobs_nhs.jsonl", "description"),
        "resume": ("resumes_livecareer.jsonl", "text"),
    }
    words: dict[DocumentKind, list[str]] = {}
    for kind, (name, field) in files.items():
        documents = [json.loads(line) for line in (SHARED_DATA / name).read_text(encoding="utf-8").splitlines()]
        words[kind] = [" ".join(tokenize(f"{document['title']}\n{document[field]}")) for document in documents]
        tables[kind] = build_table(store, kind, words[kind], unit_vectors(len(documents), seed=len(documents)))
    whole = seconds_of(lambda: publish_matches(store, tables, "whole"))
    num_new = max(1, len(words["resume"]) // 100)
    new_words = [f"{said} again" for said in words["resume"][:num_new]]
    tables["resume"].upsert(document_rows("resume", new_words, unit_vectors(num_new, seed=5)), rewrite=True)
    incremental = seconds_of(lambda: publish_matches(store, tables, "incremental"))
    return {"seconds_nhs": whole, "incremental_share": incremental / whole}


def publish_matches(store: LocalStore, tables: dict[DocumentKind, LanceTable], match: str) -> None:
    """Match two tables as a night does, with earlier matches to copy from."""
    pointer = Pointer(
        sequence=1,
        generation="g",
        checkpoint="given",
        jobs=tables["job"].version,
        resumes=tables["resume"].version,
        snapshots={},
        fencing_epoch=1,
        run_id="benchmark",
        promoted_at=datetime.now(UTC),
    )
    with store.scratch() as scratch:
        sides = read_sides(store, pointer, scratch)
        parts = plan_parts(
            sides,
            MatchSettings(),
            former=read_former_matches(store, recipe="benchmark"),
            checkpoint="given",
            run_id="benchmark",
            advance=lambda count: None,
        )
        write_matches(
            store,
            match,
            parts,
            cut="",
            manifest={"recipe": "benchmark"},
            documents={kind: side.digests for kind, side in sides.items()},
            fence=lambda: None,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller tables")
    quick = parser.parse_args().quick
    started = time.perf_counter()
    rows = 20_000 if quick else 50_000
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        result |= measure_ratio(Path(folder) / "ratio", rows, 100)
        result |= measure_products(rows)
        result |= measure_nhs(Path(folder) / "nhs") if SHARED_DATA.is_dir() else {"seconds_nhs": None}
    result |= {
        "rows": rows,
        "machine": f"{platform.machine()}, {platform.system()}",
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
