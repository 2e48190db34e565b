"""The doctor against a real Prefect server: faults that an operator makes, planted one at a time."""

import copy
import time
from pathlib import Path

import httpx
import pytest
import yaml
from prefect.settings import PREFECT_API_URL
from prefect.workers.process import ProcessWorker

from tasks.doctor.server import examine_server, read_deployments
from tasks.errors import SettingsError

DESCRIBED = yaml.safe_load((Path(__file__).parents[3] / "prefect.yaml").read_text())
NAMES = ("nightly", "freshness", "train")


class PlantedServer:
    """A server with three deployments and a worker in each of both pools, as ``prefect.yaml`` has them."""

    def __init__(self, url, folder):
        self.url, self.file = url, folder / "prefect.yaml"
        self.described = {"deployments": [each for each in DESCRIBED["deployments"] if each["name"] in NAMES]}
        self.file.write_text(yaml.safe_dump(self.described))
        for pool in ("cpu", "gpu"):
            self.create_pool(pool)
            self.beat(pool)
        for each in self.described["deployments"]:
            self.deploy(each)

    def post(self, path, body):
        for pause in (0.5, 1, 2, 4, 8, 0):
            answer = httpx.post(f"{self.url}{path}", json=body, timeout=60)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(pause)  # the database of a busy server is locked for a while; Prefect's client waits, too
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def create_pool(self, name):
        self.post(
            "/work_pools/",
            {"name": name, "type": "process", "base_job_template": ProcessWorker.get_default_base_job_template()},
        )

    def delete_pool(self, name):
        httpx.delete(f"{self.url}/work_pools/{name}", timeout=60)

    def beat(self, pool):
        """A worker's sign of life."""
        self.post(f"/work_pools/{pool}/workers/heartbeat", {"name": f"worker-{pool}", "heartbeat_interval_seconds": 30})

    def deploy(self, wanted, **changes):
        flow = self.post("/flows/", {"name": wanted["name"]})
        limit = wanted.get("concurrency_limit")
        body = {
            "name": wanted["name"],
            "flow_id": flow["id"],
            "entrypoint": wanted["entrypoint"],
            "parameters": wanted["parameters"],
            "work_pool_name": wanted["work_pool"]["name"],
            "job_variables": wanted["work_pool"]["job_variables"],
            "schedules": [
                {"schedule": {"cron": each["cron"], "timezone": each["timezone"]}, "active": each["active"]}
                for each in wanted.get("schedules", [])
            ],
            "concurrency_limit": limit["limit"] if limit else None,
            "tags": wanted["tags"],
        }
        return self.post("/deployments/", {**body, **changes})

    def wanted(self, name):
        return copy.deepcopy(next(each for each in self.described["deployments"] if each["name"] == name))

    def found(self):
        return {each.check: each for each in examine_server(self.file)}

    def clear(self):
        for each in self.post("/deployments/filter", {"deployments": {"tags": {"all_": ["llm2vec"]}}}):
            httpx.delete(f"{self.url}/deployments/{each['id']}", timeout=60)
        for pool in ("cpu", "gpu", "cpus"):
            self.delete_pool(pool)


@pytest.fixture
def planted(prefect_server, monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    server = PlantedServer(PREFECT_API_URL.value(), tmp_path)
    yield server
    server.clear()


def test_a_server_as_in_prefect_yaml_has_no_fault(planted, monkeypatch):
    flow = planted.post("/flows/", {"name": "another-project"})
    planted.deploy(planted.wanted("train"), flow_id=flow["id"], entrypoint="elsewhere.py:main", tags=[])
    found = planted.found()
    assert {name: each.level for name, each in found.items()} == {
        "server": "ok",
        "pool cpu": "ok",
        "pool gpu": "ok",
        "deployments": "ok",
        "schedule": "ok",
        "alerts": "warn",  # no webhook
    }
    assert "l2v automations --webhook" in found["alerts"].remedy
    monkeypatch.setattr("tasks.doctor.server.importlib.metadata.version", lambda _: "3.7.1")
    server = planted.found()["server"]
    assert (server.level, "this environment has 3.7.1" in server.found) == ("fail", True)


def test_a_worker_in_the_wrong_pool_and_a_paused_pool_are_found(planted):
    planted.delete_pool("cpu")
    planted.create_pool("cpus")
    planted.beat("cpus")
    pool = planted.found()["pool cpu"]
    assert pool.level == "fail"
    assert "no work pool 'cpu'" in pool.found
    assert "prefect work-pool create cpu" in pool.remedy
    planted.create_pool("cpu")
    pool = planted.found()["pool cpu"]
    assert pool.level == "fail"
    assert "No worker takes its runs" in pool.found
    assert "Workers run for cpus" in pool.found
    httpx.patch(f"{planted.url}/work_pools/gpu", json={"is_paused": True}, timeout=60).raise_for_status()
    assert "prefect work-pool resume gpu" in planted.found()["pool gpu"].remedy


def test_a_deployment_that_is_stale_or_missing_or_unknown_is_named(planted):
    wanted = planted.wanted("nightly")
    wanted["schedules"][0]["cron"] = "0 5 * * *"
    wanted["parameters"]["request"]["profile"] = "tiny"
    planted.deploy(wanted)
    deployments = planted.found()["deployments"]
    assert deployments.level == "fail"
    assert "nightly (" in deployments.found
    assert "schedules: 0 5 * * * Europe/London instead of 0 2 * * * Europe/London" in deployments.found
    assert "parameters.request.profile: tiny instead of demo" in deployments.found
    assert "gpu_stages" not in deployments.found, "only what differs"
    assert "train" not in deployments.found
    assert "deploy --all" in deployments.remedy
    planted.deploy(planted.wanted("nightly"))
    changed = {**planted.wanted("train"), "name": "tuning"}
    planted.deploy(changed)
    deployments = planted.found()["deployments"]
    assert (deployments.level, "tuning" in deployments.found) == ("warn", True)
    described = copy.deepcopy(planted.described)
    described["deployments"].append({**planted.wanted("train"), "name": "distil", "entrypoint": "flows/x.py:distil"})
    planted.file.write_text(yaml.safe_dump(described))
    deployments = planted.found()["deployments"]
    assert (deployments.level, "Missing: distil" in deployments.found) == ("fail", True)


def test_a_server_that_is_down_is_one_result(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://user:secret@127.0.0.1:9/api")
    (server,) = examine_server(None)
    assert (server.check, server.level) == ("server", "fail")
    assert "does not answer" in server.found
    assert "secret" not in server.found


def test_without_a_server_nothing_is_scheduled(monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (server,) = examine_server(None)
    assert server.level == "ok"
    assert "nothing is scheduled" in server.found


def test_a_file_without_deployments_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="There is no"):
        read_deployments(tmp_path / "prefect.yaml")
    (tmp_path / "prefect.yaml").write_text("deployments: 3")
    with pytest.raises(SettingsError, match="lists no deployments"):
        read_deployments(tmp_path / "prefect.yaml")
