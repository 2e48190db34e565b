"""Generate the reference pages of command line and configuration from the code.

python -m tools.reference_pages docs/reference
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.core import TyperCommand, TyperGroup

from flows.cli.app import app
from flows.profiles import Profile
from llm2vec_core.model.modes import STAGES
from llm2vec_core.training.settings import SharedSettings, StageSettings
from tasks.run.consequences import MEANINGS, effects_of, setting_keys
from tasks.run.settings import Settings

_SHARED = ("profile", "config", "set_", "as_json")


def render_commands() -> str:
    """Every command with its arguments and options, as Markdown."""
    root = typer.main.get_command(app)
    lines = [
        "# Command line",
        "",
        "Made by `python -m tools.reference_pages docs/reference`. Exit codes: 0 done; 1 the run failed, or",
        "was stopped by Ctrl-C or SIGTERM; 2 the caller's mistake, nothing changed; 3 refused to protect what is",
        "served.",
        "",
        "Every command takes:",
        "",
        *_option_lines(next(_commands(root, "l2v"))[1], shared=True),
    ]
    for name, command in _commands(root, "l2v"):
        lines += ["", f"## {name}", "", command.help or "", "", *_option_lines(command, shared=False)]
    return "\n".join(lines).rstrip() + "\n"


def _commands(command: Any, name: str) -> Iterator[tuple[str, TyperCommand]]:  # noqa: ANN401 - typer's own click
    if isinstance(command, TyperGroup):
        for child, each in sorted(command.commands.items()):
            yield from _commands(each, f"{name} {child}")
    else:
        yield name, command


def _option_lines(command: TyperCommand, *, shared: bool) -> list[str]:
    parameters: list[Any] = [
        each for each in command.params if (each.name in _SHARED) == shared and each.name != "help"
    ]
    arguments = [_row(each, [each.name]) for each in parameters if each.param_type_name == "argument"]
    options = [
        _row(each, [*each.opts, *each.secondary_opts]) for each in parameters if each.param_type_name == "option"
    ]
    return [*_table("argument", arguments), *([""] if arguments and options else []), *_table("option", options)]


def _table(title: str, rows: list[str]) -> list[str]:
    return [f"| {title} | value | default | meaning |", "| --- | --- | --- | --- |", *rows] if rows else []


def _row(parameter: Any, names: list[str]) -> str:  # noqa: ANN401 - typer's own click
    default = "" if parameter.default in (None, False) else str(parameter.default)
    cells = (
        ", ".join(f"`{name}`" for name in names),
        _value(parameter),
        "(required)" if parameter.required else default,
    )
    return f"| {' | '.join(cells)} | {getattr(parameter, 'help', '') or ''} |"


def _value(parameter: Any) -> str:  # noqa: ANN401 - typer's own click
    """The value of a parameter: its name in the help, or its type."""
    metavar = parameter.metavar
    return f"`{metavar}`" if metavar else _annotation_name(parameter.type_descriptor.annotation)


def render_settings() -> str:
    """Every key of ``l2v.toml`` with type, default and meaning, as Markdown."""
    lines = [
        "# Configuration",
        "",
        "Made by `python -m tools.reference_pages docs/reference`. Keys of `l2v.toml`. Each layer is merged over the",
        "one before, key by key:",
        "",
        "1. the defaults in the tables below;",
        f"2. the profile (`--profile`: {_listed(get_args(Profile))}), over the profile that it `extends`, if any;",
        "3. `l2v.toml` (`--config`);",
        "4. environment variables, such as `L2V_TRAIN__MNTP__STEPS=100`;",
        "5. options of the command, such as `--set train.mntp.steps=100`.",
        "",
        "Three things are not merged key by key. `[sources]` of `l2v.toml` replaces the profile's sources. Places of",
        "evaluation tasks that you name (`evaluate.sample_tasks`, `tasks_dirs`, `benchmarks`) replace the profile's",
        "places and its choice of tasks. A key of `[train]` replaces the same key of single stages in lower layers.",
        "",
        *_section_lines(Settings, "", "Top level"),
        "",
        *_stale_lines(),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _stale_lines() -> list[str]:
    """What a change of each setting makes stale; ``STAGE`` stands for a training stage."""
    rows: dict[str, dict[str, None]] = {}
    for key in setting_keys():
        stage = next((each for each in STAGES if key.startswith(f"train.{each}.")), None)
        shown = key if stage is None else key.replace(f"train.{stage}.", "train.STAGE.", 1)
        rows.setdefault(", ".join(effects_of(key)) or "nothing", {})[shown] = None
    return [
        "## What a change makes stale",
        "",
        "A night does again what a changed setting decides: every setting that decides a result is in its key. `l2v",
        "nightly --preview` shows the settings that changed since the last night. A test changes each setting and",
        "compares what is done again with this table.",
        "",
        "| effect | meaning |",
        "| --- | --- |",
        *(f"| {effect} | {meaning} |" for effect, meaning in MEANINGS.items()),
        "",
        "| makes stale | settings |",
        "| --- | --- |",
        *(f"| {effects} | {_listed(keys)} |" for effects, keys in rows.items()),
        "",
    ]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _section_lines(section: type[BaseModel], prefix: str, title: str) -> list[str]:
    lines = [f"## {title}", "", (section.__doc__ or "").split("\n\n")[0].strip(), ""]
    if issubclass(section, StageSettings):
        names = _listed(SharedSettings.model_fields)
        lines += [f"Keys of `[train]` that can be set here for this stage alone: {names}.", ""]
    lines += ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    nested: list[tuple[type[BaseModel], str]] = []
    for name, field in _own_fields(section):
        inner = _inner_section(field)
        if inner is not None:
            nested.append((inner, f"{prefix}{name}."))
        meaning = _meaning(section, name)
        if inner is None or meaning:
            kind = _annotation_name(field.annotation)
            lines.append(f"| `{prefix}{name}` | {kind} | {_default(field)} | {meaning} |")
    for inner, key in nested:
        named = "NAME." if inner.__name__ == "SourceConfig" else ""
        lines += ["", *_section_lines(inner, key + named, f"[{(key + named).rstrip('.')}]")]
    return lines


def _own_fields(section: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    """Fields of a section, its own before inherited ones; a training stage without those that [train] has for all."""
    own = inspect.get_annotations(section)
    shared = SharedSettings.model_fields if issubclass(section, StageSettings) else {}
    fields = [(name, field) for name, field in section.model_fields.items() if name not in shared]
    return sorted(fields, key=lambda field: field[0] not in own)


def _meaning(section: type[BaseModel], name: str) -> str:
    """Description of a key; a section that only changes a default has it from the one that it extends."""
    fields = (getattr(base, "model_fields", {}).get(name) for base in section.__mro__)
    return next((field.description for field in fields if field is not None and field.description), "")


def _inner_section(field: FieldInfo) -> type[BaseModel] | None:
    candidates = [field.annotation, *get_args(field.annotation)]
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _annotation_name(annotation: Any) -> str:  # noqa: ANN401 - any type
    """A type as Markdown: ``str or None``, ``a or b`` for a choice, ``tuple[int, ...]``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation in (None, type(None)):
        return "None"
    if annotation is ...:
        return "..."
    if origin is Annotated:
        return _annotation_name(arguments[0])
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " or ".join(map(_annotation_name, arguments))
    if origin is not None:
        return f"{origin.__name__}[{', '.join(map(_annotation_name, arguments))}]"
    return str(annotation.__name__)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "(required)" if field.default_factory is None else ""
    if isinstance(field.default, BaseModel):
        return ""
    return f"`{field.default!r}`".replace("|", "\\|")


def pages() -> dict[str, str]:
    """Name of each reference page to its content."""
    return {"commands.md": render_commands(), "configuration.md": render_settings()}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in pages().items():
        (folder / name).write_text(content, encoding="utf-8")
