"""Status: problems that need a person are alerts, and a healthy system has none."""

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data.config import CleanConfig
from data.snapshots.manifest import SnapshotManifest, TotalCounts, put_manifest
from data.snapshots.tombstones import keep_successor
from data.vectors.pointer import Pointer
from data.vectors.shards import TokenCount
from data.vectors.tables import profiles_key
from tasks.ledger.runs import recorded_run
from tasks.queries.status import alerts, run_status, status, status_rows
from tasks.run.settings import EncodeSettings, FreshnessSettings, Settings

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
COUNTS = {"rows_in": 10, "rows_kept": 9, "rows_quarantined": 1, "marks": {"words_missing": 2}}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.queries.status.utc_now", lambda: NOW)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return Settings(home=str(tmp_path / "home"), freshness=FreshnessSettings(max_age_hours=30))


SNAPSHOTS = {"job": "jobs-1", "resume": "resumes-1"}


def ingest(settings, *, hours_ago, snapshots=SNAPSHOTS):
    """Snapshots that a run of that time built."""
    for kind, snapshot_id in snapshots.items():
        built = NOW - timedelta(hours=hours_ago)
        manifest = SnapshotManifest(
            id=snapshot_id,
            kind=kind,
            schema_version=1,
            created_at=built.isoformat(),
            run_id=f"{built:%Y%m%dT%H%M%SZ}-bbbbbb",
            parent=None,
            clean=CleanConfig(),
            sources={},
            totals=TotalCounts(),
            num_documents=0,
            documents=(),
            quarantine=(),
        )
        put_manifest(settings.store(), manifest)


def serve(settings, *, hours_ago, snapshots=SNAPSHOTS, sequence=1, restores=None):
    """A pointer moved at that time to snapshots that were ingested then, unless they were before."""
    pointer = Pointer(
        sequence=sequence,
        generation="abc-1",
        checkpoint="c" * 64,
        jobs=1,
        resumes=1,
        snapshots=snapshots,
        fencing_epoch=1,
        run_id="run-0",
        promoted_at=NOW - timedelta(hours=hours_ago),
        restores=restores,
    )
    ingest(settings, hours_ago=hours_ago, snapshots=snapshots)
    store = settings.store()
    store.compare_and_swap(
        "current.json", expected=store.read("current.json"), content=pointer.model_dump_json().encode()
    )


