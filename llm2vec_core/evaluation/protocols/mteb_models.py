"""Our systems as mteb models.

Import this module only to score a system: it imports mteb and torch, which is slow.
Belongs here: mteb's protocols over an encoder, BM25 and their fusion. Does not belong here: metrics (mteb's),
BM25 (``ranking.lexical``), fusion (``ranking.fusion``).
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

from llm2vec_core.evaluation.protocols.documents import DocumentVectors, normalise
from llm2vec_core.evaluation.protocols.encode_once import EncodeOnce
from llm2vec_core.evaluation.systems import System
from llm2vec_core.ranking.fusion import Weighted, either_leg, fuse, lexical_leg, top_k
from llm2vec_core.ranking.lexical import LexicalIndex
from llm2vec_core.ranking.reranking import Reranking, rerank
from llm2vec_core.ranking.tuning import JudgedQuery, cross_fit_weights, score_weights

_SEED = 42
"""Seed for splitting the queries into two halves, each of which tunes the other's weight."""

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
        """Cosine of every vector of one set with every vector of the other."""
        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:  # noqa: ANN401 (as above)
        """Cosine of the pairs."""
        return pairwise_cos_sim(embeddings1, embeddings2)


class RankingModel:
    """BM25, alone or fused with an encoder, or an encoder with expanded documents, behind mteb's ``SearchProtocol``.

    BM25 does not retrieve a document without a query word. Among given candidates (reranking) every document is
    ranked, and those without a match come last.
    """

    def __init__(self, system: System) -> None:
        """Rank by BM25, and by vectors too if the system has an encoder."""
        self.mteb_model_meta = _model_meta(system)
        self._encoder = system.encoder
        self._is_instructed = system.instructed
        self._reads_words = system.mode != "dense"
        self._candidates = system.candidates
        self._expansion = system.expansion
        self._ids: list[str] = []
        self._documents: list[str] = []
        self._lexical = LexicalIndex.of_texts([])
        self._vectors: DocumentVectors | None = None

    def index(self, corpus: Any, **kwargs: Any) -> None:  # noqa: ANN401 (mteb's signature)
        """Index the words of a corpus, and encode it if the system has an encoder."""
        self._ids = list(corpus["id"])
        pairs = list(zip(corpus["title"], corpus["text"], strict=True))
        self._documents = texts = [f"{title} {text}".strip() for title, text in pairs]
        if self._expansion is not None:
            texts = [self._expansion.expand(title, text) for title, text in pairs]
        if self._reads_words:
            self._lexical = LexicalIndex.of_texts(texts, variant="okapi")
        if self._encoder is not None:
            self._vectors = DocumentVectors(self._encoder, pairs, expansion=self._expansion)

    def search(
        self,
        queries: Any,  # noqa: ANN401 (mteb's signature)
        *,
        task_metadata: TaskMetadata,
        top_k: int,
        top_ranked: dict[str, list[str]] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> dict[str, dict[str, float]]:
        """Score all documents for each query, or only its given candidates."""
        positions = {identity: position for position, identity in enumerate(self._ids)}
        texts = list(queries["text"])
        prompt = _instruction(task_metadata, PromptType.query) if self._is_instructed else None
        vectors = normalise(self._encoder.encode(texts, prompt=prompt)) if self._encoder else None
        results = {}
        for number, (query_id, text) in enumerate(zip(queries["id"], texts, strict=True)):
            candidates = None if top_ranked is None else dict.fromkeys(top_ranked[query_id])  # each counts once
            among = None if candidates is None else np.array([positions[identity] for identity in candidates])
            ranked = self._rank(text, None if vectors is None else vectors[number], among=among, limit=top_k)
            # trec_eval skips a query without results; with this dummy document it counts as zero
            results[query_id] = {self._ids[position]: score for position, score in ranked} or {_NO_DOCUMENT: 0.0}
        return results

    def _rank(
        self, query: str, vector: np.ndarray | None, *, among: np.ndarray | None, limit: int
    ) -> list[tuple[int, float]]:
        """Positions in the corpus with their scores, best first."""
        pool = np.arange(len(self._ids)) if among is None else among
        if vector is None or self._vectors is None:
            bm25 = self._lexical.scores(query)[pool]
            best = (lexical_leg if among is None else top_k)(bm25, limit)
            return [(int(pool[at]), float(bm25[at])) for at in best[best >= 0]]
        cosines = self._vectors.cosines(vector[None])[0][pool]
        if not self._reads_words:
            return [(int(pool[at]), float(cosines[at])) for at in top_k(cosines, limit)]
        dense = top_k(cosines, self._candidates)
        bm25 = self._lexical.scores(query)[pool]
        fused = fuse(dense[None], lexical_leg(bm25, self._candidates)[None], limit=limit)
        # trec_eval orders equal scores by id; negative ranks keep the order that search shows
        return [(int(pool[at]), -float(place)) for place, at in enumerate(fused.documents[fused.is_hit])]


class RerankedModel(RankingModel):
    """BM25 and an encoder fused by rank; a cross-encoder then orders the first documents."""

    def __init__(self, system: System, reranking: Reranking) -> None:
        """Rank by BM25 and vectors, then by the cross-encoder."""
        super().__init__(system)
        self._reranking = reranking

    def _rank(
        self, query: str, vector: np.ndarray | None, *, among: np.ndarray | None, limit: int
    ) -> list[tuple[int, float]]:
        ranking = super()._rank(query, vector, among=among, limit=max(limit, self._reranking.num_read))
        texts = [self._documents[position] for position, _ in ranking[: self._reranking.num_read]]
        return rerank(ranking, self._reranking.reranker.scores(query, texts).tolist())[:limit]


class TunedModel(RankingModel):
    """BM25 and an encoder, fused by a weight tuned on other judged queries of the same task."""

    def __init__(self, system: System, task: AbsTask) -> None:
        """Rank by BM25 and vectors; the task's judgments tune their weight."""
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
        """Score each query's candidates, with the weight tuned on the half without the query."""
        assert self._encoder is not None and self._vectors is not None, "a tuned system has an encoder"
        assert self._task.dataset is not None and top_ranked is None, "mteb loads a retrieval task before it is ranked"
        texts = list(queries["text"])
        prompt = _instruction(task_metadata, PromptType.query) if self._is_instructed else None
        split = self._task.dataset[kwargs["hf_subset"]][kwargs["hf_split"]]
        vectors = normalise(self._encoder.encode(texts, prompt=prompt))
        judged, candidates = [], []
        for query_id, text, vector in zip(queries["id"], texts, vectors, strict=True):
            query, found = self._judge(
                text, self._vectors.cosines(vector[None])[0], split["relevant_docs"].get(query_id, {})
            )
            judged.append(query)
            candidates.append(found)
        weights = cross_fit_weights(score_weights(judged), seed=_SEED)
        results = {}
        for query_id, query, found, weight in zip(queries["id"], judged, candidates, weights, strict=True):
            weighted = Weighted(float(weight), cosines=query.dense[None], bm25=query.lexical[None])
            # a weighted fusion uses only the candidates' scores, not which search found them
            fused = fuse(found[None], np.empty((1, 0), np.int64), limit=top_k, weighted=weighted)
            scored = zip(fused.documents[0].tolist(), fused.scores[0].tolist(), strict=True)
            results[query_id] = {self._ids[position]: score for position, score in scored}
        return results

    def _judge(
        self, text: str, cosines: np.ndarray, relevant: Mapping[str, int]
    ) -> tuple[JudgedQuery, Int[np.ndarray, " candidates"]]:
        """Candidates of either search with scores and relevance, and their positions in the corpus."""
        bm25 = self._lexical.scores(text)
        found = either_leg(cosines, bm25, limit=self._candidates)
        relevance = np.array([relevant.get(self._ids[position], 0) for position in found], float)
        return JudgedQuery(cosines[found], bm25[found], relevance), found


def build_mteb_model(system: System, task: AbsTask) -> DenseModel | RankingModel:
    """The mteb model of a system for a task."""
    if system.mode == "tuned":
        return TunedModel(system, task)
    if system.reranking is not None:
        return RerankedModel(system, system.reranking)
    if system.mode == "dense" and system.encoder is not None and system.expansion is None:
        return DenseModel(system, system.encoder)
    return RankingModel(system)


def _instruction(task: TaskMetadata, prompt_type: PromptType | None) -> str | None:
    """The task's instruction and a space, to put before a text; None for documents of a ranking."""
    side = (prompt_type or PromptType.query).value
    of_side = task.prompt if isinstance(task.prompt, dict) else {PromptType.query.value: task.prompt}
    instruction = of_side.get(side)
    return f"{instruction.strip()} " if instruction else None


def _model_meta(system: System) -> ModelMeta:
    """Metadata of a model for mteb, which keys results by name and revision; both contain the fingerprint."""
    identity = system.fingerprint
    return ModelMeta.create_empty(overwrites={"name": f"llm2vec-pipelines/{identity}", "revision": identity})
