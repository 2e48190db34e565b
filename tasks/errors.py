"""Errors of ``tasks`` and ``flows``.

::

    TaskError
    ├── SettingsError      invalid settings: the caller's mistake
    ├── ServerError        an embedding server does not answer, or gives other vectors than proven
    ├── StageFailedError   a stage on another worker did not complete
    └── StaleError         the served tables are too old

Every message states what was found and what was expected; ``hint`` suggests a fix.
"""

from __future__ import annotations


class TaskError(Exception):
    """Base of the errors that only ``tasks`` and ``flows`` raise.

    Attributes:
        hint: Suggested fix for the reader of the message.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the hint apart from the message, so that JSON output can show both separately."""
        super().__init__(message)
        self.hint = hint


class SettingsError(TaskError):
    """Invalid settings. The message lists every fault."""


class ServerError(TaskError):
    """An embedding server does not answer, or gives other vectors than the checkpoint."""


class StageFailedError(TaskError):
    """A stage that ran on another worker did not complete."""


class StaleError(TaskError):
    """The served tables are older than ``freshness.max_age_hours``."""
