"""Progress without a terminal: lines in the log that say what is done, of how much, and when it will end."""

import logging
import time

import pytest

from tasks.ui import console
from tasks.ui.console import progress_bar, progress_sentence


@pytest.mark.parametrize(
    ("done", "seconds", "expected"),
    [
        (0, 90, "encode: 0 of 1,000 after 2 min"),
        (250, 60, "encode: 250 of 1,000 (25%), about 3 min left"),
        (990, 99, "encode: 990 of 1,000 (99%), about 1 s left"),
        (1, 30, "encode: 1 of 1,000 (0%), about 8 h 20 min left"),
        (1000, 60, "encode: 1,000 of 1,000, almost finished"),
        (1200, 60, "encode: 1,200 of 1,000, almost finished"),
    ],
)
def test_a_line_says_what_is_done_and_what_is_left(done, seconds, expected):
    assert progress_sentence("encode", done, 1000, seconds=seconds) == expected


def test_a_line_without_a_total_says_what_is_done():
    assert progress_sentence("read jobs", 12_000, None, seconds=90) == "read jobs: 12,000 after 2 min"


def test_a_line_names_what_is_worked_on():
    assert progress_sentence("evaluate", 1, 2, seconds=10, note="BM25").endswith("about 10 s left (BM25)")


def lines(caplog, wanted):
    until = time.monotonic() + 60
    while len(caplog.messages) < wanted and time.monotonic() < until:
        time.sleep(0.01)
    return list(caplog.messages)


def test_a_long_task_is_reported_where_there_is_no_terminal(caplog, monkeypatch):
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.01)
    caplog.set_level(logging.INFO, "tasks.ui.console")
    with progress_bar("encode", 4) as advance:
        assert lines(caplog, 2)[0].startswith("encode: 0 of 4 after"), "also before anything is finished"
        advance(3, "jobs")
        caplog.clear()
        assert "3 of 4 (75%)" in lines(caplog, 2)[-1]
    caplog.clear()
    time.sleep(0.05)
    assert caplog.messages == [], "nothing is said after the end"


def test_a_short_task_is_not_reported(caplog):
    caplog.set_level(logging.INFO, "tasks.ui.console")
    with progress_bar("encode", 4) as advance:
        advance(4, "")
    assert caplog.messages == []


def test_an_error_ends_the_reports(caplog, monkeypatch):
    monkeypatch.setattr(console, "SECONDS_BETWEEN_LINES", 0.01)
    caplog.set_level(logging.INFO, "tasks.ui.console")
    with pytest.raises(ValueError, match="fault"), progress_bar("encode", 4):
        raise ValueError("fault")
    caplog.clear()
    time.sleep(0.05)
    assert caplog.messages == []
