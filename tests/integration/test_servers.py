"""Nights on a real Prefect server on PostgreSQL, with a process worker for each pool."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from data.store.base import LocalStore
from data.store.lease import LEASE_KEY
from data.vectors.pointer import read_pointer
from tasks.doctor.server import examine_server
from tests.flows.conftest import SmallNight
from tests.integration.servers import ROOT, Servers, postgres, wait_for

pytestmark = pytest.mark.slow

ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class Api:
    """What a test asks the server over its HTTP interface."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=60)

    def close(self) -> None:
        self._client.close()

    def post(self, path: str, **body: Any) -> Any:
        answer = self._client.post(path, json=body)
        answer.raise_for_status()
        return answer.json()

    def deployment(self, name: str) -> dict[str, Any]:
        return self._client.get(f"/deployments/name/{name}/{name}").raise_for_status().json()

    def schedule(self, name: str, *, in_s: float = 0) -> str:
        """Create a scheduled run of a deployment; its id."""
        due = (datetime.now(UTC) + timedelta(seconds=in_s)).isoformat()
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due}}
        return self.post(f"/deployments/{self.deployment(name)['id']}/create_flow_run", state=state)["id"]

    def run(self, run_id: str) -> dict[str, Any]:
        return self._client.get(f"/flow_runs/{run_id}").raise_for_status().json()

    def runs(self, flow: str) -> list[dict[str, Any]]:
        """Runs of a flow that are or were due, newest first."""
        scheduled = {"any_": [flow]}
        found = self.post("/flow_runs/filter", flows={"name": scheduled}, sort="EXPECTED_START_TIME_DESC", limit=50)
        now = datetime.now(UTC)
        return [
            run for run in found if datetime.fromisoformat(run["expected_start_time"]) <= now + timedelta(minutes=5)
        ]

    def cancel(self, run_id: str) -> None:
        self.post(f"/flow_runs/{run_id}/set_state", state={"type": "CANCELLING", "name": "Cancelling"})

    def ended(self, run_id: str, *, timeout_s: float = 900) -> dict[str, Any]:
        def end() -> dict[str, Any] | None:
            run = self.run(run_id)
            return run if run["state_type"] in ENDED else None

        found: dict[str, Any] = wait_for(end, f"the end of run {run_id}", timeout_s=timeout_s)
        return found

    def num_log_lines(self, run_ids: list[str]) -> int:
        logs = self.post("/logs/filter", logs={"flow_run_id": {"any_": run_ids}, "level": {"ge_": 20}}, limit=200)
        return len(logs)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    with postgres(folder) as database:
        running = Servers(folder, database)
        try:
            running.start_server()
            for pool in ("cpu", "gpu"):
                running.create_pool(pool)
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> SmallNight:
    return SmallNight(tmp_path_factory.mktemp("night"), tiny_base)


@pytest.fixture(scope="module")
def api(servers: Servers, night: SmallNight) -> Iterator[Api]:
    """The server with all deployments and automations, but without a worker."""
    servers.deploy(night.config)
    asked = Api(servers.url)
    yield asked
    asked.close()


def lease_is_free(night: SmallNight) -> bool:
    lease = LocalStore(night.home).read(LEASE_KEY)
    return lease is None or json.loads(lease)["expires_at"] == 0


def change_a_job(night: SmallNight, word: str) -> None:
    jobs = night.read(night.jobs)
    jobs["j1"]["description"] += f" {word}."
    night.write(night.jobs, jobs)


def l2v(servers: Servers, *arguments: str) -> dict[str, Any]:
    script = "import sys; from flows.cli import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, "--json"],
        cwd=servers.folder,
        env=servers.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.ci
@pytest.mark.timeout(900)
class TestWithoutWorkers:
    """What the server holds after `prefect deploy --all` and `l2v automations`; short enough for every commit."""

    def test_every_deployment_is_there_with_its_pool_its_limit_and_described_parameters(self, api):
        for name in ("nightly", "ingest", "train", "evaluate", "embed", "match", "export", "freshness"):
            found = api.deployment(name)
            gpu = name in ("train", "evaluate", "embed")
            assert found["work_pool_name"] == ("gpu" if gpu else "cpu")
            if name != "freshness":
                assert found["global_concurrency_limit"]["limit"] == 1
            for parameter in found["parameter_openapi_schema"]["properties"].values():
                assert parameter.get("description"), (name, parameter)
        assert api.deployment("nightly")["schedules"][0]["schedule"]["timezone"] == "Europe/London"

    def test_automations_are_made_once(self, api, servers, receiver):
        for _ in range(2):
            made = l2v(servers, "automations", "--webhook", receiver.url)["automations"]
        held = [each["name"] for each in api.post("/automations/filter")]
        assert sorted(held) == sorted(made)
        assert len(made) == 9

    def test_the_doctor_finds_the_deployments_as_they_were_deployed(self, api, servers, monkeypatch):
        monkeypatch.setenv("PREFECT_API_URL", servers.url)
        found = {each.check: each for each in examine_server(servers.folder / "prefect.yaml")}
        assert found["deployments"].level == "ok", found["deployments"]
        assert "No worker takes its runs" in found["pool cpu"].found
        stale = {each.check: each for each in examine_server(ROOT / "prefect.yaml")}["deployments"]
        assert "nightly (parameters.request.config: " in stale.found

    def test_status_shows_the_next_night(self, api, servers, night):
        def due() -> str | None:
            next_night: str | None = l2v(servers, "status", "--config", str(night.config))["next_night"]
            return next_night

        wait_for(due, "a scheduled night", timeout_s=120)


