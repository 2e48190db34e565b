"""The ``l2v`` command line: it runs a flow or a query and prints a table or one JSON object."""

from flows.cli.app import main, run

__all__ = ["main", "run"]
