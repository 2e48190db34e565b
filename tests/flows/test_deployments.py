"""prefect.yaml: every entrypoint loads, and every flow accepts its parameters."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint
from prefect.runtime import flow_run
from prefect.server.schemas.schedules import CronSchedule as ServerSchedule
from prefect.utilities.callables import parameter_schema

from flows.request import RunRequest, run_name
from llm2vec_core.planning.plan import plan_recipe

ROOT = Path(__file__).parents[2]
CONFIG = yaml.safe_load((ROOT / "prefect.yaml").read_text())
DEPLOYMENTS = {deployment["name"]: deployment for deployment in CONFIG["deployments"]}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_can_run_as_it_is_written(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    deployment = DEPLOYMENTS[name]
    flow = load_flow_from_entrypoint(deployment["entrypoint"])
    parameters = dict(deployment["parameters"])
    if name in ("embed", "encode"):
        parameters["fingerprint"] = "0" * 64  # asked for in the run form
    if name == "backfill":
        parameters["meant"] = {"source": "postings"}  # likewise
    flow.validate_parameters(parameters)
    assert flow.name == name
    assert deployment["work_pool"]["name"] in {"cpu", "gpu"}
    assert deployment["tags"]


@pytest.mark.parametrize("name", sorted(set(DEPLOYMENTS) - {"freshness", "encode"}))
def test_what_writes_runs_one_at_a_time(name):
    assert DEPLOYMENTS[name]["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_run_form_explains_every_parameter(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    schema = parameter_schema(load_flow_from_entrypoint(DEPLOYMENTS[name]["entrypoint"]))
    described = [*schema.properties.values(), *schema.definitions["RunRequest"]["properties"].values()]
    assert all(each.get("description") for each in described), described


def test_every_flow_has_a_deployment():
    sources = [path.read_text() for path in (ROOT / "flows").glob("*.py")]
    flows = {name for source in sources for name in re.findall(r'^@flow\(name="(\w+)"', source, re.MULTILINE)}
    assert sum(source.count("@flow(") for source in sources) == len(flows)
    assert flows == set(DEPLOYMENTS)


OVERRIDES = {"nightly": {"deployments.gpu_stages": True}, "maintain": {"lease.wait_s": 3600}}


def test_every_deployment_takes_its_settings_from_one_place():
    """Who edits the anchor `request` has edited all of them."""
    for name, deployment in DEPLOYMENTS.items():
        shared = {**deployment["parameters"]["request"]}
        assert shared.pop("overrides", {}) == OVERRIDES.get(name, {})
        assert shared == CONFIG["definitions"]["request"]


def test_training_and_encoding_go_to_the_gpu_pool():
    pools = {name: deployment["work_pool"]["name"] for name, deployment in DEPLOYMENTS.items()}
    assert {name for name, pool in pools.items() if pool == "gpu"} == {
        "train",
        "embed",
        "encode",
        "evaluate",
        "backfill",
        "ablate",
    }


def test_the_night_is_scheduled_in_a_time_zone():
    (schedule,) = DEPLOYMENTS["nightly"]["schedules"]
    assert CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"]).timezone == "Europe/London"
    assert schedule["active"]


ZONES = ["Europe/London", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "UTC"]
HOURS = ["0 2 * * *", "30 1 * * *", "30 2 * * *", "0 3 * * *"]
HOURS += [each["cron"] for deployment in DEPLOYMENTS.values() for each in deployment.get("schedules", ())]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", sorted(set(HOURS)))
def test_no_night_is_missed_or_run_twice_when_clocks_change(cron, zone):
    """Prefect's own schedule, around every change of a year, from every hour that it may plan at."""
    schedule = ServerSchedule(cron=cron, timezone=zone)
    local = ZoneInfo(zone)
    hours = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(365 * 24)]
    offsets = [hour.astimezone(local).utcoffset() for hour in hours]
    changes = [hour for hour, (one, two) in zip(hours, pairwise(offsets), strict=False) if one != two]
    assert len(changes) == (0 if zone == "UTC" else 2)
    for change in changes or [hours[1000]]:
        begin, end = change - timedelta(hours=30), change + timedelta(hours=30)
        planned = {
            date.astimezone(UTC)
            for start in range(0, 48, 5)
            for date in asyncio.run(schedule.get_dates(n=100, start=begin + timedelta(hours=start), end=end))
        }
        gaps = {(two - one).total_seconds() / 3600 for one, two in pairwise(sorted(planned))}
        if cron.split()[1] == "*":
            assert all(0.5 <= gap <= 2 for gap in gaps), "one hourly check may be missed in the repeated hour"
        else:
            assert len(planned) in (2, 3)
            assert all(23 <= gap <= 25 for gap in gaps), gaps


def test_no_variable_of_the_deployments_is_taken_for_a_setting():
    """Variables named L2V_… are settings, and an unknown one stops every run."""
    assert not re.findall(r"\$\{?L2V_\w*", (ROOT / "prefect.yaml").read_text())


def test_an_unknown_parameter_is_refused(monkeypatch):
    monkeypatch.chdir(ROOT)
    flow = load_flow_from_entrypoint(DEPLOYMENTS["nightly"]["entrypoint"])
    with pytest.raises(Exception, match="profil"):
        flow.validate_parameters({"request": {"profil": "demo"}})


@pytest.mark.parametrize("profile", ["s-llama-1.3b", "llama-2-7b", "mistral-7b", "llama-3-8b"])
def test_the_paper_s_configurations_fit_on_one_gpu_of_80_gb(profile):
    recipe = RunRequest(profile=profile).settings().train
    assert (recipe.mntp.steps, recipe.simcse.steps) == (1000, 1000)
    plan = plan_recipe(recipe.base_model, recipe, gpu="A100-80GB", num_documents=1, tokens_per_document=1)
    assert all(stage.fits for stage in plan.stages), [(stage.stage, stage.total_bytes) for stage in plan.stages]


def test_mistral_is_masked_as_in_the_paper():
    mntp = RunRequest(profile="mistral-7b").settings().train.mntp
    assert (mntp.mask_policy, mntp.mask_probability) == ("all_mask", 0.8)


def test_a_night_is_named_by_its_day_its_base_model_and_its_recipe(monkeypatch):
    monkeypatch.setattr(flow_run, "flow_name", "nightly", raising=False)
    monkeypatch.setattr(flow_run, "parameters", {"request": {"profile": "tiny"}}, raising=False)
    monkeypatch.setattr(flow_run, "scheduled_start_time", datetime(2026, 11, 21, 2, tzinfo=UTC), raising=False)
    key = RunRequest(profile="tiny").settings().train.settings_key()
    assert run_name() == f"nightly 2026-11-21 · smollm2-135m-{key[:4]}"
