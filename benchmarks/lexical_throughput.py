"""Speed of bm25s against rank-bm25 on a corpus, and overlap of their results.

Both index the same made-up texts (150 words of a Zipf vocabulary) and score the same queries of ten words, by the same
variant. ``ratio`` is queries per processor second of bm25s over rank-bm25's, in blocks of 64 queries as matching asks
them; ``single_ratio`` is the same for queries one by one. ``overlap_at_10`` is the mean share of common top-10s.

    python -m benchmarks.lexical_throughput [--quick]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable

import numpy as np

from llm2vec_core.ranking.fusion import top_k
from llm2vec_core.ranking.lexical import LexicalIndex, ReferenceIndex

DOCUMENTS = 20_000
BLOCK = 64
ROUNDS = 5


def zipf_texts(rng: np.random.Generator, count: int, words: int) -> list[str]:
    """Texts of words whose frequency falls with their rank."""
    weights = 1 / np.arange(1, 30_001)
    drawn = rng.choice(30_000, (count, words), p=weights / weights.sum())
    return [" ".join(f"w{number}" for number in row) for row in drawn]


def seconds_of(call: Callable[[], object], *, rounds: int) -> float:
    """Processor seconds of a call, the least of some rounds."""
    call()
    found = []
    for _ in range(rounds):
        started = time.process_time()
        call()
        found.append(time.process_time() - started)
    return min(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one block of queries")
    num_queries = BLOCK if parser.parse_args().quick else 4 * BLOCK
    rng = np.random.default_rng(0)
    texts, queries = zipf_texts(rng, DOCUMENTS, 150), zipf_texts(rng, num_queries, 10)
    index, reference = LexicalIndex.of_texts(texts, variant="okapi"), ReferenceIndex(texts)
    numbers = [index.numbers(query) for query in queries]
    blocks = [numbers[start : start + BLOCK] for start in range(0, num_queries, BLOCK)]
    seconds = {
        "bulk": seconds_of(lambda: [index.scores_of(block) for block in blocks], rounds=ROUNDS),
        "single": seconds_of(lambda: [index.scores(query) for query in queries], rounds=ROUNDS),
        "rank_bm25": seconds_of(lambda: [reference.scores(query) for query in queries], rounds=1),
    }
    overlaps = [
        len(set(top_k(index.scores(query), 10).tolist()) & set(top_k(reference.scores(query), 10).tolist())) / 10
        for query in queries
    ]
    result = {
        "ratio": seconds["rank_bm25"] / seconds["bulk"],
        "single_ratio": seconds["rank_bm25"] / seconds["single"],
        "overlap_at_10": float(np.mean(overlaps)),
        "ms_per_query": {name: round(1000 * each / num_queries, 3) for name, each in seconds.items()},
        "documents": DOCUMENTS,
        "machine": f"{platform.machine()}, {platform.system()}",
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
