"""Speed of bm25s against rank-bm25 on a corpus, and overlap of their results.

Both index the same made-up texts (150 words of a Zipf vocabulary) and score the same queries of ten words, by the same
variant; ``ratio`` is queries per second of bm25s over rank-bm25's, ``overlap_at_10`` the mean share of common top-10s.

    python -m benchmarks.lexical_throughput [--quick]
"""

from __future__ import annotations

import argparse
import json
import platform
import time

import numpy as np

from llm2vec_core.ranking.fusion import top_k
from llm2vec_core.ranking.lexical import LexicalIndex, ReferenceIndex

DOCUMENTS = 20_000


def zipf_texts(rng: np.random.Generator, count: int, words: int) -> list[str]:
    """Texts of words whose frequency falls with their rank."""
    weights = 1 / np.arange(1, 30_001)
    drawn = rng.choice(30_000, (count, words), p=weights / weights.sum())
    return [" ".join(f"w{number}" for number in row) for row in drawn]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer queries")
    num_queries = 20 if parser.parse_args().quick else 200
    rng = np.random.default_rng(0)
    texts, queries = zipf_texts(rng, DOCUMENTS, 150), zipf_texts(rng, num_queries, 10)
    found: dict[str, list[set[int]]] = {}
    per_second: dict[str, float] = {}
    engines = {"bm25s": LexicalIndex.of_texts(texts, variant="okapi"), "rank_bm25": ReferenceIndex(texts)}
    for name, engine in engines.items():
        started = time.perf_counter()
        scores = [engine.scores(query) for query in queries]
        per_second[name] = len(queries) / (time.perf_counter() - started)
        found[name] = [set(top_k(row, 10).tolist()) for row in scores]
    overlaps = [len(one & other) / 10 for one, other in zip(found["bm25s"], found["rank_bm25"], strict=True)]
    result = {
        "ratio": per_second["bm25s"] / per_second["rank_bm25"],
        "overlap_at_10": float(np.mean(overlaps)),
        "queries_per_second": per_second,
        "documents": DOCUMENTS,
        "machine": f"{platform.machine()}, {platform.system()}",
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
