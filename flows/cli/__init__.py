"""The ``l2v`` command line: arguments in, a flow or a query, a table or one JSON object out."""

from flows.cli.app import main, run

__all__ = ["main", "run"]
