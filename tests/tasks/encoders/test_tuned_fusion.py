"""Fusion weights from judged pairs: tuned once, stored with the generation, served from there."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest

from data.errors import FencedError, InputError
from llm2vec_core.errors import EvalTaskError
from tasks.encoders.tuned_fusion import served_weight, tune_fusion
from tasks.run.settings import MatchSettings, Settings


def write_task(folder, num_queries, *, kind="Retrieval"):
    """Words solve it, and every text has a number that an encoder may see."""
    folder.mkdir()
    (folder / "task.json").write_text(json.dumps({"name": "Judged", "type": kind, "main_score": "ndcg_at_10"}))
    for stem in ("queries", "corpus"):
        rows = [json.dumps({"_id": f"{stem[0]}{n}", "title": "", "text": f"w{n} post"}) for n in range(num_queries)]
        (folder / f"{stem}.jsonl").write_text("\n".join(rows))
    qrels = [f"q{n}\tc{n}\t1" for n in range(num_queries)]
    (folder / "qrels.tsv").write_text("\n".join(["q\td\ts", *qrels]))
    return folder


@pytest.fixture
def encoded(monkeypatch):
    """Encoders of noise; what was encoded as which kind."""
    calls = []

    def encode(encoder, texts, kind, settings, *, on_progress):
        calls.append((kind, len(texts)))
        on_progress(len(texts))
        noise = np.random.default_rng(len(calls)).standard_normal((len(texts), 8)).astype(np.float32)
        return SimpleNamespace(vectors=noise / np.linalg.norm(noise, axis=1, keepdims=True))

    monkeypatch.setattr("tasks.encoders.tuned_fusion.encode_documents", encode)
    monkeypatch.setattr("tasks.encoders.tuned_fusion.load_encoder", lambda directory, budget: None)
    return calls


def settings_of(folder, judged, **match):
    return Settings(home=str(folder / "home"), match=MatchSettings(fusion="tuned", judged=judged, **match))


@pytest.fixture
def tune(make_run):
    def tune(settings, fence=lambda: None):
        return tune_fusion(make_run(settings, fence=fence), generation="g", checkpoint="f")

    return tune


def test_a_leg_that_sees_nothing_gets_no_weight_to_speak_of(tmp_path, encoded, tune, make_pointer):
    settings = settings_of(tmp_path, str(write_task(tmp_path / "task", 60)))
    assert served_weight(settings, settings.store(), make_pointer()) is None
    found = tune(settings)
    assert found.weight == served_weight(settings, settings.store(), make_pointer()) <= 0.5
    assert found.low <= found.weight <= found.high
    assert encoded == [("resume", 60), ("job", 60)]
    assert "60 judged queries of Judged" in found.sentence()


def test_a_weight_is_tuned_once_for_the_same_judgments(tmp_path, encoded, tune):
    settings = settings_of(tmp_path, str(write_task(tmp_path / "task", 60)))
    first = tune(settings)
    assert tune(settings) == first
    assert len(encoded) == 2
    tune(settings_of(tmp_path, str(write_task(tmp_path / "other", 61))))
    assert len(encoded) == 4
    tune(settings_of(tmp_path, str(tmp_path / "other"), candidates=7))
    assert len(encoded) == 6


def test_few_judgments_leave_fusion_by_rank_and_say_so(tmp_path, encoded, tune, caplog, make_pointer):
    settings = settings_of(tmp_path, str(write_task(tmp_path / "task", 49)))
    assert tune(settings).weight is None
    assert encoded == []
    with caplog.at_level(logging.WARNING, "tasks.encoders.tuned_fusion"):
        assert served_weight(settings, settings.store(), make_pointer()) is None
    assert "49 judged queries" in caplog.text


def test_without_the_setting_nothing_is_read(tmp_path, encoded, tune, make_pointer):
    tuned = settings_of(tmp_path, str(write_task(tmp_path / "task", 60)))
    tune(tuned)
    by_rank = tuned.model_copy(update={"match": MatchSettings()})
    assert tune(by_rank) is served_weight(by_rank, by_rank.store(), make_pointer()) is None


def test_what_cannot_tune_is_the_callers_mistake(tmp_path, encoded, tune):
    with pytest.raises(InputError, match="names no judgments"):
        tune(settings_of(tmp_path, None))
    with pytest.raises(InputError, match="No evaluation task 'absent'"):
        tune(settings_of(tmp_path, "absent"))
    with pytest.raises(InputError, match="is of type PairClassification"):
        tune(settings_of(tmp_path, "SkillParaphrasePairs"))
    with pytest.raises(EvalTaskError):
        tune(settings_of(tmp_path, str(tmp_path)))


def test_a_lost_lease_keeps_no_weight(tmp_path, encoded, tune):
    settings = settings_of(tmp_path, str(write_task(tmp_path / "task", 60)))

    def fence():
        raise FencedError("A newer writer took over.")

    with pytest.raises(FencedError):
        tune(settings, fence)
    assert list(settings.store().list("lance")) == []
