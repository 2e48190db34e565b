"""The ledger: every run leaves a summary, however it ends. Lineage is reported, and nothing depends on it."""

import json
import logging
from contextlib import nullcontext
from uuid import UUID

import pytest

from data.errors import GateRefusedError, LeaseHeldError
from data.store.lease import hold_lease
from tasks.ledger.runs import latest_summary, read_stage, read_summary, recorded_run, recorded_stage
from tasks.ledger.usage import estimate_cost
from tasks.run import reports as refs
from tasks.run.reports import MatchReport, Usage
from tasks.run.settings import CostSettings, LineageSettings, Settings

MATCHED = MatchReport(match="m1", jobs=2, resumes=3, rows=4, reused=False, seconds=1.0)


@pytest.fixture
def settings(tmp_path):
    return Settings(home=str(tmp_path / "home"))


def record(settings, *, flow="match", parent=None, error=None):
    """Record a run, or a stage of the run ``parent``."""
    recorded = (
        recorded_run(settings, flow=flow, parameters={"profile": "tiny"})
        if parent is None
        else recorded_stage(parent, flow=flow)
    )
    with recorded as found:
        found.did(MATCHED)
        if error is not None:
            raise error
    return found.run


def test_a_run_leaves_what_it_did(settings):
    run = record(settings)
    summary = read_summary(settings.store(), run.id)
    assert (summary["run_id"], summary["flow"], summary["state"]) == (run.id, "match", "completed")
    assert summary["parameters"] == {"profile": "tiny"}
    assert summary["reports"] == [MATCHED.model_dump()]
    assert summary["started_at"] <= summary["finished_at"]
    assert "error" not in summary


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RuntimeError("out of luck"), "failed"),
        (GateRefusedError("worse"), "refused"),
        (KeyboardInterrupt("stop"), "cancelled"),
    ],
)
def test_a_run_that_does_not_get_to_its_end_says_how_it_ended(settings, error, state):
    with pytest.raises(type(error)):
        record(settings, error=error)
    summary = latest_summary(settings.store())
    assert (summary["state"], summary["error"]) == (state, f"{type(error).__name__}: {error}")
    with hold_lease(settings.store(), owner="next"):
        pass  # the lease was given back


def test_a_full_disk_does_not_hide_what_went_wrong(settings, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(RuntimeError, match="out of luck"),
        recorded_run(settings, flow="match", parameters={}),
    ):
        monkeypatch.setattr("os.link", full)
        raise RuntimeError("out of luck")


def test_a_run_that_was_refused_the_lease_is_kept_and_hides_no_run_that_began(settings):
    began = record(settings)
    with hold_lease(settings.store(), owner="other"), pytest.raises(LeaseHeldError):
        record(settings)
    store = settings.store()
    (refused,) = [json.loads(store.read(key)) for key in store.list("runs") if began.id not in key]
    assert (refused["flow"], refused["state"], refused["started_at"]) == ("match", "refused", None)
    assert refused["parameters"] == {"profile": "tiny"}
    assert "Run other" in refused["error"]
    assert latest_summary(store)["run_id"] == began.id


def test_a_stage_keeps_its_report_under_its_parent_and_no_summary(settings, make_run):
    store = settings.store()
    record(settings, parent=make_run(settings, "night-1"))
    (kept,) = json.loads(read_stage(store, "night-1", "match"))
    assert MatchReport.model_validate(kept) == MATCHED
    assert latest_summary(store) is None
    with pytest.raises(RuntimeError):
        record(settings, parent=make_run(settings, "night-2"), error=RuntimeError("no"))
    assert read_stage(store, "night-2", "match") is None


def test_the_latest_summary_is_found_by_flow_and_state(settings, monkeypatch):
    ids = iter(["20260101T000000Z-a", "20260102T000000Z-b", "20260103T000000Z-c"])
    monkeypatch.setattr("tasks.ledger.runs.new_run_id", lambda: next(ids))
    record(settings, flow="nightly")
    with pytest.raises(RuntimeError):
        record(settings, flow="nightly", error=RuntimeError("no"))
    record(settings, flow="match")
    store = settings.store()
    assert latest_summary(store)["run_id"].endswith("c")
    assert latest_summary(store, flow="nightly")["run_id"].endswith("b")
    assert latest_summary(store, flow="nightly", state="completed")["run_id"].endswith("a")
    assert latest_summary(store, flow="export") is None