@pytest.fixture(scope="module")
def workers(api: Api, servers: Servers) -> None:
    servers.start_worker("cpu")
    servers.start_worker("gpu")


@pytest.mark.usefixtures("workers")
@pytest.mark.timeout(3000)
class TestWithWorkers:
    """Each test starts from whatever the former left, the first of them from an empty state."""

    def test_a_scheduled_night_completes_on_both_pools(self, api, servers, night):
        run_id = api.schedule("nightly", in_s=5)
        run = api.ended(run_id)
        assert run["state_type"] == "COMPLETED", (run["state"], servers.log("worker-cpu")[-3000:])
        assert run["name"].startswith("nightly 20") and "·" in run["name"]
        stages = {name: api.runs(name)[0] for name in ("train", "evaluate", "embed")}
        assert {stage["work_pool_name"] for stage in stages.values()} == {"gpu"}
        assert all(stage["state_type"] == "COMPLETED" for stage in stages.values())
        pointer = read_pointer(LocalStore(night.home))
        summary = json.loads((night.home / "runs" / pointer.run_id / "summary.json").read_text())
        assert (summary["encoded_documents"], summary["training_steps"]) == (12, 4)
        assert summary["usage"]["embed"]["tokens"] > 0
        assert lease_is_free(night)
        in_process = [api.runs(name)[0]["id"] for name in ("ingest", "match", "export")]
        assert api.num_log_lines([run_id, *in_process, *(stage["id"] for stage in stages.values())]) < 40

    def test_editing_the_settings_in_the_middle_of_a_night_changes_nothing_of_it(self, api, night):
        """No later stage reads l2v.toml, on either worker: it is no TOML any more."""
        change_a_job(night, "edited")
        run_id = api.schedule("nightly")
        wait_for(lambda: night_has_lease(api, night, run_id), "a night that writes", every_s=0.1)
        night.config.write_text("no = [toml")
        try:
            run = api.ended(run_id)
        finally:
            night.write_config()
        assert run["state_type"] == "COMPLETED", run["state"]
        pointer = read_pointer(LocalStore(night.home))
        kept = json.loads((night.home / "runs" / pointer.run_id / "settings.json").read_text())
        for name in ("train", "evaluate", "embed"):
            request = api.run(api.runs(name)[0]["id"])["parameters"]["request"]
            assert (request["parent_run"], request["resolved"]) == (pointer.run_id, kept)

    def test_of_two_overlapping_nights_one_runs_at_a_time(self, api, night):
        first, second = api.schedule("nightly"), api.schedule("nightly")
        seen = []

        def both_ended() -> bool:
            states = [api.run(run_id)["state_type"] for run_id in (first, second)]
            seen.append(states.count("RUNNING"))
            return set(states) <= ENDED

        wait_for(both_ended, "the end of both nights", timeout_s=900)
        assert max(seen) == 1
        assert {api.run(run_id)["state_type"] for run_id in (first, second)} == {"COMPLETED"}

    def test_a_night_that_is_cancelled_gives_its_lease_back(self, api, night):
        change_a_job(night, "cancelled")
        before = read_pointer(LocalStore(night.home))
        run_id = api.schedule("nightly")
        wait_for(lambda: night_has_lease(api, night, run_id), "a night that writes")
        api.cancel(run_id)
        assert api.ended(run_id)["state_type"] == "CANCELLED"
        wait_for(lambda: lease_is_free(night), "a free lease", timeout_s=60)
        assert read_pointer(LocalStore(night.home)) == before

    def test_a_night_whose_machine_died_is_marked_crashed_and_started_again(self, api, servers, night):
        script = (
            "from flows.server import AutomationSettings, apply_automations;"
            "apply_automations(AutomationSettings(heartbeat_timeout_s=75, restart_after_s=1))"
        )
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=servers.environment, check=True)
        change_a_job(night, "killed")
        run_id = api.schedule("nightly")
        known = {run["id"] for run in api.runs("nightly")}
        wait_for(lambda: night_has_lease(api, night, run_id), "a night that writes")
        # The automation counts from a heartbeat on.
        wait_for(lambda: has_heartbeat(api, run_id), "a heartbeat", timeout_s=120)
        for pool in ("cpu", "gpu"):
            servers.kill(f"worker-{pool}")
        for pool in ("cpu", "gpu"):
            servers.start_worker(pool)
        assert api.ended(run_id)["state_type"] == "CRASHED"

        restarted = wait_for(
            lambda: [run for run in api.runs("nightly") if run["id"] not in known],
            "a night that the automation started",
        )[0]
        assert api.ended(restarted["id"], timeout_s=900)["state_type"] == "COMPLETED"
        pointer = read_pointer(LocalStore(night.home))
        summary = json.loads((night.home / "runs" / pointer.run_id / "summary.json").read_text())
        assert summary["stages"]["embed"]["documents"] == {"job": 6, "resume": 6}
        found = l2v(servers, "search", "killed", "--mode", "lexical", "--config", str(night.config))["hits"]
        assert found[0]["source_id"] == "j1"


def night_has_lease(api: Api, night: SmallNight, run_id: str) -> bool:
    run = api.run(run_id)
    assert run["state_type"] not in ENDED, run["state"]
    return run["state_type"] == "RUNNING" and not lease_is_free(night)


def has_heartbeat(api: Api, run_id: str) -> bool:
    query = {
        "event": {"name": ["prefect.flow-run.heartbeat"]},
        "resource": {"id": [f"prefect.flow-run.{run_id}"]},
    }
    return bool(api.post("/events/filter", filter=query)["events"])
