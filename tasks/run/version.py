"""Version of this code, with the commit that it was built from. Never imports prefect."""

from __future__ import annotations

import functools
import importlib.metadata
import subprocess
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_BAKED = Path(__file__).with_name("commit.txt")  # written by hatch_build.py into a built package
_GIT_TIMEOUT_S = 5.0


@functools.cache
def version() -> str:
    """Such as ``0.1.0 (c6722f8)``; ``-dirty`` after a commit says that files of the checkout were changed."""
    number = importlib.metadata.version("llm2vec-pipelines")
    commit = _commit_of_checkout() or (_BAKED.read_text(encoding="utf-8").strip() if _BAKED.is_file() else None)
    return f"{number} ({commit or 'commit unknown'})"


def _commit_of_checkout() -> str | None:
    if not (_ROOT / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=7"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_GIT_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):  # no git, or a checkout of another user
        return None
    return done.stdout.strip()
