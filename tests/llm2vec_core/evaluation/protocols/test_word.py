import json
import logging
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from sklearn.metrics import accuracy_score

from llm2vec_core.errors import CoreError, EvalTaskError
from llm2vec_core.evaluation.protocols import word
from llm2vec_core.evaluation.protocols.word import are_entity_tags, probe_words, score_tags
from llm2vec_core.evaluation.tasks.folders import EvalTask, load_eval_task

MakeTask = Callable[..., Path]

TAGS = ["O", "B-NP", "I-NP", "B-VP", "I-VP", "I-PP"]


class GivenStates:
    """Word states made by a function of the words; notes how they were asked for."""

    def __init__(self, states: Callable[[Sequence[str]], np.ndarray]) -> None:
        self.states = states
        self.asked: list[bool] = []

    def encode_words(self, sentences: Sequence[Sequence[str]], *, label_shift: bool = False) -> np.ndarray:
        self.asked.append(label_shift)
        return self.states([token for sentence in sentences for token in sentence])


def _tagged_task(
    tags: Sequence[Sequence[str]], test_tags: Sequence[Sequence[str]], main_score: str = "accuracy"
) -> EvalTask:
    """A task whose words are their own tags, so that states can be planted."""
    tables = {
        stem: [{"tokens": list(row), "tags": list(row)} for row in rows]
        for stem, rows in (("train", tags), ("test", test_tags))
    }
    return EvalTask(
        name="Planted",
        type="TokenClassification",
        main_score=main_score,
        language="eng-Latn",
        content_sha256="0",
        num_items=len(test_tags),
        is_official=False,
        tables=tables,
    )


def _one_hot(words: Sequence[str]) -> np.ndarray:
    names = ["O", "B-NP", "I-NP", "B-VP", "I-VP", "I-PP", "NN", "VB", "B-NEW"]
    return np.eye(len(names), dtype=np.float32)[[names.index(word) for word in words]]


def _random_states(words: Sequence[str]) -> np.ndarray:
    return np.random.default_rng(len(words)).standard_normal((len(words), 8)).astype(np.float32)


def test_counts_by_hand() -> None:
    gold = [["B-NP", "I-NP", "O", "B-VP"], ["O", "B-NP"], ["O"]]
    predicted = [["B-NP", "I-NP", "I-NP", "B-VP"], ["B-NP", "I-NP"], ["O"]]
    result = score_tags(gold, predicted, marks_entities=True)
    assert result.correct.tolist() == [3, 0, 1]
    assert result.num_words.tolist() == [4, 2, 1]
    # the first NP is one word too long, VP is right; the second NP begins one word too early
    assert result.true_positives.tolist() == [1, 0, 0]
    assert result.num_predicted.tolist() == [2, 1, 0]
    assert result.num_gold.tolist() == [2, 1, 0]
    thirds = 100 / 3
    assert result.metrics == pytest.approx(
        {"accuracy": 400 / 7, "precision": thirds, "recall": thirds, "f1": thirds}, abs=1e-9
    )


def test_without_entities_there_is_only_accuracy() -> None:
    result = score_tags([["NN", "VB"]], [["NN", "NN"]], marks_entities=False)
    assert result.metrics == {"accuracy": 50.0}
    assert result.true_positives.tolist() == result.num_predicted.tolist() == result.num_gold.tolist() == [0]


def test_no_entity_anywhere_scores_zero() -> None:
    assert score_tags([["O"]], [["O"]], marks_entities=True).metrics["f1"] == 0.0


@pytest.mark.parametrize("bare", [False, True])
@given(data=st.data())
def test_counts_give_the_scores_of_seqeval_and_sklearn(bare: bool, data: st.DataObject) -> None:
    tag = st.sampled_from(["O", "B", "I"] if bare else TAGS)
    pairs = data.draw(st.lists(st.lists(st.tuples(tag, tag), min_size=1, max_size=8), min_size=1, max_size=6))
    gold, predicted = ([[pair[side] for pair in sentence] for sentence in pairs] for side in (0, 1))
    result = score_tags(gold, predicted, marks_entities=True)
    expected = {
        "accuracy": accuracy_score([*chain(*gold)], [*chain(*predicted)]),
        "precision": precision_score(gold, predicted, zero_division=0),
        "recall": recall_score(gold, predicted, zero_division=0),
        "f1": f1_score(gold, predicted, zero_division=0),
    }
    assert result.metrics == pytest.approx({name: 100 * value for name, value in expected.items()}, abs=1e-9)
    assert result.metrics["accuracy"] == pytest.approx(100 * result.correct.sum() / result.num_words.sum(), abs=1e-9)
    if num_entities := result.num_predicted.sum() + result.num_gold.sum():
        f1 = 200 * result.true_positives.sum() / num_entities
        assert result.metrics["f1"] == pytest.approx(f1, abs=1e-9)


