"""Errors of the tasks.

::

    TaskError
    └── SettingsError   invalid settings: the caller's mistake

Every message says what was found and what was expected; ``hint`` says what to do about it.
"""

from __future__ import annotations


class TaskError(Exception):
    """Base of all errors that only ``tasks`` and ``flows`` know.

    Attributes:
        hint: What the reader of the message can do about it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the hint beside the message, so that JSON output can show them apart."""
        super().__init__(message)
        self.hint = hint


class SettingsError(TaskError):
    """Invalid settings. The message lists every fault."""
