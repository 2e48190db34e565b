"""Reading long documents: cut, in parts or by sections, judged by passages that were taken out of them.

Each document loses two passages of about 45 words from random places. A passage is a query, and what is left of its
document is the one relevant answer: so the useful text may stand anywhere. There are two corpora, which are read at
run time and never copied: job adverts, and resumes of a few categories. The other resumes of the category are the hard
negatives. ``category`` instead asks for the other resumes of the passage's category, without its own.

The labels are weak. Nobody judged a pair, a passage may fit another advert of the same employer just as well, and a
category is no evidence that two people fit the same job. The scores compare ways to read on one set of documents.

A reading is named after its pieces and their tokens. ``cut-128`` reads the first 128 tokens. ``parts-128`` is the mean
of parts. ``sections-128`` is the mean of sections with equal weights; long sections are read in parts. ``best-part``
and ``best-section`` keep the vectors of the pieces and score a document by its best one. Each costs what its pieces
cost: tokens, and CPU seconds of all threads, per document. ``gain`` is the difference from cut-128 in own-document MRR,
with a 95 % interval from 2,000 draws of documents; without cut-128, from the first reading.

``read_share`` is the share of all tokens of a corpus that parts of 128 tokens hold, and that the first 128 tokens hold,
by the last encoder's tokenizer. Vectors of pieces are kept in a folder, so an interrupted measurement continues. The
last line of stdout is one JSON object.

    python -m benchmarks.long_documents FOLDER [--quick] [--corpora DIRECTORY] [--encoder NAME ...] [--reading NAME ...]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from benchmarks.common.machine import describe
from data.documents.headings import SECTION_HEADINGS
from data.schema import encoded_text
from llm2vec_core import Encoder
from llm2vec_core.encoding.chunking import heading_pattern, split_sections
from llm2vec_core.encoding.encoder import read_views
from llm2vec_core.encoding.loading import load_model
from llm2vec_core.encoding.tokenizing import TextTokenizer
from llm2vec_core.model.modes import EncoderView, Precision
from llm2vec_core.ranking.lexical import LexicalIndex

CORPORA = Path(__file__).parents[2] / "shared" / "data" / "corpora"
SERVED, MINILM = "bundled:smollm2-135m-jobs", "bundled:all-minilm-l6-v2"
READINGS = ("cut-128", "parts-128", "sections-128", "cut-512", "parts-512", "sections-512")
BASELINE = "cut-128"
_PASSAGE_WORDS, _PASSAGES = 45, 2
_LATE_WORDS = 100  # about 128 tokens
_SAVE_TOKENS = 4_000
_DRAWS = 2_000


@dataclass(frozen=True)
class Document:
    """A document without its passages.

    Attributes:
        group: Category of a resume; employer of an advert.
        text: What is left of it, with its title.
        passages: What was taken out.
        late: Whether each passage began behind the first words, where cut-128 does not read.
    """

    group: str
    text: str
    passages: tuple[str, ...]
    late: tuple[bool, ...]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="keeps the vectors of the pieces")
    parser.add_argument("--quick", action="store_true", help="fewer documents, and pieces of 128 tokens only")
    parser.add_argument("--corpora", type=Path, default=CORPORA, help="folder of the documents")
    parser.add_argument("--encoder", action="append", help=f"default: {MINILM} and {SERVED}")
    parser.add_argument("--reading", action="append", help="such as parts-256; default: all of 128 and 512 tokens")
    parser.add_argument("--postings", type=int, default=100, help="number of adverts (default: 100)")
    parser.add_argument("--categories", type=int, default=10, help="categories of eight resumes each (10 at most)")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="precision of the encoders")
    arguments = parser.parse_args()
    quick = arguments.quick
    tasks = {
        "postings": read_postings(arguments.corpora, count=12 if quick else arguments.postings),
        "resumes": read_resumes(
            arguments.corpora, categories=3 if quick else arguments.categories, each=4 if quick else 8
        ),
    }
    readings = arguments.reading or (READINGS[:3] if quick else READINGS)
    rows = [{"system": "BM25", "reading": "whole", **score_all(tasks, _lexical(tasks))}]
    _print_row(rows[-1])
    shares: dict[str, dict[str, float]] = {}
    for name in arguments.encoder or [MINILM, SERVED]:
        pieces = PieceVectors(name, arguments.folder, precision=arguments.precision)
        for reading in readings:
            for found in pieces.read(tasks, reading):
                rows.append({"system": name, "precision": arguments.precision, **found})
                _print_row(rows[-1])
        shares = read_shares(pieces.encoder(128).forward.texts, arguments.corpora, limit=40 if quick else None)
    for row in rows:
        row["gain"] = _gains(row, rows)
    shape = {task: {"documents": len(found), "passages": _PASSAGES * len(found)} for task, found in tasks.items()}
    for row in rows:
        row.pop("items")
    print(json.dumps({"rows": rows, "read_share": shares, **shape, **describe()}))


def read_shares(tokenizer: TextTokenizer, folder: Path, *, limit: int | None = None) -> dict[str, dict[str, float]]:
    """Share of the tokens of each corpus that is read in parts, and if texts are cut; no text is encoded.

    Args:
        tokenizer: Tokenizer of an encoder, with its limit.
        folder: Folder of the corpora.
        limit: Read only so many documents of each, drawn with a seed.
    """
    (added,) = tokenizer.count([""])
    shares = {}
    for path in sorted(folder.glob("*.jsonl")):
        rows = _shuffled(path)[:limit]
        texts = [encoded_text(row["title"], row.get("text") or row.get("description", "")) for row in rows]
        whole = np.array(tokenizer.count(texts))
        parts = np.array(tokenizer.count([part for text in texts for part in tokenizer.split(text)]))
        total = (whole - added).sum()
        shares[path.stem] = {
            "parts": round(float((np.minimum(parts, tokenizer.limit) - added).sum() / total), 4),
            "cut": round(float((np.minimum(whole, tokenizer.limit) - added).sum() / total), 4),
        }
    return shares


def read_postings(folder: Path, *, count: int) -> list[Document]:
    """Job adverts of 250 to 700 words, one of each employer."""
    chosen: dict[str, dict[str, Any]] = {}
    for row in _shuffled(folder / "jobs_nhs.jsonl"):
        if 250 <= len(row["description"].split()) <= 700:
            chosen.setdefault(row["org"], row)
    found = list(chosen.values())[:count]
    return [_without_passages(row["org"], row["title"], row["description"], row["id"]) for row in found]


def read_resumes(folder: Path, *, categories: int, each: int) -> list[Document]:
    """Resumes of 500 to 1,600 words, the same number of each category."""
    chosen: dict[str, list[dict[str, Any]]] = {}
    for row in _shuffled(folder / "resumes_livecareer.jsonl"):
        if 500 <= len(row["text"].split()) <= 1600:
            chosen.setdefault(row["category"], []).append(row)
    full = sorted(category for category, rows in chosen.items() if len(rows) >= each)
    kept = random.Random(0).sample(full, min(10, len(full)))[:categories]
    return [
        _without_passages(row["category"], row["title"], row["text"].removeprefix(row["title"]), row["id"])
        for category in kept
        for row in chosen[category][:each]
    ]


def _shuffled(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    random.Random(0).shuffle(rows)
    return rows


def _without_passages(group: str, title: str, text: str, seed: str) -> Document:
    """Take passages out of a document at random places."""
    rng = random.Random(seed)
    sentences = [part for part in re.split(r"(?<=[.!?])\s+|\n", text) if part.strip()]
    owner = [-1] * len(sentences)
    passages, late = [], []
    for number in range(_PASSAGES):
        fits: list[range] = []
        for start in range(len(sentences)):
            words, end = 0, start
            while end < len(sentences) and owner[end] < 0 and words < _PASSAGE_WORDS:
                words += len(sentences[end].split())
                end += 1
            if _PASSAGE_WORDS <= words <= 2 * _PASSAGE_WORDS:
                fits.append(range(start, end))
        place = rng.choice(fits)
        for index in place:
            owner[index] = number
        passages.append("\n".join(sentences[index] for index in place))
        late.append(sum(len(part.split()) for part in sentences[: place.start]) > _LATE_WORDS)
    left = "\n".join(part for part, taken in zip(sentences, owner, strict=True) if taken < 0)
    return Document(group, encoded_text(title, left), tuple(passages), tuple(late))


class PieceVectors:
    """Vectors of pieces of text by one encoder, kept in a folder with their tokens and CPU seconds.

    Args:
        name: Encoder, as for :meth:`Encoder.load`; a base model or adapter is read bidirectionally, with mean pooling.
        folder: Folder of all encoders.
    """

    def __init__(self, name: str, folder: Path, *, precision: Precision = "fp32") -> None:
        """Load what the folder has."""
        self.name, self._precision = name, precision
        self._folder = folder / re.sub(r"\W+", "-", f"{name} {precision}")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._known: dict[str, tuple[Float[np.ndarray, " dim"], int, float]] = {}
        for path in self._folder.glob("*.npz"):
            with np.load(path) as kept:
                self._known |= {
                    str(key): (vector, int(tokens), float(seconds))
                    for key, vector, tokens, seconds in zip(*(kept[part] for part in kept.files), strict=True)
                }
        self._encoders: dict[int, Encoder] = {}

    def encoder(self, max_tokens: int) -> Encoder:
        """The encoder with pieces of a size."""
        if max_tokens not in self._encoders:
            if self.name == MINILM or Path(self.name, "modules.json").is_file():
                found = _limited(Encoder.load(self.name), self._folder / "encoder", max_tokens, self._precision)
            else:
                found = Encoder.from_base(self.name, max_tokens=max_tokens, precision=self._precision)
            self._encoders[max_tokens] = found
        return self._encoders[max_tokens]

    def read(self, tasks: dict[str, list[Document]], reading: str) -> list[dict[str, Any]]:
        """Score a reading, and the best piece of the same pieces."""
        how, size = reading.rsplit("-", 1)
        encoder = self.encoder(int(size))
        headings = heading_pattern(SECTION_HEADINGS)
        means: dict[str, np.ndarray] = {}
        best: dict[str, np.ndarray] = {}
        cost = []
        for task, documents in tasks.items():
            queries = self._vectors([passage for each in documents for passage in each.passages], self.encoder(128))[0]
            queries = _scaled(queries)
            sections = [split_sections(each.text, headings) if how == "sections" else [each.text] for each in documents]
            split = [[[part] if how == "cut" else encoder.split(part) for part in listed] for listed in sections]
            flat = [part for listed in split for parts in listed for part in parts]
            vectors, tokens, seconds = self._vectors(flat, encoder)
            cost.append((tokens, seconds, len(documents)))
            rows = iter(vectors)
            documents_at, units_at = [], []
            for listed in split:
                units = []
                for parts in listed:
                    weights = [max(len(part), 1) for part in parts]
                    of_parts = np.array([next(rows) for _ in parts])
                    units.append((np.average(of_parts, axis=0, weights=weights), of_parts))
                whole = [unit for unit, _ in units]
                documents_at.append(np.mean(_scaled(np.array(whole)), axis=0) if how == "sections" else whole[0])
                units_at.append(_scaled(np.array(whole) if how == "sections" else units[0][1]))
            means[task] = queries @ _scaled(np.array(documents_at)).T
            best[task] = np.array([(queries @ units.T).max(axis=1) for units in units_at]).T
        spent = {
            f"{unit}_per_document": {
                task: round(found[index] / found[2], 4) for task, found in zip(tasks, cost, strict=True)
            }
            for index, unit in enumerate(("tokens", "cpu_seconds"))
        }
        results = [{"reading": reading, **spent, **score_all(tasks, means)}]
        if how != "cut":
            results.append({"reading": f"best-{how[:-1]}-{size}", **spent, **score_all(tasks, best)})
        return results

    def _vectors(self, texts: Sequence[str], encoder: Encoder) -> tuple[np.ndarray, int, float]:
        """Vectors of texts before scaling, their tokens and CPU seconds; unknown ones are encoded and kept."""
        lengths = [len(ids) for ids in encoder.model.tokenizer(list(texts), verbose=False)["input_ids"]]
        keys = [
            hashlib.sha256(f"{encoder.max_tokens if length > encoder.max_tokens else ''}\n{text}".encode()).hexdigest()
            for text, length in zip(texts, lengths, strict=True)
        ]
        missing = {
            key: (text, min(length, encoder.max_tokens))
            for key, text, length in zip(keys, texts, lengths, strict=True)
            if key not in self._known
        }
        borders, total = [0], 0
        for index, (_, length) in enumerate(missing.values(), start=1):
            total += length
            if total >= _SAVE_TOKENS or index == len(missing):
                borders.append(index)
                total = 0
        listed = list(missing.items())
        for start, end in pairwise(borders):
            self._encode(dict(listed[start:end]), encoder)
        found = [self._known[key] for key in keys]
        return (
            np.array([vector for vector, _, _ in found]),
            sum(tokens for _, tokens, _ in found),
            sum(seconds for _, _, seconds in found),
        )

    def _encode(self, texts: dict[str, tuple[str, int]], encoder: Encoder) -> None:
        started = time.process_time()
        vectors = encoder.encode([text for text, _ in texts.values()])
        spent = time.process_time() - started
        tokens = [length for _, length in texts.values()]
        seconds = [spent * length / sum(tokens) for length in tokens]
        self._known |= {
            key: (vector, length, share)
            for key, vector, length, share in zip(texts, vectors, tokens, seconds, strict=True)
        }
        name = hashlib.sha256("".join(texts).encode()).hexdigest()[:16]
        np.savez(self._folder / f"{name}.npz", keys=list(texts), vectors=vectors, tokens=tokens, seconds=seconds)


def _limited(encoder: Encoder, folder: Path, max_tokens: int, precision: Precision) -> Encoder:
    """An encoder with another limit of tokens."""
    if not folder.is_dir():
        encoder.save(folder)
    loaded = load_model(folder, name=encoder.name, precision=precision)
    loaded.model.max_seq_length = max_tokens
    (limited,) = read_views(loaded, [EncoderView()])
    return limited


def score_all(tasks: dict[str, list[Document]], scores: dict[str, np.ndarray]) -> dict[str, Any]:
    """Score of each task; ``scores`` holds one row a passage and one column a document.

    Returns:
        Under each task the mean reciprocal rank of a passage's own document, for all passages and for late ones; for
        resumes also nDCG@10 of the others of its category; ``items`` holds the single reciprocal ranks by document.
    """
    results: dict[str, Any] = {"items": {}}
    for task, documents in tasks.items():
        own = np.repeat(np.arange(len(documents)), _PASSAGES)
        found = scores[task]
        of_own = found[np.arange(len(own)), own]
        reciprocal = 1 / (1 + (found > of_own[:, None]).sum(axis=1))
        late = np.array([flag for each in documents for flag in each.late])
        results[task] = {"mrr": _percent(reciprocal.mean()), "mrr_late": _percent(reciprocal[late].mean())}
        results["items"][task] = reciprocal.reshape(len(documents), _PASSAGES).mean(axis=1)
        groups = np.array([each.group for each in documents])
        if task == "resumes":
            others = found.copy()
            others[np.arange(len(own)), own] = -np.inf
            top = np.argsort(-others, axis=1, kind="stable")[:, :10]
            gains = (groups[top] == groups[own][:, None]) / np.log2(np.arange(2, 2 + top.shape[1]))
            ideal = (1 / np.log2(np.arange(2, 12)))[
                : min(10, np.bincount(np.unique(groups, return_inverse=True)[1])[0] - 1)
            ]
            results[task]["category_ndcg_at_10"] = _percent((gains.sum(axis=1) / ideal.sum()).mean())
    return results


def _lexical(tasks: dict[str, list[Document]]) -> dict[str, np.ndarray]:
    scores = {}
    for task, documents in tasks.items():
        index = LexicalIndex.of_texts(each.text for each in documents)
        scores[task] = np.array([index.scores(passage) for each in documents for passage in each.passages])
    return scores


def _gains(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Difference from the baseline of the same encoder with a 95 % interval, by task."""
    of_system = [each for each in rows if each["system"] == row["system"]]
    baseline = next((each for each in of_system if each["reading"] == BASELINE), of_system[0])
    if baseline is row:
        return {}
    gains = {}
    for task, items in row["items"].items():
        differences = items - baseline["items"][task]
        draws = np.random.default_rng(0).integers(len(items), size=(_DRAWS, len(items)))
        low, high = np.percentile(differences[draws].mean(axis=1), [2.5, 97.5])
        gains[task] = [_percent(value) for value in (differences.mean(), low, high)]
    return gains


def _percent(share: float) -> float:
    return round(100 * float(share), 2)


def _scaled(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _print_row(row: dict[str, Any]) -> None:
    print(json.dumps({name: value for name, value in row.items() if name != "items"}), flush=True)


if __name__ == "__main__":
    main()
