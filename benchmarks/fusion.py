"""nDCG@10 (MAP where candidates are given) of both legs and of their fusion, on every retrieval and reranking task.

Prints a Markdown table: BM25, vectors, and each way to fuse them. In brackets are the difference to the better leg and
its 95 % interval over resampled clusters of queries; a loss beyond chance is bold.

    python -m benchmarks.fusion [--encoder NAME] [--tasks-dir DIR] [--task NAME ...] [--all]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import numpy as np
from jaxtyping import Float64

from benchmarks.common.retrieval import JudgedQueries, KeptVectors, difference, judged_tasks
from llm2vec_core.ranking import fusion
from llm2vec_core.ranking.lexical import LexicalIndex

CANDIDATES = 100
"""Depth of each leg, the default of ``match.candidates``."""

BY_RANK: Mapping[str, tuple[int, int]] = {
    "default": (fusion.RRF_K, fusion.DENSE_VOTES),
    "RRF 60": (60, 1),
    "RRF 60, 3:1": (60, 3),
    "RRF 5, 3:1": (5, 3),
}
"""Constant and votes of the dense leg; the first is the default."""

BY_SCORE: Mapping[str, float] = {"TM2C2 0.8": 0.8, "TM2C2 0.9": 0.9}
"""Weight of the vectors."""


def measure(task: JudgedQueries, vectors: KeptVectors, *, every: bool) -> dict[str, Float64[np.ndarray, " queries"]]:
    """Score of each query by each leg and fusion, 0 to 100."""
    cosines = vectors.of(task.queries) @ vectors.of(task.documents).T
    index = LexicalIndex.of_texts(task.documents)
    bm25 = np.stack([index.scores(text) for text in task.queries])
    ways = [*BY_RANK, *BY_SCORE] if every else list(BY_RANK)[:1]
    found: dict[str, list[float]] = {name: [] for name in ("BM25", "vectors", *ways)}
    for query in range(len(task.queries)):
        among = np.arange(len(task.documents)) if task.among is None else task.among[query]
        near, words = cosines[query, among], bm25[query, among]
        depth = CANDIDATES if task.among is None else len(among)
        dense, lexical = fusion.top_k(near, depth), fusion.lexical_leg(words, depth)
        found["BM25"].append(task.score(query, among[fusion.top_k(words, depth)]))
        found["vectors"].append(task.score(query, among[dense]))
        for name in ways:
            ranked = _fused(name, dense, lexical, near, words)
            found[name].append(task.score(query, among[ranked]))
    return {name: 100 * np.array(scores) for name, scores in found.items()}


def _fused(name: str, dense: np.ndarray, lexical: np.ndarray, near: np.ndarray, words: np.ndarray) -> np.ndarray:
    weighted = None
    with ExitStack() as stack:
        if name in BY_RANK:
            for constant, value in zip(("RRF_K", "DENSE_VOTES"), BY_RANK[name], strict=True):
                stack.enter_context(patch.object(fusion, constant, value))
        else:
            both = np.concatenate([dense, lexical])
            weighted = fusion.Weighted(BY_SCORE[name], near[None, both], words[None, both])
        (ranked,) = fusion.fuse(dense[None], lexical[None], limit=2 * len(dense), weighted=weighted).documents
    return ranked[ranked >= 0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="bundled:all-minilm-l6-v2-jobs")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--tasks-dir", type=Path, help="further task folders")
    parser.add_argument("--task", action="append", default=[], help="measure only this task")
    parser.add_argument("--all", action="store_true", help="also other ways than the default")
    asked = parser.parse_args()
    vectors = KeptVectors.of_encoder(asked.encoder, max_tokens=asked.max_tokens)
    losses = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, task in enumerate(judged_tasks(Path(folder), asked.tasks_dir, asked.task)):
            scores = measure(task, vectors, every=asked.all)
            if not number:
                print(f"| task | queries | {' | '.join(scores)} |\n| --- |{' ---: |' * (len(scores) + 1)}")
            better = max(("BM25", "vectors"), key=lambda name: scores[name].mean())
            cells = [f"{scores[name].mean():.1f}" for name in ("BM25", "vectors")]
            for name in list(scores)[2:]:
                mean, low, high = difference(scores[name], scores[better], task.clusters)
                mark = "**" if high < 0 else ""
                losses += high < 0 and name == "default"
                cells.append(f"{scores[name].mean():.1f} ({mark}{mean:+.1f}{mark} [{low:+.1f}, {high:+.1f}])")
            print(f"| {task.name} | {len(task.queries):,} | {' | '.join(cells)} |", flush=True)
    print(json.dumps({"encoder": asked.encoder, "tasks_lost": losses}))


if __name__ == "__main__":
    main()
