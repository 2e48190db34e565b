"""Progress: long tasks report it, short ones make no call to the server."""

from uuid import uuid4

import pytest

from tasks.ui import artifacts


@pytest.fixture
def told(monkeypatch):
    """Percentages that the server was told, in order, and whether by creating the artifact."""
    told = []
    identity = uuid4()

    def create(progress, **_):
        told.append(("created", progress))
        return identity

    def update(artifact_id, *, progress):
        assert artifact_id == identity
        told.append(("updated", progress))

    monkeypatch.setattr(artifacts, "create_progress_artifact", create)
    monkeypatch.setattr(artifacts, "update_progress_artifact", update)
    monkeypatch.setattr(artifacts.TaskRunContext, "get", lambda: object())
    return told


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(artifacts.time, "monotonic", lambda: now[0])
    return now


def test_a_short_task_calls_no_server(told, clock):
    with artifacts.progress("encode jobs", 100) as advance:
        for _ in range(100):
            clock[0] += 0.04
            advance()
    assert told == []


def test_a_long_task_tells_every_few_seconds_and_ends_at_100(told, clock):
    with artifacts.progress("train", 4) as advance:
        for _ in range(4):
            clock[0] += 3
            advance()
    assert told == [("created", 50.0), ("updated", 100.0), ("updated", 100.0)]


def test_outside_of_a_run_nothing_is_told(told, clock, monkeypatch):
    monkeypatch.setattr(artifacts.TaskRunContext, "get", lambda: None)
    with artifacts.progress("train", 2) as advance:
        clock[0] += 60
        advance(2)
    assert told == []
