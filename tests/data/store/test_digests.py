import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.store.digests import DigestIndex, first_of_each, hash_rows, no_digests, pack_digests, unpack_digests

# Few different bytes, zeros among them: numpy pads with zeros, which must not make two digests equal.
digest = st.lists(st.sampled_from([0, 0, 1, 255]), min_size=16, max_size=16).map(bytes)


def packed(raw):
    return np.array(raw, dtype="S16") if raw else no_digests()


def hexes(raw):
    return pa.array([each.hex() for each in raw], pa.string())


@given(st.lists(digest), st.integers(0, 3))
def test_hex_goes_into_digests_and_back(raw, skipped):
    column = hexes(raw)
    assert unpack_digests(pack_digests(column)) == column.to_pylist()
    assert unpack_digests(pack_digests(column.slice(skipped))) == column.to_pylist()[skipped:]
    chunked = pa.chunked_array([column, column.slice(skipped)], pa.string())
    assert unpack_digests(pack_digests(chunked)) == chunked.to_pylist()


@pytest.mark.parametrize("values", [["ab" * 16, None], ["ab" * 16, "ab" * 32], ["xy" * 16], ["ab"]])
def test_what_is_no_column_of_digests_is_refused(values):
    with pytest.raises(ValueError, match=r"digest column does not hold|[Nn]on-hexadecimal"):
        pack_digests(pa.array(values, pa.string()))


@given(st.lists(digest), st.lists(digest))
def test_lookups_are_those_of_a_dictionary(column, wanted):
    first = {}
    for row, each in enumerate(column):
        first.setdefault(each, row)
    index = DigestIndex(packed(column))
    assert index.positions(packed(wanted)).tolist() == [first.get(each, -1) for each in wanted]
    assert index.contains(packed(wanted)).tolist() == [each in first for each in wanted]
    assert np.flatnonzero(first_of_each(packed(column))).tolist() == sorted(first.values())


def test_rows_that_differ_in_any_column_have_different_hashes():
    columns = [
        pa.array(["a", "a", "a", "a", "ab", "a"]),
        pa.array(["b", "b", None, "", "", "b"]),
        pa.array([1, 2, 1, 1, 1, 1], pa.int64()),
    ]
    hashes = hash_rows(columns).to_pylist()
    assert len(set(hashes)) == 5
    assert hashes[0] == hashes[5] == hashlib.sha256(b"a\x1fb\x1f1").hexdigest()
