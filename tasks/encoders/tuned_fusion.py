"""The fusion weight of a generation, tuned on judged pairs. Never imports prefect.

A weight is valid only for the vectors that it was tuned on, so it is stored beside the tables of their generation.
All rankings read it there. It is tuned again when the judgments or the number of candidates change.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from data.errors import InputError
from data.schema import encoded_text, sha256_json
from data.store.base import Store
from data.vectors.lance import generation_key
from data.vectors.pointer import Pointer
from llm2vec_core.ranking.fusion import either_leg
from llm2vec_core.ranking.lexical import LexicalIndex
from llm2vec_core.ranking.tuning import MIN_JUDGED_QUERIES, JudgedQuery, score_weights, tune_weight
from tasks.encoders.checkpoints import checkpoint_dir, encode_documents, load_encoder
from tasks.run.context import Run
from tasks.run.settings import Settings
from tasks.ui.console import progress_bar

if TYPE_CHECKING:
    from llm2vec_core.evaluation.tasks.folders import EvalTask

logger = logging.getLogger(__name__)

_SEED = 42
_VERSION = 1
"""Record version; bump to tune stored weights again."""


class TunedFusion(BaseModel):
    """The tuned weight of a generation; stored beside its tables.

    Attributes:
        identity: Hash of everything, other than the generation, that affects the weight.
        task: Name of the judged task.
        num_queries: Number of judged queries.
        weight: Weight of vector search, from 0 (words only) to 1 (vectors only). None if there are too few queries; the
            two rankings are then fused by rank.
        low: Lower end of the weight's 95 % interval over resampled queries.
        high: Upper end of the interval.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: str
    task: str
    num_queries: int
    weight: float | None = None
    low: float | None = None
    high: float | None = None

    def sentence(self) -> str:
        """One sentence about the fusion: by weight or by rank, and the reason."""
        if self.weight is None:
            return (
                f"Fused by rank: {self.task} has {self.num_queries} judged queries; "
                f"tuning a weight needs {MIN_JUDGED_QUERIES} or more."
            )
        return (
            f"Weight of the vectors {self.weight:.2f} (95 % interval {self.low:.2f} to {self.high:.2f}), "
            f"tuned on {self.num_queries} judged queries of {self.task}."
        )


def tune_fusion(run: Run, *, generation: str, checkpoint: str) -> TunedFusion | None:
    """Tune the weight of a generation if the settings ask for one; a stored weight is reused.

    Args:
        run: The run.
        generation: Name of the generation.
        checkpoint: Fingerprint of the generation's encoder.

    Returns:
        The tuned weight; None when the settings fuse by rank.

    Raises:
        InputError: The settings name no judged task, or the task is not a retrieval task.
        EvalTaskError: The folder of the task cannot be used.
    """
    settings, store = run.settings, run.store
    if settings.match.fusion != "tuned":
        return None
    task = judged_task(store, settings)
    identity = _identity(settings, task)
    key, raw, known = _read(store, generation)
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


def find_fusion(store: Store, settings: Settings, generation: str) -> TunedFusion | None:
    """The stored weight of a generation; None if it must be tuned first, because the judgments or settings changed.

    Raises:
        InputError: The settings name no judged task, or the task is not a retrieval task.
        EvalTaskError: The folder of the task cannot be used.
    """
    known = _read(store, generation)[2]
    is_valid = known is not None and known.identity == _identity(settings, judged_task(store, settings))
    return known if is_valid else None


def _identity(settings: Settings, task: EvalTask) -> str:
    return sha256_json([_VERSION, task.content_sha256, settings.match.candidates])


def served_weight(settings: Settings, store: Store, pointer: Pointer) -> float | None:
    """Weight of vector search over the served tables; None to fuse by rank, with a warning if a weight is wanted."""
    if settings.match.fusion != "tuned":
        return None
    found = _read(store, pointer.generation)[2]
    if found is None:
        logger.warning("The served generation has no tuned weight: search fuses by rank. `l2v match` tunes one.")
    elif found.weight is None:
        logger.warning(found.sentence())
    return None if found is None else found.weight


def _read(store: Store, generation: str) -> tuple[str, bytes | None, TunedFusion | None]:
    """Key, content and record of a generation's weight."""
    key = f"{generation_key(generation)}/fusion.json"
    raw = store.read(key)
    return key, raw, None if raw is None else TunedFusion.model_validate_json(raw)


def judged_task(store: Store, settings: Settings) -> EvalTask:
    """Load the task whose judgments tune the weight.

    Raises:
        InputError: The settings name no judged task, or the task is not a retrieval task.
        EvalTaskError: The folder of the task cannot be used.
    """
    from data.sample.eval_tasks import write_sample_tasks
    from llm2vec_core.evaluation.tasks.folders import load_eval_task

    judged = settings.match.judged
    if judged is None:
        raise InputError(
            "match.fusion is 'tuned', but match.judged names no judgments.",
            hint="Set match.judged to the folder of a retrieval task with queries like your jobs and a corpus like "
            "your resumes, or set match.fusion to 'rrf'.",
        )
    folder = Path(judged).expanduser()
    with store.scratch() as scratch:
        task = load_eval_task(folder if folder.is_dir() else write_sample_tasks(scratch, [judged])[0])
    if task.type != "Retrieval":
        raise InputError(
            f"The task {task.name} is of type {task.type}; match.judged expects Retrieval.",
            hint="Set match.judged to a task whose judgments say which documents are relevant for a query.",
        )
    return task


def _judge(store: Store, settings: Settings, checkpoint: str, task: EvalTask) -> list[JudgedQuery]:
    """Scores and relevance of each judged query's candidates, as search would find them."""
    relevance: dict[str, dict[str, float]] = {}
    for row in task.tables["qrels"]:
        relevance.setdefault(row["query"], {})[row["document"]] = float(row["score"])
    corpus = task.tables["corpus"]
    position = {row["_id"]: at for at, row in enumerate(corpus)}
    documents = [encoded_text(row.get("title", ""), row["text"]) for row in corpus]
    queries = [row for row in task.tables["queries"] if row["_id"] in relevance]
    encoder = load_encoder(checkpoint_dir(store, checkpoint), settings.encode)
    texts = [row["text"] for row in queries]
    with progress_bar("tune the weight of the vectors", len(documents) + len(texts)) as advance:

        def count(num_texts: int) -> None:
            advance(num_texts, task.name)

        vectors = encode_documents(encoder, documents, "resume", settings.encode, on_progress=count).vectors
        asked = encode_documents(encoder, texts, "job", settings.encode, on_progress=count).vectors
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
