"""The ``l2v`` command line: all commands, and how their errors become exit codes.

Exit codes: 0 done; 1 the run failed, or was stopped by Ctrl-C or SIGTERM; 2 the caller's mistake, nothing changed; 3
refused to protect what is served.
With ``--json`` stdout holds exactly one JSON object, errors included; progress goes to stderr.
"""

from __future__ import annotations

import logging
import signal
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.exceptions import TyperException

import data.errors
import llm2vec_core.errors
from data.store.credentials import mask_credentials
from flows.cli import admin, judging, models, pipeline, query, serve
from flows.cli.environment import configure_logging, is_without_answer, lost_server_hint, trouble_now
from flows.cli.output import REFUSED, print_json
from tasks.errors import SettingsError, TaskError

app = typer.Typer(
    name="l2v",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        from tasks.run.version import version

        sys.stdout.write(f"l2v {version()}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show version and commit, and exit."),
    ] = False,
) -> None:
    """Turn a decoder-only language model into a text encoder. Keep jobs and resumes embedded and matched."""


for _commands in (pipeline, query, judging, serve, models, admin):
    app.add_typer(_commands.app)

_CALLERS_MISTAKES = (data.errors.InputError, llm2vec_core.errors.InputError, SettingsError)


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM, from a service manager or an orchestrator."""


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def main() -> None:
    """Run ``l2v`` with the arguments of the process. SIGTERM acts like Ctrl-C: a run releases its lease."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    as_json = "--json" in arguments
    configure_logging()
    try:
        result = app(arguments, standalone_mode=False)
    except typer.Exit as done:
        return done.exit_code
    except typer.Abort:
        return _fail("Interrupted.", "", code=1, as_json=as_json)
    except TyperException as error:
        message = error.format_message().replace("Value error, ", "")
        return _fail(message, "Run `l2v --help` for commands and options.", code=2, as_json=as_json)
    except _CALLERS_MISTAKES as error:
        return _fail(str(error), error.hint, code=2, as_json=as_json)
    except data.errors.RefusedError as error:
        checks = [check.model_dump() for check in getattr(error, "checks", ())]
        details = {"refused": str(error), **({"gates": checks} if checks else {})}
        return _fail(str(error), error.hint, code=REFUSED, as_json=as_json, details=details)
    except (data.errors.DataError, llm2vec_core.errors.CoreError, TaskError) as error:
        return _fail(str(error), error.hint, code=1, as_json=as_json)
    except KeyboardInterrupt as stop:
        message = "Stopped by SIGTERM." if isinstance(stop, Terminated) else "Interrupted."
        return _fail(message, "Run the same command again: it resumes where it stopped.", code=1, as_json=as_json)
    except Exception as error:
        logging.getLogger(__name__).debug("unexpected", exc_info=True)
        trouble = trouble_now()
        if trouble is not None:
            return _fail(str(trouble), trouble.hint, code=1, as_json=as_json)
        if is_without_answer(error):
            return _fail(f"The Prefect server does not answer ({error}).", lost_server_hint(), code=1, as_json=as_json)
        hint = "This is a bug: please report it. LLM2VEC_DEBUG=1 shows the traceback."
        return _fail(f"{type(error).__name__}: {error}", hint, code=1, as_json=as_json)
    return result if isinstance(result, int) else 0


def _fail(message: str, hint: str, *, code: int, as_json: bool, details: dict[str, Any] | None = None) -> int:
    message = mask_credentials(message)
    if as_json:
        print_json({"error": message, "hint": hint, **(details or {})})
    sys.stderr.write(f"l2v: {message}{' ' + hint if hint else ''}\n")
    return code
