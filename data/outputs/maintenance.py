"""Maintenance: merge small files, and remove data that no pointer, rollback or running reader needs.

The steps are independent: if one fails, the others still work. All data of the pointers that a rollback may restore is
kept. Nothing younger than the grace time is removed, because a reader or a resumed run may need it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from data.config import RetentionConfig, VectorIndexConfig
from data.outputs.facts import merge_facts
from data.outputs.matches import LATEST_MATCHES
from data.schema import KINDS, DocumentKind
from data.snapshots.snapshot import Snapshot, contents_of, latest_snapshot, open_snapshot
from data.snapshots.tombstones import current_id
from data.store.base import Store
from data.store.digests import DigestIndex, no_digests, pack_digests
from data.store.lease import Lease
from data.store.records import LATEST_REPORT
from data.vectors.generations import list_generations
from data.vectors.lance import LanceTable, generation_key, open_table
from data.vectors.pointer import Pointer, former_pointer, pointer_history, read_pointer, repin
from data.vectors.shards import list_shards, list_unusable
from data.vectors.vector_index import reindex

KEEP_RESULTS = 7
"""Number of reports and of matches to keep; ``export.keep`` sets the number of exports."""

KEEP_RUNS = 400
"""Number of run records to keep."""

COMPACT_FROM = 16
"""Minimum number of small files for compacting a table."""

_AGE_MARGIN = timedelta(minutes=10)
"""Added to the age of versions to remove, because Lance reads the clock later than this module."""


@dataclass(frozen=True)
class Kept:
    """States and snapshots that the steps must not remove.

    Attributes:
        pointers: Served states to keep, newest first.
        snapshots: Ids of snapshots that these states, training or the next run need.
        oldest: Only data last written before this time may be removed; seconds since 1970.
    """

    pointers: tuple[Pointer, ...]
    snapshots: frozenset[str]
    oldest: float

    @property
    def generations(self) -> set[str]:
        """Generations that a kept pointer names."""
        return {pointer.generation for pointer in self.pointers}


@dataclass(frozen=True)
class Removed:
    """Number and size of the items that a step removed."""

    count: int = 0
    size_bytes: int = 0

    def __add__(self, other: Removed) -> Removed:
        """Sum of both."""
        return Removed(self.count + other.count, self.size_bytes + other.size_bytes)


def what_to_keep(store: Store, config: RetentionConfig, *, pinned: Iterable[tuple[DocumentKind, str]]) -> Kept:
    """Collect everything that the pointer, rollbacks, the next run and training need.

    Args:
        store: Store to maintain.
        config: Retention policy.
        pinned: Kind and id of the snapshots that recipes are pinned to, including those that an erasure replaced.

    Raises:
        StoreError: A record is damaged.
    """
    history = list(pointer_history(store))
    current = history[0] if history else None
    # A rollback counts from the current position in the history; a promotion may go to any newer state.
    earlier = [pointer for pointer in history if current is not None and pointer.sequence <= current.origin]
    kept = {pointer.sequence: pointer for pointer in (*history[: config.keep_served], *earlier[: config.keep_served])}
    latest = [latest_snapshot(store, kind) for kind in KINDS]
    needed = {snapshot.manifest.id for snapshot in latest if snapshot is not None}
    named = {*pinned} | {
        (kind, pointer.snapshots[kind]) for pointer in kept.values() for kind in KINDS if kind in pointer.snapshots
    }
    needed.update(current_id(store, kind, snapshot_id) for kind, snapshot_id in named)
    return Kept(
        pointers=tuple(kept[sequence] for sequence in sorted(kept, reverse=True)),
        snapshots=frozenset(needed),
        oldest=time.time() - 3600 * config.grace_hours,
    )


def compact_served(store: Store, kept: Kept, index: VectorIndexConfig, *, lease: Lease) -> Removed:
    """Merge small files of the served tables, rebuild the vector index, and remove obsolete versions.

    The pointer then names the merged versions. They hold the same rows, so its position in the history is unchanged.
    Versions that no kept pointer names go from all kept generations once they are past the grace time, merged or not.

    Returns:
        Number of tables that were merged or lost versions, and the space that this freed.

    Raises:
        StoreError: Writing failed; the served state is unchanged.
        FencedError: This writer lost its lease.
    """
    pointer = read_pointer(store)
    if pointer is None:
        return Removed()
    roots = [generation_key(name) for name in sorted(kept.generations)]
    before = sum(size_below(store, root) for root in roots)
    versions: dict[DocumentKind, int] = {}
    for kind in KINDS:
        newest = open_table(store, generation=pointer.generation, kind=kind)
        if newest.num_small_fragments < COMPACT_FROM:
            continue
        lease.check()
        if newest.version != pointer.version_of(kind):
            newest.restore(pointer.version_of(kind))
        newest.compact()
        # In a second call, because Lance measures the age after compacting.
        pinned = _pinned_versions(kept, kind, pointer.generation)
        newest.compact(remove_older_than=_removable_age(newest, kept, pinned), keep=pinned)
        versions[kind] = reindex(store, newest, generation=pointer.generation, kind=kind, config=index)
    if versions:
        repin(store, versions=versions, lease=lease)
    pruned = sum(
        _prune(store, kept, kind, name, lease=lease)
        for name in sorted(kept.generations)
        for kind in KINDS
        if name != pointer.generation or kind not in versions
    )
    return Removed(len(versions) + pruned, max(0, before - sum(size_below(store, root) for root in roots)))


def _prune(store: Store, kept: Kept, kind: DocumentKind, generation: str, *, lease: Lease) -> bool:
    """Remove table versions that are old enough; returns whether any were removed."""
    table = open_table(store, generation=generation, kind=kind)
    pinned = _pinned_versions(kept, kind, generation)
    age = _removable_age(table, kept, pinned)
    if not _has_versions_before(table, age):
        return False
    lease.check()
    return table.prune(age, keep=pinned) > 0


def _has_versions_before(table: LanceTable, age: timedelta) -> bool:
    return min(table.committed_at().values()) < datetime.now(UTC) - age


def tables_to_compact(store: Store, kept: Kept) -> tuple[int, int]:
    """Numbers of tables that :func:`compact_served` would merge, and of others that would lose versions."""
    pointer = read_pointer(store)
    if pointer is None:
        return 0, 0
    tables = {
        (name, kind): open_table(store, generation=name, kind=kind) for name in kept.generations for kind in KINDS
    }
    merged = [
        key
        for key, table in tables.items()
        if key[0] == pointer.generation and table.num_small_fragments >= COMPACT_FROM
    ]
    pruned = [
        key
        for key, table in tables.items()
        if key not in merged
        and _has_versions_before(table, _removable_age(table, kept, _pinned_versions(kept, key[1], key[0])))
    ]
    return len(merged), len(pruned)


def _pinned_versions(kept: Kept, kind: DocumentKind, generation: str) -> list[int]:
    """Versions of a table that kept pointers name."""
    return [pointer.version_of(kind) for pointer in kept.pointers if pointer.generation == generation]


def _removable_age(table: LanceTable, kept: Kept, pinned: list[int]) -> timedelta:
    """Minimum age of versions that no kept pointer names; at least the grace time."""
    # If the clock was set back, times and version numbers disagree: the oldest time since then counts.
    times = [when for version, when in table.committed_at().items() if version >= min(pinned)]
    oldest = min([*times, datetime.fromtimestamp(kept.oldest, UTC)])
    return max(datetime.now(UTC) - oldest + _AGE_MARGIN, timedelta(0))


def remove_pointers(store: Store, kept: Kept) -> Removed:
    """Remove former pointers that no rollback needs, oldest first."""
    wanted = {former_pointer(pointer.sequence).key for pointer in kept.pointers}
    newest = max((pointer.sequence for pointer in kept.pointers), default=0)
    # A pointer beyond the current one belongs to a promotion that was killed; the next one may need it.
    doomed = [key for key in store.list("pointers") if key not in wanted and key < former_pointer(newest).key]
    return sum((remove_item(store, key) for key in doomed), Removed())


def remove_generations(store: Store, kept: Kept) -> Removed:
    """Remove generations that no kept pointer names."""
    unwanted = [found.generation for found in list_generations(store) if found.generation not in kept.generations]
    return sum((_remove_if_old(store, generation_key(name), kept) for name in unwanted), Removed())


def remove_snapshots(store: Store, kept: Kept) -> Removed:
    """Remove unfinished snapshots, and snapshots that no kept pointer, training or the next run needs."""
    found = _groups(store, "snapshots", depth=2)
    return sum(
        (_remove_if_old(store, key, kept) for key in found if key.split("/")[2] not in kept.snapshots), Removed()
    )


def remove_shards(store: Store, kept: Kept) -> Removed:
    """Remove shards of checkpoints that no kept pointer names, and shards without any content of a kept snapshot."""
    checkpoints = {pointer.checkpoint for pointer in kept.pointers}
    packed = [contents_of(snapshot) for kind in KINDS for snapshot in _snapshots(store, kind, kept)]
    needed = DigestIndex(np.unique(np.concatenate([no_digests(), *packed])))
    removed = Removed()
    for root in _groups(store, "shards", depth=1):
        fingerprint = root.split("/")[1]
        if fingerprint not in checkpoints:
            removed += _remove_if_old(store, root, kept)
            continue
        for shard in [*list_shards(store, fingerprint=fingerprint), *list_unusable(store, fingerprint=fingerprint)]:
            if not needed.contains(shard.contents).any():
                removed += _remove_if_old(store, shard.key, kept)
    return removed


def merge_condition_facts(store: Store) -> Removed:
    """Drop the facts of documents that the newest snapshots do not hold, and merge small parts."""
    removed = Removed()
    for kind in KINDS:
        snapshot = latest_snapshot(store, kind)
        if snapshot is not None:
            ids = [pack_digests(batch["doc_id"]) for batch in snapshot.batches(["doc_id"])]
            removed += Removed(*merge_facts(store, kind, np.concatenate([no_digests(), *ids])))
    return removed


def remove_results(store: Store, kept: Kept) -> Removed:
    """Remove all but the newest reports, matches and run records. The latest report and matches always stay."""
    removed = Removed()
    latest = {f"reports/{LATEST_REPORT.name(store)}", f"matches/{LATEST_MATCHES.name(store)}"}
    for prefix, num_kept in (("reports", KEEP_RESULTS), ("matches", KEEP_RESULTS), ("runs", KEEP_RUNS)):
        groups = sorted(_groups(store, prefix, depth=1), key=lambda key: touched_at(store, key), reverse=True)
        for key in groups[num_kept:]:
            if key not in latest:
                removed += _remove_if_old(store, key, kept)
    return removed


def remove_leftovers(store: Store, kept: Kept) -> Removed:
    """Remove unfinished files of killed processes, and this machine's copies of bucket objects."""
    machine = store.machine
    found = [*_groups(machine, "tmp", depth=1), *_groups(machine, "copies", depth=2)]
    return sum((_remove_if_old(machine, key, kept) for key in found), Removed())


