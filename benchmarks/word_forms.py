"""nDCG@10 of BM25 on every retrieval task: without and with stems, aliases, and the parts of hyphenated compounds.

Ranks by the variant that search and matching use. Prints a Markdown table. In brackets are the difference to the column
"none" (in the last column: to "all") and its 95 % interval over resampled queries.

    python -m benchmarks.word_forms [--tasks-dir DIR]
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import numpy as np
from jaxtyping import Float64

from data.sample.eval_tasks import write_sample_tasks
from llm2vec_core.evaluation.tasks.folders import EvalTask, discover_eval_tasks, load_eval_task
from llm2vec_core.ranking import word_forms, words
from llm2vec_core.ranking.fusion import lexical_leg
from llm2vec_core.ranking.lexical import LexicalIndex

CUTOFF = 10
FEATURES = ("stems", "aliases", "parts")
VARIANTS: tuple[frozenset[str], ...] = (
    frozenset({"parts"}),
    frozenset({"parts", "stems"}),
    frozenset({"parts", "aliases"}),
    frozenset(FEATURES),
    frozenset({"stems", "aliases"}),
)
"""Without forms of words; with one kind; with both; with both and whole compounds only."""


def ndcg(task: EvalTask, features: Iterable[str]) -> Float64[np.ndarray, " queries"]:
    """nDCG@10 of each judged query with some features of the tokenizer."""
    off = set(FEATURES) - set(features)
    with ExitStack() as stack:
        if "stems" in off:
            stack.enter_context(patch.object(word_forms, "base_of", lambda word: word))
        if "aliases" in off:
            stack.enter_context(patch.object(word_forms, "aliases", dict))
        if "parts" in off:
            stack.enter_context(patch.object(words, "_INNER", re.compile("(?!)")))
        words._tokens_of.cache_clear()
        stack.callback(words._tokens_of.cache_clear)
        corpus = task.tables["corpus"]
        place = {row["_id"]: at for at, row in enumerate(corpus)}
        index = LexicalIndex.of_texts(f"{row.get('title') or ''}\n{row['text']}" for row in corpus)
        judged: dict[str, dict[int, float]] = {}
        for row in task.tables["qrels"]:
            judged.setdefault(row["query"], {})[place[row["document"]]] = float(row["score"])
        queries = [row for row in task.tables["queries"] if row["_id"] in judged]
        return np.array([_ndcg(lexical_leg(index.scores(row["text"]), CUTOFF), judged[row["_id"]]) for row in queries])


def _ndcg(found: np.ndarray, gains: dict[int, float]) -> float:
    discount = 1 / np.log2(np.arange(CUTOFF) + 2)
    ideal = np.array(sorted(gains.values(), reverse=True)[:CUTOFF])
    gained = np.array([gains.get(int(at), 0.0) for at in found])
    return float(gained @ discount[: len(gained)] / (ideal @ discount[: len(ideal)])) if ideal.any() else 0.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks-dir", type=Path, help="further task folders")
    further = parser.parse_args().tasks_dir
    print("| task | queries | none | + stems | + aliases | all | all, without parts |")
    print(f"| --- |{' ---: |' * 6}")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_sample_tasks(Path(folder))
        for path in [*paths, *(discover_eval_tasks(further) if further is not None else [])]:
            task = load_eval_task(path)
            if task.type != "Retrieval":
                continue
            scores = [100 * ndcg(task, variant) for variant in VARIANTS]
            bases = [scores[0], scores[0], scores[0], scores[0], scores[3]]
            cells = [_cell(each, base) for each, base in zip(scores, bases, strict=True)]
            print(f"| {task.name} | {len(scores[0]):,} | {' | '.join(cells)} |", flush=True)


def _cell(scores: Float64[np.ndarray, " queries"], base: Float64[np.ndarray, " queries"]) -> str:
    if scores is base:
        return f"{scores.mean():.1f}"
    difference = scores - base
    drawn = np.random.default_rng(0).integers(0, len(difference), (2000, len(difference)))
    low, high = np.quantile(difference[drawn].mean(axis=1), [0.025, 0.975])
    return f"{scores.mean():.1f} ({difference.mean():+.1f} [{low:+.1f}, {high:+.1f}])"


if __name__ == "__main__":
    main()
