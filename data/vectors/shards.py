"""Shards: Parquet files of vectors, written once.

Vectors are stored by content, not by document: duplicates share a vector, and a document that moved or changed only its
metadata needs no new one. An anti-join on content hashes finds missing vectors. Besides its page checksums, every file
holds checksums of its keys and vectors: damage is found before a vector is served. Two more columns say how many tokens
of the text were read and how many were cut; shards of earlier versions lack them.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32, Int32
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from data.errors import StoreError
from data.schema import sha256_json
from data.store.base import Store
from data.store.digests import DigestIndex, Digests, first_of_each, no_digests, pack_digests

LENGTH_TOLERANCE = 1e-3
"""Allowed deviation of a vector's length from one."""

_UNUSABLE = "no_vector"
_KEY_COLUMNS = ("content_sha256", "encode_key")
_TOKEN_COLUMNS = ("read_tokens", "cut_tokens")
_COLUMN_TYPES = {"vector": pa.types.is_fixed_size_list} | dict.fromkeys(_TOKEN_COLUMNS, pa.types.is_int32)
_KEYS_CHECKSUM, _VECTORS_CHECKSUM = b"keys_sha256", b"vectors_sha256"


def embed_key(content_sha256: str, *, fingerprint: str, encode_key: str) -> str:
    """Identity of a vector: content, checkpoint, and encode settings."""
    return sha256_json([content_sha256, fingerprint, encode_key])


def encoded_contents(store: Store, *, fingerprint: str, encode_key: str) -> Digests:
    """Digests of the contents that have a vector under these settings. A content may occur twice.

    Raises:
        StoreError: A shard cannot be read.
    """
    found = [
        pack_digests(keys["content_sha256"].filter(pc.equal(keys["encode_key"], encode_key)))
        for key in _shard_keys(store, fingerprint)
        for keys in [_read(store, key, vectors=False)]
    ]
    return np.concatenate(found) if found else no_digests()


def whole_contents(store: Store, *, fingerprint: str, encode_key: str) -> Digests:
    """Digests of the contents that are known to have been read whole, without those that nobody counted.

    Raises:
        StoreError: A shard cannot be read.
    """
    found = [no_digests()]
    for key in _shard_keys(store, fingerprint):
        table = _read(store, key, vectors=False, tokens=True)
        if (counts := _tokens(table)) is not None:
            is_whole = pc.equal(table["encode_key"], encode_key).to_numpy() & (counts[1] == 0)
            found.append(pack_digests(table["content_sha256"])[is_whole])
    return np.concatenate(found)


def drop_shards(store: Store, *, fingerprint: str) -> None:
    """Remove every vector of a checkpoint: its documents are then encoded again."""
    store.delete(f"shards/{fingerprint}")


def shard_key(contents: Iterable[str], *, fingerprint: str, encode_key: str) -> str:
    """Key of the shard for the given contents, in any order."""
    keys = sorted(embed_key(content, fingerprint=fingerprint, encode_key=encode_key) for content in contents)
    return f"shards/{fingerprint}/{sha256_json(keys)[:32]}.parquet"


