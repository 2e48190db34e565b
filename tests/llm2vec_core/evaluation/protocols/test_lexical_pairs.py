"""BM25 as a similarity of two texts."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm2vec_core.errors import EvalTaskError
from llm2vec_core.evaluation.protocols.lexical_pairs import lexical_similarities, observe_lexical_pairs
from llm2vec_core.evaluation.statistics.observations import AveragePrecision, Correlation, score_all
from llm2vec_core.evaluation.tasks.folders import load_eval_task
from llm2vec_core.ranking.lexical import ReferenceIndex

MakeTask = Callable[..., Path]

_texts = st.lists(st.sampled_from(["nurse", "ward", "chef", "night"]), max_size=4).map(" ".join)


def test_similarity_by_hand() -> None:
    """Six texts, two of which hold "nurse"; Okapi BM25 with k1 = 1.5 and b = 0.75."""
    pairs = [("nurse", "nurse ward"), ("chef", "driver"), ("cook", "teacher")]
    idf = math.log((6 - 2 + 0.5) / (2 + 0.5))
    mean_length = 7 / 6
    of_two_words = 2.5 / (1 + 1.5 * (0.25 + 0.75 * 2 / mean_length))
    of_one_word = 2.5 / (1 + 1.5 * (0.25 + 0.75 * 1 / mean_length))
    expected = [idf * (of_two_words + of_one_word) / 2, 0, 0]
    assert lexical_similarities(pairs).tolist() == pytest.approx(expected, rel=1e-6)


@given(st.lists(st.tuples(_texts, _texts), min_size=1, max_size=8))
def test_similarity_is_symmetric_and_the_mean_of_both_searches(pairs: list[tuple[str, str]]) -> None:
    found = lexical_similarities(pairs)
    # the other way round the texts are counted in another order, which BM25 must not notice
    assert lexical_similarities([(second, first) for first, second in pairs]) == pytest.approx(found, rel=1e-6)
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    index = ReferenceIndex(texts)
    for similarity, (first, second) in zip(found, pairs, strict=True):
        searched = index.scores(first)[texts.index(second)], index.scores(second)[texts.index(first)]
        assert similarity == pytest.approx(np.mean(searched), rel=1e-5)
        assert (similarity > 0) == bool(set(first.split()) & set(second.split()))


@pytest.mark.parametrize(
    ("task_type", "main_score", "kind"),
    [
        ("STS", "cosine_spearman", Correlation),
        ("STS", "pearson", Correlation),
        ("PairClassification", "max_ap", AveragePrecision),
        ("PairClassification", "cosine_ap", AveragePrecision),
    ],
)
def test_pairs_are_observed_in_their_order(make_task: MakeTask, task_type: str, main_score: str, kind: type) -> None:
    eval_task = load_eval_task(make_task(task_type, main_score=main_score))
    observed = observe_lexical_pairs(eval_task)
    rows = eval_task.tables["pairs"]
    similarities = lexical_similarities([(row["sentence1"], row["sentence2"]) for row in rows])
    assert isinstance(observed, kind)
    if isinstance(observed, Correlation):
        assert observed.by_rank == main_score.endswith("spearman")
        assert observed.gold.tolist() == [row["score"] for row in rows]
        assert observed.predicted == pytest.approx(similarities)
    if isinstance(observed, AveragePrecision):
        assert observed.labels.tolist() == [row["label"] for row in rows]
        assert observed.similarities == pytest.approx(similarities)
    assert score_all(observed) > 75  # pairs that mean the same share their words


@pytest.mark.parametrize(
    ("task_type", "main_score"),
    [("STS", "max_ap"), ("PairClassification", "max_f1"), ("PairClassification", "cosine_spearman")],
)
def test_an_unknown_metric_is_refused_by_name(make_task: MakeTask, task_type: str, main_score: str) -> None:
    eval_task = load_eval_task(make_task(task_type, main_score=main_score))
    with pytest.raises(EvalTaskError, match=f"{eval_task.name} by {main_score}") as caught:
        observe_lexical_pairs(eval_task)
    assert "max_ap" in caught.value.hint and "cosine_spearman" in caught.value.hint
