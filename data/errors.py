"""Errors of the data room.

::

    DataError
    ├── InputError            the caller's mistake; nothing was changed
    │   ├── VectorSpaceError  query and table were encoded by different checkpoints
    │   └── SamplePackageError  a package with data of the bundled sample is not installed
    ├── RefusedError          a guard protects the served state
    │   ├── GateRefusedError  a new encoder is worse than the one that is served
    │   ├── GenerationRefusedError  new tables failed the generation gate (in ``data.vectors.gate``, with the figures)
    │   ├── SourceShrankError  a source lost more documents than it may
    │   ├── LeaseHeldError    another writer is at work
    │   └── FencedError       this writer lost its lease; its commit was refused
    └── StoreError            the store failed (disk full, permission lost, damaged file)
        └── ConflictError     a compare-and-swap found other content than expected

Every message says what was found and what was expected; ``hint`` says what to do.
"""

from __future__ import annotations


class DataError(Exception):
    """Base of all errors raised by ``data``.

    Attributes:
        hint: What to do.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the hint apart from the message, so that JSON output can show both."""
        super().__init__(message)
        self.hint = hint


class InputError(DataError):
    """The caller's mistake: an unreadable file, an unknown id or key, a malformed request."""


class VectorSpaceError(InputError):
    """Query and table have vectors of different checkpoints."""


class RefusedError(DataError):
    """A guard refused a step to protect what is served."""


class GateRefusedError(RefusedError):
    """A new encoder scored worse than the one that it would replace."""


class SourceShrankError(RefusedError):
    """A source suddenly lost more documents than it may."""


class LeaseHeldError(RefusedError):
    """Another writer holds the lease."""


class FencedError(RefusedError):
    """A newer writer took over: this writer must not commit."""


class StoreError(DataError):
    """The store failed; what it held before is unchanged."""


class ConflictError(StoreError):
    """A compare-and-swap found other content than expected."""
