"""Our task folders as mteb tasks: one class per type, in memory, with mteb's own protocol.

Importing this module imports mteb, which is slow, so it is imported only to build a task.
Belongs here: converting rows to the data sets that mteb's task classes expect. Does not belong here: metrics,
classifiers, clustering or sampling. They are mteb's own, unchanged, so that our scores are comparable with mteb's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset, DatasetDict
from mteb.abstasks import AbsTaskClassification, AbsTaskClustering, AbsTaskPairClassification, AbsTaskRetrieval
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.abstasks.text.summarization import AbsTaskSummarization

from llm2vec_core.errors import EvalTaskError
from llm2vec_core.evaluation.tasks.folders import EvalTask
from llm2vec_core.evaluation.tasks.layouts import TaskRow
from llm2vec_core.evaluation.tasks.types import EvalTaskType

SPLIT = "test"


class _LocalTask(AbsTask):
    """Base of all types: metadata with the content hash as revision, and nothing to download."""

    def __init__(self, eval_task: EvalTask) -> None:
        self.metadata = _metadata(eval_task)
        self.tables = eval_task.tables
        super().__init__()

    def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:  # noqa: ANN401 (mteb's signature)
        """Store the rows where mteb's task class expects them."""
        if not self.data_loaded:
            self.dataset = self.build_dataset()
            self.data_loaded = True

    def build_dataset(self) -> Any:  # noqa: ANN401 (mteb's types differ by task)
        """The data set of the type."""
        raise NotImplementedError

    def _add_main_score(self, scores: Any) -> None:  # noqa: ANN401 (mteb's signature)
        """Refuse a main score in ``task.json`` that is not computed, and list the computed ones."""
        if self.metadata.main_score not in scores:
            metrics = ", ".join(name for name, value in scores.items() if isinstance(value, float))
            raise EvalTaskError(
                f"The task {self.metadata.name} asks for the main score {self.metadata.main_score!r}, "
                f"which mteb does not compute for {self.metadata.type}.",
                hint=f"Computed: {metrics}.",
            )
        super()._add_main_score(scores)


class LocalSTS(_LocalTask, AbsTaskSTS):
    """Semantic textual similarity: Spearman correlation of cosine similarity with human scores from 0 to 5."""

    def build_dataset(self) -> DatasetDict:
        """Pairs with their scores."""
        return _one_split(_columns(self.tables["pairs"], "sentence1", "sentence2", "score"))


class LocalPairClassification(_LocalTask, AbsTaskPairClassification):
    """Pair classification: average precision of similarity as a classifier of pairs with the same meaning."""

    def build_dataset(self) -> DatasetDict:
        """Pairs with labels; mteb calls the column ``labels``."""
        columns = _columns(self.tables["pairs"], "sentence1", "sentence2")
        return _one_split(columns | {"labels": [int(row["label"]) for row in self.tables["pairs"]]})


class LocalClassification(_LocalTask, AbsTaskClassification):
    """Classification: logistic regression on 8 texts per label, ten draws, mean accuracy."""

    def build_dataset(self) -> DatasetDict:
        """Training and test split; labels become numbers in the order of their names."""
        numbers = {label: number for number, label in enumerate(sorted({row["label"] for row in self.tables["train"]}))}
        splits = {}
        for split in ("train", "test"):
            rows = self.tables[split]
            splits[split] = Dataset.from_dict(
                {"text": [row["text"] for row in rows], "label": [numbers[row["label"]] for row in rows]}
            )
        return DatasetDict(splits)


class LocalClustering(_LocalTask, AbsTaskClustering):
    """Clustering: V-measure of mini-batch k-means, ten draws, over all items (as mteb's v2 tasks of this size)."""

    max_fraction_of_documents_to_embed = None

    def build_dataset(self) -> DatasetDict:
        """Items with their labels; mteb calls the columns ``sentences`` and ``labels``."""
        rows = self.tables["items"]
        return _one_split({"sentences": [row["text"] for row in rows], "labels": [str(row["label"]) for row in rows]})


