"""The embedded server: commands share it, it ends when nobody uses it, and its history stays small."""

import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Running

from data.errors import StoreError
from tasks.queries.server_api import EMBEDDED_VARIABLE
from tasks.ui import embedded
from tasks.ui.embedded import (
    KEPT_VARIABLE,
    ServerRecord,
    end_server,
    mark_crashed,
    prune_history,
    prune_runs,
    start_server,
)

ROOT = Path(__file__).parents[3]


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
    monkeypatch.setenv(EMBEDDED_VARIABLE, "http://127.0.0.1:1/api")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(embedded, "prune_runs", lambda: 3)
    assert [(step.step, step.count) for step in prune_history()] == [("orchestrator", 3)]

    def fail():
        raise RuntimeError("500")

    monkeypatch.setattr(embedded, "prune_runs", fail)
    assert prune_history()[0].error == "RuntimeError: 500"
    monkeypatch.setenv("PREFECT_API_URL", "http://server/api")
    assert prune_history() == []


STAND_IN = """
import http.server, socket, sys, threading
from pathlib import Path
from tasks.ui.kept_server import LOCK_NAME, end_when_unused

class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/api/health" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass

arguments = Path(sys.argv[2]) / LOCK_NAME, float(sys.argv[3])
threading.Thread(target=end_when_unused, args=arguments, daemon=True).start()
server = http.server.HTTPServer(("127.0.0.1", 0), Healthy, bind_and_activate=False)
server.socket = socket.socket(fileno=int(sys.argv[1]))
server.serve_forever()
"""
"""A server that begins at once, and ends as the real one does."""

COMMAND = """
import os, sys, time
from pathlib import Path
from tasks.ui import embedded

embedded.server_command = lambda *arguments: [sys.executable, "-c", sys.argv[2], *map(str, arguments)]
embedded._ANSWER_WAIT_S = embedded._STOP_WAIT_S = float(os.environ.get("PATIENCE", "10"))
embedded.mark_crashed = lambda: print("alone", flush=True) or 0
embedded.start_server(Path(sys.argv[1]))
print(os.environ["PREFECT_API_URL"], flush=True)
sys.stdin.read()
"""
"""A command that uses the server until its input is closed."""


