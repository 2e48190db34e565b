"""Errors of the core.

::

    CoreError
    ├── InputError              the caller's mistake
    │   ├── BaseModelError      a base model that cannot be found, read, or made bidirectional
    │   ├── CheckpointError     a checkpoint directory that is incomplete or not one of ours
    │   └── EvalTaskError       an evaluation task folder that does not hold what its type needs
    ├── TrainingError           training went wrong (loss not finite, nothing to train on)
    └── ParityError             another runtime gives other vectors than the encoder

Every message says what was found and what was expected; ``hint`` says what to do about it.
"""

from __future__ import annotations


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


class TrainingError(CoreError):
    """Training went wrong; the last saved step is intact."""


class ParityError(CoreError):
    """Another runtime gives other vectors than the encoder, so that its results could not be compared with ours."""
