"""Fixtures that run commands as a script would."""

import json

import pytest

from flows.cli import run


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Another directory for each test; a flow that needs a server starts it itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "var" / "prefect"))
    monkeypatch.setattr("tasks.ui.embedded.start_server", lambda _: None)


def call(capsys, *arguments: str) -> tuple[int, dict, str]:
    """Exit code, the JSON object on stdout, and stderr."""
    code = run([*arguments, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err