class Command:
    """A command in a process of its own.

    Attributes:
        words: What it printed once it had a server: ``alone`` if no other command used it, and the server's URL.
    """

    def __init__(self, folder, **variables):
        environment = {"PYTHONPATH": str(ROOT), KEPT_VARIABLE: "0", **variables}
        self.process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(folder), STAND_IN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={name: value for name, value in {**os.environ, **environment}.items() if name != "PREFECT_API_URL"},
        )
        self.words = []
        while not self.words or not self.words[-1].startswith("http"):
            self.words.append(self.process.stdout.readline().strip())
            assert self.words[-1], "it ended"

    def end(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def kill(self):
        self.process.kill()
        self.end()


def ended(folder):
    """Whether the server of a folder ends soon."""
    record = ServerRecord.model_validate_json((folder / "server.json").read_bytes())
    until = time.monotonic() + 30
    while record.is_alive() and time.monotonic() < until:
        time.sleep(0.05)
    return not record.is_alive()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "home" / "prefect"


def test_commands_share_a_server_and_the_next_one_finds_it(folder):
    kept = {KEPT_VARIABLE: "60"}
    first = Command(folder, **kept)
    beside = Command(folder, **kept)
    assert (first.words[:-1], beside.words[:-1]) == (["alone"], []), "only a lonely command marks runs as crashed"
    assert first.words[-1] == beside.words[-1]
    beside.end()
    first.end()
    later = Command(folder, **kept)
    assert later.words == first.words
    later.end()
    other = Command(folder, **{KEPT_VARIABLE: "0"})
    assert other.words[-1] != first.words[-1], "a server with other settings is started anew"
    other.end()
    assert ended(folder)


def test_a_killed_command_leaves_no_server_and_its_runs_are_marked(folder):
    killed = Command(folder)
    killed.kill()
    assert ended(folder)
    after = Command(folder)
    assert after.words[0] == "alone"
    assert after.words[-1] != killed.words[-1]
    after.kill()


def test_a_server_ends_with_its_home_and_not_while_a_command_uses_it(folder):
    command = Command(folder)
    record = ServerRecord.model_validate_json((folder / "server.json").read_bytes())
    time.sleep(2.5)
    assert record.is_alive()
    shutil.rmtree(folder.parent)
    until = time.monotonic() + 30
    while record.is_alive() and time.monotonic() < until:
        time.sleep(0.05)
    assert not record.is_alive()
    command.end()


def test_a_server_that_hangs_is_ended_and_another_started(folder):
    first = Command(folder)
    hung = ServerRecord.model_validate_json((folder / "server.json").read_bytes())
    os.kill(hung.pid, signal.SIGSTOP)
    first.kill()
    after = Command(folder, PATIENCE="0.5")
    assert after.words[-1] != first.words[-1]
    assert not hung.is_running()
    after.kill()


def test_an_erasure_ends_a_server_that_nobody_uses(folder):
    end_server(folder)
    command = Command(folder, **{KEPT_VARIABLE: "60"})
    record = ServerRecord.model_validate_json((folder / "server.json").read_bytes())
    end_server(folder)
    assert record.is_running(), "a command uses it"
    command.end()
    end_server(folder)
    assert not record.is_running()


def test_a_server_whose_database_was_moved_away_is_started_anew(folder):
    first = Command(folder, **{KEPT_VARIABLE: "60"})
    first.end()
    record = ServerRecord.model_validate_json((folder / "server.json").read_bytes())
    moved = record.model_copy(update={"revision": "of the file that was moved"})
    (folder / "server.json").write_text(moved.model_dump_json())
    later = Command(folder)
    assert later.words[-1] != first.words[-1]
    later.end()


def test_half_a_record_is_no_server(folder):
    folder.mkdir(parents=True)
    (folder / "server.json").write_text('{"process": "1')
    command = Command(folder)
    assert command.words[0] == "alone"
    command.kill()


def test_a_server_that_does_not_start_is_one_sentence_with_its_last_words(folder, monkeypatch):
    broken = [sys.executable, "-c", "import sys; sys.exit('no such column: x')"]
    monkeypatch.setattr(embedded, "server_command", lambda *_: broken)
    monkeypatch.setattr(embedded, "_has_server_already", lambda: False)
    with pytest.raises(StoreError, match="did not start: no such column: x") as caught:
        start_server(folder)
    assert str(folder / "server.log") in caught.value.hint
    embedded._used.pop(folder).close()


def test_a_prepared_database_needs_no_migrations(folder, monkeypatch):
    started = []
    monkeypatch.setattr(embedded.subprocess, "Popen", lambda *_, **options: started.append(options["env"]) or Started())
    monkeypatch.setattr(embedded, "_answers", lambda _: True)
    monkeypatch.setattr(embedded, "database_revision", lambda _: "abc")
    folder.mkdir(parents=True)
    record = embedded._start(folder, "as", former=None)
    assert record.revision is None
    stored = embedded._read_record(folder)
    assert stored.revision == "abc"
    embedded._start(folder, "as", former=stored)
    embedded._start(folder, "as", former=stored.model_copy(update={"prefect": "0.1"}))
    monkeypatch.setattr(embedded, "database_revision", lambda _: None)
    embedded._start(folder, "as", former=stored)
    prepared = [each.get("PREFECT_SERVER_DATABASE_MIGRATE_ON_START") == "false" for each in started]
    assert prepared == [False, True, False, False]
    embedded._processes.clear()


class Started:
    """A process that was started."""

    pid, returncode = 1, None

    def poll(self):
        return None
