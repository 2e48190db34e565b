"""Build hook: bakes the commit into the package, so that `l2v --version` names it without a checkout."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):
    """Adds ``tasks/run/commit.txt`` to what is built in a checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the file outside of the tree. An editable install asks git each time instead."""
        if version == "editable" or not Path(self.root, ".git").exists():
            return  # a wheel that is built from an sdist takes the file from there
        try:
            commit = subprocess.run(
                ["git", "-C", self.root, "describe", "--always", "--dirty", "--abbrev=7"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        except (OSError, subprocess.CalledProcessError):
            return
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "commit.txt"
        path.write_text(commit, encoding="utf-8")
        build_data["force_include"][str(path)] = "tasks/run/commit.txt"
