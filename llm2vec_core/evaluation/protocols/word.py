"""Word-level tasks: a linear probe predicts chunks, parts of speech and entities from frozen word states.

Source: LLM2Vec (BehnamGhader et al., 2024), section 3.1: the encoder is frozen, the states of a word's tokens are
averaged, and a linear classifier is trained on them. A model trained with MNTP is read one token earlier, where it
learned to predict the word. Two things differ. They train the classifier by gradient descent, with dropout, for a fixed
number of steps; here a logistic regression is fitted to convergence, so that a score depends only on the states. They
use CoNLL-2003; here the tags come with the task folder.

Belongs here: the probe and its counts, sentence by sentence. Does not belong here: the word states
(``llm2vec_core.encoding.encoder``), intervals and tests over the counts (``stats``), task folders (``folders``).
"""

from __future__ import annotations

import itertools
import logging
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float32, Int64

from llm2vec_core.errors import CoreError, EvalTaskError
from llm2vec_core.evaluation.tasks.folders import EvalTask
from llm2vec_core.evaluation.tasks.types import WORD_TASK_TYPE

logger = logging.getLogger(__name__)

Sentence = Sequence[str]
"""A sequence of words or tags."""

_ENTITY_TAG = re.compile(r"O|[BIES](-.+)?")
"""Tags that mark where entities begin and end, as seqeval reads them."""

_TOLERANCE = 1e-3
"""Slope of the mean loss below which the fit ends. A third of it took three times as long on the 211,691 words of
CoNLL-2000 (MiniLM's states) and gained 0.1 points of accuracy; three times as much lost 0.6."""
_MAX_ITERATIONS = 200
"""Maximum number of iterations of the fit; measured states needed 55. One takes about a second for 200,000 words of 576
numbers on one core."""


class WordEncoder(Protocol):
    """Encodes words in sentences; implemented by ``llm2vec_core.encoding.encoder.Encoder``."""

    def encode_words(
        self, sentences: Sequence[Sequence[str]], *, label_shift: bool = False
    ) -> Float32[np.ndarray, "num_words dim"]:
        """Last hidden states, averaged over the tokens of each word, for the words of all sentences in order.

        The array belongs to the caller, who may overwrite it.
        """


@dataclass(frozen=True, eq=False)
class WordResult:
    """Scores of the probe on the test sentences, and the underlying counts per sentence.

    ``accuracy`` is ``sum(correct) / sum(num_words)``; ``f1`` is ``2 * sum(true_positives) / (sum(num_predicted) +
    sum(num_gold))``. So both can be recomputed for any subset of sentences.

    Attributes:
        metrics: ``accuracy`` over words; if the tags mark entities also their ``precision``, ``recall`` and ``f1``.
            From 0 to 100.
        correct: Words with the right tag.
        num_words: Words.
        true_positives: Predicted entities that are in the test set with the same type, first and last word; zero if the
            tags mark no entities, as are the next two.
        num_predicted: Entities predicted.
        num_gold: Entities in the test set.
    """

    metrics: dict[str, float]
    correct: Int64[np.ndarray, " num_sentences"]
    num_words: Int64[np.ndarray, " num_sentences"]
    true_positives: Int64[np.ndarray, " num_sentences"]
    num_predicted: Int64[np.ndarray, " num_sentences"]
    num_gold: Int64[np.ndarray, " num_sentences"]


def probe_words(encoder: WordEncoder, eval_task: EvalTask, *, label_shift: bool, seed: int = 42) -> WordResult:
    """Fit a linear probe on the word states of the training sentences and tag the test sentences with it.

    States are standardised on the training words: the scale of states differs between models by orders of
    magnitude, so that the fit would be very slow or dominated by the penalty.

    Args:
        encoder: Returns the word states; it is not trained.
        eval_task: A word-level task.
        label_shift: Read a word one token earlier, for a model whose last training was MNTP.
        seed: Seed of the solver, which is deterministic: equal states give equal scores with any seed.

    Returns:
        Scores and counts. A test tag that no training word has cannot be predicted and counts as an error.

    Raises:
        EvalTaskError: The task is not a word-level task, or its tags do not allow its main score.
        CoreError: The number of states differs from the number of words, or states are not finite.
    """
    if eval_task.type != WORD_TASK_TYPE:
        raise EvalTaskError(
            f"The task {eval_task.name} has the type {eval_task.type}; expected {WORD_TASK_TYPE}.",
            hint="Tasks about whole texts are scored by mteb.",
        )
    tokens = {split: [row["tokens"] for row in eval_task.tables[split]] for split in ("train", "test")}
    tags = {split: [row["tags"] for row in eval_task.tables[split]] for split in ("train", "test")}
    marks_entities = are_entity_tags(itertools.chain(*tags["train"], *tags["test"]))
    _require_main_score(eval_task, marks_entities=marks_entities)
    states = {split: _word_states(encoder, tokens[split], label_shift=label_shift) for split in ("train", "test")}
    predicted = _fit_and_predict(
        states["train"], list(itertools.chain(*tags["train"])), states["test"], name=eval_task.name, seed=seed
    )
    return score_tags(tags["test"], _per_sentence(predicted, tags["test"]), marks_entities=marks_entities)


