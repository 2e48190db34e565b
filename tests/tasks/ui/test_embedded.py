"""The history of the embedded server: runs of killed processes, and old runs."""

from datetime import UTC, datetime, timedelta

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Running

from data.errors import StoreError
from tasks.ui import embedded
from tasks.ui.embedded import mark_crashed, prune_history, prune_runs, start_server


@flow
def some_flow():
    """Never runs."""


@pytest.fixture
def client(prefect_server):
    with get_client(sync_client=True) as client:
        yield client


def test_runs_that_never_ended_are_crashed(client):
    run = client.create_flow_run(some_flow, state=Running())
    assert mark_crashed() >= 1
    found = client.read_flow_run(run.id)
    assert (found.state.is_crashed(), found.state.message) == (True, "Its process was killed.")
    assert found.end_time is not None, "maintenance removes it by its end"
    assert mark_crashed() == 0


def test_old_runs_are_removed_and_others_stay(client):
    some_flow()
    living = client.create_flow_run(some_flow, state=Running())
    ended = [run.id for run in client.read_flow_runs() if run.state.is_completed()]
    now = datetime.now(UTC)
    assert prune_runs(now) == 0
    assert prune_runs(now + timedelta(days=31)) >= len(ended) > 0
    with pytest.raises(ObjectNotFound):
        client.read_flow_run(ended[0])
    assert client.read_flow_run(living.id).id == living.id
    client.delete_flow_run(living.id)


def test_maintenance_reports_what_it_removed_and_leaves_a_server_alone(monkeypatch):
    monkeypatch.setenv(embedded.OWNER_VARIABLE, "me")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(embedded, "prune_runs", lambda: 3)
    assert [(step.step, step.count) for step in prune_history()] == [("orchestrator", 3)]

    def fail():
        raise RuntimeError("500")

    monkeypatch.setattr(embedded, "prune_runs", fail)
    assert prune_history()[0].error == "RuntimeError: 500"
    monkeypatch.setenv("PREFECT_API_URL", "http://server/api")
    assert prune_history() == []


def test_a_server_that_does_not_start_is_one_sentence_with_its_last_words(tmp_path, monkeypatch):
    import subprocess
    import sys

    class Broken:
        def start(self):
            subprocess.run([sys.executable, "-c", "import sys; sys.exit('no such column: x')"], check=False)
            raise RuntimeError("exited with code 1")

    monkeypatch.setattr("prefect.server.api.server.SubprocessASGIServer", Broken)
    with pytest.raises(StoreError, match="did not start: no such column: x") as caught:
        start_server(tmp_path / "prefect")
    assert str(tmp_path / "prefect" / "server.log") in caught.value.hint
