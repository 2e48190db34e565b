"""The command that serves search over HTTP."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from flows.cli.command import Call, command
from flows.cli.output import print_json

app = typer.Typer()


@command(app)
def serve(
    call: Call,
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port; 0 takes a free one.")] = 8765,
    host: Annotated[
        str,
        typer.Option(
            "--host", help="Address to listen on. Other machines reach it only with the token in LLM2VEC_SERVE_TOKEN."
        ),
    ] = "127.0.0.1",
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            metavar="NAME",
            help="Also show pairs of the latest matches, and keep answers on them under this name, as l2v judge does.",
        ),
    ] = None,
) -> None:
    """Serve search and explanations over HTTP, with a page for people. Reads only, unless --judge names a person."""
    from tasks.serve.server import Started
    from tasks.serve.server import serve as serve_search

    def announce(started: Started) -> None:
        if call.as_json:
            print_json({"url": started.url})
            sys.stdout.flush()  # a program waits for it while the server runs

    settings = call.request().settings()
    serve_search(settings, host=host, port=port, environment=os.environ, judge=judge, on_start=announce)
