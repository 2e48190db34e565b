"""Near duplicates: which texts say nearly the same, by MinHash and locality-sensitive hashing.

Imported where it is used: datasketch loads scipy, which readers of a snapshot never need. Does not belong here: exact
duplicates, which equal content hashes show.
"""

from __future__ import annotations

import zlib

import numpy as np
from datasketch import MinHash
from numpy.typing import NDArray

_SHINGLE_WORDS = 3
NUM_PERM = 128
"""Entries of a signature."""
_BANDED_PERM = 64  # half of them finds candidates, which keeps the buckets small; all of them judge a candidate
_ID_BYTES = 16  # a doc_id is 32 hex digits
_SHINGLE_WEIGHTS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
# Odd numbers of 64 bits: the high half of a sum of products is a hash.
_BAND_WEIGHTS: NDArray[np.uint64] = np.random.default_rng(1).integers(0, 2**63, 16, dtype=np.uint64) * 2 + 1
_PERMUTATIONS: NDArray[np.uint32] = MinHash(NUM_PERM, seed=1).permutations


def minhash(text: str) -> NDArray[np.uint32]:
    """Signature of the set of word triples of a text; shape (128,).

    The share of equal entries of two signatures estimates the Jaccard similarity of the two sets, with a standard
    error of 0.03 at a similarity of 0.9. Texts of fewer than three words are one shingle.

    Source: Broder, On the resemblance and containment of documents (1997); permutations of datasketch.
    """
    # crc32 instead of Python's hash: it gives the same values in every process.
    words = np.array([zlib.crc32(word) for word in text.lower().encode().split()] or [0], dtype=np.uint64)
    width = min(_SHINGLE_WORDS, len(words))
    windows = [words[start : len(words) - width + 1 + start] * _SHINGLE_WEIGHTS[start] for start in range(width)]
    shingles: NDArray[np.uint64] = np.sum(windows, axis=0, dtype=np.uint64)
    # What MinHash.update_batch does, without its loop over Python integers: four times as fast.
    factors, offsets = _PERMUTATIONS
    permuted = factors[:, None] * _mix((shingles >> np.uint64(32)).astype(np.uint32))[None, :]
    permuted += offsets[:, None]
    signature: NDArray[np.uint32] = permuted.min(axis=1)
    return signature


def sketch(text: str) -> NDArray[np.uint16]:
    """What is kept of a signature: the low half of each entry; shape (128,).

    Texts are compared by the low bytes; a band of two entries still has 2^32 buckets.
    """
    return minhash(text).astype(np.uint16)


def bands_of(sketches: NDArray[np.uint16], threshold: float) -> NDArray[np.uint32]:
    """A hash of each band of sketches; shape (texts, bands). Near duplicates nearly always share one.

    Args:
        sketches: As of :func:`sketch`; shape (texts, 128).
        threshold: Jaccard similarity from which texts are near duplicates.
    """
    rows = _rows_of_a_band(threshold)
    entries = sketches[:, :_BANDED_PERM].reshape(len(sketches), _BANDED_PERM // rows, rows)
    hashes: NDArray[np.uint64] = entries.astype(np.uint64) @ _BAND_WEIGHTS[:rows]
    return (hashes >> np.uint64(32)).astype(np.uint32)


def shares_a_band(bands: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Which texts have the hash of a band in common with another one: only these can be near duplicates."""
    shares = np.zeros(len(bands), dtype=np.bool_)
    for column in bands.T:
        order = np.argsort(column)
        is_equal = column[order[1:]] == column[order[:-1]]
        shares[order[1:][is_equal]] = True
        shares[order[:-1][is_equal]] = True
    return shares


def _rows_of_a_band(threshold: float) -> int:
    """So many that a pair at the threshold meets in one of the bands with a probability of 0.95 or more."""
    return next(rows for rows in (16, 8, 4, 2, 1) if 1 - (1 - threshold**rows) ** (_BANDED_PERM // rows) >= 0.95)


def _mix(hashes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The finalizer of MurmurHash3, which datasketch puts before its permutations."""
    mixed = (hashes ^ (hashes >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return mixed ^ (mixed >> np.uint32(16))


class NearDuplicateIndex:
    """Finds for each text an earlier one that is nearly equal, by MinHash and locality-sensitive hashing.

    Only texts that are not near duplicates themselves are kept, so each group has one representative: its first.
    Own buckets instead of ``datasketch.MinHashLSH``: an integer for a band takes a fraction of the memory of its sets.
    For the same reason only the low byte of each signature entry is kept, and the comparison allows for the 1 in 256
    that agree by chance. Texts that share no band with any other (:func:`shares_a_band`) need not be added at all.

    Args:
        threshold: Jaccard similarity from which texts are near duplicates.
    """

    def __init__(self, threshold: float) -> None:
        """Begin without texts."""
        self._min_equal = threshold * 255 / 256 + 1 / 256
        self._band_rows = _rows_of_a_band(threshold)
        num_bands = _BANDED_PERM // self._band_rows
        self._first: list[dict[int, int]] = [{} for _ in range(num_bands)]
        self._more: list[dict[int, list[int]]] = [{} for _ in range(num_bands)]
        self._signatures = bytearray()
        self._keys = bytearray()

    def add(self, doc_id: str, signature: NDArray[np.uint16]) -> str | None:
        """Id of the first document whose text is nearly equal; None when there is none, and then this one is kept.

        Args:
            doc_id: Of the document.
            signature: The :func:`sketch` of its text.
        """
        # Python's hash differs between processes, but only names a bucket; what counts is the comparison in _match.
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
