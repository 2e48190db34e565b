"""Register commands, and define the options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
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


@dataclass(frozen=True)
class Call:
    """The options that every command takes."""

    profile: ProfileOption = "demo"
    config: ConfigOption = None
    set_: SetOption = None
    as_json: JsonOption = False

    def request(self, overrides: dict[str, Any] | None = None) -> RunRequest:
        """Build the request of this call and check its settings."""
        from flows.request import RunRequest

        chosen: dict[str, Any] = {}
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


def writing_overrides(allow_shrink: list[str] | None, wait: float | None) -> dict[str, Any]:
    """Settings that ``--allow-shrink`` and ``--wait`` override."""
    overrides: dict[str, Any] = {}
    if allow_shrink:
        overrides["ingest.allow_shrink"] = allow_shrink
    if wait is not None:
        overrides["lease.wait_s"] = wait
    return overrides
