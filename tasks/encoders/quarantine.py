"""Documents in quarantine because an encoder made no usable vector of their text. Never imports prefect.

Their contents are recorded beside the shards of the checkpoint (``data.vectors.shards``), so the next checkpoint tries
them again. Which documents have these contents is found in the snapshot.
"""

from __future__ import annotations

import pyarrow as pa

from data.schema import DocumentKind
from data.snapshots.snapshot import open_snapshot
from data.store.base import Store
from data.store.digests import DigestIndex, pack_digests
from data.vectors.shards import unusable_contents

NUM_NAMED = 20
"""Documents that a report or a message names."""


def documents_without_vector(
    store: Store, kind: DocumentKind, snapshot_id: str, *, fingerprint: str, encode_key: str
) -> list[str]:
    """Names of the documents of a snapshot whose vector is not finite, or zero, as ``source/source id``.

    Args:
        store: Where snapshots and shards are.
        kind: Kind of the documents.
        snapshot_id: The snapshot.
        fingerprint: Checkpoint that encoded them.
        encode_key: Settings that they were encoded with.
    """
    bad = unusable_contents(store, fingerprint=fingerprint, encode_key=encode_key)
    if not len(bad):
        return []
    found, names = DigestIndex(bad), []
    for batch in open_snapshot(store, kind, snapshot_id).batches(["content_sha256", "source", "source_id"]):
        rows = batch.filter(pa.array(found.contains(pack_digests(batch["content_sha256"]))))
        names += [f"{row['source']}/{row['source_id']}" for row in rows.to_pylist()]
    return names


def listed(names: list[str]) -> str:
    """The first names of a list, as text."""
    more = len(names) - NUM_NAMED
    return ", ".join(names[:NUM_NAMED]) + (f" and {more:,} more" if more > 0 else "")
