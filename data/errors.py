"""Errors of the data room.

::

    DataError
    ├── InputError            the caller's mistake: nothing was changed
    │   ├── VectorSpaceError  query and table were encoded by different checkpoints
    │   └── SamplePackageError  a package with facts of the bundled sample is not installed
    ├── RefusedError          a guard defended the served state
    │   ├── GateRefusedError  a new encoder is worse than the one that is served
    │   ├── GenerationRefusedError  new tables are not what they should be (in ``gate``, with its figures)
    │   ├── SourceShrankError  a source lost more of its documents than it may
    │   ├── LeaseHeldError    another writer is at work
    │   └── FencedError       this writer lost its lease; its commit was refused
    └── StoreError            the store failed (disk full, permission lost, damaged file)
        └── ConflictError     a compare-and-swap found other content than expected

Every message says what was found and what was expected; ``hint`` says what to do about it.
"""

from __future__ import annotations


class DataError(Exception):
    """Base of all errors raised by ``data``.

    Attributes:
        hint: What the reader of the message can do about it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the hint beside the message, so that JSON output can show them apart."""
        super().__init__(message)
        self.hint = hint


class InputError(DataError):
    """The caller's mistake: unreadable file, unknown id or key, wrong shape of a request."""


class VectorSpaceError(InputError):
    """Vectors of two different checkpoints would have been compared."""


class RefusedError(DataError):
    """A guard refused the step to protect what is served."""


class GateRefusedError(RefusedError):
    """The evaluation found a new encoder worse than the one it would replace."""


class SourceShrankError(RefusedError):
    """A source has suddenly lost more of its documents than it may."""


class LeaseHeldError(RefusedError):
    """Another writer holds the lease."""


class FencedError(RefusedError):
    """A newer writer took over: this one must not commit."""


class StoreError(DataError):
    """The store could not do what was asked; what it held before is untouched."""


class ConflictError(StoreError):
    """A compare-and-swap found other content than the caller expected."""
