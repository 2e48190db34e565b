"""Our systems as mteb models.

Importing this module imports mteb and torch, which is slow: it is imported where a system is scored, not before.
Belongs here: mteb's protocols over an encoder, BM25 and their fusion. Does not belong here: metrics (mteb's),
tokenizing and BM25 (``lexical``), fusion (``fusion``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.model_meta import ModelMeta
from mteb.similarity_functions import cos_sim, pairwise_cos_sim
from mteb.types import PromptType

from llm2vec_core.evaluation.protocols.encode_once import EncodeOnce
from llm2vec_core.evaluation.systems import System
from llm2vec_core.ranking.fusion import (
    JudgedQuery,
    convex_combination,
    cross_fit_weights,
    reciprocal_rank_fusion,
    score_weights,
    top_k,
)
from llm2vec_core.ranking.hybrid import either_leg
from llm2vec_core.ranking.lexical import LexicalIndex
from llm2vec_core.ranking.reranking import Reranking, rerank

_SEED = 42
"""Of the halves of the queries that a weight is tuned on."""

_NO_DOCUMENT = "(no document matched)"


class DenseModel:
    """An encoder behind mteb's ``EncoderProtocol``; similarity is the cosine."""

    def __init__(self, system: System, encoder: EncodeOnce) -> None:
        """Wrap the encoder of a dense system."""
        self.mteb_model_meta = _model_meta(system)
        self._encoder = encoder
        self._is_instructed = system.instructed

    def encode(
        self,
        inputs: Iterable[dict[str, list[str]]],
        *,
        task_metadata: TaskMetadata,
        prompt_type: PromptType | None = None,
        **kwargs: Any,  # noqa: ANN401 (split and subset, which our encoders do not need)
    ) -> Float32[np.ndarray, "num_texts dim"]:
        """Vectors of the ``text`` of mteb's batches."""
        prompt = _instruction(task_metadata, prompt_type) if self._is_instructed else None
        return self._encoder.encode([text for batch in inputs for text in batch["text"]], prompt=prompt)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:  # noqa: ANN401 (mteb: numpy or torch)
        """Cosine of every vector with every other."""
        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:  # noqa: ANN401 (as above)
        """Cosine of the pairs."""
        return pairwise_cos_sim(embeddings1, embeddings2)


