"""One run context: settings are resolved once per run, and every stage uses them, on any worker."""

import json
from types import SimpleNamespace

import pytest
from prefect import flow
from prefect.context import TaskRunContext
from prefect.states import Completed

from data.errors import DataError
from data.store.base import LocalStore
from flows import request as request_module
from flows.cli import run
from flows.embed import embed
from flows.evaluate import evaluate
from flows.nightly import nightly
from flows.request import RunRequest
from flows.train import train
from llm2vec_core.errors import CoreError
from tasks.errors import SettingsError, StageFailedError, StaleError, TaskError
from tasks.ledger.runs import read_settings
from tasks.run import settings as settings_module
from tasks.run.context import Run
from tasks.run.stage_task import stage_task


@pytest.fixture
def reads(monkeypatch):
    """Files that settings are read from, and how often a configuration was resolved with the environment."""
    counted = {"files": [], "resolved": 0}
    read_toml, read_layers = settings_module._read_toml, request_module.read_layers

    def counting_read(path):
        counted["files"].append(path.name)
        return read_toml(path)

    def counting_load(*args, **options):
        counted["resolved"] += 1
        return read_layers(*args, **options)

    monkeypatch.setattr(settings_module, "_read_toml", counting_read)
    monkeypatch.setattr(request_module, "read_layers", counting_load)
    return counted


def edit_once_a_night_began(night, monkeypatch):
    """From its first stage on, who reads the night's l2v.toml again fails."""
    from tasks.stages.ingest import build_snapshot

    def build(*args, **options):
        night.config.write_text("no = [toml")
        return build_snapshot(*args, **options)

    monkeypatch.setattr("tasks.stages.ingest.build_snapshot", build)


def once(counted):
    return counted["resolved"] == 1 and len(counted["files"]) == len(set(counted["files"]))


def test_a_night_reads_its_settings_once_and_editing_them_changes_nothing_of_it(
    served_night, monkeypatch, reads, capsys
):
    edit_once_a_night_began(served_night, monkeypatch)
    capsys.readouterr()
    assert run(["nightly", "--profile", "tiny", "--config", str(served_night.config), "--json"]) == 0
    night = json.loads(capsys.readouterr().out)
    assert once(reads), reads
    assert set(reads["files"]) >= {"tiny.toml", "l2v.toml"}
    kept = read_settings(LocalStore(served_night.home), night["run_id"])
    assert (kept["match"]["top_k"], kept["train"]["mntp"]["steps"]) == (3, 2)
    assert kept["home"] == str(served_night.home)

    command = ["status", "--profile", "tiny", "--set", f"home={served_night.home}", "--run"]
    assert run([*command, night["run_id"], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"] == kept
    assert (found["run"]["flow"], found["run"]["state"]) == ("nightly", "completed")
    assert run([*command, night["run_id"]]) == 0
    shown = capsys.readouterr().out
    assert "match.top_k" in shown and "completed" in shown
    assert run([*command, "20200101T000000Z-abcdef", "--json"]) == 2


def test_stages_on_other_workers_work_with_the_settings_of_the_night(served_night, monkeypatch, reads):
    """The worker of each stage reads its request from JSON, and has an l2v.toml that is no TOML."""
    flows = {flow.name: flow for flow in (train, evaluate, embed)}
    edit_once_a_night_began(served_night, monkeypatch)
    started = []

    def run_deployment(name, *, parameters, timeout, poll_interval):
        flow = flows[name.split("/")[0]]
        started.append(flow.name)
        flow(**json.loads(json.dumps(parameters)))
        return SimpleNamespace(name="worker", state=Completed())

    monkeypatch.setattr("flows.workers.run_deployment", run_deployment)
    asked = served_night.request.model_copy(update={"overrides": {"deployments.gpu_stages": True}})
    report = nightly(request=asked.model_dump(mode="json"))
    assert started == ["train", "evaluate", "embed"]
    assert once(reads), reads
    assert (report.trained.steps, report.embedded.encoded_documents) == (0, 0)


def test_a_run_shows_its_id_and_nothing_of_its_settings(make_run, tmp_path):
    settings = settings_module.Settings(home=str(tmp_path / "planted-71f3"))
    assert repr(make_run(settings, "night-1")) == "Run(id='night-1')"
    assert set(Run.__dataclass_fields__) == {"id", "settings", "store", "lease", "clock"}


def test_a_submitted_task_takes_the_run_and_may_be_named_by_it(prefect_server, make_run, tmp_path):
    run = make_run(settings_module.Settings(home=str(tmp_path)), "night-1")

    @stage_task("look at {run.id}")
    def look(run):
        return TaskRunContext.get().task_run.name, run

    @flow
    def night():
        return look.submit(run).result()

    name, seen = night()
    assert name == "look at night-1"
    assert seen is run


def test_a_request_of_a_stage_keeps_its_run_out_of_what_is_recorded(make_run, tmp_path):
    request = RunRequest(profile="tiny", overrides={"home": str(tmp_path)})
    stage = request.of_stage(make_run(request.settings(), "night-1"))
    assert stage.parent().settings is stage.settings() is request.settings()
    assert stage.model_dump() == {**request.model_dump(), "parent_run": "night-1"}
    assert request.parent_run is None


def test_errors_of_flows_and_tasks_have_a_tree_of_their_own():
    for error in (SettingsError, StageFailedError, StaleError):
        assert issubclass(error, TaskError)
        assert not issubclass(error, DataError | CoreError)
