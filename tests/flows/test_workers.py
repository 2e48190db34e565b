"""Stages of a night as deployments, with the server's answer made up; tests/integration has a real one."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from prefect.states import Cancelled, Completed, Failed

from flows.match import match
from flows.request import RunRequest
from flows.workers import run_night_stage
from tasks.errors import StageFailedError
from tasks.ledger.runs import recorded_stage
from tasks.run.reports import MatchReport
from tasks.run.settings import LineageSettings

MATCHED = MatchReport(match="m1", jobs=2, resumes=3, rows=4, reused=False, seconds=1.0)


@pytest.fixture
def request_of_stage(tmp_path, monkeypatch, make_run):
    monkeypatch.setattr("flows.workers.POLL_SECONDS", 0.5)
    overrides = {"home": str(tmp_path / "home"), "deployments.gpu_stages": True}
    request = RunRequest(profile="tiny", overrides=overrides)
    return request.of_stage(make_run(request.settings(), "night-1"))


def answer(monkeypatch, state, *, does=lambda: None):
    asked = []

    def run_deployment(name, **options):
        asked.append((name, options))
        does()
        return SimpleNamespace(name="loud-otter", state=state)

    monkeypatch.setattr("flows.workers.run_deployment", run_deployment)
    return asked


def test_a_stage_is_started_under_its_night_and_its_report_comes_back_through_the_store(monkeypatch, request_of_stage):
    def work():
        with recorded_stage(request_of_stage.parent(), flow="match") as record:
            record.did(MATCHED)

    asked = answer(monkeypatch, Completed(), does=work)
    assert run_night_stage(match, MatchReport, request_of_stage) == MATCHED
    ((name, options),) = asked
    assert (name, options["timeout"], options["poll_interval"]) == ("match/match", None, 0.5)
    assert json.loads(json.dumps(options["parameters"]))["request"]["parent_run"] == "night-1"
    match.validate_parameters(options["parameters"])


@pytest.mark.parametrize("state", [Failed(message="out of memory"), Cancelled(message="by hand"), Completed(), None])
def test_a_stage_without_a_report_stops_the_night(monkeypatch, request_of_stage, state):
    answer(monkeypatch, state)
    with pytest.raises(StageFailedError, match="The stage match ended") as caught:
        run_night_stage(match, MatchReport, request_of_stage)
    assert "loud-otter" in caught.value.hint
    if state is not None and state.message:
        assert state.message in str(caught.value)


def test_the_night_sends_the_lineage_of_a_stage_on_another_worker(monkeypatch, request_of_stage, receiver):
    """Its endpoint may hold a token, which no orchestrator gets to see."""
    endpoint = f"{receiver.url}/token-71f3"
    night = request_of_stage.parent()
    told = night.settings.model_copy(update={"lineage": LineageSettings(endpoint=endpoint)})
    request = request_of_stage.of_stage(replace(night, settings=told))

    def work():
        with recorded_stage(night, flow="match") as record:
            record.did(MATCHED)

    asked = answer(monkeypatch, Completed(), does=work)
    run_night_stage(match, MatchReport, request)
    assert "token-71f3" not in json.dumps(asked)
    assert [event["eventType"] for event in receiver.received] == ["START", "COMPLETE"]
    assert receiver.received[-1]["outputs"][0]["name"] == "matches"
    answer(monkeypatch, Failed(message="out of memory"))
    with pytest.raises(StageFailedError):
        run_night_stage(match, MatchReport, request)
    assert receiver.received[-1]["eventType"] == "FAIL"
