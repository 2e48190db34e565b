"""Monitoring: automations on a real Prefect server send JSON to a receiver, and freshness is checked."""

import asyncio
import json
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
import yaml
from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterId
from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook
from prefect.states import Completed, Crashed, Late, Pending, Running, Scheduled

from data.errors import InputError
from flows.nightly import nightly
from flows.request import RunRequest
from flows.server import AutomationSettings, apply_automations, build_automations, freshness
from tasks.errors import StaleError
from tasks.queries.status import Alert
from tasks.stages.watch import watch_served
from tasks.ui.artifacts import GATE_REFUSED, SOURCE_UNREAD, emit_alert, prune_artifacts
from tasks.ui.webhook import TIMESTAMP_HEADER, SignedWebhook, is_authentic
from tests.integration.servers import wait_for

ROOT = Path(__file__).parents[2]


@pytest.fixture
def told(receiver, prefect_server) -> Iterator[list[dict]]:
    """What the receiver was told so far."""
    settings = AutomationSettings(webhook=receiver.url, restart_after_s=3600, start_timeout_s=10)
    names = set(apply_automations(settings))
    yield receiver.received
    with get_client(sync_client=True) as client:
        for automation in client.read_automations():
            if automation.name in names:
                client.delete_automation(automation.id)


@pytest.fixture
def hopeless(tmp_path) -> RunRequest:
    """A night that fails at its first step."""
    sources = {"postings": {"kind": "job", "path": str(tmp_path / "gone.csv")}}
    return RunRequest(profile="tiny", overrides={"home": str(tmp_path / "home"), "sources": sources})


def the_alert(told, kind):
    def found():
        return [alert for alert in told if alert["alert"] == kind]

    (alert,) = wait_for(found, f"the alert '{kind}'", timeout_s=60, every_s=0.1)
    return alert


def test_a_failed_night_is_told(told, hopeless):
    with pytest.raises(InputError, match=r"gone\.csv"):
        nightly(hopeless)
    alert = the_alert(told, "failed")
    assert alert["flow_run"].startswith("nightly 20")
    assert alert["state"] == "Failed"
    assert alert["at"]


def test_what_is_stale_is_told(told, hopeless):
    with pytest.raises(StaleError):
        freshness(hopeless)
    assert the_alert(told, "stale")["state"] == "Failed"
    assert [alert["alert"] for alert in told] == ["stale"], "a failed check is no failed night"


def test_a_refused_encoder_and_an_unread_source_are_told(told):
    run_id = "20260101T000000Z-abcdef"

    def emitted():
        # Again and again: the server may look at an event before it has loaded automations that are a moment old.
        emit_alert(GATE_REFUSED, run_id, reason="worse in STS")
        emit_alert(SOURCE_UNREAD, run_id, sources="postings")
        found = {alert["alert"]: alert for alert in told}
        return found if {"refused", "source"} <= set(found) else None

    found = wait_for(emitted, "the alerts 'refused' and 'source'", timeout_s=60, every_s=3)
    assert found["refused"]["run_id"] == found["source"]["run_id"] == run_id
    assert found["source"]["sources"] == "postings"


@pytest.mark.parametrize(("kind", "state"), [("late", Late), ("crashed", Crashed)])
def test_a_night_that_is_late_or_crashed_is_told(told, kind, state):
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(nightly, name="nightly 2026-01-01", state=Scheduled())
        assert run.state.type == StateType.SCHEDULED
        client.set_flow_run_state(run.id, state())
    assert the_alert(told, kind)["flow_run"] == "nightly 2026-01-01"


def test_a_run_that_a_worker_took_and_never_began_has_crashed(told):
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(nightly, name="nightly 2026-01-02", state=Pending())
        wait_for(lambda: client.read_flow_run(run.id).state.type == StateType.CRASHED, "the crashed run", timeout_s=90)
    assert the_alert(told, "crashed")["flow_run"] == "nightly 2026-01-02"


def test_old_artifacts_go_and_the_newest_of_each_key_stays(prefect_server):
    def create(key):
        return client.request("POST", "/artifacts/", json={"key": key, "type": "markdown", "data": "x"}).json()["id"]

    def left(ids):
        found = client.read_artifacts(artifact_filter=ArtifactFilter(id=ArtifactFilterId(any_=ids)))
        return {str(each.id) for each in found}

    with get_client(sync_client=True) as client:
        old = [create("nightly"), create("nightly"), create("evaluation-main-scores"), create("somebody-elses")]
        newest = [create("nightly"), create("evaluation-main-scores"), create("somebody-elses")]
        assert prune_artifacts(older_than=datetime.now(UTC) - timedelta(days=1)) == 0
        assert prune_artifacts(older_than=datetime.now(UTC) + timedelta(days=1)) >= 3
        assert left([*old, *newest]) == {*newest, old[-1]}


