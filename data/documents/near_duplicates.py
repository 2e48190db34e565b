"""Near duplicates: find nearly equal texts by MinHash and locality-sensitive hashing.

Import this module locally: readers of a snapshot do not need it. Does not belong here: exact duplicates, which have
equal content hashes.
"""

from __future__ import annotations

import re
import zlib

import numpy as np
from numpy.typing import NDArray

_SHINGLE_WORDS = 3
_UNSPACED = re.compile(
    "[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u3400-\u9fff\uac00-\ud7a3\U00020000-\U0003ffff]"
)
NUM_PERM = 128
"""Number of entries in a signature."""
_BANDED_PERM = 64  # half of the entries find candidates, which keeps the buckets small; all of them verify a candidate
_ID_BYTES = 16  # a doc_id is 32 hex digits
_SHINGLE_WEIGHTS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
# Odd 64-bit numbers: the high half of a sum of products is a hash.
_BAND_WEIGHTS: NDArray[np.uint64] = np.random.default_rng(1).integers(0, 2**63, 16, dtype=np.uint64) * 2 + 1
# datasketch.MinHash(128, seed=1).permutations: importing datasketch takes longer than sketching a thousand texts.
_random = np.random.RandomState(1)
_PERMUTATIONS: tuple[NDArray[np.uint32], NDArray[np.uint32]] = (
    _random.randint(0, 1 << 31, NUM_PERM, dtype=np.uint32) * np.uint32(2) + np.uint32(1),
    _random.randint(0, 1 << 32, NUM_PERM, dtype=np.uint32),
)


def minhash(text: str) -> NDArray[np.uint32]:
    """Signature of the set of word triples of a text; shape (128,).

    The share of equal entries of two signatures estimates the Jaccard similarity of the two sets. At a similarity of
    0.9, the standard error is 0.03. A text of fewer than three words is one shingle. In scripts without spaces, each
    character counts as a word.

    Source: Broder, On the resemblance and containment of documents (1997); permutations of datasketch.
    """
    if not text.isascii():
        text = _UNSPACED.sub(r" \g<0> ", text)
    # crc32, because Python's hash differs between processes.
    words = np.array([*map(zlib.crc32, text.lower().encode().split())] or [0], dtype=np.uint64)
    width = min(_SHINGLE_WORDS, len(words))
    windows = [words[start : len(words) - width + 1 + start] * _SHINGLE_WEIGHTS[start] for start in range(width)]
    shingles: NDArray[np.uint64] = np.sum(windows, axis=0, dtype=np.uint64)
    # Equivalent to MinHash.update_batch, but four times as fast: no loop over Python integers.
    factors, offsets = _PERMUTATIONS
    permuted = factors[:, None] * _mix((shingles >> np.uint64(32)).astype(np.uint32))[None, :]
    permuted += offsets[:, None]
    signature: NDArray[np.uint32] = permuted.min(axis=1)
    return signature


def sketch(text: str) -> NDArray[np.uint16]:
    """Low half of each entry of the signature; shape (128,).

    This is sufficient: texts are compared by the low bytes, and a band of two entries still has 2^32 buckets.
    """
    return minhash(text).astype(np.uint16)


def bands_of(sketches: NDArray[np.uint16], threshold: float) -> NDArray[np.uint32]:
    """Hash of each band of sketches; shape (texts, bands). Near duplicates nearly always share one.

    Args:
        sketches: Results of :func:`sketch`; shape (texts, 128).
        threshold: Minimum Jaccard similarity of near duplicates.
    """
    rows = _rows_of_a_band(threshold)
    entries = sketches[:, :_BANDED_PERM].reshape(len(sketches), _BANDED_PERM // rows, rows)
    hashes: NDArray[np.uint64] = entries.astype(np.uint64) @ _BAND_WEIGHTS[:rows]
    return (hashes >> np.uint64(32)).astype(np.uint32)


def shares_a_band(bands: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Return whether each text shares a band hash with another text. Only such texts can be near duplicates."""
    shares = np.zeros(len(bands), dtype=np.bool_)
    for column in bands.T:
        order = np.argsort(column)
        is_equal = column[order[1:]] == column[order[:-1]]
        shares[order[1:][is_equal]] = True
        shares[order[:-1][is_equal]] = True
    return shares


def _rows_of_a_band(threshold: float) -> int:
    """Maximum entries per band at which a pair at the threshold shares a band with probability 0.95 or more."""
    return next(rows for rows in (16, 8, 4, 2, 1) if 1 - (1 - threshold**rows) ** (_BANDED_PERM // rows) >= 0.95)


def _mix(hashes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The finalizer of MurmurHash3, which datasketch applies before its permutations."""
    mixed = (hashes ^ (hashes >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return mixed ^ (mixed >> np.uint32(16))


class NearDuplicateIndex:
    """Finds a nearly equal earlier text for each text.

    Near duplicates are not stored, so each group has one representative: its first text. To save memory, a bucket is an
    integer instead of a set as in ``datasketch.MinHashLSH``. Only the low byte of each signature entry is stored; the
    comparison allows for the 1 in 256 that agree by chance. A text that shares no band with another
    (:func:`shares_a_band`) need not be added.

    Args:
        threshold: Minimum Jaccard similarity of near duplicates.
    """

    def __init__(self, threshold: float) -> None:
        """Start without texts."""
        self._min_equal = threshold * 255 / 256 + 1 / 256
        self._band_rows = _rows_of_a_band(threshold)
        num_bands = _BANDED_PERM // self._band_rows
        self._first: list[dict[int, int]] = [{} for _ in range(num_bands)]
        self._more: list[dict[int, list[int]]] = [{} for _ in range(num_bands)]
        self._signatures = bytearray()
        self._keys = bytearray()

    def add(self, doc_id: str, signature: NDArray[np.uint16]) -> str | None:
        """Find the first document with a nearly equal text. If there is none, store this one and return None.

        Args:
            doc_id: Id of the document.
            signature: The :func:`sketch` of its text.
        """
        # Python's hash differs between processes, but it only selects a bucket; the comparison in _match decides.
        bands = [hash(band.tobytes()) for band in signature[:_BANDED_PERM].reshape(-1, self._band_rows)]
        low_bytes = signature.astype(np.uint8)
        match = self._match(low_bytes, bands)
        if match is not None:
            return self._keys[match * _ID_BYTES : (match + 1) * _ID_BYTES].hex()
        index = len(self._keys) // _ID_BYTES
        self._keys += bytes.fromhex(doc_id)
        self._signatures += low_bytes.tobytes()
        for first, more, band in zip(self._first, self._more, bands, strict=True):
            if first.setdefault(band, index) != index:
                more.setdefault(band, []).append(index)
        return None

    def _match(self, low_bytes: NDArray[np.uint8], bands: list[int]) -> int | None:
        candidates: set[int] = set()
        for first, more, band in zip(self._first, self._more, bands, strict=True):
            if band in first:
                candidates.add(first[band])
                candidates.update(more.get(band, ()))
        for index in sorted(candidates):
            other = np.frombuffer(self._signatures[index * NUM_PERM : (index + 1) * NUM_PERM], dtype=np.uint8)
            if float(np.mean(low_bytes == other)) >= self._min_equal:
                return index
        return None
