"""Whether titles should count more: nDCG@10 with titles repeated for BM25, and mixed into the vectors of documents.

A vector becomes ``(1 - share) * vector of the document + share * vector of its title``, of length one. Prints a
Markdown table of the differences to today's ranking, with their 95 % intervals over resampled clusters of queries.

    python -m benchmarks.title_weight [--tasks-dir DIR] [--task NAME ...]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float

from benchmarks.common.retrieval import CUTOFF, JudgedQueries, KeptVectors, difference, judged_tasks
from benchmarks.fusion import CANDIDATES
from llm2vec_core.ranking.fusion import fuse, lexical_leg, top_k
from llm2vec_core.ranking.lexical import LexicalIndex

REPEATS = (1, 2)
"""How often a title is put before a document once more, for BM25."""

SHARES = (0.1, 0.2, 0.3, 0.5)


def scores_by_words(task: JudgedQueries, repeats: int) -> Float[np.ndarray, "queries documents"]:
    """BM25 of every document for each query."""
    index = LexicalIndex.of_texts(
        f"{title}\n" * repeats + text if title else text
        for title, text in zip(task.titles, task.documents, strict=True)
    )
    return np.stack([index.scores(query) for query in task.queries])


def cosines(task: JudgedQueries, vectors: KeptVectors, share: float) -> Float[np.ndarray, "queries documents"]:
    """Cosine of every document with each query; documents without a title keep their vectors."""
    whole = vectors.of(task.documents)
    titles = vectors.of([title or text for title, text in zip(task.titles, task.documents, strict=True)])
    mixed = (1 - share) * whole + share * titles if share else whole
    return vectors.of(task.queries) @ (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).T


def _scores(task: JudgedQueries, values: Float[np.ndarray, "queries documents"]) -> np.ndarray:
    return 100 * np.array([task.score(query, top_k(row, CUTOFF)) for query, row in enumerate(values)])


def _fused(task: JudgedQueries, near: np.ndarray, words: np.ndarray) -> np.ndarray:
    legs = top_k(near, CANDIDATES), lexical_leg(words, CANDIDATES)
    ranked = fuse(*legs, limit=CUTOFF).documents
    return 100 * np.array([task.score(query, row) for query, row in enumerate(ranked)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="bundled:all-minilm-l6-v2-jobs")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--tasks-dir", type=Path, help="further task folders")
    parser.add_argument("--task", action="append", default=[], help="measure only this task")
    asked = parser.parse_args()
    vectors = KeptVectors.of_encoder(asked.encoder, max_tokens=asked.max_tokens)
    print("| task | titles | BM25 or vectors | fused |\n| --- | --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for task in judged_tasks(Path(folder), asked.tasks_dir, asked.task):
            if task.among is not None or not any(task.titles):
                continue
            words, near = scores_by_words(task, 0), cosines(task, vectors, 0.0)
            by_words, by_vectors, base = _scores(task, words), _scores(task, near), _fused(task, near, words)
            print(f"| {task.name} | as today | {by_words.mean():.1f}; {by_vectors.mean():.1f} | {base.mean():.1f} |")
            for repeats in REPEATS:
                changed = scores_by_words(task, repeats)
                _print(task, f"+{repeats} in BM25", by_words, _scores(task, changed), base, _fused(task, near, changed))
            for share in SHARES:
                changed = cosines(task, vectors, share)
                _print(task, f"{share} of the vector", by_vectors, _scores(task, changed), base,
                       _fused(task, changed, words))  # fmt: skip


def _print(task: JudgedQueries, way: str, *pairs: np.ndarray) -> None:
    cells = []
    for before, after in (pairs[:2], pairs[2:]):
        mean, low, high = difference(after, before, task.clusters)
        cells.append(f"{mean:+.1f} ({low:+.1f}, {high:+.1f})")
    print(f"| {task.name} | {way} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
