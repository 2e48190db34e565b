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
) -> None:
    """Serve search and explanations over HTTP, with a page for people. Reads only."""
    from tasks.serve.server import Started
    from tasks.serve.server import serve as serve_search

    def announce(started: Started) -> None:
        if call.as_json:
            print_json({"url": started.url})
            sys.stdout.flush()  # a program waits for it while the server runs

    serve_search(call.request().settings(), host=host, port=port, environment=os.environ, on_start=announce)
