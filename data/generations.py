"""Generations and the pointer: which vectors exist, and which are served.

A generation holds the vectors of exactly one checkpoint under one set of encode settings, in the tables ``jobs`` and
``resumes``. The pointer names a generation and pins a version of both tables; it is the only thing that readers follow.
It moves by compare-and-swap under the writer's lease, after :func:`verify_generation`. Every pointer that was replaced
lies in ``pointers/``, written before its successor: a crash loses no state that one could want back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, ValidationError

from data.errors import FencedError, InputError, RefusedError, StoreError
from data.facets import FACET_SCHEMA, facet_columns, standard_json
from data.lance import TABLE_LAYOUT, LanceTable, create_table, generation_key, open_table
from data.lease import Lease
from data.schema import DOCUMENT_SCHEMA, KINDS, TABLE_OF_KIND, DocumentKind, encoded_text, sha256_json
from data.shards import read_vectors
from data.snapshot import Snapshot
from data.store import Store

logger = logging.getLogger(__name__)

POINTER_KEY = "current.json"
_RECORD_NAME = "generation.json"
_ROWS_PER_MERGE = 5000
# The text is in content_sha256, the metadata in metadata_sha256.
_NOT_HASHED = frozenset({"text", "metadata"})
_HASHED_SCHEMA = DOCUMENT_SCHEMA.append(pa.field("row_sha256", pa.string(), nullable=False))


class Generation(BaseModel):
    """What is known about a generation; stored beside its tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: str
    checkpoint: str
    encode_keys: dict[DocumentKind, str]
    embedding_dim: int
    created_at: datetime


class Pointer(BaseModel):
    """What is served.

    Attributes:
        restores: Sequence of the earlier pointer that a rollback went back to; None: no rollback.
    """

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
    restores: int | None = None

    @property
    def origin(self) -> int:
        """Place of this state in the history: that of what a rollback went back to, else its own."""
        return self.sequence if self.restores is None else self.restores

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
    """Name of the generation of a checkpoint, encode settings and the layout of the tables.

    The same inputs give the same name, so that a build that was killed is continued, and a checkpoint that is served
    again finds its tables.
    """
    return f"{fingerprint[:12]}-{sha256_json([dict(encode_keys), TABLE_LAYOUT])[:6]}"


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


def sync_table(
    store: Store,
    generation: Generation,
    snapshot: Snapshot,
    *,
    tokenize: Callable[[str], Sequence[str]] = str.split,
    rewrite: bool = False,
) -> TableChange:
    """Make a generation's table equal to a snapshot: new rows in, changed rows replaced, removed rows out.

    Starts from the version that the pointer pins, when the generation is served: what a killed night committed after
    it is dropped. An unchanged snapshot gives the version that is pinned already. Every content of the snapshot must
    have its vector in a shard.

    Args:
        store: Where shards and tables are.
        generation: What to bring up to date.
        snapshot: What its table of the snapshot's kind shall hold.
        tokenize: Words of a text, for full-text search; none may hold white space.
        rewrite: Replace rows that look unchanged, too: their vectors were made anew.

    Raises:
        StoreError: A vector is missing; or reading or writing failed.
    """
    kind = snapshot.manifest.kind
    table = create_table(store, generation=generation.generation, kind=kind, embedding_dim=generation.embedding_dim)
    base = _pinned_table(store, generation, kind) or table
    present = _row_hashes_of(base)
    unseen = set(present)
    changed = []
    for batch in snapshot.batches():
        rows = _with_row_hash(batch)
        ids, hashes = rows["doc_id"].to_pylist(), rows["row_sha256"].to_pylist()
        unseen.difference_update(ids)
        is_changed = [rewrite or present.get(doc_id) != row_hash for doc_id, row_hash in zip(ids, hashes, strict=True)]
        changed.append(rows.filter(pa.array(is_changed, pa.bool_())))
    documents = pa.Table.from_batches(changed, schema=_HASHED_SCHEMA)
    if not len(documents) and not unseen:
        return TableChange(version=base.version, upserted=0, removed=0)
    if table.version != base.version:
        table.restore(base.version)
    upserted = table.upsert(_table_rows(store, generation, kind, documents, tokenize), rewrite=rewrite)
    table.delete(sorted(unseen))
    return TableChange(version=table.version, upserted=upserted, removed=len(unseen))