def test_tasks_keep_no_results():
    """Nothing but artifacts and runs is left behind by a task: there is no storage of results to prune."""
    assert watch_served.persist_result in (None, False)
    assert watch_served.cache_policy == NO_CACHE


def test_several_workers_write_to_one_sqlite_database_without_an_error(prefect_server):
    def work(number):
        with get_client(sync_client=True) as client:
            for state in (Pending(), Running(), Completed()):
                run = client.create_flow_run(nightly, name=f"worker {number}", state=Scheduled())
                client.set_flow_run_state(run.id, state, force=True)
                client.request("POST", "/artifacts/", json={"key": f"worker-{number}", "type": "markdown", "data": "x"})
            return str(client.read_flow_run(run.id).state.name)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == ["Completed"] * 6


def test_a_call_replaces_all_automations_of_earlier_calls(receiver, prefect_server):
    def ours():
        return sorted(each.name for each in client.read_automations() if each.name.startswith("llm2vec: "))

    with get_client(sync_client=True) as client:
        foreign = build_automations(AutomationSettings(), None)[0].model_copy(update={"name": "somebody else's"})
        foreign_id = client.create_automation(foreign)
        with_alerts = apply_automations(AutomationSettings(webhook=receiver.url))
        assert ours() == sorted(with_alerts)
        without_alerts = apply_automations(AutomationSettings())
        assert ours() == sorted(without_alerts)
        assert len(without_alerts) < len(with_alerts)
        left = client.read_automations()
        assert foreign_id in [each.id for each in left]
        for each in left:
            client.delete_automation(each.id)


def test_a_secret_signs_the_alerts_with_a_block_that_the_server_can_load(prefect_server, receiver):
    secret = "shared-secret"
    names = apply_automations(AutomationSettings(webhook=receiver.url, secret=secret))
    with get_client(sync_client=True) as client:
        ours = [each for each in client.read_automations() if each.name in names]
        calls = [each.actions[0] for each in ours if isinstance(each.actions[0], CallWebhook)]
        (block_id,) = {call.block_document_id for call in calls}
        document = client.read_block_document(block_id, include_secrets=True)
        for each in ours:
            client.delete_automation(each.id)
    block = Block._from_block_document(document)  # as the server's action does
    assert isinstance(block, SignedWebhook)
    asyncio.run(block.call('{"alert": "late"}'))
    assert receiver.received == [{"alert": "late"}]
    headers, body = receiver.requests[0]
    assert is_authentic(secret, headers, body)
    assert not is_authentic("another", headers, body)
    assert not is_authentic(secret, headers, body.replace(b"late", b"fine"))
    assert not is_authentic(secret, headers, body, now=time.time() + 301), "somebody repeats an old call"
    assert not is_authentic(secret, {**headers, TIMESTAMP_HEADER: "0"}, body)


def test_the_server_finds_the_signing_block_by_its_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["prefect.collections"] == {"llm2vec": SignedWebhook.__module__}


class TestAutomations:
    """What is built for the server; tests/integration holds it against a real one."""

    def test_without_a_webhook_nothing_is_told_and_dead_runs_are_still_found(self):
        built = build_automations(AutomationSettings(), None)
        actions = [type(each.actions[0]).__name__ for each in built]
        assert actions == ["ChangeFlowRunState", "ChangeFlowRunState", "RunDeployment"]

    def test_every_alert_is_one_json_object(self):
        built = build_automations(AutomationSettings(), UUID(int=1))
        calls = [each.actions[0] for each in built if isinstance(each.actions[0], CallWebhook)]
        alerts = [json.loads(call.payload)["alert"] for call in calls]
        assert alerts == ["failed", "crashed", "late", "stale", "refused", "source"]

    def test_a_heartbeat_is_waited_for_longer_than_it_takes(self):
        lost = build_automations(AutomationSettings(), None)[0]
        deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
        pools = {deployment["work_pool"]["name"]: deployment["work_pool"] for deployment in deployments}
        for pool in pools.values():
            frequency = int(pool["job_variables"]["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
            assert lost.trigger.within.total_seconds() >= 3 * frequency


class TestFreshness:
    """The check that an automation listens to."""

    def test_a_stale_store_fails(self, tmp_path):
        request = RunRequest(profile="tiny", overrides={"home": str(tmp_path / "home")})
        with pytest.raises(StaleError, match="Nothing is served"):
            freshness.fn(request)

    def test_other_alerts_do_not(self, tmp_path, monkeypatch):
        request = RunRequest(profile="tiny", overrides={"home": str(tmp_path / "home")})
        found = [Alert(kind="failed", message="it failed"), Alert(kind="refused", message="it was refused")]
        monkeypatch.setattr("flows.server.alerts", lambda _: found)
        assert freshness.fn(request) is None
        found.append(Alert(kind="stale", message="it is old"))  # the flow looks at these alerts, and at all of them
        with pytest.raises(StaleError, match="it is old"):
            freshness.fn(request)
