"""Facts that conditions read from documents, kept so that an unchanged document is read once.

``facts/<reading key>/<kind>/<number>.parquet``: each match adds a part with the documents that no part has. A row names
its document, so an erasure removes it as it does from matches. Maintenance merges parts.

Does not belong here: what the facts mean (``data.conditions``).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from data.conditions.check import reading_key
from data.schema import DocumentKind
from data.store.base import Store, storage_errors
from data.store.digests import DIGEST_BYTES, DigestIndex, Digests, first_of_each, pack_digests

FACT_SCHEMA = pa.schema(
    [
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("digest", pa.binary(DIGEST_BYTES), nullable=False),
        pa.field("facts", pa.binary(), nullable=False),
    ]
)
"""Document, digest of what its facts depend on, and the facts as JSON."""

_MERGE_FROM = 16


def stored_facts(store: Store, kind: DocumentKind) -> Iterator[pa.Table]:
    """Facts of the current readers, part by part, the newest last."""
    for key in _parts(store, kind):
        with storage_errors("read the facts of conditions"):
            yield pq.read_table(io.BytesIO(store.read(key) or b""), schema=FACT_SCHEMA)


def add_facts(store: Store, kind: DocumentKind, batches: Iterable[pa.RecordBatch]) -> None:
    """Write a part, and remove the parts of other readers; the caller holds the lease."""
    parts = _parts(store, kind)
    number = int(parts[-1].rsplit("/", 1)[1].removesuffix(".parquet")) + 1 if parts else 0
    with store.scratch() as scratch:
        path = scratch / "facts.parquet"
        with (
            storage_errors("write the facts of conditions"),
            pq.ParquetWriter(path, FACT_SCHEMA, compression="zstd", write_page_checksum=True) as writer,
        ):
            for batch in batches:
                writer.write_batch(batch)
        store.put_if_absent(f"{_folder(kind)}/{number:06d}.parquet", path)
    for key in list(store.list("facts")):
        if key.split("/")[1] != reading_key()[:16]:
            store.delete(key)


def merge_facts(store: Store, kind: DocumentKind, documents: Digests) -> tuple[int, int]:
    """Drop facts of documents that are gone or were read again, and merge many parts into one.

    Args:
        store: Store of the facts.
        kind: Kind of documents.
        documents: Digests of the ids of the documents that exist.

    Returns:
        Number of removed parts, and the bytes that this freed.
    """
    parts = _parts(store, kind)
    if not parts:
        return 0, 0
    table = pa.concat_tables(stored_facts(store, kind))
    ids = pack_digests(table["doc_id"])
    is_kept = first_of_each(ids[::-1])[::-1] & DigestIndex(documents).contains(ids)
    if is_kept.all() and len(parts) < _MERGE_FROM:
        return 0, 0
    before = sum(entry.size_bytes for key in parts for entry in store.entries(key))
    kept = table.filter(pa.array(is_kept))
    if len(kept):
        add_facts(store, kind, kept.to_batches())
    after = sum(entry.size_bytes for key in set(_parts(store, kind)) - set(parts) for entry in store.entries(key))
    for key in parts:
        store.delete(key)
    return len(parts), max(0, before - after)


def _parts(store: Store, kind: DocumentKind) -> list[str]:
    return list(store.list(_folder(kind)))


def _folder(kind: DocumentKind) -> str:
    return f"facts/{reading_key()[:16]}/{kind}"