def index_table(store: Store, generation: Generation, kind: DocumentKind, version: int) -> int:
    """Build the indexes of a table where a row stands in none.

    Args:
        store: Where the table is.
        generation: Of which generation.
        kind: Which table.
        version: What :func:`sync_table` gave; anything newer is what a killed night left, and is dropped.

    Returns:
        The version with the indexes: the given one if it has them.

    Raises:
        StoreError: They could not be built; the given version is as it was.
    """
    table = open_table(store, generation=generation.generation, kind=kind, version=version)
    if table.is_indexed():
        return version
    newest = open_table(store, generation=generation.generation, kind=kind)
    if newest.version != version:
        newest.restore(version)
    newest.build_indexes()
    return newest.version


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
        columns = ["doc_id", "content_sha256", "metadata_sha256"]
        rows = table.read([*columns, "checkpoint"])
        documents = snapshot.table(columns)
        found = set(zip(*(rows[column].to_pylist() for column in columns), strict=True))
        expected = set(zip(*(documents[column].to_pylist() for column in columns), strict=True))
        name = TABLE_OF_KIND[kind]
        if len(rows) != len(documents) or found != expected:
            raise RefusedError(
                f"Table '{name}' has {len(rows)} rows, snapshot {snapshot.manifest.id[:12]} has {len(documents)} "
                f"documents: {len(expected - found)} of these are missing, {len(found - expected)} rows are none.",
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
    """What is served, or None before the first promotion.

    Raises:
        StoreError: The record is damaged.
    """
    return _parse_pointer(store.read(POINTER_KEY))


def promote(
    store: Store,
    generation: Generation,
    *,
    versions: Mapping[DocumentKind, int],
    snapshots: Mapping[DocumentKind, str],
    lease: Lease,
    run_id: str,
    now: datetime,
    restores: int | None = None,
) -> Pointer:
    """Serve a generation at the given versions. A pointer that says so already stays as it is.

    Args:
        store: Where the pointer is.
        generation: What to serve.
        versions: Version of each kind's table.
        snapshots: Snapshot that each table equals.
        lease: Lease of this writer.
        run_id: Run that promotes.
        now: Time for the pointer.
        restores: Set by :func:`rollback`; see :class:`Pointer`.

    Raises:
        FencedError: This writer lost its lease.
        ConflictError: Another writer moved the pointer in between.
    """
    raw = store.read(POINTER_KEY)
    current = _parse_pointer(raw)
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
        restores=restores,
    )
    lease.check()
    if current is not None:
        if _served(current) == _served(pointer):
            return current
        if current.fencing_epoch > lease.epoch:
            raise FencedError(
                f"The pointer was moved under epoch {current.fencing_epoch}, this writer's is {lease.epoch}.",
                hint="Another run took over; nothing was changed.",
            )
        store.put_if_absent(_history_key(current.sequence), current.model_dump_json().encode())
    store.compare_and_swap(POINTER_KEY, expected=raw, content=pointer.model_dump_json().encode())
    return pointer


def promote_generation(store: Store, name: str, *, lease: Lease, run_id: str, now: datetime) -> Pointer:
    """Serve a generation as it was served last, by name; one that is being served stays as it is.

    Raises:
        InputError: There is no such generation, or it was never served.
    """
    for pointer in _history(store):
        if pointer.generation == name:
            return _serve_again(store, pointer, lease=lease, run_id=run_id, now=now, restores=None)
    known = ", ".join(found.generation for found in list_generations(store)) or "none"
    raise InputError(f"No generation '{name}' was ever served.", hint=f"Generations: {known}.")


def rollback(store: Store, *, lease: Lease, run_id: str, now: datetime) -> Pointer:
    """Serve what was served before the current state.

    A second rollback goes one state further back, not forth again to what was just given up: whoever rolls back
    twice does not trust either. :func:`promote_generation` and the next night go forth.

    Raises:
        InputError: There is no former state.
        StoreError: The former state's tables are gone.
    """
    current = read_pointer(store)
    for former in _history(store):
        if current is not None and former.sequence < current.origin and _served(former) != _served(current):
            return _serve_again(store, former, lease=lease, run_id=run_id, now=now, restores=former.origin)
    raise InputError("Nothing was served before the current state.", hint="See `l2v generations list`.")