def test_which_tags_mark_entities() -> None:
    assert are_entity_tags(TAGS)
    assert are_entity_tags(["B", "I", "O"])
    assert not are_entity_tags(["O"])
    assert not are_entity_tags(["NN", "IN", "O"])
    assert not are_entity_tags(["B-NP", "NP"])


def test_states_that_are_the_tag_score_all_and_random_ones_no_better_than_the_majority() -> None:
    rng = np.random.default_rng(0)
    tags = [list(rng.choice(["NN", "VB"], size=6, p=[0.7, 0.3])) for _ in range(150)]
    task = _tagged_task(tags[:100], tags[100:])
    assert probe_words(GivenStates(_one_hot), task, label_shift=False).metrics == {"accuracy": 100.0}
    majority = 100 * np.mean([tag == "NN" for sentence in tags[100:] for tag in sentence])
    chance = probe_words(GivenStates(_random_states), task, label_shift=False)
    assert chance.metrics["accuracy"] == pytest.approx(majority, abs=4)


def test_scale_of_the_states_does_not_matter() -> None:
    tags = [["B-NP", "I-NP", "O"], ["O", "B-VP"]] * 20
    task = _tagged_task(tags, tags, "f1")
    for scale in (1e-6, 1e6):
        states = GivenStates(lambda words, scale=scale: _one_hot(words) * np.float32(scale))
        assert probe_words(states, task, label_shift=False).metrics["f1"] == 100.0


def test_a_test_tag_that_training_lacks_is_an_error() -> None:
    task = _tagged_task([["B-NP", "I-NP", "O"]] * 20, [["B-NP", "O"], ["B-NEW"]], "f1")
    result = probe_words(GivenStates(_one_hot), task, label_shift=False)
    assert result.correct.tolist() == [2, 0]
    assert result.num_gold.tolist() == [1, 1]
    assert result.metrics["recall"] == 50.0


def test_a_task_folder_is_probed_the_same_each_time(make_task: MakeTask, make_encoder: Callable[..., object]) -> None:
    task = load_eval_task(make_task("TokenClassification"))
    first = probe_words(make_encoder(), task, label_shift=False)
    again = probe_words(make_encoder(), task, label_shift=False, seed=7)
    assert first.metrics["f1"] == 100.0
    assert first.metrics == again.metrics
    assert np.array_equal(first.correct, again.correct)


def test_one_token_earlier_is_another_reading(make_task: MakeTask, make_encoder: Callable[..., object]) -> None:
    task = load_eval_task(make_task("TokenClassification"))
    shifted = probe_words(make_encoder(), task, label_shift=True)
    # the word before tells every tag of these sentences, too
    assert shifted.metrics["accuracy"] == 100.0
    given_states = GivenStates(_one_hot)
    planted = _tagged_task([["NN", "VB"]] * 5, [["NN", "VB"]])
    probe_words(given_states, planted, label_shift=True)
    probe_words(given_states, planted, label_shift=False)
    assert given_states.asked == [True, True, False, False]


def test_a_fit_that_is_stopped_is_logged_and_nothing_warns(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(word, "_MAX_ITERATIONS", 2)
    tags = [["NN", "VB", "NN", "NN"]] * 30
    with caplog.at_level(logging.INFO, logger=word.__name__):
        probe_words(GivenStates(_random_states), _tagged_task(tags, tags), label_shift=False)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "Planted, probe after 2 iterations: lbfgs failed to converge" in record.message


def test_faults_are_named() -> None:
    task = _tagged_task([["NN", "VB"]] * 5, [["NN", "VB"]])
    with pytest.raises(CoreError, match="9 word states for 10 words"):
        probe_words(GivenStates(lambda words: _one_hot(words)[1:]), task, label_shift=False)
    with pytest.raises(CoreError, match="not finite"):
        probe_words(GivenStates(lambda words: _one_hot(words) * np.nan), task, label_shift=False)


def test_a_main_score_that_the_tags_do_not_allow_is_refused_before_encoding(make_task: MakeTask) -> None:
    encoder = GivenStates(_one_hot)
    with pytest.raises(EvalTaskError, match="'f1', but its tags do not mark entities") as caught:
        probe_words(encoder, _tagged_task([["NN", "VB"]], [["NN"]], "f1"), label_shift=False)
    assert "accuracy" in caught.value.hint
    with pytest.raises(EvalTaskError, match="has the type STS; expected TokenClassification"):
        probe_words(encoder, load_eval_task(make_task("STS")), label_shift=False)
    assert encoder.asked == []


def test_tags_of_the_folder_decide_not_those_of_the_prediction(make_task: MakeTask) -> None:
    folder = make_task("TokenClassification")
    (folder / "test.jsonl").write_text(json.dumps({"tokens": ["works", "at"], "tags": ["O", "O"]}) + "\n")
    result = probe_words(
        GivenStates(lambda words: np.array([[len(word)] for word in words], dtype=np.float32)),
        load_eval_task(folder),
        label_shift=False,
    )
    assert set(result.metrics) == {"accuracy", "precision", "recall", "f1"}