def write_shard(
    store: Store,
    contents: Sequence[str],
    vectors: Float32[np.ndarray, "contents dim"],
    *,
    fingerprint: str,
    encode_key: str,
    tokens: tuple[Int32[np.ndarray, " contents"], Int32[np.ndarray, " contents"]] | None = None,
) -> str:
    """Write one shard. The same contents give the same shard.

    Args:
        store: Store to write to.
        contents: ``content_sha256`` of each row.
        vectors: Vectors of length one.
        fingerprint: Checkpoint that produced the vectors.
        encode_key: Encode settings of the vectors.
        tokens: Tokens of each text that were read, and that were cut; None if they were not counted.

    Returns:
        Key of the shard.

    Raises:
        StoreError: A vector is not finite or does not have length one.
    """
    bad = np.flatnonzero(~is_usable(vectors))
    if len(bad):
        length = np.linalg.norm(vectors[bad[0]].astype(np.float64))
        raise StoreError(
            f"The vector of content {contents[bad[0]][:12]} has length {length:.4g}, expected 1.",
            hint=f"Checkpoint {fingerprint[:12]} produces vectors that cannot be compared; nothing was written.",
        )
    keys = [embed_key(content, fingerprint=fingerprint, encode_key=encode_key) for content in contents]
    table = pa.table(
        {
            "embed_key": pa.array(keys, pa.string()),
            "content_sha256": pa.array(contents, pa.string()),
            "encode_key": pa.array([encode_key] * len(keys), pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float32()), vectors.shape[1]),
        }
    )
    for name, counts in zip(_TOKEN_COLUMNS, tokens or (), strict=False):
        table = table.append_column(name, pa.array(counts, pa.int32()))
    checksums = {_KEYS_CHECKSUM: _checksum_of_keys(table), _VECTORS_CHECKSUM: _checksum_of_vectors(vectors)}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(checksums), buffer, compression="zstd", write_page_checksum=True)
    shard = shard_key(contents, fingerprint=fingerprint, encode_key=encode_key)
    store.put_if_absent(shard, buffer.getvalue())
    return shard


def forget_contents(store: Store, contents: Digests, *, fingerprint: str, encode_key: str | None = None) -> int:
    """Remove the vectors of the given contents: their shards are rewritten without them.

    Records of contents without a usable vector go, too. The new shard is written before the old one is removed. If the
    process is killed in between, repeating the call completes it; until then a content may have two equal vectors.

    Args:
        store: Where the shards are.
        contents: Digests of the contents.
        fingerprint: Checkpoint that produced the vectors.
        encode_key: Remove only vectors with these encode settings. Default: all.

    Returns:
        Number of shards that were rewritten or removed.

    Raises:
        StoreError: A shard cannot be read or written.
    """
    forget_unusable(store, fingerprint=fingerprint, contents=contents)
    forgotten, num_changed = DigestIndex(contents), 0
    for key in list(_shard_keys(store, fingerprint)):
        keys = _read(store, key, vectors=False)
        is_meant = forgotten.contains(pack_digests(keys["content_sha256"]))
        if encode_key is not None:
            is_meant &= pc.equal(keys["encode_key"], encode_key).to_numpy()
        if not is_meant.any():
            continue
        rest = _read(store, key, vectors=True, tokens=True).filter(pa.array(~is_meant))
        if len(rest):
            column = rest["vector"].combine_chunks()
            write_shard(
                store,
                rest["content_sha256"].to_pylist(),
                column.flatten().to_numpy().reshape(len(rest), -1),
                fingerprint=fingerprint,
                encode_key=rest["encode_key"][0].as_py(),  # the same for all rows of a shard
                tokens=_tokens(rest),
            )
        store.delete(key)
        num_changed += 1
    return num_changed


