"""Stages and shards of a nightly run on other workers, with a fake server; tests/integration uses a real one."""

import json
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest
from prefect.states import Cancelled, Completed, Failed

from data.errors import InputError
from data.store.lease import hold_lease
from flows import workers as module
from flows.match import match
from flows.request import RunRequest
from flows.workers import run_night_stage
from tasks.errors import StageFailedError
from tasks.ledger.runs import recorded_stage
from tasks.run.context import Run
from tasks.run.reports import MatchReport
from tasks.run.settings import LineageSettings
from tasks.workers.claims import keep_shard_report, take_plans
from tasks.workers.shards import ShardPlan, ShardReport

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
    with pytest.raises(StageFailedError, match="Stage match ended") as caught:
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


PLANS = [ShardPlan(kind="job", snapshot="s", runs=[(number, number + 5)]) for number in range(6)]


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """A night with two helpers; what each encodes is noted, and nothing is really encoded."""
    overrides = {"home": str(tmp_path / "home"), "deployments.encoders": 3}
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    request = RunRequest(profile="tiny", overrides=overrides)
    settings = request.settings()
    store = settings.store()
    encoded = []

    def encode_shard(run, fingerprint, plan):
        encoded.append(plan)
        return report_of(plan)

    monkeypatch.setattr(module, "encode_shard", encode_shard)
    monkeypatch.setattr(module, "flow_run", SimpleNamespace(name="night"))
    with hold_lease(store, owner="night") as lease:
        run = Run("night", settings, store, lease)
        yield SimpleNamespace(request=request.of_stage(run), run=run, encoded=encoded)


def report_of(plan):
    return ShardReport(documents=plan.runs[0][0], tokens=1, padded_tokens=1, truncated=0, seconds=0.1)


def helpers(monkeypatch, does, *, looks=2):
    """Helpers that do something as soon as they are asked for, and work no more after some looks at them."""
    asked, looked = [], count()

    def run_deployment(name, *, parameters, timeout):
        asked.append((name, timeout))
        module.encode.validate_parameters(parameters)
        does()
        return SimpleNamespace(id=len(asked))

    monkeypatch.setattr(module, "run_deployment", run_deployment)
    monkeypatch.setattr(module, "_is_working", lambda run: next(looked) < looks)
    return asked


def test_what_others_encode_is_not_encoded_here(shared, monkeypatch):
    def does():
        plans = take_plans(shared.run, worker="other")
        for (number, plan), _ in zip(plans, range(2), strict=False):
            keep_shard_report(shared.run, number, report_of(plan))

    asked = helpers(monkeypatch, does)
    reports = module.share_shards(shared.request, "f", PLANS)
    assert asked == [("encode/encode", 0)] * 2
    assert reports == [report_of(plan) for plan in PLANS]
    assert len(shared.encoded) < len(PLANS) - 2
    assert shared.encoded == [plan for plan in PLANS if plan in shared.encoded], "each once"


def test_what_a_helper_took_and_did_not_finish_is_encoded_here_once_it_is_gone(shared, monkeypatch):
    def does():
        next(take_plans(shared.run, worker="other"))

    helpers(monkeypatch, does, looks=5)
    reports = module.share_shards(shared.request, "f", PLANS)
    assert reports == [report_of(plan) for plan in PLANS]
    assert shared.encoded == [*PLANS[2:], *PLANS[:2]]


def test_a_helper_without_a_night_is_refused():
    with pytest.raises(InputError, match="This flow needs the run id of a night"):
        module.encode.fn("f", RunRequest(profile="tiny"))
