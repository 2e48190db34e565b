"""Tombstones keep erased documents from returning with the next ingest, without revealing whose they were.

A tombstone is a salted hash of a document's id, which is itself a hash of source and source id. It can be compared
with a row that is read again, and reveals nothing by itself. This module also records the successors of snapshots that
an erasure replaced.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import datetime

from data.documents.rows import has_surrogates
from data.schema import DocumentKind, canonical_json, document_id
from data.store.base import Store

ERASURES = "erasures"
_SALT_KEY = f"{ERASURES}/salt"
_TOMBSTONES = f"{ERASURES}/tombstones"


@dataclass(frozen=True)
class Tombstones:
    """The tombstones of a store, read once for many rows."""

    salt: bytes
    hashes: frozenset[str]

    def holds(self, doc_id: str) -> bool:
        """Return whether a document was erased."""
        return bool(self.hashes) and _hash(self.salt, doc_id) in self.hashes

    def holds_row(self, source: str, source_id: object) -> bool:
        """Return whether a row of a source was erased; its id is normalised as in cleaning."""
        if not self.hashes or isinstance(source_id, bool) or not isinstance(source_id, (str, int)):
            return False
        found = str(source_id).strip()
        return not has_surrogates(found) and self.holds(document_id(source, found))


def read_tombstones(store: Store) -> Tombstones:
    """Read the tombstones of a store; empty before the first erasure."""
    salt = store.read(_SALT_KEY) or b""
    names = (key.rsplit("/", 1)[1].removesuffix(".json") for key in store.list(_TOMBSTONES))
    return Tombstones(salt, frozenset(names))


def store_secret(store: Store) -> bytes:
    """The secret of a store, made when it is first needed: salt of tombstones, and key of the ids of files."""
    secret = store.read(_SALT_KEY)
    if secret is None:
        store.put_if_absent(_SALT_KEY, secrets.token_bytes(32))
        secret = store.read(_SALT_KEY)
    return secret or b""


def bury(store: Store, doc_ids: set[str], *, now: datetime) -> None:
    """Write tombstones for documents."""
    salt = store_secret(store)
    for doc_id in doc_ids:
        content = json.dumps({"erased_at": now.isoformat()}).encode()
        store.put_if_absent(f"{_TOMBSTONES}/{_hash(salt, doc_id)}.json", content)


def snapshot_successor(store: Store, kind: DocumentKind, snapshot_id: str) -> str | None:
    """Id of the snapshot that replaced this one in an erasure; None if it was not replaced."""
    raw = store.read(_successor_key(kind, snapshot_id))
    return None if raw is None else str(json.loads(raw)["id"])


def current_id(store: Store, kind: DocumentKind, snapshot_id: str) -> str:
    """Current id of a snapshot: its own, or that of its last successor after any number of erasures."""
    while (successor := snapshot_successor(store, kind, snapshot_id)) is not None:
        snapshot_id = successor
    return snapshot_id


def keep_successor(store: Store, kind: DocumentKind, snapshot_id: str, successor: str) -> None:
    """Record the successor of a snapshot, for everything that names it: pinned recipes, former pointers, records."""
    store.put_if_absent(_successor_key(kind, snapshot_id), canonical_json({"id": successor}).encode())


def _successor_key(kind: DocumentKind, snapshot_id: str) -> str:
    return f"{ERASURES}/snapshots/{kind}/{snapshot_id}.json"


def _hash(salt: bytes, doc_id: str) -> str:
    return hashlib.sha256(salt + doc_id.encode()).hexdigest()