class TokenCount(BaseModel):
    """Tokens of distinct contents.

    Attributes:
        read: Tokens that went through the encoder.
        cut: Tokens that did not.
        uncounted: Contents that an earlier version encoded, which counted no tokens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    read: int = 0
    cut: int = 0
    uncounted: int = 0

    @property
    def cut_share(self) -> float:
        """Share of all counted tokens that were cut, from 0 to 1."""
        return self.cut / max(self.read + self.cut, 1)


def count_tokens(store: Store, contents: Digests, *, fingerprint: str, encode_key: str) -> TokenCount:
    """Count the tokens of contents that have a vector.

    Args:
        store: Where the shards are.
        contents: Digests of the contents, in any order.
        fingerprint: Checkpoint that produced the vectors.
        encode_key: Encode settings of the vectors.

    Raises:
        StoreError: A shard cannot be read.
    """
    wanted = DigestIndex(np.unique(contents))
    digests, counts = [no_digests()], [np.zeros((2, 0), np.int32)]
    for key in _shard_keys(store, fingerprint):
        table = _read(store, key, vectors=False, tokens=True)
        found = pack_digests(table["content_sha256"])
        is_meant = pc.equal(table["encode_key"], encode_key).to_numpy() & wanted.contains(found)
        digests.append(found[is_meant])
        counts.append(np.array(_tokens(table) or [np.full(len(found), -1, np.int32)] * 2)[:, is_meant])
    once = first_of_each(np.concatenate(digests))  # a killed rewrite leaves a content in two shards
    read, cut = np.concatenate(counts, axis=1)[:, once].astype(np.int64)
    return TokenCount(read=int(read[read >= 0].sum()), cut=int(cut[cut >= 0].sum()), uncounted=int((read < 0).sum()))


@dataclass(frozen=True)
class ShardInfo:
    """Key of a shard, or of a record beside the shards, with the digests of its contents."""

    key: str
    contents: Digests


def list_shards(store: Store, *, fingerprint: str) -> Iterator[ShardInfo]:
    """All shards of a checkpoint, with any encode settings.

    Raises:
        StoreError: A shard cannot be read.
    """
    for key in _shard_keys(store, fingerprint):
        yield ShardInfo(key, pack_digests(_read(store, key, vectors=False)["content_sha256"]))


class ShardVectors:
    """Vectors of a checkpoint under one encode key, looked up by content.

    Uses about 24 bytes of memory per vector, and holds the vectors of one shard at a time.

    Args:
        store: Where the shards are.
        fingerprint: Checkpoint that produced the vectors.
        encode_key: Encode settings of the vectors.

    Raises:
        StoreError: A shard cannot be read.
    """

    def __init__(self, store: Store, *, fingerprint: str, encode_key: str) -> None:
        """Read the keys of all shards."""
        self._store = store
        self._keys = list(_shard_keys(store, fingerprint))
        digests, shards, rows = [no_digests()], [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
        for number, key in enumerate(self._keys):
            table = _read(store, key, vectors=False)
            matching = np.flatnonzero(pc.equal(table["encode_key"], encode_key).to_numpy())
            digests.append(pack_digests(table["content_sha256"].take(matching)))
            shards.append(np.full(len(matching), number, np.int32))
            rows.append(matching.astype(np.int32))
        self._index = DigestIndex(np.concatenate(digests))
        self._shard_of, self._row_of = np.concatenate(shards), np.concatenate(rows)

    def contains(self, contents: Digests) -> NDArray[np.bool_]:
        """Return whether each content has a vector."""
        return self._index.contains(contents)

    def of(self, contents: Digests) -> Float32[np.ndarray, "contents dim"]:
        """Vectors of contents, in the given order.

        Raises:
            KeyError: A content has no vector.
            StoreError: A shard cannot be read.
        """
        places = self._index.positions(contents)
        if not len(places) or places.min() < 0:
            raise KeyError("a content has no vector")
        shards, rows = self._shard_of[places], self._row_of[places]
        vectors: Float32[np.ndarray, "contents dim"] | None = None
        for number in np.unique(shards):
            column = _read(self._store, self._keys[number], vectors=True)["vector"].combine_chunks()
            stored = column.flatten().to_numpy().reshape(len(column), -1)
            if vectors is None:
                vectors = np.empty((len(contents), stored.shape[1]), dtype=np.float32)
            wanted = shards == number
            vectors[wanted] = stored[rows[wanted]]
        assert vectors is not None, "every vector has a shard"
        return vectors


def is_usable(vectors: Float32[np.ndarray, "contents dim"]) -> NDArray[np.bool_]:
    """Return whether each vector is finite and has length one."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        usable: NDArray[np.bool_] = np.abs(lengths - 1) <= LENGTH_TOLERANCE  # the comparison is false for NaN
    return usable


def keep_unusable(store: Store, contents: Iterable[str], *, fingerprint: str, encode_key: str) -> None:
    """Record contents without a usable vector from a checkpoint: they are not encoded again in every run."""
    for content in contents:
        store.put_if_absent(f"{_unusable_prefix(fingerprint, encode_key)}/{content}", b"")


def unusable_contents(store: Store, *, fingerprint: str, encode_key: str) -> Digests:
    """Digests of the contents without a usable vector from a checkpoint under these settings."""
    keys = list(store.list(_unusable_prefix(fingerprint, encode_key)))
    if not keys:  # as usual; pyarrow's arrays of strings load pandas, which `l2v status` does not need
        return no_digests()
    return pack_digests(pa.array([key.rsplit("/", 1)[1] for key in keys], pa.string()))