def _serve_again(
    store: Store, former: Pointer, *, lease: Lease, run_id: str, now: datetime, restores: int | None
) -> Pointer:
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
        restores=restores,
    )


def _served(pointer: Pointer) -> tuple[str, int, int]:
    return pointer.generation, pointer.jobs, pointer.resumes


def _history(store: Store) -> Iterator[Pointer]:
    """The current pointer and those before it, newest first."""
    current = read_pointer(store)
    if current is None:
        return
    yield current
    for key in sorted(store.list("pointers"), reverse=True):
        former = _parse_pointer(store.read(key), key)
        if former is not None and former.sequence < current.sequence:
            yield former


def _parse_pointer(raw: bytes | None, key: str = POINTER_KEY) -> Pointer | None:
    try:
        return None if raw is None else Pointer.model_validate_json(raw)
    except ValidationError as error:
        raise StoreError(
            f"{key} is damaged: {error.error_count()} fault(s).",
            hint="Restore it from a backup, or from the newest file in pointers/.",
        ) from error


def _history_key(sequence: int) -> str:
    return f"pointers/{sequence:08d}.json"


def _read_generation(store: Store, name: str) -> Generation:
    raw = store.read(f"{generation_key(name)}/{_RECORD_NAME}")
    if raw is None:
        raise InputError(f"There is no generation '{name}'.", hint="See `l2v generations list`.")
    return Generation.model_validate_json(raw)


def _pinned_table(store: Store, generation: Generation, kind: DocumentKind) -> LanceTable | None:
    """The table as it is served; None when the generation is not."""
    pointer = read_pointer(store)
    if pointer is None or pointer.generation != generation.generation:
        return None
    try:
        return open_table(store, generation=generation.generation, kind=kind, version=pointer.version_of(kind))
    except StoreError as error:  # somebody removed it: building it anew is what repairs it
        logger.warning("%s It is built anew.", error)
        return None


def _row_hashes_of(table: LanceTable) -> dict[str, str]:
    rows = table.read(["doc_id", "row_sha256"])
    return dict(zip(rows["doc_id"].to_pylist(), rows["row_sha256"].to_pylist(), strict=True))


def _with_row_hash(documents: pa.RecordBatch) -> pa.RecordBatch:
    """Documents with the hash of everything that their row shows, so that any change of it is seen."""
    rows = documents.select([name for name in documents.schema.names if name not in _NOT_HASHED]).to_pylist()
    hashes = pa.array([sha256_json(row) for row in rows], pa.string())
    return pa.RecordBatch.from_arrays([*documents.columns, hashes], schema=_HASHED_SCHEMA)


def _table_rows(
    store: Store,
    generation: Generation,
    kind: DocumentKind,
    documents: pa.Table,
    tokenize: Callable[[str], Sequence[str]],
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
            described = _with_facets_and_words(window, tokenize)
            yield described.append_column("checkpoint", checkpoint).append_column("vector", column)
    if missing:
        raise StoreError(
            f"{len(missing)} contents have no vector of checkpoint {generation.checkpoint[:12]}.",
            hint="Run `l2v embed` again: it encodes what is missing.",
        )


def _with_facets_and_words(documents: pa.Table, tokenize: Callable[[str], Sequence[str]]) -> pa.Table:
    """Documents with what filters and full-text search ask for."""
    metadata = documents["metadata"].to_pylist()
    at = documents.schema.get_field_index("metadata")
    rows = documents.set_column(at, "metadata", pa.array([standard_json(text) for text in metadata], pa.json_()))
    for field, values in zip(FACET_SCHEMA, facet_columns(metadata), strict=True):
        rows = rows.append_column(field.name, values)
    texts = zip(documents["title"].to_pylist(), documents["text"].to_pylist(), strict=True)
    words = [" ".join(tokenize(encoded_text(title, text))) for title, text in texts]
    return rows.append_column("words", pa.array(words, pa.string()))
