"""Latency of an interactive search over one table: by vectors, by words, and by their fusion.

The table holds 100,000 documents (20,000 with ``--quick``) of 150 made-up words with given vectors of 384 numbers;
encoding the query is not counted. The vectors are indexed as in a night: not at all while exact search is fast enough
(``[index]``). ``recall_at_10`` compares vector search with a plain product. Times are in ms.

    python -m benchmarks.search_latency [--quick]
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.bulk_match import build_table, unit_vectors
from benchmarks.lexical_throughput import zipf_texts
from data.config import VectorIndexConfig
from data.store.base import LocalStore
from data.vectors.vector_index import index_vectors
from llm2vec_core.ranking.fusion import fuse, top_k

CANDIDATES = 100
COLUMNS = ["doc_id", "source", "source_id", "title", "words"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20,000 documents")
    rows = 20_000 if parser.parse_args().quick else 100_000
    rng = np.random.default_rng(0)
    vectors, queries = unit_vectors(rows, seed=1), unit_vectors(50, seed=2)
    texts = zipf_texts(rng, len(queries), 6)
    with tempfile.TemporaryDirectory() as folder:
        table = build_table(LocalStore(Path(folder)), "resume", zipf_texts(rng, rows, 150), vectors)
        table.probe = index_vectors(table, VectorIndexConfig())

        def dense(at: int) -> list[tuple[int, float]]:
            found = table.nearest(queries[at], limit=CANDIDATES, columns=COLUMNS)
            return _ranking(found["doc_id"].to_pylist(), found["score"].to_pylist())

        def lexical(at: int) -> list[tuple[int, float]]:
            found = table.best_words(texts[at].split(), limit=CANDIDATES, columns=COLUMNS)
            return _ranking(found["doc_id"].to_pylist(), found["score"].to_pylist())

        def hybrid(at: int) -> object:
            legs = (np.array([[number for number, _ in leg]], np.int64) for leg in (dense(at), lexical(at)))
            return fuse(*legs, limit=10)

        result: dict[str, object] = {}
        for name, search in {"dense": dense, "lexical": lexical, "hybrid": hybrid}.items():
            result |= _percentiles(name, search, len(queries))
        exact = top_k(queries @ vectors.T, 10)
        hits = [len({number for number, _ in dense(at)[:10]} & set(exact[at].tolist())) for at in range(len(queries))]
    result |= {
        "recall_at_10": float(np.mean(hits)) / 10,
        "documents": rows,
        "nprobes": table.probe.nprobes if table.probe else None,
        "machine": f"{platform.machine()}, {platform.system()}",
    }
    print(json.dumps(result))


def _ranking(doc_ids: list[str], scores: list[float]) -> list[tuple[int, float]]:
    return [(int(doc_id, 16), score) for doc_id, score in zip(doc_ids, scores, strict=True)]


def _percentiles(name: str, search: Callable[[int], object], num_queries: int) -> dict[str, float]:
    """Median and 95th percentile of single searches, without the first one."""
    search(0)
    taken = []
    for at in range(num_queries):
        started = time.perf_counter()
        search(at)
        taken.append((time.perf_counter() - started) * 1e3)
    return {f"{name}_p50_ms": float(np.median(taken)), f"{name}_p95_ms": float(np.percentile(taken, 95))}


if __name__ == "__main__":
    main()
