import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import StoreError
from data.schema import sha256_text
from data.store.base import LocalStore
from data.store.digests import pack_digests, unpack_digests
from data.vectors.shards import (
    ShardVectors,
    TokenCount,
    count_tokens,
    embed_key,
    encoded_contents,
    forget_contents,
    forget_unusable,
    is_usable,
    keep_unusable,
    unusable_contents,
    write_shard,
)


def contents(*numbers):
    return [sha256_text(f"text {number}") for number in numbers]


def unit(rows, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, 4)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write(store, names, *, vectors=None, fingerprint="f", encode_key="e"):
    vectors = unit(len(names)) if vectors is None else vectors
    return write_shard(store, names, vectors, fingerprint=fingerprint, encode_key=encode_key)


def digests(names):
    return pack_digests(pa.array(names, pa.string()))


def read(store, names, *, fingerprint="f", encode_key="e"):
    """Content and vector of each name that has one."""
    shards = ShardVectors(store, fingerprint=fingerprint, encode_key=encode_key)
    there = [name for name in names if shards.contains(digests([name]))[0]]
    return list(zip(there, shards.of(digests(there)).tolist(), strict=True)) if there else []


def encoded(store, *, fingerprint="f", encode_key="e"):
    return set(unpack_digests(encoded_contents(store, fingerprint=fingerprint, encode_key=encode_key)))


def shortened(*numbers):
    return {name[:32] for name in contents(*numbers)}


def test_tokens_are_counted_once_for_each_wanted_content(store):
    def counted(*numbers):
        return count_tokens(store, digests(contents(*numbers)), fingerprint="f", encode_key="e")

    def keep(names, read, cut, encode_key="e"):
        tokens = np.array(read, np.int32), np.array(cut, np.int32)
        write_shard(store, names, unit(len(names)), fingerprint="f", encode_key=encode_key, tokens=tokens)

    assert counted(1, 2) == TokenCount()
    keep(contents(1, 2, 3), read=[10, 128, 5], cut=[0, 372, 0])
    keep(contents(3, 4), read=[5, 7], cut=[0, 0])  # as a killed rewrite leaves it
    keep(contents(1), read=[500], cut=[500], encode_key="another")
    assert counted(1, 2, 3, 4, 4, 9) == TokenCount(read=150, cut=372)
    assert counted(1, 3).cut_share == 0
    assert counted(2).cut_share == 372 / 500
    forget_contents(store, digests(contents(2)), fingerprint="f")
    assert counted(1, 2, 3, 4) == TokenCount(read=22)
    write(store, contents(5))  # as an earlier version did
    assert counted(1, 5) == TokenCount(read=10, uncounted=1)


def test_a_content_is_encoded_only_under_the_same_checkpoint_and_settings(store):
    assert encoded(store, fingerprint="f", encode_key="e") == set()
    write(store, contents(1, 2))
    write(store, contents(3), encode_key="other")
    write(store, contents(4), fingerprint="g")
    assert encoded(store, fingerprint="f", encode_key="e") == shortened(1, 2)
    assert encoded(store, fingerprint="f", encode_key="other") == shortened(3)
    assert encoded(store, fingerprint="g", encode_key="e") == shortened(4)
    assert read(store, contents(1, 2, 3, 4), encode_key="other") == [(contents(3)[0], unit(1)[0].tolist())]


def test_the_embed_key_depends_on_each_of_its_parts():
    keys = {embed_key(c, fingerprint=f, encode_key=e) for c in "ab" for f in "ab" for e in "ab"}
    assert len(keys) == 8


def test_the_same_contents_give_the_same_shard_which_is_written_once(store):
    names = contents(1, 2, 3)
    shard = write(store, names)
    before = store.local_path(shard).read_bytes()
    assert write(store, names, vectors=unit(3, seed=1)) == shard
    assert write(store, names[::-1]) == shard
    assert store.local_path(shard).read_bytes() == before
    others = {write(store, names[:2]), write(store, names, encode_key="other"), write(store, names, fingerprint="g")}
    assert len(others | {shard}) == 4
    assert len(list(store.list("shards"))) == 4


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sets(st.integers(0, 12), min_size=1), max_size=6), st.sets(st.integers(0, 15)))
def test_reading_gives_each_wanted_content_once_with_its_vector(tmp_path_factory, shards, wanted):
    store = LocalStore(tmp_path_factory.mktemp("shards"))
    table = unit(16)
    for numbers in shards:
        ordered = sorted(numbers)
        write(store, contents(*ordered), vectors=table[ordered])
    found = read(store, contents(*wanted))
    there = wanted & set().union(*shards)
    assert sorted(found) == sorted((contents(number)[0], table[number].tolist()) for number in there)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 1.5, 1e38])
