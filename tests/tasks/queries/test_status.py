"""Status: what needs a person is an alert, and a good day has none."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from data.vectors.pointer import Pointer
from tasks.queries.status import alerts, status, status_rows
from tasks.run.settings import FreshnessSettings, Settings

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
COUNTS = {"rows_in": 10, "rows_kept": 9, "rows_quarantined": 1}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.queries.status.utc_now", lambda: NOW)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return Settings(home=str(tmp_path / "home"), freshness=FreshnessSettings(max_age_hours=30))


def serve(settings, *, hours_ago):
    pointer = Pointer(
        sequence=1,
        generation="abc-1",
        checkpoint="c" * 64,
        jobs=1,
        resumes=1,
        snapshots={},
        fencing_epoch=1,
        run_id="run-0",
        promoted_at=NOW - timedelta(hours=hours_ago),
    )
    settings.store().put_if_absent("current.json", pointer.model_dump_json().encode())


def night(settings, *, hours_ago, state="completed", **more):
    """Summary of a night, as the ledger keeps it."""
    ended = NOW - timedelta(hours=hours_ago)
    run_id = f"{ended:%Y%m%dT%H%M%SZ}-aaaaaa"
    summary = {
        "run_id": run_id,
        "flow": "nightly",
        "state": state,
        "started_at": ended.isoformat(),
        "finished_at": ended.isoformat(),
        "seconds": 61.0,
        "stages": {"ingest": {"seconds": 1.0, "job": COUNTS, "resume": COUNTS}},
        "encoded_documents": 12,
        "training_steps": 0,
        "report": "report.html",
        "exports": "exports/v1/x",
        "usage": {"embed": {"tokens": 100, "seconds": 2.0, "flops": 1e9, "peak_flops": 1e9}},
        "cost": {"amount": 1.5, "currency": "$", "energy_kwh": None},
        **more,
    }
    settings.store().put_if_absent(f"runs/{run_id}/summary.json", json.dumps(summary).encode())


def kinds(settings):
    return [alert.kind for alert in alerts(settings)]


def test_a_good_day_has_no_alert(settings):
    serve(settings, hours_ago=200)
    night(settings, hours_ago=10)
    assert kinds(settings) == []
    assert status(settings)["fresh_hours"] == pytest.approx(10)
    assert status(settings)["age_hours"] == pytest.approx(200)


def test_nothing_served_is_an_alert(settings):
    assert kinds(settings) == ["stale"]
    assert "Nothing is served" in alerts(settings)[0].message


@pytest.mark.parametrize(("hours", "found"), [(29.9, []), (30.1, ["stale"])])
def test_it_is_stale_beyond_the_configured_age(settings, hours, found):
    serve(settings, hours_ago=500)
    night(settings, hours_ago=hours)
    assert kinds(settings) == found


def test_a_failed_night_does_not_make_it_fresh(settings):
    serve(settings, hours_ago=500)
    night(settings, hours_ago=40)
    night(settings, hours_ago=1, state="failed", error="StoreError: disk full")
    stale, failed = alerts(settings)
    assert (stale.kind, failed.kind) == ("stale", "failed")
    assert "40.0 hours ago" in stale.message
    assert "disk full" in failed.message


def test_a_refused_gate_is_an_alert_until_the_next_good_night(settings):
    serve(settings, hours_ago=5)
    night(settings, hours_ago=5, refused="The new encoder is worse in STS.")
    assert kinds(settings) == ["refused"]
    night(settings, hours_ago=1)
    assert kinds(settings) == []


def test_a_night_that_was_refused_the_lease_is_no_alert_after_a_good_one(settings):
    serve(settings, hours_ago=5)
    night(settings, hours_ago=2)
    night(settings, hours_ago=1, state="refused", started_at=None, error="LeaseHeldError: Run a is writing")
    assert kinds(settings) == []
    assert status(settings)["fresh_hours"] == pytest.approx(2)


def test_a_promotion_by_hand_counts_as_fresh(settings):
    serve(settings, hours_ago=2)
    assert kinds(settings) == []


def test_the_screen_says_what_a_person_asks(settings):
    serve(settings, hours_ago=5)
    night(settings, hours_ago=5, refused="worse in STS")
    rows = dict(status_rows(status(settings)))
    assert rows["serving"] == "abc-1, checkpoint cccccccccccc"
    assert rows["ingested"] == "20 rows: 18 kept, 2 quarantined"
    assert rows["took"] == "61 s, $1.50"
    assert rows["speed of embed"] == "50 tokens/s, 50% of the machine's peak"
    assert "worse in STS" in rows["alert: refused"]
    assert "next night" not in rows
    assert len(rows) < 24, "one screen"


class TestTheNextNight:
    """Asked of a server over HTTP, when there is one."""

    def test_it_is_shown(self, settings, receiver, monkeypatch):
        receiver.answers["/api/flow_runs/filter"] = [{"expected_start_time": "2026-03-11T02:00:00Z"}]
        monkeypatch.setenv("PREFECT_API_URL", f"{receiver.url}/api")
        assert status(settings)["next_night"] == "2026-03-11T02:00:00Z"
        assert receiver.received[0]["deployments"] == {"name": {"any_": ["nightly"]}}

    @pytest.mark.parametrize("answer", [[], "nonsense"])
    def test_a_server_without_one_is_no_error(self, settings, receiver, monkeypatch, answer):
        receiver.answers["/api/flow_runs/filter"] = [] if answer == [] else {}
        receiver.status = 200 if answer == [] else 404
        monkeypatch.setenv("PREFECT_API_URL", f"{receiver.url}/api")
        assert status(settings)["next_night"] is None

    def test_a_server_that_is_gone_is_no_error(self, settings, monkeypatch):
        monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
        assert status(settings)["next_night"] is None
