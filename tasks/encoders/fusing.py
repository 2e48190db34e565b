"""How the legs of what is served are fused: by rank, or by a weight that judged pairs chose. Never imports prefect.

The weight belongs to the vectors that it was tuned with: it lies beside the tables of the generation, and search,
matching and explanations take it from there. It is tuned anew when the judgments or the number of candidates change.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from data.errors import InputError
from data.sample.eval_tasks import write_sample_tasks
from data.schema import encoded_text, sha256_json
from data.store.base import Store
from data.vectors.lance import generation_key
from data.vectors.pointer import Pointer
from llm2vec_core.evaluation.tasks.folders import EvalTask, load_eval_task
from llm2vec_core.ranking.fusion import MIN_JUDGED_QUERIES, JudgedQuery, score_weights, tune_weight
from llm2vec_core.ranking.hybrid import either_leg
from llm2vec_core.ranking.lexical import LexicalIndex
from tasks.encoders.checkpoints import checkpoint_dir, encode_documents, load_encoder
from tasks.run.context import Run
from tasks.run.settings import Settings

logger = logging.getLogger(__name__)

_SEED = 42
_VERSION = 1
"""Of how a weight is tuned."""


class TunedFusion(BaseModel):
    """What judged pairs say about the legs of a generation; stored beside its tables.

    Attributes:
        identity: Hash of what decides the weight besides the generation.
        task: Name of the judged task.
        num_queries: Its judged queries.
        weight: Of the dense leg, 0 (words alone) to 1 (vectors alone); None: too few queries.
            The legs are then fused by rank.
        low: Lower end of the weight's 95 % interval over resampled queries.
        high: Its upper end.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: str
    task: str
    num_queries: int
    weight: float | None = None
    low: float | None = None
    high: float | None = None

    def sentence(self) -> str:
        """How the legs are fused, and why."""
        if self.weight is None:
            return (
                f"Fused by rank: {self.task} has {self.num_queries} judged queries, "
                f"{MIN_JUDGED_QUERIES} or more tune a weight."
            )
        return (
            f"Weight of the vectors {self.weight:.2f} (95 % interval {self.low:.2f} to {self.high:.2f}), "
            f"tuned on {self.num_queries} judged queries of {self.task}."
        )


def tune_fusion(run: Run, *, generation: str, checkpoint: str) -> TunedFusion | None:
    """Tune the weight of a generation where the settings ask for one, or find it tuned.

    Args:
        run: The run.
        generation: Name of the generation.
        checkpoint: Fingerprint of its encoder.

    Returns:
        What was found; None when the settings fuse by rank.

    Raises:
        InputError: No judged task is named, or it is none of retrieval.
        EvalTaskError: Its folder cannot be used.
    """
    settings, store = run.settings, run.store
    if settings.match.fusion != "tuned":
        return None
    task = _judged_task(store, settings)
    decisive = [_VERSION, task.content_sha256, settings.match.candidates]
    identity = sha256_json(decisive)
    key = _key(generation)
    raw = store.read(key)
    known = None if raw is None else TunedFusion.model_validate_json(raw)
    if known is not None and known.identity == identity:
        return known
    judged = {row["query"] for row in task.tables["qrels"]}
    found = TunedFusion(
        identity=identity, task=task.name, num_queries=sum(row["_id"] in judged for row in task.tables["queries"])
    )
    if found.num_queries >= MIN_JUDGED_QUERIES:
        tuned = tune_weight(score_weights(_judge(store, settings, checkpoint, task)), seed=_SEED)
        found = found.model_copy(update={"weight": tuned.weight, "low": tuned.low, "high": tuned.high})
    run.lease.check()
    store.compare_and_swap(key, expected=raw, content=found.model_dump_json().encode())
    return found


def served_weight(settings: Settings, store: Store, pointer: Pointer) -> float | None:
    """Weight of the dense leg of what is served; None: the legs are fused by rank, and a warning says why if asked."""
    if settings.match.fusion != "tuned":
        return None
    raw = store.read(_key(pointer.generation))
    found = None if raw is None else TunedFusion.model_validate_json(raw)
    if found is None:
        logger.warning("No weight was tuned for what is served: fused by rank. `l2v match` tunes it.")
    elif found.weight is None:
        logger.warning(found.sentence())
    return None if found is None else found.weight


def _key(generation: str) -> str:
    return f"{generation_key(generation)}/fusion.json"


def _judged_task(store: Store, settings: Settings) -> EvalTask:
    judged = settings.match.judged
    if judged is None:
        raise InputError(
            "match.fusion is 'tuned', but match.judged names no judgments.",
            hint="Set match.judged to the folder of a retrieval task whose queries are like your jobs and whose corpus "
            "is like your resumes, or match.fusion to 'rrf'.",
        )
    folder = Path(judged).expanduser()
    with store.scratch() as scratch:
        task = load_eval_task(folder if folder.is_dir() else write_sample_tasks(scratch, [judged])[0])
    if task.type != "Retrieval":
        raise InputError(
            f"The task {task.name} is of type {task.type}; match.judged expects Retrieval.",
            hint="Its judgments say which documents of a corpus are relevant for a query.",
        )
    return task


def _judge(store: Store, settings: Settings, checkpoint: str, task: EvalTask) -> list[JudgedQuery]:
    """Both scores and the relevance of the candidates of each judged query, as search would find them."""
    relevance: dict[str, dict[str, float]] = {}
    for row in task.tables["qrels"]:
        relevance.setdefault(row["query"], {})[row["document"]] = float(row["score"])
    corpus = task.tables["corpus"]
    position = {row["_id"]: at for at, row in enumerate(corpus)}
    documents = [encoded_text(row.get("title", ""), row["text"]) for row in corpus]
    queries = [row for row in task.tables["queries"] if row["_id"] in relevance]
    encoder = load_encoder(checkpoint_dir(store, checkpoint), settings.encode)
    vectors = encode_documents(encoder, documents, "resume", settings.encode).vectors
    asked = encode_documents(encoder, [row["text"] for row in queries], "job", settings.encode).vectors
    index = LexicalIndex.of_texts(documents)
    judged = []
    for row, vector in zip(queries, asked, strict=True):
        cosines, bm25 = vectors @ vector, index.scores(row["text"])
        relevant = np.zeros(len(corpus))
        for document, score in relevance[row["_id"]].items():
            relevant[position[document]] = score
        found = either_leg(cosines, bm25, limit=settings.match.candidates)
        judged.append(JudgedQuery(cosines[found], bm25[found], relevant[found]))
    return judged
