"""Errors of the core.

::

    CoreError
    ├── InputError              the caller's mistake
    │   ├── BaseModelError      a base model that cannot be found, read, or made bidirectional
    │   ├── CheckpointError     a checkpoint directory that is incomplete or not one of ours
    │   └── EvalTaskError       an evaluation task folder that does not hold what its type needs
    ├── MissingPackageError     an extra of the package that is not installed
    ├── TrainingError           training went wrong (loss not finite, nothing to train on)
    └── ParityError             another runtime gives other vectors than the encoder

Every message says what was found and what was expected; ``hint`` says what to do about it.
"""

from __future__ import annotations

import importlib.util


class CoreError(Exception):
    """Base of all errors raised by ``llm2vec_core``.

    Attributes:
        hint: What the reader of the message can do about it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the hint beside the message, so that JSON output can show them apart."""
        super().__init__(message)
        self.hint = hint


class InputError(CoreError):
    """The caller's mistake: unknown name, wrong shape, unusable setting."""


class BaseModelError(InputError):
    """A base model that cannot be found, read, or made bidirectional."""


class CheckpointError(InputError):
    """A checkpoint directory that is incomplete or not a sentence-transformers directory."""


class EvalTaskError(InputError):
    """An evaluation task folder that does not hold what its type needs."""


class MissingPackageError(CoreError):
    """An extra of the package that is not installed."""


class TrainingError(CoreError):
    """Training went wrong; the last saved step is intact."""


class ParityError(CoreError):
    """Another runtime gives other vectors than the encoder, so that its results could not be compared with ours."""


def require_extra(feature: str, extra: str, *packages: str) -> None:
    """Refuse a feature whose packages are missing.

    Args:
        feature: What was called, as the message names it.
        extra: The extra that brings the packages.
        packages: Import names.

    Raises:
        MissingPackageError: One of the packages is not installed.
    """
    if any(importlib.util.find_spec(package) is None for package in packages):
        raise MissingPackageError(
            f"{feature} needs the extra '{extra}': pip install 'llm2vec-pipelines[{extra}]'",
            hint=f"Install the extra '{extra}'.",
        )