def night(settings, *, hours_ago, state="completed", snapshots=SNAPSHOTS, **more):
    """Summary of a night, as the ledger keeps it."""
    ingested = {kind: {**COUNTS, "snapshot": snapshot_id} for kind, snapshot_id in snapshots.items()}
    ended = NOW - timedelta(hours=hours_ago)
    run_id = f"{ended:%Y%m%dT%H%M%SZ}-aaaaaa"
    summary = {
        "run_id": run_id,
        "flow": "nightly",
        "state": state,
        "started_at": ended.isoformat(),
        "finished_at": ended.isoformat(),
        "seconds": 61.0,
        "stages": {"ingest": {"seconds": 1.0, **ingested}},
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


@pytest.mark.parametrize(("cut", "found"), [(1, []), (300, ["cut"])])
def test_tokens_that_are_cut_are_shown_and_beyond_the_limit_an_alert(settings, cut, found):
    settings = settings.model_copy(update={"encode": EncodeSettings(long_texts="cut")})
    serve(settings, hours_ago=1)
    night(settings, hours_ago=1)
    assert status(settings)["tokens"] == {}
    store = settings.store()
    for kind, count in (("job", TokenCount(read=100)), ("resume", TokenCount(read=700, cut=cut, uncounted=2))):
        key = f"{profiles_key('abc-1')}/tokens-{kind}/{SNAPSHOTS[kind]}.json"
        store.put_if_absent(key, count.model_dump_json().encode())
    state = status(settings)
    assert [alert["kind"] for alert in state["alerts"]] == found
    assert state["tokens"]["resume"] == {"read": 700, "cut": cut, "uncounted": 2}
    row = dict(status_rows(state))["read"]
    assert row.startswith("100.0% of 100 tokens of jobs, ")
    assert "(2 texts were encoded before tokens were counted)" in row
    if found:
        assert "300 of 1,000 tokens of the resumes (30.0%)" in state["alerts"][0]["message"]
        assert 'encode.long_texts = "parts"' in state["alerts"][0]["message"]


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


class TestFreshness:
    """What is served is as fresh as the sources were when they held it, whenever the pointer was moved."""

    def test_an_ingest_by_hand_counts_from_when_it_read(self, settings):
        serve(settings, hours_ago=2)
        assert kinds(settings) == []
        assert status(settings)["fresh_hours"] == pytest.approx(2)

    def test_a_rollback_is_as_old_as_the_sources_of_what_it_restored(self, settings):
        older = {"job": "jobs-0", "resume": "resumes-0"}
        ingest(settings, hours_ago=240, snapshots=older)
        night(settings, hours_ago=216, snapshots=older)
        night(settings, hours_ago=3)
        serve(settings, hours_ago=3)
        serve(settings, hours_ago=0, snapshots=older, sequence=2, restores=0)
        assert status(settings)["fresh_hours"] == pytest.approx(216)
        (alert,) = alerts(settings)
        assert alert.kind == "stale"
        assert "216.0 hours ago" in alert.message

    def test_the_older_kind_decides(self, settings):
        ingest(settings, hours_ago=40, snapshots={"resume": "resumes-0"})
        serve(settings, hours_ago=1, snapshots={"job": "jobs-1", "resume": "resumes-0"})
        assert status(settings)["fresh_hours"] == pytest.approx(40)

    def test_an_erasure_makes_nothing_fresher_and_nothing_staler(self, settings):
        store = settings.store()
        ingest(settings, hours_ago=400, snapshots={"job": "jobs-0"})
        night(settings, hours_ago=20, snapshots={**SNAPSHOTS, "job": "jobs-0"})
        keep_successor(store, "job", "jobs-0", "jobs-1")
        store.delete("snapshots/job/jobs-0")
        ingest(settings, hours_ago=400)
        serve(settings, hours_ago=1)
        assert status(settings)["fresh_hours"] == pytest.approx(20)


def test_the_screen_says_what_a_person_asks(settings):
    serve(settings, hours_ago=5)
    night(settings, hours_ago=5, refused="worse in STS")
    rows = dict(status_rows(status(settings)))
    assert rows["serving"] == "abc-1, checkpoint cccccccccccc"
    assert rows["ingested"] == "20 rows: 18 kept, 2 quarantined; 4 marked words_missing"
    assert rows["took"] == "61 s, $1.50"
    assert rows["speed of embed"] == "50 tokens/s, 50% of the machine's peak"
    assert "worse in STS" in rows["alert: refused"]
    assert "next night" not in rows
    assert len(rows) < 24, "one screen"


KILLED_NIGHT = """
import os, signal, sys
from tasks.ledger.runs import recorded_run, recorded_stage
from tasks.run.settings import Settings

with recorded_run(Settings(home=sys.argv[1]), flow=sys.argv[2], parameters={}) as record:
    for stage in ("ingest", "train"):
        with recorded_stage(record.run, flow=stage):
            pass
    print(record.run.id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill(settings, flow="nightly"):
    """Kill a run after two stages; returns its id."""
    command = [sys.executable, "-c", KILLED_NIGHT, settings.home, flow]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.strip()


class TestKilledNights:
    """A night that was killed leaves no summary; its lease and the reports of its stages tell of it."""

    def test_it_is_named_and_alerted_at_once(self, settings):
        serve(settings, hours_ago=5)
        night(settings, hours_ago=5)
        killed = kill(settings)
        (alert,) = alerts(settings)
        assert alert.kind == "killed"
        assert f"Night {killed} was killed; stages done: ingest, train." in alert.message
        state = status(settings)
        assert state["last_night"]["run_id"] == state["last_run"]["run_id"] == killed
        assert state["running"] is None
        assert dict(status_rows(state))["last night"] == f"{killed} (killed; stages done: ingest, train)"
        assert run_status(settings, killed)["run"]["state"] == "killed"

    def test_it_is_found_by_its_stages_if_an_earlier_version_made_it(self, settings):
        serve(settings, hours_ago=5)
        killed = kill(settings)
        settings.store().delete(f"runs/{killed}/start.json")
        assert kinds(settings) == ["killed"]

    def test_a_living_night_is_running(self, settings):
        serve(settings, hours_ago=5)
        night(settings, hours_ago=5)
        with recorded_run(settings, flow="nightly", parameters={}) as record:
            assert kinds(settings) == []
            state = status(settings)
            assert state["last_night"]["state"] == "completed"
            assert dict(status_rows(state))["running"] == f"{record.run.id} (nightly); running; stages done: none"
            assert run_status(settings, record.run.id)["run"]["state"] == "running"

    def test_the_next_night_that_ends_settles_it(self, settings):
        serve(settings, hours_ago=5)
        kill(settings)
        with recorded_run(settings, flow="nightly", parameters={}):
            pass
        assert kinds(settings) == []

    def test_another_run_that_was_killed_is_no_night(self, settings):
        serve(settings, hours_ago=5)
        killed = kill(settings, flow="backfill")
        assert kinds(settings) == []
        assert status(settings)["last_run"]["run_id"] == killed


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


def test_a_source_that_a_night_could_not_read_is_an_alert(settings):
    serve(settings, hours_ago=5)
    stages = {"ingest": {"seconds": 1.0, "job": {**COUNTS, "snapshot": "jobs-1", "unread": {"board": "it is gone"}}}}
    night(settings, hours_ago=5, stages=stages)
    (alert,) = alerts(settings)
    assert alert.kind == "source"
    assert "source 'board'" in alert.message
    assert "it is gone" in alert.message


def test_an_index_that_finds_too_little_is_an_alert(settings, make_pointer):
    serve(settings, hours_ago=5)
    night(settings, hours_ago=5)
    assert status(settings)["search"] == {"job": None, "resume": None}
    assert ("search of jobs", "not measured yet") in status_rows(status(settings))
    watch = {"version": 1, "words_indexed": False, "recall_at_10": 0.5, "queries": 40, "measured_at": NOW.isoformat()}
    settings.store().put_if_absent("lance/abc-1/watch/jobs.json", json.dumps(watch).encode())
    found = alerts(settings)
    assert [alert.kind for alert in found] == ["index", "index"]
    assert "finds 50.0% of the ten nearest" in found[1].message
    assert "keyword search misses documents" in found[0].message
    assert ("search of jobs", "finds 50.0% of the ten nearest; words not all indexed") in status_rows(status(settings))
