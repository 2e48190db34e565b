"""Hash columns as numpy arrays: they need far less memory than strings, and set operations are fast.

A digest is the first 16 bytes of a SHA-256: millions fit into memory, and collisions are practically impossible.
"""

from __future__ import annotations

import binascii
import hashlib
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

DIGEST_BYTES = 16
Digests: TypeAlias = NDArray[np.bytes_]
"""Digests of 16 bytes each, dtype ``S16``; shape (rows,)."""

_FIELD_SEPARATOR = "\x1f"
_ABSENT = "\x00"


def no_digests() -> Digests:
    """An empty array of digests."""
    return np.zeros(0, dtype=f"S{DIGEST_BYTES}")


def pack_digests(column: pa.Array | pa.ChunkedArray) -> Digests:
    """Pack a string column of hex digests with 32 or more digits each.

    Raises:
        ValueError: A value is null, not hexadecimal, or of another length than the others.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    packed = [_pack_chunk(chunk) for chunk in chunks if len(chunk)]
    return np.concatenate(packed) if packed else no_digests()


def _pack_chunk(column: pa.Array) -> Digests:
    lengths = pc.min_max(pc.binary_length(column))
    width = lengths["min"].as_py()
    if column.null_count or width != lengths["max"].as_py() or width < 2 * DIGEST_BYTES:
        raise ValueError("the digest column does not hold the values that were written.")
    _, offsets, content = column.cast(pa.string()).buffers()
    start = int(np.frombuffer(offsets, dtype=np.int32)[column.offset])
    raw = binascii.unhexlify(memoryview(content)[start : start + width * len(column)])
    rows = np.frombuffer(raw, dtype=np.uint8).reshape(len(column), width // 2)[:, :DIGEST_BYTES]
    return np.ascontiguousarray(rows).view(f"S{DIGEST_BYTES}").reshape(-1)


def unpack_digests(digests: Digests) -> list[str]:
    """Write each digest as 32 hex digits."""
    raw = np.ascontiguousarray(digests).tobytes()
    return [raw[start : start + DIGEST_BYTES].hex() for start in range(0, len(raw), DIGEST_BYTES)]


def hash_rows(columns: list[pa.Array]) -> pa.StringArray:
    """SHA-256 of each row over all columns, in hex; null and empty values differ."""
    texts = [pc.fill_null(pc.cast(column, pa.string()), _ABSENT) for column in columns]
    joined = pc.binary_join_element_wise(*texts, _FIELD_SEPARATOR)
    return pa.array([hashlib.sha256(row.encode()).hexdigest() for row in joined.to_pylist()], pa.string())


class DigestIndex:
    """Find digests in a column by binary search.

    Args:
        digests: The column; for equal digests, the first row is returned.
    """

    def __init__(self, digests: Digests) -> None:
        """Sort the column once."""
        self._order = np.argsort(digests, kind="stable")
        self._sorted = digests[self._order]

    def __len__(self) -> int:
        """Number of digests, with repetitions."""
        return len(self._sorted)

    def positions(self, wanted: Digests) -> NDArray[np.int64]:
        """Row of each wanted digest in the column, or -1 if it is missing."""
        if not len(self._sorted):
            return np.full(len(wanted), -1, dtype=np.int64)
        places = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        return np.where(self._sorted[places] == wanted, self._order[places], -1).astype(np.int64)

    def contains(self, wanted: Digests) -> NDArray[np.bool_]:
        """Return whether each wanted digest is in the column."""
        return self.positions(wanted) >= 0


def first_of_each(digests: Digests) -> NDArray[np.bool_]:
    """Return whether each row is the first with its digest."""
    is_first = np.zeros(len(digests), dtype=np.bool_)
    is_first[np.unique(digests, return_index=True)[1]] = True
    return is_first


class FirstRows:
    """Find the first row of each digest in a growing column; uses about 24 bytes of memory per distinct digest.

    It keeps sorted runs, each at least twice as long as the next: adding costs a few searches, and sometimes a merge.
    """

    def __init__(self) -> None:
        """Start without rows."""
        self._runs: list[tuple[Digests, NDArray[np.int64]]] = []
        self._num_rows = 0

    def __len__(self) -> int:
        """Number of rows added."""
        return self._num_rows

    def add(self, digests: Digests) -> NDArray[np.int64]:
        """Add rows; returns the first row with an equal digest for each, which may be the row itself."""
        different, places, inverse = np.unique(digests, return_index=True, return_inverse=True)
        firsts = self._num_rows + places
        is_new = np.ones(len(different), dtype=np.bool_)
        for keys, rows in self._runs:
            at = np.minimum(np.searchsorted(keys, different), len(keys) - 1)
            is_there = keys[at] == different
            firsts[is_there] = rows[at[is_there]]
            is_new &= ~is_there
        self._num_rows += len(digests)
        if is_new.any():
            self._runs.append((different[is_new], firsts[is_new]))
        while len(self._runs) > 1 and 2 * len(self._runs[-1][0]) > len(self._runs[-2][0]):
            (keys, rows), (more_keys, more_rows) = self._runs[-2:]
            keys, rows = np.concatenate([keys, more_keys]), np.concatenate([rows, more_rows])
            order = np.argsort(keys, kind="stable")  # a merge of two sorted runs
            self._runs[-2:] = [(keys[order], rows[order])]
        return firsts[inverse]
