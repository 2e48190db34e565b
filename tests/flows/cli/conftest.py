"""Fixtures that run commands as a script would."""

import json

import pytest

from flows.cli import run


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def call(capsys, *arguments: str) -> tuple[int, dict, str]:
    """Exit code, the JSON object on stdout, and stderr."""
    code = run([*arguments, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err
