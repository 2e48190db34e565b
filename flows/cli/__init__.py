"""The ``l2v`` command line: it runs a flow or a query and prints a table or one JSON object."""

import sys

from llm2vec_core.errors import MissingPackageError, require_extra

try:
    require_extra("`l2v`", "pipeline", "typer", "prefect", "lancedb")
except MissingPackageError as error:
    sys.stderr.write(f"{error}\n")
    sys.exit(2)

from flows.cli.app import main, run

__all__ = ["main", "run"]
