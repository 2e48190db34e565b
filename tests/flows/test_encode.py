"""Shards of a night on several workers, with the server's answers made up."""

from itertools import count
from types import SimpleNamespace

import pytest

from data.errors import InputError
from data.store.lease import hold_lease
from flows import workers as module
from flows.request import RunRequest
from tasks.run.context import Run
from tasks.workers.claims import keep_shard_report, take_plans
from tasks.workers.shards import ShardPlan, ShardReport

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
    with pytest.raises(InputError, match="No night"):
        module.encode.fn("f", RunRequest(profile="tiny"))
