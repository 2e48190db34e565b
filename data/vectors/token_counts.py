"""How much of the served documents went through the encoder, counted once for each snapshot of a generation."""

from __future__ import annotations

from collections.abc import Mapping

from data.schema import KINDS, DocumentKind
from data.snapshots.snapshot import Snapshot, contents_of
from data.store.base import Store
from data.store.records import Record
from data.vectors.generations import Generation
from data.vectors.shards import TokenCount, count_tokens
from data.vectors.tables import profiles_key


def tokens_of(store: Store, generation: Generation, snapshot: Snapshot) -> TokenCount:
    """Tokens of the documents of a snapshot that were read and cut. Equal texts count once.

    The figures never change unless the shards do, so they are stored, for the last snapshot only. A figure with
    contents that were not counted is counted again each time.

    Raises:
        StoreError: A shard cannot be read.
    """
    kind = snapshot.manifest.kind
    record = _record_of(generation.generation, kind, snapshot.manifest.id)
    kept = record.read(store)
    if kept is not None and not kept.uncounted:
        return kept
    counted = count_tokens(
        store,
        contents_of(snapshot),
        fingerprint=generation.checkpoint,
        encode_key=generation.encode_keys[kind],
    )
    for former in list(store.list(_folder(generation.generation, kind))):
        store.delete(former)
    record.put_if_absent(store, counted)
    return counted


def known_tokens(store: Store, generation: str, snapshots: Mapping[str, str]) -> dict[DocumentKind, TokenCount]:
    """The stored figures of snapshots, by kind; without the kinds that were not counted yet."""
    found = {kind: _record_of(generation, kind, snapshots[kind]).read(store) for kind in KINDS if kind in snapshots}
    return {kind: count for kind, count in found.items() if count is not None}


def _folder(generation: str, kind: DocumentKind) -> str:
    return f"{profiles_key(generation)}/tokens-{kind}"


def _record_of(generation: str, kind: DocumentKind, snapshot_id: str) -> Record[TokenCount]:
    return Record(TokenCount, f"{_folder(generation, kind)}/{snapshot_id}.json", hint="Remove the file.")
