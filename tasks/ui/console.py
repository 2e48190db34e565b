"""The terminal that progress and logs share: two consoles would write over each other."""

from rich.console import Console

STDERR = Console(stderr=True)
