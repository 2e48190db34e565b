"""Training texts in evaluation tasks: what a report must disclose, and which judgments a training must leave out.

A text counts as seen if it is a training text, word by word, or shares eight words in a row with one. Texts with fewer
words count only as a whole. The texts that a task scores (queries, sentences, test texts) must not be trained on. The
documents of a corpus may be, such as the labels of a taxonomy, but a report has to say so.

Source: Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C, for overlap by n-grams.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from llm2vec_core.evaluation.results import TaskOverlap
from llm2vec_core.evaluation.tasks.folders import EvalTask
from llm2vec_core.training.settings import TrainingTriple

GRAM_WORDS = 8
"""Words in a row that make two texts overlap."""

_WORD = re.compile(r"\w+")
_SCORED: Mapping[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    # type: the tables and columns whose texts are scored
    "STS": (("pairs", ("sentence1", "sentence2")),),
    "PairClassification": (("pairs", ("sentence1", "sentence2")),),
    "Classification": (("test", ("text",)),),
    "Clustering": (("items", ("text",)),),
    "Retrieval": (("queries", ("text",)),),
    "Reranking": (("samples", ("query",)),),
    "Summarization": (("samples", ("text",)),),
}


class TextIndex:
    """Texts that can be asked whether another text overlaps with them.

    Args:
        texts: Any number of texts.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        """Index the word sequences of the texts."""
        self._grams = {gram for text in texts for gram in _grams(text)}

    def overlaps(self, text: str) -> bool:
        """Whether a text is one of the texts, or shares :data:`GRAM_WORDS` words in a row with one."""
        return any(gram in self._grams for gram in _grams(text))


@dataclass(frozen=True)
class Decontaminated:
    """Training examples without those that overlap with a scored text.

    Attributes:
        triples: The examples that are left, in their order.
        left_out: Number of examples left out, by the first task that they overlap with.
    """

    triples: list[TrainingTriple]
    left_out: dict[str, int]


def scored_texts(eval_task: EvalTask) -> list[str]:
    """Distinct texts of a task that must not be trained on."""
    found = (
        str(row[column])
        for table, columns in _SCORED.get(eval_task.type, ())
        for row in eval_task.tables[table]
        for column in columns
    )
    return list(dict.fromkeys(found))


def decontaminate(triples: Iterable[TrainingTriple], eval_tasks: Sequence[EvalTask]) -> Decontaminated:
    """Leave out training examples that overlap with a scored text of a task."""
    indexes = {eval_task.name: TextIndex(scored_texts(eval_task)) for eval_task in eval_tasks}
    kept: list[TrainingTriple] = []
    left_out = dict.fromkeys(indexes, 0)
    for triple in triples:
        texts = (triple.anchor, triple.positive, *triple.negatives)
        first = next((name for name, index in indexes.items() if any(map(index.overlaps, texts))), None)
        if first is None:
            kept.append(triple)
        else:
            left_out[first] += 1
    return Decontaminated(kept, left_out)


def disclose(eval_task: EvalTask, training_sets: Mapping[str, Iterable[str]]) -> list[TaskOverlap]:
    """What of a task is in training sets: its scored texts, and the documents of its corpus.

    Args:
        eval_task: The task.
        training_sets: Texts by the name of the set.

    Returns:
        One record for each set that the task overlaps with.
    """
    scored = scored_texts(eval_task)
    corpus = eval_task.tables.get("corpus", ())
    found = []
    for name, texts in training_sets.items():
        listed = list(texts)
        index, whole = TextIndex(listed), {_whole(text) for text in listed}
        # A short title is compared as a whole: it occurs in many texts.
        documents = sum(_whole(row.get("title") or "") in whole or index.overlaps(row["text"]) for row in corpus)
        num_scored = sum(map(index.overlaps, scored))
        if num_scored or documents:
            found.append(
                TaskOverlap(
                    task=eval_task.name,
                    training_set=name,
                    scored_seen=num_scored,
                    num_scored=len(scored),
                    documents_seen=documents,
                    num_documents=len(corpus),
                )
            )
    return found


def _whole(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.casefold()))


def _grams(text: str) -> Iterable[tuple[str, ...]]:
    """Sequences of eight words, or the whole of a shorter text; none of an empty one."""
    words = _WORD.findall(text.casefold())
    if not words:
        return ()
    if len(words) < GRAM_WORDS:
        return (tuple(words),)
    return zip(*(islice(words, start, None) for start in range(GRAM_WORDS)), strict=False)