def _snapshots(store: Store, kind: DocumentKind, kept: Kept) -> Iterator[Snapshot]:
    for root in _groups(store, f"snapshots/{kind}", depth=1):
        name = root.split("/")[2]
        if name in kept.snapshots and store.read(f"{root}/manifest.json") is not None:
            yield open_snapshot(store, kind, name)


def _groups(store: Store, prefix: str, *, depth: int) -> list[str]:
    """Folders and files ``depth`` levels below a prefix, except ``latest.json``."""
    parts = prefix.count("/") + 1 + depth
    found = {"/".join(key.split("/")[:parts]) for key in store.list(prefix)}
    return sorted(key for key in found if key.count("/") == parts - 1 and not key.endswith("latest.json"))


def _remove_if_old(store: Store, key: str, kept: Kept) -> Removed:
    return Removed() if touched_at(store, key) > kept.oldest else remove_item(store, key)


def remove_item(store: Store, key: str) -> Removed:
    """Remove a key and all keys below it."""
    size = size_below(store, key)
    store.delete(key)
    return Removed(1, size)


def touched_at(store: Store, key: str) -> float:
    """Time of the last write below a key."""
    return max((entry.written_at for entry in store.entries(key)), default=0.0)


def size_below(store: Store, key: str) -> int:
    """Size of a key and of all keys below it, in bytes."""
    return sum(entry.size_bytes for entry in store.entries(key))
