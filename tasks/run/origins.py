"""Origin of each setting: default, profile, line of ``l2v.toml``, environment, or option of the command.

Also finds settings that the user gave and that have no effect, because another setting switches off what they
configure. Never imports prefect.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm2vec_core.model.modes import STAGES
from llm2vec_core.training.settings import SharedSettings
from tasks.run.resolved import shown
from tasks.run.settings import ENVIRONMENT_PREFIX, Layer, Settings, merge_layers

KeyPath = tuple[str, ...]
"""Key of a setting, such as ``("train", "mntp", "steps")``."""


@dataclass(frozen=True)
class EffectiveSetting:
    """A setting as a run would use it.

    Attributes:
        key: Its dotted key, such as ``train.mntp.steps``.
        value: Its value as JSON; credentials in URLs and the path of the lineage endpoint are masked.
        origin: For people: ``default``, ``profile demo``, ``l2v.toml line 12``, ``environment L2V_HOME``, ``--set``.
        layer: ``default``, ``profile``, ``file``, ``environment`` or ``command``.
        line: Line in ``l2v.toml``, the first being 1; None for other layers.
    """

    key: str
    value: Any
    origin: str
    layer: str
    line: int | None = None


def effective_settings(layers: Sequence[Layer]) -> list[EffectiveSetting]:
    """All settings of merged layers, in the order of the sections, each with its origin.

    Args:
        layers: From :func:`tasks.run.settings.read_layers`, lowest first.

    Raises:
        SettingsError: The layers do not make valid settings.
    """
    lines = {layer.path: _lines_of(layer.path) for layer in layers if layer.name == "file" and layer.path is not None}
    found = []
    for path, value in leaves(shown(merge_layers(layers))):
        given = _giver(path, layers)
        if given is None:
            found.append(EffectiveSetting(".".join(path), value, "default", "default"))
            continue
        layer, named = given
        line = _line_of(named, lines[layer.path]) if layer.path in lines else None
        found.append(EffectiveSetting(".".join(path), value, _origin(layer, named, line), layer.name, line))
    return found


def settings_without_effect(layers: Sequence[Layer]) -> list[str]:
    """One sentence for each reason why settings that the user gave have no effect.

    A reason that is an option of this command is intended, and left out.

    Args:
        layers: From :func:`tasks.run.settings.read_layers`, lowest first.
    """
    settings = merge_layers(layers)
    own = [layer for layer in layers if layer.name != "profile"]
    given = {path: layer for layer in own for path, _ in leaves(layer.values)}
    reasons = {each.key: each for each in effective_settings(layers)}
    found = []
    for rule in _rules(settings):
        ignored = sorted(".".join(path) for path in given if rule.ignores(path))
        reason = reasons[rule.because.split(" ")[0]]
        if ignored and reason.layer != "command":
            verb = "has" if len(ignored) == 1 else "have"
            found.append(f"{', '.join(ignored)} {verb} no effect: {rule.because} ({reason.origin}).")
    missing = sorted({*settings.ingest.allow_shrink} - {*settings.sources})
    if missing:
        found.append(f"ingest.allow_shrink names no source of the settings: {', '.join(missing)}.")
    return found


@dataclass(frozen=True)
class _Rule:
    """Settings that another one switches off.

    Attributes:
        prefix: Key of the settings, or of their section.
        because: The other setting and its state, such as ``match.fusion is rrf``.
    """

    prefix: str
    because: str

    def ignores(self, path: KeyPath) -> bool:
        prefix = tuple(self.prefix.split("."))
        return path[: len(prefix)] == prefix


def _rules(settings: Settings) -> Iterator[_Rule]:
    """The rules that hold for these settings."""
    train, redacted = settings.train, {*settings.redact.resume, *settings.redact.job}
    for stage in STAGES:
        if stage not in train.stages:
            yield _Rule(f"train.{stage}", f"train.stages is {_listed(train.stages)}")
    conditions: list[tuple[str, str, bool]] = [
        ("judgments", f"train.stages is {_listed(train.stages)}", not train.reads_judgments),
        (
            "train.supervised.false_negative_margin",
            "train.supervised.hard_negatives is 0",
            train.reads_judgments and not train.supervised.hard_negatives,
        ),
        ("match.judged", "match.fusion is rrf", settings.match.fusion == "rrf"),
        ("audit.resumes", "audit.enabled is false", not settings.audit.enabled),
        ("encode.ray_gpus", "encode.engine is local", settings.encode.engine == "local"),
        ("deployments.encoders", "encode.engine is ray", settings.encode.engine == "ray"),
        ("evaluate.max_items", "evaluate.tasks_dirs is empty", not settings.evaluate.tasks_dirs),
        *((f"redact.{name}", f"redact.resume and redact.job leave out {of}", of not in redacted) for name, of in _OF),
    ]
    yield from (_Rule(prefix, because) for prefix, because, holds in conditions if holds)


_OF = (
    ("name_fields", "name"),
    ("name_model", "name"),
    ("birth_date_fields", "birth_date"),
    ("address_fields", "address"),
    ("contact_fields", "phone"),
    ("phone_regions", "phone"),
    ("kept_hosts", "url"),
)
"""Settings of the redaction, and the type of personal data that they are about."""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "empty"


def leaves(values: Mapping[str, Any], above: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Key path and value of every setting of nested tables; an empty table is a value."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, (*above, name))
        else:
            yield (*above, name), value


def _giver(path: KeyPath, layers: Sequence[Layer]) -> tuple[Layer, KeyPath] | None:
    """The highest layer that gives a setting, and the key that it gives it by; None for a default.

    A setting of all training stages is also given by the key that they share, such as ``train.steps``.
    """
    names = [path]
    if len(path) > 2 and path[0] == "train" and path[1] in STAGES and path[2] in SharedSettings.model_fields:
        names.append((path[0], *path[2:]))
    for layer in reversed(layers):
        for name in names:
            if _is_given(layer.values, name):
                return layer, name
    return None


def _is_given(values: Any, path: KeyPath) -> bool:  # noqa: ANN401 - a table, or the value of a setting
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True


def _origin(layer: Layer, path: KeyPath, line: int | None) -> str:
    say: dict[str, Callable[[], str]] = {
        "profile": lambda: f"profile {layer.path.stem if layer.path else ''}",
        "file": lambda: f"{layer.path.name if layer.path else 'l2v.toml'}{f' line {line}' if line else ''}",
        "environment": lambda: f"environment {ENVIRONMENT_PREFIX}{'__'.join(path).upper()}",
        "command": lambda: f"--set {'.'.join(path)}",
    }
    return say[layer.name]()


def _line_of(path: KeyPath, lines: Mapping[KeyPath, int]) -> int | None:
    """Line of a setting; for one inside a value, such as an element of an inline table, the line of the value."""
    return next((lines[path[:length]] for length in range(len(path), 0, -1) if path[:length] in lines), None)


def _lines_of(path: Path) -> dict[KeyPath, int]:
    """Line on which each setting of a TOML file begins.

    ``tomllib`` reports no positions. A prefix of the file that parses ends between two settings, so a setting begins on
    the line after the longest prefix without it.
    """
    found: dict[KeyPath, int] = {}
    try:
        lines, start = path.read_text(encoding="utf-8").splitlines(keepends=True), 1
    except OSError:  # it was removed since its values were read
        return found
    for number in range(1, len(lines) + 1):
        try:
            values = tomllib.loads("".join(lines[:number]))
        except tomllib.TOMLDecodeError:  # inside a list or a text of several lines
            continue
        for each, _ in leaves(values):
            found.setdefault(each, start)
        start = number + 1
    return found
