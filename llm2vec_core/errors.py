"""Errors of the core.

::

    CoreError
    ├── InputError              the caller's mistake
    │   ├── BaseModelError      a base model that cannot be found, read, or made bidirectional
    │   ├── CheckpointError     a checkpoint directory that is incomplete or not one of ours
    │   └── EvalTaskError       an evaluation task folder without the files or rows that its type needs
    ├── MissingPackageError     a package extra that is not installed
    ├── TrainingError           training went wrong (loss not finite, nothing to train on)
    ├── DeviceError             a GPU that cannot be used or was lost
    │   └── DeviceMemoryError   the memory of a device is full
    └── ParityError             another runtime returns other vectors than the encoder

Every message states what was found and what was expected; ``hint`` suggests a fix.
"""

from __future__ import annotations

import importlib.util


class CoreError(Exception):
    """Base of all errors raised by ``llm2vec_core``.

    Attributes:
        hint: Suggested fix for the reader of the message.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the hint apart from the message, so that JSON output can show both separately."""
        super().__init__(message)
        self.hint = hint


class InputError(CoreError):
    """The caller's mistake: unknown name, wrong shape, unusable setting."""


class BaseModelError(InputError):
    """A base model that cannot be found, read, or made bidirectional."""


class CheckpointError(InputError):
    """A checkpoint directory that is incomplete or not a sentence-transformers directory."""


class EvalTaskError(InputError):
    """An evaluation task folder without the files or rows that its type needs."""


class MissingPackageError(CoreError):
    """A package extra that is not installed."""


class TrainingError(CoreError):
    """Training went wrong; the last saved step is intact."""


class DeviceError(CoreError):
    """A GPU that cannot be used, or was lost; nothing that was written is affected."""


class DeviceMemoryError(DeviceError):
    """The memory of a device is full; the hint names the settings that need less."""


class ParityError(CoreError):
    """Another runtime returns other vectors than the encoder, so its results would not be comparable with ours."""


def require_extra(feature: str, extra: str, *packages: str) -> None:
    """Refuse a feature whose packages are missing.

    Args:
        feature: Name of the feature, for the message.
        extra: The extra that installs the packages.
        packages: Import names.

    Raises:
        MissingPackageError: One of the packages is not installed.
    """
    if any(importlib.util.find_spec(package) is None for package in packages):
        raise MissingPackageError(
            f"{feature} needs the extra '{extra}': pip install 'llm2vec-pipelines[{extra}]'",
            hint=f"Install the extra '{extra}'.",
        )
