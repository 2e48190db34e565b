"""Versions, machine and settings, as a support channel asks for them. Secrets are masked."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from tasks.doctor.diagnosis import Diagnosis, Examination
from tasks.run.resolved import shown
from tasks.run.settings import Settings
from tasks.run.version import version

_PACKAGES = ("prefect", "torch", "transformers", "sentence-transformers", "peft", "lancedb", "pyarrow", "mteb", "ray")
_MARKS = {"ok": "", "warn": " (warning)", "fail": " (failed)"}


def describe_environment(settings: Settings) -> dict[str, Any]:
    """Versions, machine and settings."""
    return {
        "version": version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1),
        "container": Path("/.dockerenv").exists() or Path("/run/.containerenv").exists(),
        "packages": {name: _version_of(name) for name in _PACKAGES},
        "settings": shown(settings),
    }


def _version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def render_report(examination: Examination) -> str:
    """Render the results and the environment as Markdown, for a support channel. The user's home becomes ``~``."""
    environment = dict(examination.environment)
    packages, settings = environment.pop("packages"), environment.pop("settings")
    assert isinstance(packages, dict) and isinstance(settings, dict), "describe_environment made them"
    lines = ["# l2v doctor", "", f"{examination.sentence()}.", "", "| check | found | remedy |", "| --- | --- | --- |"]
    lines += [_row(each) for each in examination.checks]
    lines += ["", "## Environment", "", *(f"- {name}: {value}" for name, value in environment.items())]
    lines += [f"- {name}: {value or 'not installed'}" for name, value in packages.items()]
    defaults = set(_lines_of(shown(Settings())))
    own = [line for line in _lines_of(settings) if line not in defaults]
    lines += ["", "## Settings that are no defaults", "", "```", *own, "```", ""]
    return "\n".join(lines).replace(str(Path.home()), "~")


def _row(each: Diagnosis) -> str:
    cells = (f"{each.check}{_MARKS[each.level]}", each.found, each.remedy)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _lines_of(values: dict[str, Any], prefix: str = "") -> list[str]:
    lines: list[str] = []
    for name, value in values.items():
        nested = isinstance(value, dict) and value
        lines += _lines_of(value, f"{prefix}{name}.") if nested else [f"{prefix}{name} = {value!r}"]
    return lines
