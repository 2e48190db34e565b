"""Register commands, and define the options that several commands share."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from flows.profiles import Profile
from tasks.errors import SettingsError

if TYPE_CHECKING:
    from flows.request import RunRequest

ProfileOption = Annotated[Profile, typer.Option("--profile", help="Profile that supplies the default settings.")]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration file (default: ./l2v.toml, if it exists).", show_default=False),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one setting. Can be repeated.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]
AllowShrinkOption = Annotated[
    list[str] | None,
    typer.Option("--allow-shrink", metavar="SOURCE", help="Allow this source to shrink. Can be repeated."),
]
BaseModelOption = Annotated[
    str | None,
    typer.Option("--base-model", help="Base model: a bundled name, a directory or a hub name (default: the recipe's)."),
]
WaitOption = Annotated[
    float | None, typer.Option("--wait", metavar="SECONDS", min=0, help="Seconds to wait for another writer.")
]
PreviewOption = Annotated[bool, typer.Option("--preview", help="Show what the command would do; write nothing.")]


@dataclass(frozen=True)
class Call:
    """The options that every command takes."""

    profile: ProfileOption = "demo"
    config: ConfigOption = None
    set_: SetOption = None
    as_json: JsonOption = False

    def request(self, overrides: dict[str, Any] | None = None, *, recipe: Path | None = None) -> RunRequest:
        """Build the request of this call and check its settings.

        Args:
            overrides: Settings that the command's own options override.
            recipe: TOML file of a recipe. It replaces the settings of profile and configuration file; ``--set`` and
                ``overrides`` replace its own.
        """
        from flows.request import RunRequest

        chosen: dict[str, Any] = {} if recipe is None else _recipe_settings(recipe)
        for pair in self.set_ or []:
            key, separator, value = pair.partition("=")
            if not separator:
                raise SettingsError(
                    f"'{pair}' is not a setting.", hint="Write --set KEY=VALUE, for example --set train.mntp.steps=100."
                )
            chosen[key.strip()] = value.strip()
        path = self.config or (Path("l2v.toml") if Path("l2v.toml").is_file() else None)
        request = RunRequest(
            profile=self.profile,
            config=str(path.resolve()) if path else None,
            overrides={**chosen, **(overrides or {})},
        )
        request.settings()
        return request


def command(application: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command. Options of :class:`Call` are appended to its own and passed to it as ``call``."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        def command(**options: Any) -> None:  # noqa: ANN401 - whatever the command declares
            call = Call(**{field.name: options.pop(field.name) for field in fields(Call)})
            function(call, **options)

        hints = get_type_hints(function, include_extras=True) | get_type_hints(Call, include_extras=True)
        _, *own = inspect.signature(function).parameters.values()
        shared = inspect.signature(Call).parameters.values()
        parameters = [
            parameter.replace(annotation=hints[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in (*own, *shared)
        ]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # for typer
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        application.command(name)(command)
        return function

    return register


_RECIPE_TABLES = ("train", "judgments")


def _recipe_settings(path: Path) -> dict[str, Any]:
    """The settings of a recipe file, by dotted key."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"There is no recipe file {path}.", hint="Give the path of a TOML file.") from error
    except ValueError as error:
        raise SettingsError(f"{path} is not a TOML file: {error}.", hint="Mend that line.") from error
    if other := [name for name in tables if name not in _RECIPE_TABLES]:
        raise SettingsError(
            f"{path} has {', '.join(other)}; expected only the tables [train] and [judgments].",
            hint="Move other settings to l2v.toml.",
        )
    return dict(_dotted(tables))


def _dotted(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def writing_overrides(allow_shrink: list[str] | None, wait: float | None) -> dict[str, Any]:
    """Settings that ``--allow-shrink`` and ``--wait`` override."""
    overrides: dict[str, Any] = {}
    if allow_shrink:
        overrides["ingest.allow_shrink"] = allow_shrink
    if wait is not None:
        overrides["lease.wait_s"] = wait
    return overrides