def are_entity_tags(tags: Iterable[str]) -> bool:
    """Whether tags mark entities: each is ``O``, or ``B`` or ``I`` (or ``E``, ``S``) alone or with ``-`` and a type."""
    distinct = set(tags)
    return distinct != {"O"} and all(_ENTITY_TAG.fullmatch(tag) for tag in distinct)


def score_tags(gold: Sequence[Sentence], predicted: Sequence[Sentence], *, marks_entities: bool) -> WordResult:
    """Compare predicted tags with the correct ones.

    Entities are found as seqeval finds them by default (as ``conlleval``: an ``I-`` tag that continues nothing begins
    an entity); one is correct if type, first and last word are.

    Args:
        gold: The correct tags, sentence by sentence.
        predicted: The predicted tags, of the same lengths.
        marks_entities: Whether to score entities, too.

    Returns:
        Scores and counts. A ratio with a zero denominator is 0.
    """
    correct = _counts(sum(map(str.__eq__, *pair)) for pair in zip(gold, predicted, strict=True))
    num_words = _counts(map(len, gold))
    entities = [[_entities(tags) if marks_entities else set() for tags in side] for side in (gold, predicted)]
    true_positives = _counts(len(there & found) for there, found in zip(*entities, strict=True))
    num_gold, num_predicted = (_counts(map(len, side)) for side in entities)
    metrics = {"accuracy": _percentage(correct, num_words)}
    if marks_entities:
        metrics |= {
            "precision": _percentage(true_positives, num_predicted),
            "recall": _percentage(true_positives, num_gold),
            "f1": _percentage(2 * true_positives, num_predicted + num_gold),
        }
    return WordResult(metrics, correct, num_words, true_positives, num_predicted, num_gold)


def _require_main_score(eval_task: EvalTask, *, marks_entities: bool) -> None:
    """Refuse a main score that is not computed, before encoding starts."""
    computed = ["accuracy", "precision", "recall", "f1"] if marks_entities else ["accuracy"]
    if eval_task.main_score not in computed:
        kind = "mark entities" if marks_entities else "do not mark entities"
        raise EvalTaskError(
            f"The task {eval_task.name} asks for the main score {eval_task.main_score!r}, but its tags {kind}.",
            hint=f"Computed: {', '.join(computed)}. Entities are marked by tags such as B-NP, I-NP and O.",
        )


def _word_states(
    encoder: WordEncoder, sentences: Sequence[Sentence], *, label_shift: bool
) -> Float32[np.ndarray, "num_words dim"]:
    """The checked states of all words, one row per word."""
    states = encoder.encode_words(sentences, label_shift=label_shift)
    num_words = sum(map(len, sentences))
    if len(states) != num_words:
        raise CoreError(f"The encoder returned {len(states)} word states for {num_words} words.")
    if not np.isfinite(states).all():
        raise CoreError(
            "The encoder returned word states that are not finite.", hint="Its weights are damaged, or training failed."
        )
    return states


def _fit_and_predict(
    train_states: Float32[np.ndarray, "num_train_words dim"],
    train_tags: Sequence[str],
    test_states: Float32[np.ndarray, "num_test_words dim"],
    *,
    name: str,
    seed: int,
) -> list[str]:
    """Tags of the test words by a logistic regression on the training words; overwrites both arrays."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    scaler = StandardScaler(copy=False)
    probe = LogisticRegression(C=1.0, solver="lbfgs", tol=_TOLERANCE, max_iter=_MAX_ITERATIONS, random_state=seed)
    # One BLAS thread: sums are then independent of the number of cores. Products this long and narrow are also many
    # times slower in several threads as soon as other processes use the cores.
    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        probe.fit(scaler.fit_transform(train_states), np.asarray(train_tags))
        predicted: list[str] = probe.predict(scaler.transform(test_states)).tolist()
    for warning in caught:
        logger.info("%s, probe after %d iterations: %s", name, probe.n_iter_[0], str(warning.message).split("\n")[0])
    return predicted


def _per_sentence(tags: Sequence[str], sentences: Sequence[Sentence]) -> list[list[str]]:
    """Tags of all words, split into sentences of these lengths."""
    remaining = iter(tags)
    return [list(itertools.islice(remaining, len(sentence))) for sentence in sentences]


def _entities(tags: Sentence) -> set[tuple[str, int, int]]:
    """Entities of a sentence: type, first word, last word."""
    from seqeval.metrics.sequence_labeling import get_entities

    return set(get_entities(list(tags)))


def _counts(values: Iterable[int]) -> Int64[np.ndarray, " num_sentences"]:
    return np.fromiter(values, dtype=np.int64)


def _percentage(part: Int64[np.ndarray, " n"], whole: Int64[np.ndarray, " n"]) -> float:
    """The sum of one as a percentage of the sum of the other; 0 if the latter is zero."""
    return 100.0 * float(part.sum()) / max(float(whole.sum()), 1.0)
