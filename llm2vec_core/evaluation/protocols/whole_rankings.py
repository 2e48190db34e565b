"""Rankings of a whole corpus, scored as WorkRB and TalentCLEF score them.

mteb keeps the first thousand documents of a ranking. These benchmarks score the ranking to its last document: the
reciprocal rank of the first relevant one (MRR), mean average precision (MAP), and R-precision at 5 and 10. R-precision
divides the relevant documents found by the smaller of the cutoff and their number.

Source: WorkRB 0.6.0, ``workrb.metrics.ranking``; arXiv 2604.13055. A test compares both on random rankings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int

from llm2vec_core.evaluation.metrics import WHOLE_RANKING_METRICS
from llm2vec_core.evaluation.protocols.documents import DocumentVectors, normalise
from llm2vec_core.evaluation.statistics.observations import MeanOfItems, Observations
from llm2vec_core.evaluation.systems import System
from llm2vec_core.evaluation.tasks.folders import EvalTask
from llm2vec_core.evaluation.tasks.queries import QueryScores
from llm2vec_core.ranking.lexical import LexicalIndex

_QUERIES_AT_ONCE = 256


def rank_whole(system: System, eval_task: EvalTask) -> tuple[dict[str, float], list[Observations], QueryScores]:
    """Rank every document of a retrieval task for every query.

    Args:
        system: A dense or a lexical system.
        eval_task: A retrieval task.

    Returns:
        The metrics from 0 to 100, the main score of each query, and all scores of each query.
    """
    queries = sorted(eval_task.tables["queries"], key=lambda row: str(row["_id"]))
    corpus = eval_task.tables["corpus"]
    positions = {row["_id"]: at for at, row in enumerate(corpus)}
    relevant: dict[str, list[int]] = {row["_id"]: [] for row in queries}
    for row in eval_task.tables["qrels"]:
        if row["score"] > 0 and row["query"] in relevant:
            relevant[row["query"]].append(positions[row["document"]])
    documents = [(row.get("title") or "", row["text"]) for row in corpus]
    scorer = _scorer(system, documents, instruction=eval_task.instruction)
    by_metric: dict[str, list[float]] = {name: [] for name in WHOLE_RANKING_METRICS}
    first: list[str] = []
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        block = queries[start : start + _QUERIES_AT_ONCE]
        for row, scores in zip(block, scorer([query["text"] for query in block]), strict=True):
            for name, value in score_ranking(scores, relevant[row["_id"]]).items():
                by_metric[name].append(100.0 * value)
            first.append(corpus[int(np.argmax(scores))]["_id"])
    values = {name: np.array(listed) for name, listed in by_metric.items()}
    main = MeanOfItems(values[eval_task.main_score])
    return {name: float(each.mean()) for name, each in values.items()}, [main], QueryScores(values, first)


def score_ranking(scores: Float[np.ndarray, " documents"], relevant: Sequence[int]) -> dict[str, float]:
    """The metrics of one query, from 0 to 1.

    Args:
        scores: Score of every document; higher is better. Equal scores are ranked by position.
        relevant: Positions of the relevant documents, at least one.
    """
    ranks = np.sort(_ranks(scores, np.unique(np.asarray(relevant))))
    found = np.arange(1, len(ranks) + 1)
    at_cutoff = {f"rp_at_{cutoff}": float((ranks <= cutoff).sum() / min(cutoff, len(ranks))) for cutoff in (5, 10)}
    return {"mrr": float(1 / ranks[0]), "map": float((found / ranks).mean()), **at_cutoff}


def _ranks(scores: Float[np.ndarray, " documents"], positions: Int[np.ndarray, " some"]) -> Int[np.ndarray, " some"]:
    """Rank of documents from one, without sorting the whole corpus."""
    own = scores[positions][:, None]
    before = np.arange(len(scores))[None, :] < positions[:, None]
    ranks: Int[np.ndarray, " some"] = 1 + ((scores > own) | ((scores == own) & before)).sum(axis=1)
    return ranks


def _scorer(
    system: System, documents: Sequence[tuple[str, str]], *, instruction: str | None
) -> Callable[[Sequence[str]], Float[np.ndarray, "queries documents"]]:
    """A function from query texts to the scores of all documents."""
    if system.encoder is None:
        expand = system.expansion.expand if system.expansion is not None else "{} {}".format
        texts = [expand(title, text).strip() for title, text in documents]
        index = LexicalIndex.of_texts(texts, variant="okapi")
        return lambda queries: index.scores_of([index.numbers(query) for query in queries])
    encoder, found = system.encoder, DocumentVectors(system.encoder, documents, expansion=system.expansion)
    prompt = f"{instruction.strip()} " if system.instructed and instruction else None
    return lambda queries: found.cosines(normalise(encoder.encode(queries, prompt=prompt)))
