"""A night begins with what there is to do, and how long it took before."""

import logging
from types import SimpleNamespace

import pytest

from data.errors import InputError
from tasks.preview import outlook
from tasks.preview.outlook import log_outlook, outlook_sentence
from tasks.preview.records import StageEstimate


def took(*seconds):
    return [StageEstimate(stage="s", work="", seconds_low=each, seconds_high=each) for each in seconds]


@pytest.mark.parametrize(
    ("steps", "scores", "documents", "estimates", "expected"),
    [
        ({"mntp": 30, "simcse": 10}, 12, 481, took(60, 180, 120), "About 6 min: 40 training steps, up to 12 scores, "
         "481 documents to encode."),
        ({}, 0, 1, took(0, 0, 2), "About 2 s: 1 documents to encode."),
        ({}, 3, 0, took(0, None, 0), "No earlier night says how long: up to 3 scores."),
        ({}, 0, 0, took(0, 0, 0), ""),
    ],
)  # fmt: skip
def test_the_sentence_counts_what_is_left(steps, scores, documents, estimates, expected):
    assert outlook_sentence(steps, scores, documents, estimates) == expected


def test_an_error_is_left_to_the_stage_that_it_concerns(caplog, monkeypatch):
    def fail(_):
        raise InputError("No job was ever ingested.")

    monkeypatch.setattr(outlook, "latest_snapshots", fail)
    caplog.set_level(logging.INFO)
    settings = SimpleNamespace(deployments=SimpleNamespace(gpu_stages=False))
    log_outlook(SimpleNamespace(store=None, settings=settings))
    assert caplog.messages == []
