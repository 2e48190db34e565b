"""Recall at 10 and speed-up of the tuned approximate index, against exact search.

    python -m benchmarks.index_recall [--quick]

Clustered vectors of 384 numbers; the queries are new vectors of the same clusters, not those that the index was tuned
on. Exact and approximate search alternate on the same table.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from data.config import VectorIndexConfig
from data.store.base import LocalStore
from data.vectors.lance import LanceTable, create_table, open_table, table_schema
from data.vectors.vector_index import settle_table

_DIM = 384
_NUM_CLUSTERS = 500
_NUM_QUERIES = 200
_PART = 10_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="50,000 vectors instead of 500,000")
    num_rows = 50_000 if parser.parse_args().quick else 500_000
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(_NUM_CLUSTERS, _DIM)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder) / "home")
        table = create_table(store, generation="g", kind="job", embedding_dim=_DIM)
        table.upsert(_rows(start, draw(rng, centres, _PART)) for start in range(0, num_rows, _PART))
        started = time.perf_counter()
        config = VectorIndexConfig(max_exact_ms=0)
        version = settle_table(store, generation="g", kind="job", version=table.version, config=config)
        build_seconds = time.perf_counter() - started
        indexed = open_table(store, generation="g", kind="job", version=version)
        probe = indexed.probe
        assert probe is not None, "an index was requested"
        exact = LanceTable(indexed._database, indexed._table)
        recalls, milliseconds = [], {"exact": [], "index": []}
        for query in draw(rng, centres, _NUM_QUERIES):
            best = _timed(exact, query, milliseconds["exact"])
            recalls.append(len(best & _timed(indexed, query, milliseconds["index"])) / 10)
    result = {
        "rows": num_rows,
        "recall_at_10": float(np.mean(recalls)),
        "tuned_recall_at_10": probe.recall_at_10,
        "nprobes": probe.nprobes,
        "refine_factor": probe.refine_factor,
        "exact_p50_ms": round(float(np.median(milliseconds["exact"])), 1),
        "index_p50_ms": round(float(np.median(milliseconds["index"])), 1),
        "build_and_tune_seconds": round(build_seconds, 1),
        "machine": f"{platform.machine()}, {platform.system()}",
    }
    print(json.dumps(result))


def draw(rng: np.random.Generator, centres: np.ndarray, count: int) -> Float32[np.ndarray, "count dim"]:
    """Vectors of length one around the centres."""
    vectors = centres[rng.integers(0, len(centres), count)] + rng.normal(scale=0.8, size=(count, _DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _rows(first: int, vectors: Float32[np.ndarray, "rows dim"]) -> pa.Table:
    schema = table_schema(_DIM)
    columns = {field.name: [None if field.nullable else "x"] * len(vectors) for field in schema}
    columns |= {
        "doc_id": [f"{first + number:032x}" for number in range(len(vectors))],
        "num_chars": [1] * len(vectors),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), _DIM),
    }
    return pa.table(columns, schema=schema)


def _timed(table: LanceTable, query: Float32[np.ndarray, " dim"], milliseconds: list[float]) -> set[str]:
    started = time.perf_counter()
    found = table.nearest(query, limit=10, columns=["doc_id"])
    milliseconds.append(1000 * (time.perf_counter() - started))
    return set(found["doc_id"].to_pylist())


if __name__ == "__main__":
    main()
