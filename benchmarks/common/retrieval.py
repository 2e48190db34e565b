"""Shared parts of the benchmarks that rank: judged queries of retrieval and reranking tasks, nDCG@10, differences."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from ir_measures import AP, iter_calc, nDCG
from jaxtyping import Float32, Float64, Int64

from data.sample.eval_tasks import write_sample_tasks
from llm2vec_core import Encoder
from llm2vec_core.evaluation.tasks.clusters import item_clusters
from llm2vec_core.evaluation.tasks.folders import EvalTask, discover_eval_tasks, load_eval_task
from llm2vec_core.model.base_models import base_content, short_name

CUTOFF = 10
_RESAMPLES = 2000


@dataclass(frozen=True)
class JudgedQueries:
    """Queries of a task, the documents that each of them ranks, and how relevant these are.

    Attributes:
        name: Name of the task.
        titles: Title of each document, often empty.
        texts: Text of each document without its title.
        queries: Text of each query.
        gains: Relevance of documents by number, for each query.
        among: Numbers of the documents that each query ranks, in a task of type Reranking; None for all documents.
        clusters: Number of the cluster of each query; one cluster is one observation.
    """

    name: str
    titles: Sequence[str]
    texts: Sequence[str]
    queries: Sequence[str]
    gains: Sequence[dict[int, float]]
    among: Sequence[Int64[np.ndarray, " documents"]] | None
    clusters: Int64[np.ndarray, " queries"]

    @cached_property
    def documents(self) -> list[str]:
        """Title and text of each document, as they are encoded."""
        return [f"{title}\n{text}" if title else text for title, text in zip(self.titles, self.texts, strict=True)]

    def score(self, query: int, ranking: Int64[np.ndarray, " places"]) -> float:
        """nDCG@10 of a ranking for a query, 0 to 1; in a task of type Reranking the average precision."""
        measure = nDCG @ CUTOFF if self.among is None else AP
        judged = {"": {str(at): int(gain) for at, gain in self.gains[query].items()}}
        ranked = {"": {str(at): -float(place) for place, at in enumerate(ranking.tolist()) if at >= 0}}
        return float(next(each.value for each in iter_calc([measure], judged, ranked)))


def judged_tasks(folder: Path, further: Path | None, names: Sequence[str] = ()) -> Iterator[JudgedQueries]:
    """Queries of the sample's retrieval tasks, and of the retrieval and reranking tasks in a folder.

    Args:
        folder: Empty folder, to which the sample's tasks are written.
        further: Folder with more task folders.
        names: Read only these tasks (default: all).
    """
    for path in [*write_sample_tasks(folder), *(discover_eval_tasks(further) if further is not None else [])]:
        task = load_eval_task(path)
        if not names or task.name in names:
            if task.type == "Retrieval":
                yield _retrieval(task)
            elif task.type == "Reranking":
                yield _reranking(task)


def _retrieval(task: EvalTask) -> JudgedQueries:
    corpus = task.tables["corpus"]
    place = {row["_id"]: at for at, row in enumerate(corpus)}
    queries = sorted(task.tables["queries"], key=lambda row: str(row["_id"]))  # the order of the clusters
    found = item_clusters(task)
    clusters = np.arange(len(queries)) if found is None else found
    gains: dict[str, dict[int, float]] = {}
    for row in task.tables["qrels"]:
        gains.setdefault(row["query"], {})[place[row["document"]]] = float(row["score"])
    judged = [at for at, row in enumerate(queries) if row["_id"] in gains]
    return JudgedQueries(
        name=task.name,
        titles=[row.get("title") or "" for row in corpus],
        texts=[row["text"] for row in corpus],
        queries=[queries[at]["text"] for at in judged],
        gains=[gains[queries[at]["_id"]] for at in judged],
        among=None,
        clusters=clusters[judged],
    )


def _reranking(task: EvalTask) -> JudgedQueries:
    number: dict[str, int] = {}
    gains, among = [], []
    for row in task.tables["samples"]:
        relevant = [number.setdefault(text, len(number)) for text in row["positive"]]
        others = [number.setdefault(text, len(number)) for text in row["negative"]]
        gains.append(dict.fromkeys(relevant, 1.0))
        among.append(np.array(list(dict.fromkeys([*others, *relevant]))))
    queries = [row["query"] for row in task.tables["samples"]]
    return JudgedQueries(
        name=task.name,
        titles=[""] * len(number),
        texts=list(number),
        queries=queries,
        gains=gains,
        among=among,
        clusters=np.arange(len(queries)),
    )


@dataclass(frozen=True)
class KeptVectors:
    """Vectors of texts, kept in a folder for the next run.

    Attributes:
        encoder: The encoder. Texts that are too long for it are read in parts, as the night reads them.
        folder: Where vectors are kept.
    """

    encoder: Encoder
    folder: Path

    @classmethod
    def of_encoder(cls, name: str, *, max_tokens: int) -> KeptVectors:
        """Vectors of an encoder by name; those of an adapter are made again when its weights change."""
        content = base_content(name) or short_name(name)
        folder = Path(tempfile.gettempdir()) / "l2v-benchmarks" / "vectors" / content[:32] / str(max_tokens)
        return cls(Encoder.from_base(name, max_tokens=max_tokens), folder)

    def of(self, texts: Sequence[str]) -> Float32[np.ndarray, "texts dim"]:
        """Vectors of length one."""
        key = hashlib.sha256("\0".join((self.encoder.name, *texts)).encode()).hexdigest()[:32]
        path = self.folder / f"{key}.npy"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            np.save(path, self.encoder.encode(texts, normalize=True, long_texts="parts"))
        found: Float32[np.ndarray, "texts dim"] = np.load(path)
        return found


def difference(
    scores: Float64[np.ndarray, " queries"],
    base: Float64[np.ndarray, " queries"],
    clusters: Int64[np.ndarray, " queries"],
) -> tuple[float, float, float]:
    """Mean difference of two systems and its 95 % interval over resampled clusters of queries."""
    _, number = np.unique(clusters, return_inverse=True)
    sums, counts = np.bincount(number, scores - base), np.bincount(number)
    drawn = np.random.default_rng(0).integers(0, len(sums), (_RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float((scores - base).mean()), float(low), float(high)