def forget_unusable(store: Store, *, fingerprint: str, contents: Digests | None = None) -> None:
    """Remove the records of contents without a usable vector: these are then encoded again.

    Args:
        store: Where the records are.
        fingerprint: Checkpoint that was to encode them.
        contents: Only these. Default: all.
    """
    meant = None if contents is None else DigestIndex(contents)
    for record in list(list_unusable(store, fingerprint=fingerprint)):
        if meant is None or meant.contains(record.contents).all():
            store.delete(record.key)


def list_unusable(store: Store, *, fingerprint: str) -> Iterator[ShardInfo]:
    """All records of contents without a usable vector, one per content."""
    for key in store.list(f"shards/{fingerprint}/{_UNUSABLE}"):
        yield ShardInfo(key, pack_digests(pa.array([key.rsplit("/", 1)[1]])))


def _unusable_prefix(fingerprint: str, encode_key: str) -> str:
    return f"shards/{fingerprint}/{_UNUSABLE}/{encode_key}"


def find_shard(store: Store, *, fingerprint: str, encode_key: str, content_sha256: str) -> str | None:
    """Key of the shard that holds the vector of a content; None if there is none."""
    for key in _shard_keys(store, fingerprint):
        keys = _read(store, key, vectors=False)
        is_meant = pc.and_(pc.equal(keys["content_sha256"], content_sha256), pc.equal(keys["encode_key"], encode_key))
        if pc.any(is_meant).as_py():
            return key
    return None


def _shard_keys(store: Store, fingerprint: str) -> Iterator[str]:
    return (key for key in store.list(f"shards/{fingerprint}") if key.endswith(".parquet"))


def _checksum_of_keys(table: pa.Table) -> bytes:
    digest = hashlib.sha256()
    for name in _KEY_COLUMNS:
        for value in table[name].to_pylist():
            digest.update(value.encode())
    return digest.hexdigest().encode()


def _checksum_of_vectors(vectors: Float32[np.ndarray, "contents dim"]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(vectors).data).hexdigest().encode()


def _tokens(table: pa.Table) -> tuple[Int32[np.ndarray, " contents"], Int32[np.ndarray, " contents"]] | None:
    """Tokens of each row that were read and cut; None in a shard of an earlier version."""
    if _TOKEN_COLUMNS[0] not in table.column_names:
        return None
    read, cut = (table[name].combine_chunks().to_numpy() for name in _TOKEN_COLUMNS)
    return read, cut


def _read(store: Store, key: str, *, vectors: bool, tokens: bool = False) -> pa.Table:
    """Read the keys, and optionally the vectors and token counts of a shard, and compare checksums."""
    columns = [*_KEY_COLUMNS, *(["vector"] if vectors else [])]
    try:
        with store.open(key) as source, pq.ParquetFile(source, page_checksum_verification=True) as parquet:
            if tokens and _TOKEN_COLUMNS[0] in parquet.schema_arrow.names:
                columns += _TOKEN_COLUMNS
            table = parquet.read(columns).select(columns)
        for field, column in zip(table.schema, table.columns, strict=True):
            expected = _COLUMN_TYPES.get(field.name, pa.types.is_string)
            if column.null_count or not expected(field.type):
                raise ValueError(f"column {field.name} does not hold the values that were written.")
        found = {_KEYS_CHECKSUM: _checksum_of_keys(table)}
        if vectors:
            found[_VECTORS_CHECKSUM] = _checksum_of_vectors(table["vector"].combine_chunks().flatten().to_numpy())
        stated = table.schema.metadata or {}
        if any(stated.get(name) != checksum for name, checksum in found.items()):
            raise ValueError("its checksum does not match.")
        return table
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:  # errors that a damaged file can cause
        raise StoreError(
            f"Shard {key} cannot be read: {str(error).splitlines()[0]}",
            hint="Remove the file; the next `l2v embed` encodes its documents again.",
        ) from error
