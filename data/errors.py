"""Errors of the data room.

::

    DataError
    ├── InputError            the caller's mistake; nothing was changed
    │   ├── VectorSpaceError  query and table were encoded by different checkpoints
    │   └── SamplePackageError  a package with data of the bundled sample is not installed
    ├── RefusedError          a guard protects the served state
    │   ├── GateRefusedError  a new encoder is worse than the served one
    │   ├── GenerationRefusedError  new tables failed the generation gate (in ``data.vectors.gate``, with the figures)
    │   ├── SourceShrankError  a source lost more documents than allowed
    │   ├── LeaseHeldError    another writer is active
    │   └── FencedError       this writer lost its lease; its commit was refused
    └── StoreError            the store failed (disk full, permission denied, damaged file)
        └── ConflictError     a compare-and-swap found unexpected content

Every message says what was found and what was expected. ``hint`` says what to do.
"""

from __future__ import annotations


class DataError(Exception):
    """Base of all errors raised by ``data``.

    Attributes:
        hint: What to do.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Store the hint separately from the message: JSON output shows both."""
        super().__init__(message)
        self.hint = hint


class InputError(DataError):
    """The caller's mistake: an unreadable file, an unknown id or key, a malformed request."""


class VectorSpaceError(InputError):
    """Query and table have vectors of different checkpoints."""


class RefusedError(DataError):
    """A guard refused a step to protect the served state."""


class GateRefusedError(RefusedError):
    """A new encoder scored worse than the one it would replace."""


class SourceShrankError(RefusedError):
    """A source suddenly lost more documents than allowed."""


class LeaseHeldError(RefusedError):
    """Another writer holds the lease."""


class FencedError(RefusedError):
    """A newer writer took over, so this writer must not commit."""


class StoreError(DataError):
    """The store failed; stored data is unchanged."""


class ConflictError(StoreError):
    """A compare-and-swap found unexpected content."""