class TestCostAndUsage:
    """Figures are estimates by configured prices, and absent where nothing is configured."""

    def test_an_hour_costs_its_price_and_a_kilowatt_makes_a_kilowatt_hour(self):
        cost = estimate_cost(CostSettings(price_per_hour=2.5, power_w=700), 1800)
        assert (cost.amount, cost.energy_kwh) == (pytest.approx(1.25), pytest.approx(0.35))
        assert cost.sentence() == "$1.25, 0.350 kWh"

    def test_without_prices_nothing_is_claimed(self):
        cost = estimate_cost(CostSettings(), 1800)
        assert (cost.amount, cost.energy_kwh, cost.sentence()) == (None, None, "")

    def test_a_share_of_the_peak_is_flops_over_seconds_over_peak(self):
        usage = Usage(tokens=1000, seconds=2.0, flops=4e9, peak_flops=1e10)
        assert (usage.tokens_per_s, usage.peak_share) == (500, pytest.approx(0.2))
        assert Usage.model_validate(usage.summary()) == usage
        assert Usage(tokens=1000, seconds=2.0).peak_share is None

    def test_usage_and_cost_lie_in_the_summary(self, settings):
        priced = settings.model_copy(update={"cost": CostSettings(price_per_hour=3600)})
        run = record(priced)
        summary = read_summary(priced.store(), run.id)
        assert summary["cost"]["amount"] == pytest.approx(summary["seconds"], abs=0.5)
        assert summary["usage"] == {}, "matching is no work of a model"


class TestLineage:
    """OpenLineage 2-0-2 events, to a receiver on this machine."""

    @pytest.fixture
    def told(self, settings, receiver):
        return settings.model_copy(update={"lineage": LineageSettings(endpoint=f"{receiver.url}/api/v1/lineage")})

    def test_a_run_is_told_at_its_start_and_its_end(self, told, receiver):
        record(told)
        start, complete = receiver.received
        assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
        assert start["run"]["runId"] == complete["run"]["runId"]
        UUID(start["run"]["runId"])
        assert start["job"] == {"namespace": "llm2vec-pipelines", "name": "match"}
        for event in (start, complete):
            assert set(event) == {
                *("eventType", "eventTime", "producer", "schemaURL", "run", "job", "inputs", "outputs"),
            }
            assert event["schemaURL"].startswith("https://openlineage.io/spec/2-0-2/OpenLineage.json#")
        (output,) = complete["outputs"]
        assert output["name"] == "matches"
        assert output["facets"]["version"]["datasetVersion"] == "m1"

    def test_a_failure_is_told_with_its_message(self, told, receiver):
        with pytest.raises(RuntimeError):
            record(told, error=RuntimeError("out of luck"))
        assert receiver.received[-1]["eventType"] == "FAIL"
        assert "out of luck" in receiver.received[-1]["run"]["facets"]["errorMessage"]["message"]

    def test_a_stage_names_the_run_that_it_belongs_to(self, told, receiver):
        with recorded_run(told, flow="nightly", parameters={}) as night:
            record(told, parent=night.run)
        root, stage, *_ = receiver.received
        assert stage["run"]["facets"]["parent"]["run"]["runId"] == root["run"]["runId"] != stage["run"]["runId"]

    @pytest.mark.parametrize("status", [400, 500])
    def test_a_receiver_that_refuses_costs_a_warning_and_no_run(self, told, receiver, caplog, status):
        receiver.status = status
        with caplog.at_level(logging.WARNING):
            run = record(told)
        assert read_summary(told.store(), run.id)["state"] == "completed"
        assert "was rejected" in caplog.text

    @pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9/lineage", "no url"])
    def test_a_receiver_that_is_not_there_costs_no_run(self, settings, endpoint):
        told = settings.model_copy(update={"lineage": LineageSettings(endpoint=endpoint)})
        assert read_summary(told.store(), record(told).id)["state"] == "completed"

    def test_nothing_is_sent_that_nobody_asked_for(self, settings, told, monkeypatch):
        """A sender that raised would prove nothing: a run goes on when its events cannot be sent."""
        sent = []
        monkeypatch.setattr("urllib.request.urlopen", lambda request, **_: sent.append(request) or nullcontext())
        record(settings)
        assert sent == []
        record(told)
        assert len(sent) == 2


def test_every_report_of_a_stage_names_its_flow():
    reports = [each for each in vars(refs).values() if isinstance(each, type) and issubclass(each, refs.StageReport)]
    names = [each.stage for each in reports if each is not refs.StageReport]
    assert len(set(names)) == len(names) > 8
