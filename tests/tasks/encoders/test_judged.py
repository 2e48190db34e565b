"""Judgments that are not trained on, and training sets that a report discloses."""

import json

import pytest

from data.errors import InputError
from tasks.encoders.judged import read_all_judgments, training_sets, without_evaluated
from tasks.encoders.pins import _pin_key
from tasks.run.reports import CheckpointRef, TrainReport
from tasks.run.settings import EvaluateSettings, JudgmentSettings, Settings


@pytest.fixture
def judged(tmp_path):
    rows = [("RGN", "nurse"), ("ward nurse", "nurse"), ("pastry chef", "baker")]
    path = tmp_path / "judged.jsonl"
    path.write_text("".join(json.dumps({"anchor": anchor, "positive": positive}) + "\n" for anchor, positive in rows))
    return path


@pytest.fixture
def tasks_dir(tmp_path):
    folder = tmp_path / "tasks" / "Titles"
    folder.mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(json.dumps({"_id": "n", "title": "", "text": "nurse"}) + "\n")
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "rgn"}) + "\n")
    (folder / "qrels.tsv").write_text("q\td\ts\nq\tn\t1\n")
    (folder / "task.json").write_text(json.dumps({"name": "Titles", "type": "Retrieval", "main_score": "mrr_at_10"}))
    return folder.parent


def test_judgments_with_an_evaluated_text_are_left_out_and_counted(judged, tasks_dir):
    """The label nurse is a document that other judgments may name; the query is not to be trained on."""
    read = read_all_judgments(JudgmentSettings(sources=[str(judged)]))
    left, left_out = without_evaluated(read, [str(tasks_dir)])
    assert [each.anchor for each in left] == ["ward nurse", "pastry chef"]
    assert left_out == {"Titles": 1}
    assert without_evaluated(read, []) == (read, {})
    ref = CheckpointRef(fingerprint="f" * 64, label="x", trained=True)
    report = TrainReport(checkpoint=ref, recipe_key="k", steps=1, tokens=1, seconds=1.0, left_out=left_out)
    assert "1 of Titles" in report.sentence()


def test_the_pin_of_a_recipe_follows_what_is_left_out_only_if_something_is(judged):
    train = {"stages": ["supervised"]}
    plain, empty, some = (
        Settings(train=train, judgments={"sources": [str(judged)], **more})
        for more in ({}, {"leave_out": []}, {"leave_out": ["tasks"]})
    )
    assert _pin_key(plain) == _pin_key(empty) != _pin_key(some)


def test_training_sets_are_those_of_the_recipe_and_of_its_base(judged, tmp_path):
    evaluate = EvaluateSettings(trained_on=["bundled:sample", str(tmp_path / "absent.jsonl")])
    chosen = JudgmentSettings(sources=[str(judged)])
    with pytest.raises(InputError, match=r"absent\.jsonl"):
        training_sets(chosen, evaluate)
    found = training_sets(chosen, evaluate.model_copy(update={"skip_missing_tasks_dirs": True}))
    assert set(found) == {"judged.jsonl", "bundled:sample"}
    assert found["judged.jsonl"] == ["RGN", "nurse", "ward nurse", "pastry chef", "baker"]
