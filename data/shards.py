"""Shards: vectors of up to N contents in one Parquet file, written once, never repacked.

Vectors are kept by content, not by document: duplicates share one, and a document that only moved or changed its
metadata needs none. What is stale is planned by anti-join on the embed key.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32

from data.errors import StoreError
from data.schema import sha256_json
from data.store import Store

_LENGTH_TOLERANCE = 1e-3


def embed_key(content_sha256: str, *, fingerprint: str, encode_key: str) -> str:
    """Identity of a vector: content, checkpoint, and the settings that decide what the checkpoint makes of it."""
    return sha256_json([content_sha256, fingerprint, encode_key])


def encoded_contents(store: Store, *, fingerprint: str, encode_key: str) -> set[str]:
    """``content_sha256`` of everything that has a vector under these settings."""
    contents: set[str] = set()
    for key in _shard_keys(store, fingerprint):
        table = _read(store, key, columns=["content_sha256", "encode_key"])
        contents.update(
            content
            for content, key_ in zip(table["content_sha256"].to_pylist(), table["encode_key"].to_pylist(), strict=True)
            if key_ == encode_key
        )
    return contents


def drop_shards(store: Store, *, fingerprint: str) -> None:
    """Forget every vector of a checkpoint, so that its documents are encoded again."""
    store.delete(f"shards/{fingerprint}")


def write_shard(
    store: Store,
    contents: Sequence[str],
    vectors: Float32[np.ndarray, "contents dim"],
    *,
    fingerprint: str,
    encode_key: str,
) -> str:
    """Write one shard; the same contents give the same shard.

    Args:
        store: Where to.
        contents: ``content_sha256`` of each row.
        vectors: Vectors of length one.
        fingerprint: Checkpoint that made them.
        encode_key: Settings that they were made with.

    Returns:
        Id of the shard.

    Raises:
        StoreError: A vector is not finite or has no length, which no text can have.
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1) <= _LENGTH_TOLERANCE))  # written so that NaN is bad
    if len(bad):
        raise StoreError(
            f"The vector of content {contents[bad[0]][:12]} has length {lengths[bad[0]]:.4g}, expected 1.",
            hint=f"Checkpoint {fingerprint[:12]} makes vectors that cannot be compared; it was not used further.",
        )
    keys = [embed_key(content, fingerprint=fingerprint, encode_key=encode_key) for content in contents]
    shard_id = sha256_json(sorted(keys))[:32]
    dim = vectors.shape[1]
    table = pa.table(
        {
            "embed_key": pa.array(keys, pa.string()),
            "content_sha256": pa.array(contents, pa.string()),
            "encode_key": pa.array([encode_key] * len(keys), pa.string()),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1), pa.float32()), dim),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_checksum=True)
    store.put_if_absent(_shard_key(fingerprint, shard_id), buffer.getvalue())
    return shard_id


def read_vectors(
    store: Store, *, fingerprint: str, encode_key: str, contents: set[str]
) -> Iterator[tuple[list[str], Float32[np.ndarray, "contents dim"]]]:
    """Vectors of ``contents``, shard by shard, each content once.

    Raises:
        StoreError: A shard cannot be read.
    """
    wanted = set(contents)
    for key in _shard_keys(store, fingerprint):
        if not wanted:
            return
        table = _read(store, key, columns=["content_sha256", "encode_key", "vector"])
        rows = []
        for row, (content, key_) in enumerate(
            zip(table["content_sha256"].to_pylist(), table["encode_key"].to_pylist(), strict=True)
        ):
            if key_ == encode_key and content in wanted:
                wanted.discard(content)
                rows.append(row)
        if rows:
            part = table.take(rows)
            column = part["vector"].combine_chunks()
            vectors = column.flatten().to_numpy().reshape(len(rows), column.type.list_size)
            yield part["content_sha256"].to_pylist(), vectors


def find_shard(store: Store, *, fingerprint: str, encode_key: str, content_sha256: str) -> str | None:
    """Key of the shard that holds the vector of a content; None when there is none."""
    wanted = embed_key(content_sha256, fingerprint=fingerprint, encode_key=encode_key)
    for key in _shard_keys(store, fingerprint):
        if pc.index(_read(store, key, columns=["embed_key"])["embed_key"], pa.scalar(wanted)).as_py() >= 0:
            return key
    return None


def _shard_key(fingerprint: str, shard_id: str) -> str:
    return f"shards/{fingerprint}/{shard_id}.parquet"


def _shard_keys(store: Store, fingerprint: str) -> Iterator[str]:
    return (key for key in store.list(f"shards/{fingerprint}") if key.endswith(".parquet"))


def _read(store: Store, key: str, *, columns: list[str]) -> pa.Table:
    try:
        with pq.ParquetFile(store.local_path(key), page_checksum_verification=True) as parquet:
            table = parquet.read(columns).select(columns)
        for field, column in zip(table.schema, table.columns, strict=True):
            expected = pa.types.is_fixed_size_list if field.name == "vector" else pa.types.is_string
            if column.null_count or not expected(field.type):
                raise ValueError(f"column {field.name} holds other values than were written.")
        return table
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:  # what a damaged file can lead to
        raise StoreError(
            f"Shard {key} cannot be read: {str(error).splitlines()[0]}",
            hint="Remove the file; its documents are encoded again by the next `l2v embed`.",
        ) from error
