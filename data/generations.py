"""Generations and the pointer: which vectors exist, and which are served.

A generation holds the vectors of exactly one checkpoint under one set of encode settings, in the tables ``jobs`` and
``resumes``. The pointer names a generation and pins a version of both tables; it is the only thing that readers follow.
It moves by compare-and-swap under the writer's lease, after :func:`verify_generation`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from data.errors import FencedError, InputError, RefusedError, StoreError
from data.lance import create_table, generation_key, open_table
from data.lease import Lease
from data.schema import KINDS, TABLE_OF_KIND, DocumentKind, sha256_json
from data.shards import read_vectors
from data.snapshot import Snapshot
from data.store import Store

POINTER_KEY = "current.json"
_RECORD_NAME = "generation.json"
_ROWS_PER_MERGE = 5000


class Generation(BaseModel):
    """What is known about a generation; stored beside its tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: str
    checkpoint: str
    encode_keys: dict[DocumentKind, str]
    embedding_dim: int
    created_at: datetime


class Pointer(BaseModel):
    """What is served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sequence: int
    generation: str
    checkpoint: str
    jobs: int
    resumes: int
    snapshots: dict[str, str]
    fencing_epoch: int
    run_id: str
    promoted_at: datetime

    def version_of(self, kind: DocumentKind) -> int:
        """Pinned version of a kind's table."""
        return self.jobs if kind == "job" else self.resumes


@dataclass(frozen=True)
class TableChange:
    """What bringing one table up to date did."""

    version: int
    upserted: int
    removed: int


def generation_id(*, fingerprint: str, encode_keys: Mapping[DocumentKind, str]) -> str:
    """Name of the generation of a checkpoint and encode settings.

    The same inputs give the same name, so that a build that was killed is continued, and a checkpoint that is served
    again finds its tables.
    """
    return f"{fingerprint[:12]}-{sha256_json(dict(encode_keys))[:6]}"


def create_generation(
    store: Store, *, fingerprint: str, encode_keys: Mapping[DocumentKind, str], embedding_dim: int, now: datetime
) -> Generation:
    """Record a generation, or read its record when it is there."""
    record = Generation(
        generation=generation_id(fingerprint=fingerprint, encode_keys=encode_keys),
        checkpoint=fingerprint,
        encode_keys=dict(encode_keys),
        embedding_dim=embedding_dim,
        created_at=now,
    )
    key = f"{generation_key(record.generation)}/{_RECORD_NAME}"
    store.put_if_absent(key, record.model_dump_json().encode())
    return _read_generation(store, record.generation)


def list_generations(store: Store) -> list[Generation]:
    """All generations, oldest first."""
    names = [key.split("/")[1] for key in store.list("lance") if key.endswith(f"/{_RECORD_NAME}")]
    return sorted((_read_generation(store, name) for name in names), key=lambda found: found.created_at)


def sync_table(store: Store, generation: Generation, snapshot: Snapshot) -> TableChange:
    """Make a generation's table equal to a snapshot: new rows in, changed rows replaced, removed rows out.

    Starts from the version that the pointer pins, when the generation is served: what a killed night committed after
    it is dropped. Every content of the snapshot must have its vector in a shard.

    Raises:
        StoreError: A vector is missing.
    """
    kind = snapshot.manifest.kind
    table = create_table(store, generation=generation.generation, kind=kind, embedding_dim=generation.embedding_dim)
    pointer = read_pointer(store)
    if pointer is not None and pointer.generation == generation.generation:
        pinned = pointer.version_of(kind)
        if table.version != pinned:
            table.restore(pinned)
    documents = _with_row_hash(snapshot.table())
    present = table.read(["doc_id", "row_sha256"])
    known = set(zip(present["doc_id"].to_pylist(), present["row_sha256"].to_pylist(), strict=True))
    wanted = zip(documents["doc_id"].to_pylist(), documents["row_sha256"].to_pylist(), strict=True)
    changed = documents.filter(pa.array([row not in known for row in wanted], pa.bool_()))
    removed = sorted(set(present["doc_id"].to_pylist()) - set(documents["doc_id"].to_pylist()))
    upserted = table.upsert(_rows_with_vectors(store, generation, kind, changed))
    table.delete(removed)
    return TableChange(version=table.version, upserted=upserted, removed=len(removed))


