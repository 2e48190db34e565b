"""Address, port and token, and the end of the server."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from data.errors import InputError
from tasks.run.settings import Settings
from tasks.serve.server import TOKEN_VARIABLE, serve

ROOT = Path(__file__).parents[3]


def refused(tmp_path, host="127.0.0.1", port=0, **environment):
    def opened(_):
        raise AssertionError("the port was opened")

    with pytest.raises(InputError) as caught:
        serve(Settings(home=str(tmp_path)), host=host, port=port, environment=environment, on_start=opened)
    return caught.value


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error = refused(tmp_path, port=port)
    assert str(port) in str(error)
    assert "--port" in error.hint


@pytest.mark.parametrize("host", ["no such host", "192.0.2.1", "x" * 300])
def test_an_address_elsewhere_is_named(tmp_path, host):
    error = refused(tmp_path, host, **{TOKEN_VARIABLE: "0123456789abcdef"})
    assert host in str(error)
    assert error.hint


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "board.example"])
def test_others_are_served_with_a_token_only(tmp_path, host):
    error = refused(tmp_path, host)
    assert "needs a token" in str(error)
    assert TOKEN_VARIABLE in error.hint


@pytest.mark.parametrize("token", ["short", "ä" * 20, "0123456789abcdef\n"])
def test_a_token_that_is_easy_to_guess_or_cannot_be_sent_is_refused(tmp_path, token):
    error = refused(tmp_path, **{TOKEN_VARIABLE: token})
    assert TOKEN_VARIABLE in str(error)
    assert token not in f"{error} {error.hint}"


def test_the_command_serves_until_it_is_stopped(tmp_path, served_home):
    command = "import sys; from flows.cli import main; sys.argv[0] = 'l2v'; main()"
    arguments = ["serve", "--port", "0", "--json", "--profile", "tiny", "--set", f"home={served_home.settings.home}"]
    with subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        url = json.loads(process.stdout.readline())["url"]
        query = json.dumps({"query": "sql", "mode": "dense"}).encode()
        request = urllib.request.Request(f"{url}search", query, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=200) as answer:
            assert len(json.load(answer)["hits"]) == 3
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=200)
    assert process.returncode == 0
    assert "Stopped." in said
    assert "Traceback" not in said
    assert "Torch" not in said
    assert "sql" not in said, "queries are not logged"
