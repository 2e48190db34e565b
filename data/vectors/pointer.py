"""The pointer: it names the served generation and the versions of its tables.

Readers find tables only through the pointer. It moves by compare-and-swap under the writer's lease. Former pointers are
kept in ``pointers/``, written before their successors: a crash loses no state that a rollback may need.

Does not belong here: checks whether a generation may be served (``tables.verify_generation``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from data.errors import FencedError, InputError, StoreError
from data.schema import KINDS, TABLE_OF_KIND, DocumentKind
from data.store.base import Store
from data.store.lease import Lease
from data.store.records import Record
from data.vectors.generations import Generation, list_generations, read_generation
from data.vectors.lance import open_table

POINTER_KEY = "current.json"
_FORMER = "pointers"


class Pointer(BaseModel):
    """The served generation, with the versions of its tables.

    Attributes:
        restores: Sequence of the earlier pointer that a rollback restored; None for a promotion.
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
        """Position of this state in the history: for a rollback, the position of the restored state."""
        return self.sequence if self.restores is None else self.restores

    def version_of(self, kind: DocumentKind) -> int:
        """Pinned version of a kind's table."""
        return self.jobs if kind == "job" else self.resumes


_HINT = "Restore it from a backup, or from the newest file in pointers/."
POINTER = Record(Pointer, POINTER_KEY, _HINT)
"""The record of the current pointer."""


def former_pointer(sequence: int) -> Record[Pointer]:
    """The record of a former pointer."""
    return Record(Pointer, f"{_FORMER}/{sequence:08d}.json", _HINT)


def stored_pointers(store: Store) -> Iterator[Record[Pointer]]:
    """The records of the current pointer and all former ones; empty before the first promotion."""
    if store.read(POINTER.key) is not None:
        yield POINTER
        yield from (Record(Pointer, key, _HINT) for key in store.list(_FORMER))


def read_pointer(store: Store) -> Pointer | None:
    """Read the pointer; None before the first promotion.

    Raises:
        StoreError: The record is damaged.
    """
    return POINTER.read(store)


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
    """Serve a generation at the given versions, unless they are already served.

    Args:
        store: Where the pointer is.
        generation: Generation to serve.
        versions: Version of each kind's table.
        snapshots: Snapshot with the same documents as each table.
        lease: Lease of this writer.
        run_id: Id of the promoting run.
        now: Time for the pointer.
        restores: Set by :func:`rollback`; see :class:`Pointer`.

    Raises:
        FencedError: This writer lost its lease.
        ConflictError: Another writer moved the pointer in the meantime.
    """
    raw = store.read(POINTER.key)
    current = POINTER.parse(raw)
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
                f"The pointer was moved under epoch {current.fencing_epoch}, but this writer's epoch is {lease.epoch}.",
                hint="Another run took over; nothing was changed.",
            )
        former_pointer(current.sequence).put_if_absent(store, current)
    POINTER.swap(store, pointer, expected=raw)
    return pointer


def promote_generation(store: Store, name: str, *, lease: Lease, run_id: str, now: datetime) -> Pointer:
    """Serve a generation at the versions last served, unless it is already served.

    Raises:
        InputError: There is no such generation, or it was never served.
    """
    for pointer in pointer_history(store):
        if pointer.generation == name:
            return _serve_again(store, pointer, lease=lease, run_id=run_id, now=now, restores=None)
    known = ", ".join(found.generation for found in list_generations(store)) or "none"
    raise InputError(f"No generation '{name}' was ever served.", hint=f"Generations: {known}.")


def rollback(store: Store, *, lease: Lease, run_id: str, now: datetime) -> Pointer:
    """Serve the state before the current one.

    A second rollback goes one state further back, not forward to the abandoned state: whoever rolls back twice trusts
    neither. :func:`promote_generation` and the next nightly run go forward.

    Raises:
        InputError: There is no earlier state.
        StoreError: The tables of the earlier state no longer exist.
    """
    former = next(rollback_states(store), None)
    if former is not None:
        return _serve_again(store, former, lease=lease, run_id=run_id, now=now, restores=former.origin)
    raise InputError("Nothing was served before the current state.", hint="See `l2v generations list`.")


def rollback_states(store: Store) -> Iterator[Pointer]:
    """The states that repeated rollbacks go to, in this order."""
    at = read_pointer(store)
    for former in pointer_history(store):
        if at is not None and former.sequence < at.origin and _served(former) != _served(at):
            yield former
            at = former


def repin(store: Store, *, versions: Mapping[DocumentKind, int], lease: Lease) -> Pointer:
    """Serve compacted versions of the same rows. The pointer keeps its position in the history.

    Args:
        store: Where the pointer is.
        versions: Version of each table that was compacted.
        lease: Lease of this writer.

    Raises:
        StoreError: The number of rows of a new version differs from that of the served one.
        FencedError: This writer lost its lease.
        ConflictError: Another writer moved the pointer in the meantime.
    """
    raw = store.read(POINTER.key)
    current = POINTER.parse(raw)
    assert current is not None, "only served tables are compacted"
    for kind, version in versions.items():
        counts = [
            open_table(store, generation=current.generation, kind=kind, version=each).count()
            for each in (current.version_of(kind), version)
        ]
        if counts[0] != counts[1]:
            raise StoreError(
                f"Compaction turned {counts[0]} rows into {counts[1]} in table '{TABLE_OF_KIND[kind]}'.",
                hint="The served state is unchanged. Please report this as a bug.",
            )
    changes = {TABLE_OF_KIND[kind]: version for kind, version in versions.items()}
    pointer = current.model_copy(update={**changes, "fencing_epoch": lease.epoch})
    lease.check()
    POINTER.swap(store, pointer, expected=raw)
    return pointer


def _serve_again(
    store: Store, former: Pointer, *, lease: Lease, run_id: str, now: datetime, restores: int | None
) -> Pointer:
    versions: dict[DocumentKind, int] = {kind: former.version_of(kind) for kind in KINDS}
    for kind, version in versions.items():
        open_table(store, generation=former.generation, kind=kind, version=version)  # must still be readable
    return promote(
        store,
        read_generation(store, former.generation),
        versions=versions,
        snapshots={kind: former.snapshots[kind] for kind in KINDS},
        lease=lease,
        run_id=run_id,
        now=now,
        restores=restores,
    )


def _served(pointer: Pointer) -> tuple[str, int, int]:
    return pointer.generation, pointer.jobs, pointer.resumes


def pointer_history(store: Store) -> Iterator[Pointer]:
    """The current pointer and former ones, newest first."""
    current = read_pointer(store)
    if current is None:
        return
    yield current
    for key in sorted(store.list(_FORMER), reverse=True):
        former = Record(Pointer, key, _HINT).read(store)
        if former is not None and former.sequence < current.sequence:
            yield former