def verify_generation(
    store: Store,
    generation: Generation,
    snapshots: Mapping[DocumentKind, Snapshot],
    versions: Mapping[DocumentKind, int],
) -> None:
    """The generation gate: the tables hold exactly the snapshots, with vectors of one checkpoint.

    Raises:
        RefusedError: Names the table, the figure found and the one expected.
    """
    for kind, snapshot in snapshots.items():
        table = open_table(store, generation=generation.generation, kind=kind, version=versions[kind])
        rows = table.read(["doc_id", "content_sha256", "checkpoint"])
        documents = snapshot.table(columns=["doc_id", "content_sha256"])
        found = set(zip(rows["doc_id"].to_pylist(), rows["content_sha256"].to_pylist(), strict=True))
        expected = set(zip(documents["doc_id"].to_pylist(), documents["content_sha256"].to_pylist(), strict=True))
        name = TABLE_OF_KIND[kind]
        if len(rows) != len(documents) or found != expected:
            raise RefusedError(
                f"Table '{name}' has {len(rows)} rows, {len(found ^ expected)} of them unlike the "
                f"{len(documents)} documents of snapshot {snapshot.manifest.id[:12]}.",
                hint="The served state is unchanged. Run `l2v embed` again.",
            )
        strangers = set(rows["checkpoint"].to_pylist()) - {generation.checkpoint}
        if strangers:
            raise RefusedError(
                f"Table '{name}' holds vectors of checkpoint {min(strangers)[:12]} "
                f"beside those of {generation.checkpoint[:12]}.",
                hint=f"The served state is unchanged. Remove lance/{generation.generation} and run `l2v embed` again.",
            )


def read_pointer(store: Store) -> Pointer | None:
    """What is served, or None before the first promotion."""
    raw = store.read(POINTER_KEY)
    return None if raw is None else Pointer.model_validate_json(raw)


def promote(
    store: Store,
    generation: Generation,
    *,
    versions: Mapping[DocumentKind, int],
    snapshots: Mapping[DocumentKind, str],
    lease: Lease,
    run_id: str,
    now: datetime,
) -> Pointer:
    """Serve a generation at the given versions. A pointer that says so already stays as it is.

    Raises:
        FencedError: This writer lost its lease.
        ConflictError: Another writer moved the pointer in between.
    """
    raw = store.read(POINTER_KEY)
    current = None if raw is None else Pointer.model_validate_json(raw)
    pointer = Pointer(
        sequence=1 if current is None else current.sequence + 1,
        generation=generation.generation,
        checkpoint=generation.checkpoint,
        jobs=versions["job"],
        resumes=versions["resume"],
        snapshots=dict(snapshots),
        fencing_epoch=lease.epoch,
        run_id=run_id,
        promoted_at=now,
    )
    if current is not None:
        if _served(current) == _served(pointer):
            return current
        if current.fencing_epoch > lease.epoch:
            raise FencedError(
                f"The pointer was moved under epoch {current.fencing_epoch}, this writer's is {lease.epoch}.",
                hint="Another run took over; nothing was changed.",
            )
    lease.check()
    store.compare_and_swap(POINTER_KEY, expected=raw, content=pointer.model_dump_json().encode())
    store.put_if_absent(_history_key(pointer.sequence), pointer.model_dump_json().encode())
    return pointer