class RankingModel:
    """BM25, alone or fused with an encoder, behind mteb's ``SearchProtocol``.

    A document without a word of the query is not retrieved by BM25; among given candidates (reranking) every document
    is ranked, and those without a match come last.
    """

    def __init__(self, system: System) -> None:
        """Rank by words, and by vectors too where there is an encoder."""
        self.mteb_model_meta = _model_meta(system)
        self._encoder = system.encoder
        self._is_instructed = system.instructed
        self._legs = system.legs
        self._ids: list[str] = []
        self._documents: list[str] = []
        self._lexical = LexicalIndex.of_texts([])
        self._vectors: np.ndarray | None = None

    def index(self, corpus: Any, **kwargs: Any) -> None:  # noqa: ANN401 (mteb's signature)
        """Count the words of a corpus, and encode it where there is an encoder."""
        self._ids = list(corpus["id"])
        # title and text as mteb joins them for encoders (_corpus_to_dict), so that all systems read the same
        texts = [f"{title} {text}".strip() for title, text in zip(corpus["title"], corpus["text"], strict=True)]
        self._documents = texts
        self._lexical = LexicalIndex.of_texts(texts, variant="okapi")
        self._vectors = _normalise(self._encoder.encode(texts)) if self._encoder else None

    def search(
        self,
        queries: Any,  # noqa: ANN401 (mteb's signature)
        *,
        task_metadata: TaskMetadata,
        top_k: int,
        top_ranked: dict[str, list[str]] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> dict[str, dict[str, float]]:
        """Score documents for queries: all, or the given candidates of each."""
        positions = {identity: position for position, identity in enumerate(self._ids)}
        texts = list(queries["text"])
        prompt = _instruction(task_metadata, PromptType.query) if self._is_instructed else None
        vectors = _normalise(self._encoder.encode(texts, prompt=prompt)) if self._encoder else None
        results = {}
        for number, (query_id, text) in enumerate(zip(queries["id"], texts, strict=True)):
            among = None if top_ranked is None else np.array([positions[identity] for identity in top_ranked[query_id]])
            ranked = self._rank(text, None if vectors is None else vectors[number], among=among, limit=top_k)
            # trec_eval leaves out a query without results instead of counting it as zero: name a document that is none
            results[query_id] = {self._ids[position]: score for position, score in ranked} or {_NO_DOCUMENT: 0.0}
        return results

    def _rank(
        self, query: str, vector: np.ndarray | None, *, among: np.ndarray | None, limit: int
    ) -> list[tuple[int, float]]:
        """Positions in the corpus with their scores, best first."""
        scores = self._lexical.scores(query)
        if vector is None or self._vectors is None:
            lexical = _best(scores, among=among, limit=limit, threshold=0.0 if among is None else None)
            return [(position, float(scores[position])) for position in lexical]
        dense = _best(self._vectors @ vector, among=among, limit=self._legs.candidates)
        lexical = _best(scores, among=among, limit=self._legs.candidates, threshold=0.0)
        fused = reciprocal_rank_fusion([dense, lexical], k=self._legs.rrf_k)[:limit]
        # trec_eval orders equal scores by identity: places keep the order that a search shows
        return [(document, -float(place)) for place, (document, _) in enumerate(fused)]


class RerankedModel(RankingModel):
    """BM25 and an encoder fused by rank, the first documents then in the order of a cross-encoder."""

    def __init__(self, system: System, reranking: Reranking) -> None:
        """Rank by both legs, then by the cross-encoder."""
        super().__init__(system)
        self._reranking = reranking

    def _rank(
        self, query: str, vector: np.ndarray | None, *, among: np.ndarray | None, limit: int
    ) -> list[tuple[int, float]]:
        ranking = super()._rank(query, vector, among=among, limit=max(limit, self._reranking.num_read))
        texts = [self._documents[position] for position, _ in ranking[: self._reranking.num_read]]
        return rerank(ranking, self._reranking.reranker.scores(query, texts).tolist())[:limit]


class TunedModel(RankingModel):
    """BM25 and an encoder, fused by a weight that other judged queries of the same task chose."""

    def __init__(self, system: System, task: AbsTask) -> None:
        """Rank by both legs; the task's judgments tune how much each counts."""
        super().__init__(system)
        self._task = task

    def search(
        self,
        queries: Any,  # noqa: ANN401 (mteb's signature)
        *,
        task_metadata: TaskMetadata,
        top_k: int,
        top_ranked: dict[str, list[str]] | None = None,
        **kwargs: Any,  # noqa: ANN401 (split and subset among them)
    ) -> dict[str, dict[str, float]]:
        """Score the candidates of both legs for queries, each with the weight that the other half of them chose."""
        assert self._encoder is not None and self._vectors is not None, "a tuned system has an encoder"
        assert self._task.dataset is not None and top_ranked is None, "mteb loads a retrieval task before it is ranked"
        texts = list(queries["text"])
        prompt = _instruction(task_metadata, PromptType.query) if self._is_instructed else None
        split = self._task.dataset[kwargs["hf_subset"]][kwargs["hf_split"]]
        vectors = _normalise(self._encoder.encode(texts, prompt=prompt))
        judged, candidates = [], []
        for query_id, text, vector in zip(queries["id"], texts, vectors, strict=True):
            query, found = self._judge(text, self._vectors @ vector, split["relevant_docs"].get(query_id, {}))
            judged.append(query)
            candidates.append(found)
        weights = cross_fit_weights(score_weights(judged), seed=_SEED)
        results = {}
        for query_id, query, found, weight in zip(queries["id"], judged, candidates, weights, strict=True):
            fused = convex_combination(query.dense, query.lexical, weight=float(weight))
            best = _best(fused, among=None, limit=top_k)
            results[query_id] = {self._ids[found[at]]: float(fused[at]) for at in best}
        return results

    def _judge(
        self, text: str, cosines: np.ndarray, relevant: Mapping[str, int]
    ) -> tuple[JudgedQuery, Int[np.ndarray, " candidates"]]:
        """The candidates of either leg with both scores and their relevance, and their positions in the corpus."""
        bm25 = self._lexical.scores(text)
        found = either_leg(cosines, bm25, limit=self._legs.candidates)
        relevance = np.array([relevant.get(self._ids[position], 0) for position in found], float)
        return JudgedQuery(cosines[found], bm25[found], relevance), found


def build_mteb_model(system: System, task: AbsTask) -> DenseModel | RankingModel:
    """The mteb model of a system for a task."""
    if system.mode == "tuned":
        return TunedModel(system, task)
    if system.reranking is not None:
        return RerankedModel(system, system.reranking)
    if system.mode == "dense" and system.encoder is not None:
        return DenseModel(system, system.encoder)
    return RankingModel(system)


def _instruction(task: TaskMetadata, prompt_type: PromptType | None) -> str | None:
    """What stands before a text of a task: its instruction and a space; nothing before the documents of a ranking."""
    side = (prompt_type or PromptType.query).value
    of_side = task.prompt if isinstance(task.prompt, dict) else {PromptType.query.value: task.prompt}
    instruction = of_side.get(side)
    return f"{instruction.strip()} " if instruction else None


def _model_meta(system: System) -> ModelMeta:
    """The description of a model for mteb. Name and revision are the fingerprint: mteb keys results by them."""
    identity = system.fingerprint
    return ModelMeta.create_empty(overwrites={"name": f"llm2vec-pipelines/{identity}", "revision": identity})


def _normalise(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length one; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalised: np.ndarray = vectors / np.where(lengths > 0, lengths, 1.0).astype(vectors.dtype)
    return normalised


def _best(scores: np.ndarray, *, among: np.ndarray | None, limit: int, threshold: float | None = None) -> list[int]:
    """Positions of the best scores, all or among some, above a threshold if there is one."""
    pool = np.arange(len(scores)) if among is None else among
    best = pool[top_k(scores[pool], limit)]
    return [int(position) for position in best if threshold is None or scores[position] > threshold]
