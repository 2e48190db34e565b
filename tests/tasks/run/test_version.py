"""The version names the commit: of the checkout, or the one that a build wrote down."""

import re
import subprocess
from pathlib import Path

import pytest

from flows.cli import run
from tasks.run import version as module

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def fresh():
    module.version.cache_clear()
    yield
    module.version.cache_clear()


def test_a_checkout_names_its_commit(capsys):
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert run(["--version"]) == 0
    shown = capsys.readouterr().out
    found = re.fullmatch(r"l2v \S+ \((?:.*-g)?([0-9a-f]{7,})(?:-dirty)?\)\n", shown)
    assert found is not None, shown
    assert head.stdout.startswith(found[1])


def test_a_built_package_names_the_commit_that_it_was_built_from(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    monkeypatch.setattr(module, "_BAKED", tmp_path / "commit.txt")
    assert module.version().endswith("(commit unknown)")
    module.version.cache_clear()
    (tmp_path / "commit.txt").write_text("abc1234\n")
    assert module.version().endswith("(abc1234)")


def test_a_checkout_that_git_refuses_has_no_commit(monkeypatch, tmp_path):
    (tmp_path / ".git").write_text("gitdir: /nowhere")
    monkeypatch.setattr(module, "_ROOT", tmp_path)
    assert module.version().endswith("(commit unknown)")
