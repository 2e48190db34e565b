"""prefect.yaml: every entrypoint loads, every parameter set is one that its flow accepts."""

import re
from pathlib import Path

import pytest
import yaml
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS = {deployment["name"]: deployment for deployment in CONFIG["deployments"]}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_can_run_as_it_is_written(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    deployment = DEPLOYMENTS[name]
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    parameters = dict(deployment["parameters"])
    if name == "embed":
        parameters["fingerprint"] = "0" * 64  # asked for in the run form
    if name == "backfill":
        parameters["meant"] = {"source": "postings"}  # likewise
    flow.validate_parameters(parameters)
    assert flow.name == name
    assert deployment["work_pool"]["name"] in {"cpu", "gpu"}
    assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


def test_training_and_encoding_go_to_the_gpu_pool():
    pools = {name: deployment["work_pool"]["name"] for name, deployment in DEPLOYMENTS.items()}
    assert {name for name, pool in pools.items() if pool == "gpu"} == {
        "nightly",
        "train",
        "embed",
        "evaluate",
        "backfill",
    }


def test_the_night_is_scheduled_in_a_time_zone():
    (schedule,) = DEPLOYMENTS["nightly"]["schedules"]
    assert CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"]).timezone == "Europe/London"
    assert schedule["active"]


def test_no_variable_of_the_deployments_is_taken_for_a_setting():
    """Variables named L2V_… are settings, and an unknown one stops every run."""
    assert not re.findall(r"\$\{?L2V_\w*", (ROOT / "prefect.yaml").read_text())


def test_an_unknown_parameter_is_refused(monkeypatch):
    monkeypatch.chdir(ROOT)
    flow = load_flow_from_entrypoint(DEPLOYMENTS["nightly"]["entrypoint"])
    with pytest.raises(Exception, match="profil"):
        flow.validate_parameters({"request": {"profil": "demo"}})