def promote_generation(store: Store, name: str, *, lease: Lease, run_id: str, now: datetime) -> Pointer:
    """Serve a generation as it was served last, by name.

    Raises:
        InputError: There is no such generation, or it was never served.
    """
    for former in _history(store):
        if former.generation == name:
            return _serve_again(store, former, lease=lease, run_id=run_id, now=now)
    known = ", ".join(found.generation for found in list_generations(store)) or "none"
    raise InputError(f"No generation '{name}' was ever served.", hint=f"Generations: {known}.")


def rollback(store: Store, *, lease: Lease, run_id: str, now: datetime) -> Pointer:
    """Serve what was served before the current state.

    Raises:
        InputError: There is no former state.
    """
    current = read_pointer(store)
    for former in _history(store):
        if current is not None and former.sequence < current.sequence and _served(former) != _served(current):
            return _serve_again(store, former, lease=lease, run_id=run_id, now=now)
    raise InputError("Nothing was served before the current state.", hint="See `l2v generations list`.")


def _serve_again(store: Store, former: Pointer, *, lease: Lease, run_id: str, now: datetime) -> Pointer:
    versions: dict[DocumentKind, int] = {kind: former.version_of(kind) for kind in KINDS}
    for kind, version in versions.items():
        open_table(store, generation=former.generation, kind=kind, version=version)  # it must still be readable
    return promote(
        store,
        _read_generation(store, former.generation),
        versions=versions,
        snapshots={kind: former.snapshots[kind] for kind in KINDS},
        lease=lease,
        run_id=run_id,
        now=now,
    )


def _served(pointer: Pointer) -> tuple[str, int, int]:
    return pointer.generation, pointer.jobs, pointer.resumes


def _history(store: Store) -> Iterator[Pointer]:
    """Pointers of the past, newest first."""
    for key in sorted(store.list("pointers"), reverse=True):
        raw = store.read(key)
        if raw is not None:
            yield Pointer.model_validate_json(raw)


def _history_key(sequence: int) -> str:
    return f"pointers/{sequence:08d}.json"


def _read_generation(store: Store, name: str) -> Generation:
    raw = store.read(f"{generation_key(name)}/{_RECORD_NAME}")
    if raw is None:
        raise InputError(f"There is no generation '{name}'.", hint="See `l2v generations list`.")
    return Generation.model_validate_json(raw)


def _with_row_hash(documents: pa.Table) -> pa.Table:
    """Documents with the hash of everything that their row shows, so that any change of it is seen."""
    names = [name for name in documents.column_names if name != "text"]  # the text is in content_sha256
    rows = documents.select(names).to_pylist()
    return documents.append_column("row_sha256", pa.array([sha256_json(row) for row in rows], pa.string()))


def _rows_with_vectors(
    store: Store, generation: Generation, kind: DocumentKind, documents: pa.Table
) -> Iterator[pa.Table]:
    """Rows of the table for ``documents``, in parts, as the shards give their vectors."""
    contents = documents["content_sha256"]
    missing = set(contents.to_pylist())
    for found, vectors in read_vectors(
        store, fingerprint=generation.checkpoint, encode_key=generation.encode_keys[kind], contents=set(missing)
    ):
        missing.difference_update(found)
        position = pc.index_in(contents, pa.array(found, pa.string()))
        part = documents.filter(position.is_valid())
        rows_of_vectors = position.drop_null().to_numpy()
        for start in range(0, len(part), _ROWS_PER_MERGE):
            window = part.slice(start, _ROWS_PER_MERGE)
            chosen = vectors[rows_of_vectors[start : start + _ROWS_PER_MERGE]]
            column = pa.FixedSizeListArray.from_arrays(
                pa.array(chosen.reshape(-1), pa.float32()), generation.embedding_dim
            )
            checkpoint = pa.array([generation.checkpoint] * len(window), pa.string())
            yield window.append_column("checkpoint", checkpoint).append_column("vector", column)
    if missing:
        raise StoreError(
            f"{len(missing)} contents have no vector of checkpoint {generation.checkpoint[:12]}.",
            hint="Run `l2v embed` again: it encodes what is missing.",
        )