class LocalRetrieval(_LocalTask, AbsTaskRetrieval):
    """Retrieval: every document of the corpus is ranked for every query; recall at 50 beside mteb's cutoffs."""

    k_values = (1, 3, 5, 10, 20, 50, 100, 1000)

    def build_dataset(self) -> dict[str, dict[str, RetrievalSplitData]]:
        """Corpus, queries and judgments."""
        corpus = [
            {"id": row["_id"], "title": row.get("title") or "", "text": row["text"]} for row in self.tables["corpus"]
        ]
        queries = [{"id": row["_id"], "text": row["text"]} for row in self.tables["queries"]]
        relevant: dict[str, dict[str, int]] = {query["id"]: {} for query in queries}
        for row in self.tables["qrels"]:
            if row["query"] in relevant:
                relevant[row["query"]][row["document"]] = row["score"]
        return _retrieval_split(corpus, queries, relevant)


class LocalReranking(_LocalTask, AbsTaskRetrieval):
    """Reranking: the positives and negatives of a query are ranked; mteb runs it as retrieval among given candidates.

    Source of the identities: mteb ``abstasks/text/reranking.py``, ``_process_example``. They break ties.
    """

    def build_dataset(self) -> dict[str, dict[str, RetrievalSplitData]]:
        """One small corpus per query, as ``top_ranked``."""
        corpus, queries = [], []
        relevant: dict[str, dict[str, int]] = {}
        candidates: dict[str, list[str]] = {}
        for number, row in enumerate(self.tables["samples"]):
            query = f"{SPLIT}_query{number}"
            queries.append({"id": query, "text": row["query"]})
            documents = [
                (f"{kind}_{query}_{position:05d}", text, relevance)
                for kind, texts, relevance in (("apositive", row["positive"], 1), ("negative", row["negative"], 0))
                for position, text in enumerate(texts)
            ]
            corpus += [{"id": identity, "title": "", "text": text} for identity, text, _ in documents]
            relevant[query] = {identity: relevance for identity, _, relevance in documents}
            candidates[query] = [identity for identity, _, _ in documents]
        return _retrieval_split(corpus, queries, relevant, candidates)


class LocalSummarization(_LocalTask, AbsTaskSummarization):
    """Summarization: mean Spearman correlation of similarity to a human summary with human judgment, per text."""

    min_score = 0  # only their linear scale is set here, and no metric of the type depends on it
    max_score = 1

    def build_dataset(self) -> DatasetDict:
        """Texts with human and machine summaries."""
        names = ("text", "human_summaries", "machine_summaries", "relevance")
        return _one_split(_columns(self.tables["samples"], *names))


_CLASSES: dict[EvalTaskType, type[_LocalTask]] = {
    "STS": LocalSTS,
    "PairClassification": LocalPairClassification,
    "Classification": LocalClassification,
    "Clustering": LocalClustering,
    "Retrieval": LocalRetrieval,
    "Reranking": LocalReranking,
    "Summarization": LocalSummarization,
}


def build_mteb_task(eval_task: EvalTask) -> AbsTask:
    """A loaded mteb task over our rows; mteb would empty a task whose data it loaded itself."""
    task = _CLASSES[eval_task.type](eval_task)
    task.load_data()
    return task


def _metadata(eval_task: EvalTask) -> TaskMetadata:
    """The metadata of a task for mteb; the content hash as revision prevents reuse of results for other data."""
    return TaskMetadata(
        name=eval_task.name,
        description=f"Local evaluation task {eval_task.name}.",
        dataset={"path": "local", "revision": eval_task.content_sha256},
        type=eval_task.type,
        category="t2t",
        modalities=["text"],
        eval_splits=[SPLIT],
        eval_langs=[eval_task.language],
        main_score=eval_task.main_score,
        prompt=eval_task.instruction,
    )


def _columns(rows: Sequence[TaskRow], *names: str) -> dict[str, list[Any]]:
    """Rows as columns."""
    return {name: [row[name] for row in rows] for name in names}


def _one_split(columns: dict[str, list[Any]]) -> DatasetDict:
    """A data set with only the scored split."""
    return DatasetDict({SPLIT: Dataset.from_dict(columns)})


def _retrieval_split(
    corpus: list[TaskRow],
    queries: list[TaskRow],
    relevant: dict[str, dict[str, int]],
    candidates: dict[str, list[str]] | None = None,
) -> dict[str, dict[str, RetrievalSplitData]]:
    """The nesting that mteb expects: subset, then split."""
    split = RetrievalSplitData(
        corpus=Dataset.from_list(corpus),
        queries=Dataset.from_list(queries),
        relevant_docs=relevant,
        top_ranked=candidates,
    )
    return {"default": {SPLIT: split}}