@pytest.mark.parametrize("position", [0, 2, 4])
def test_a_vector_that_is_not_of_length_one_is_refused_with_its_content(store, bad, position):
    vectors = unit(5)
    vectors[position] *= bad
    with pytest.raises(StoreError, match=f"content {contents(position)[0][:12]} has length .*, expected 1") as caught:
        write(store, contents(*range(5)), vectors=vectors, fingerprint="0123456789abcdef")
    assert "0123456789ab " in caught.value.hint
    assert list(store.list("shards")) == []


def test_one_bad_number_is_enough(store):
    vectors = unit(3)
    vectors[1, 2] = np.nan
    with pytest.raises(StoreError, match=contents(1)[0][:12]):
        write(store, contents(0, 1, 2), vectors=vectors)


def test_lengths_within_rounding_of_half_precision_are_one(store):
    write(store, contents(0, 1), vectors=unit(2).astype(np.float16).astype(np.float32))
    assert len(read(store, contents(0, 1))) == 2


def test_a_truncated_shard_is_named(store):
    write(store, contents(5))
    shard = write(store, contents(1, 2, 3))
    path = store.local_path(shard)
    content = path.read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        for call in (
            lambda: read(store, contents(1)),
            lambda: encoded(store, fingerprint="f", encode_key="e"),
        ):
            with pytest.raises(StoreError, match=rf"Shard {shard} cannot be read") as caught:
                call()
            assert "encodes its documents again" in caught.value.hint
    path.unlink()
    assert encoded(store, fingerprint="f", encode_key="e") == shortened(5)


def test_a_flipped_bit_never_changes_a_vector(store):
    names = contents(*range(50))
    path = store.local_path(write(store, names))
    wanted, content, num_found = read(store, names), path.read_bytes(), 0
    for position in range(0, len(content), 37):
        flipped = bytearray(content)
        flipped[position] ^= 0xFF
        path.write_bytes(flipped)
        try:
            assert read(store, names) == wanted
        except StoreError:
            num_found += 1
    assert num_found > 20


def test_another_parquet_file_among_the_shards_is_reported(store):
    shard = write(store, contents(1))
    path = store.local_path(shard)
    pq.write_table(pq.read_table(path).drop_columns(["encode_key"]), path)
    with pytest.raises(StoreError, match="cannot be read"):
        read(store, contents(1))


@pytest.mark.parametrize("changed", ["vector", "content_sha256"])
def test_other_vectors_or_keys_than_were_written_are_found_whoever_wrote_them(store, changed):
    """Checksums of pages do not help where a program wrote the file anew."""
    names = contents(1, 2, 3)
    path = store.local_path(write(store, names))
    table = pq.read_table(path, partitioning=None)
    column = table.schema.get_field_index(changed)
    pq.write_table(table.set_column(column, table.schema.field(changed), table[changed].take([1, 0, 2])), path)
    with pytest.raises(StoreError, match="checksum does not match"):
        read(store, names)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, 3e38])
def test_a_vector_that_is_not_finite_or_not_of_length_one_is_unusable(bad):
    vectors = unit(3)
    vectors[1] = bad
    assert is_usable(vectors).tolist() == [True, False, True]


def test_contents_without_a_vector_are_kept_by_checkpoint_and_settings_until_they_are_forgotten(store):
    def kept(fingerprint="f", encode_key="e"):
        return set(unpack_digests(unusable_contents(store, fingerprint=fingerprint, encode_key=encode_key)))

    assert kept() == set()
    keep_unusable(store, contents(1, 2, 3), fingerprint="f", encode_key="e")
    keep_unusable(store, contents(1), fingerprint="f", encode_key="e")
    assert (kept(), kept(fingerprint="g"), kept(encode_key="other")) == (shortened(1, 2, 3), set(), set())
    assert encoded(store) == set(), "they are in no shard"
    forget_contents(store, digests(contents(2)), fingerprint="f")
    assert kept() == shortened(1, 3)
    forget_unusable(store, fingerprint="f")
    assert kept() == set()
