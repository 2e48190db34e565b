"""Tiny task folders of all types, and a deterministic encoder without a model."""

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm2vec_core.encoding.result import Encoding
from llm2vec_core.evaluation.protocols.encode_once import EncodeOnce
from llm2vec_core.evaluation.systems import System

WORDS = [
    "nurse",
    "chef",
    "driver",
    "teacher",
    "python",
    "cloud",
    "garden",
    "night",
    "ward",
    "school",
    "truck",
    "kitchen",
]


class HashEncoder:
    """A text is the sum of random vectors of its words: texts that share words are close."""

    def __init__(self, fingerprint: str = "hash-1", dim: int = 32) -> None:
        self.fingerprint = fingerprint
        self.embedding_dim = dim
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str], *, prompt: str | None = None) -> np.ndarray:
        return self.encode_with_counts(texts, prompt=prompt).vectors

    def encode_with_counts(
        self, texts: Sequence[str], *, prompt: str | None = None, pool_prompt: bool = True
    ) -> Encoding:
        self.encoded += [f"{prompt or ''}{text}" for text in texts]
        vectors = np.stack([self._vector(text) for text in texts]).astype(np.float32)
        num_tokens = sum(len(text.split()) for text in texts)
        return Encoding(vectors, num_tokens=num_tokens, num_padded_tokens=num_tokens, num_truncated=0)

    def encode_words(self, sentences: Sequence[Sequence[str]], *, label_shift: bool = False) -> np.ndarray:
        read = [["", *words[:-1]] if label_shift else words for words in sentences]
        return np.stack([self._vector(word) for words in read for word in words]).astype(np.float32)

    def _vector(self, text: str) -> np.ndarray:
        total = np.full(self.embedding_dim, 1e-3)
        for word in text.lower().split():
            seed = int.from_bytes(hashlib.sha256(f"{self.fingerprint} {word}".encode()).digest()[:8], "big")
            total += np.random.default_rng(seed).standard_normal(self.embedding_dim)
        return total


@pytest.fixture
def encoder() -> HashEncoder:
    return HashEncoder()


@pytest.fixture
def make_encoder() -> type[HashEncoder]:
    return HashEncoder


@pytest.fixture
def make_system() -> Callable[..., System]:
    """A system around any encoder: ``make_system("dense", encoder, name="…")``."""

    def make(mode: str = "dense", encoder: Any = None, *, name: str = "system", **options: Any) -> System:
        remembering = EncodeOnce(encoder.fingerprint, lambda: encoder) if encoder is not None else None
        return System(name, mode, remembering, **options)

    return make


def _write(path: Path, rows: Sequence[object]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _pairs() -> list[tuple[str, str, int]]:
    same = [(f"the {word} works here", f"here works the {word}", 1) for word in WORDS]
    other = [(f"the {a} works here", f"some {b} left yesterday", 0) for a, b in itertools.pairwise(WORDS)]
    return same + other


def _retrieval(folder: Path) -> None:
    _write(folder / "corpus.jsonl", [{"_id": f"d{n}", "title": word, "text": "wanted"} for n, word in enumerate(WORDS)])
    _write(folder / "queries.jsonl", [{"_id": f"q{n}", "text": word} for n, word in enumerate(WORDS)])
    lines = ["query-id\tcorpus-id\tscore", *(f"q{n}\td{n}\t1" for n in range(len(WORDS)))]
    (folder / "qrels.tsv").write_text("\n".join(lines) + "\n")


def _sts(folder: Path) -> None:
    rows = [{"sentence1": a, "sentence2": b, "score": 4.5 * same + 0.1} for a, b, same in _pairs()]
    _write(folder / "pairs.jsonl", rows)


def _pair_classification(folder: Path) -> None:
    _write(folder / "pairs.jsonl", [{"sentence1": a, "sentence2": b, "label": same} for a, b, same in _pairs()])


def _classification(folder: Path) -> None:
    for split, filler in (("train", "a"), ("test", "the")):
        rows = [{"text": f"{filler} {word} {n}", "label": word} for word in WORDS[:2] for n in range(10)]
        _write(folder / f"{split}.jsonl", rows)


def _clustering(folder: Path) -> None:
    rows = [{"text": f"{word} {word} {n}", "label": word} for word in WORDS[:3] for n in range(10)]
    _write(folder / "items.jsonl", rows)


def _reranking(folder: Path) -> None:
    rows = [
        {"query": f"{a} wanted", "positive": [f"{a} at work"], "negative": [f"{b} at rest", f"{b} at home"]}
        for a, b in zip(WORDS, WORDS[3:], strict=False)
    ]
    _write(folder / "samples.jsonl", rows)


def _summarization(folder: Path) -> None:
    rows = [
        {
            "text": f"a long text about a {a}",
            "human_summaries": [f"the {a} works {b}"],
            "machine_summaries": [f"the {a} works {b}", f"the {a} works", "nothing of the kind"],
            "relevance": [1.0, 0.6, 0.0],
        }
        for a, b in itertools.pairwise(WORDS)
    ]
    _write(folder / "samples.jsonl", rows)


def _token_classification(folder: Path) -> None:
    """Who works where: a person is an entity of one word, a place one of two; the tag follows from the word."""
    people, places = WORDS[:4], WORDS[8:]
    for split, times in (("train", 4), ("test", 1)):
        rows = [
            {
                "tokens": [person, "works", "at", article, place],
                "tags": ["B-PER", "O", "O", "B-LOC", "I-LOC"],
            }
            for person, article, place in itertools.product(people * times, ("a", "the"), places)
        ]
        _write(folder / f"{split}.jsonl", rows)


BUILDERS = {
    "Retrieval": (_retrieval, "ndcg_at_10"),
    "Reranking": (_reranking, "map_at_1000"),
    "Clustering": (_clustering, "v_measure"),
    "PairClassification": (_pair_classification, "max_ap"),
    "Classification": (_classification, "accuracy"),
    "STS": (_sts, "cosine_spearman"),
    "Summarization": (_summarization, "cosine_spearman"),
    "TokenClassification": (_token_classification, "f1"),
}


@pytest.fixture
def make_task(tmp_path: Path) -> Callable[..., Path]:
    """Write the folder of a type; keyword arguments replace keys of task.json."""

    def make(task_type: str, **header: str) -> Path:
        build, main_score = BUILDERS[task_type]
        folder = tmp_path / "tasks" / f"Tiny{task_type}"
        folder.mkdir(parents=True)
        build(folder)
        content = {"name": folder.name, "type": task_type, "main_score": main_score, "language": "eng-Latn"} | header
        (folder / "task.json").write_text(json.dumps(content))
        return folder

    return make
