"""The lease: one writer at a time, with a time to live and a fencing epoch.

A writer acquires the lease, a thread renews it, and every commit calls :meth:`Lease.check` first. A writer that is
suspended past the time to live loses the lease to the next writer, whose epoch is higher. From then on its commits are
refused, whatever its clock says.

The lease of a dead process is free at once, where its death can be seen: in the same PID namespace since the same boot,
by process id and start time. Host names and process ids alone are no proof: containers share both.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from data.errors import ConflictError, FencedError, LeaseHeldError, StoreError
from data.store.base import Store

logger = logging.getLogger(__name__)

LEASE_KEY = "lease.json"
DEFAULT_TTL_S = 120.0
_POLL_S = 1.0


@dataclass(frozen=True)
class LeaseRecord:
    """The content of ``lease.json``.

    Attributes:
        owner: Run id of the writer.
        epoch: Grows by one with every change of owner; commits record it.
        expires_at: Seconds since 1970 after which another writer may take over; 0 if released.
        host: Machine of the writer.
        pid: Process id in its PID namespace.
        boot_id: Boot of its kernel; empty where there is none, and in records of earlier versions.
        pid_namespace: Inode of its PID namespace; 0 where there is none.
        started: When the process started, in clock ticks since boot: process ids are used again.
    """

    owner: str
    epoch: int
    expires_at: float
    host: str
    pid: int
    boot_id: str = ""
    pid_namespace: int = 0
    started: int = 0

    @property
    def is_released(self) -> bool:
        """Whether the owner has released the lease."""
        return self.expires_at == 0


class Lease:
    """A lease that this run holds."""

    def __init__(self, store: Store, record: LeaseRecord) -> None:
        """Use :func:`hold_lease` or :func:`adopt_lease`."""
        self._store = store
        self.owner = record.owner
        self.epoch = record.epoch

    def check(self) -> None:
        """Check that this writer may still commit.

        Raises:
            FencedError: Another writer took over, or the lease was released.
        """
        current = _parse(self._store.read(LEASE_KEY))
        if current is None or (current.owner, current.epoch) != (self.owner, self.epoch) or current.is_released:
            held = current is not None and not current.is_released
            successor = f"{current.owner} (epoch {current.epoch})" if current is not None and held else "nobody"
            raise FencedError(
                f"Run {self.owner} (epoch {self.epoch}) lost the lease; it is now held by {successor}.",
                hint="Nothing was committed. Start this run again when no other run is writing.",
            )


@contextlib.contextmanager
def hold_lease(store: Store, *, owner: str, ttl_s: float = DEFAULT_TTL_S, wait_s: float = 0.0) -> Iterator[Lease]:
    """Hold the store's lease for the duration of the context.

    Args:
        store: Store that the lease guards.
        owner: Run id of the writer.
        ttl_s: Seconds after which the lease ends unless it is renewed.
        wait_s: Seconds to wait for another live writer to finish.

    Raises:
        LeaseHeldError: Another live writer still holds it after that time.
    """
    record = _acquire_within(wait_s, store, owner=owner, ttl_s=ttl_s)
    stop = threading.Event()
    renewer = threading.Thread(target=_renew, args=(store, record, ttl_s, stop), name="lease", daemon=True)
    renewer.start()
    try:
        yield Lease(store, record)
    finally:
        stop.set()
        renewer.join()
        _release(store, record)


def adopt_lease(store: Store, *, owner: str) -> Lease:
    """Use the lease that a parent run acquired as ``owner`` and keeps renewing.

    Raises:
        FencedError: The parent no longer holds it.
    """
    current = _parse(store.read(LEASE_KEY))
    if current is None or current.owner != owner or current.is_released:
        raise FencedError(f"Run {owner} holds no lease of this store.", hint="Start the parent run again.")
    return Lease(store, current)


def living_owner(store: Store) -> str | None:
    """The live run that holds the lease; None if it was released, has expired, or its process has ended."""
    current = _parse(store.read(LEASE_KEY))
    return current.owner if current is not None and _is_alive(current) else None


def _acquire_within(wait_s: float, store: Store, *, owner: str, ttl_s: float) -> LeaseRecord:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return _acquire(store, owner=owner, ttl_s=ttl_s)
        except LeaseHeldError as error:
            left = deadline - time.monotonic()
            if left <= 0:
                raise
            logger.info("%s Waiting for up to %.0f s.", error, left)
            time.sleep(min(_POLL_S, left))


def _acquire(store: Store, *, owner: str, ttl_s: float) -> LeaseRecord:
    raw = store.read(LEASE_KEY)
    current = _parse(raw)
    if current is not None and _is_alive(current):
        raise LeaseHeldError(
            f"Run {current.owner} on {current.host} (process {current.pid}) is writing to this store.",
            hint="Wait until it finishes. If it died on another machine or in another container, its lease expires in "
            f"{max(0.0, current.expires_at - time.time()):.0f} s.",
        )
    record = LeaseRecord(
        owner=owner,
        epoch=current.epoch + 1 if current else 1,
        expires_at=time.time() + ttl_s,
        host=socket.gethostname(),
        pid=os.getpid(),
        boot_id=_boot_id(),
        pid_namespace=_pid_namespace(),
        started=_started(os.getpid()) or 0,
    )
    try:
        store.compare_and_swap(LEASE_KEY, expected=raw, content=_dump(record))
    except ConflictError as error:
        raise LeaseHeldError(
            "Another run took the lease at the same moment.", hint="Wait until it finishes."
        ) from error
    return record


def _renew(store: Store, record: LeaseRecord, ttl_s: float, stop: threading.Event) -> None:
    while not stop.wait(ttl_s / 4):
        try:
            if not _replace(store, record, expires_at=time.time() + ttl_s):
                logger.error("run %s lost its lease", record.owner)
                return
        except StoreError as error:  # the next attempt may succeed in time
            logger.warning("the lease could not be renewed: %s", error)


def _release(store: Store, record: LeaseRecord) -> None:
    try:
        _replace(store, record, expires_at=0.0)  # the record stays, because the next epoch must be higher
    except StoreError as error:  # the run's commits are valid; the lease expires
        logger.warning("the lease could not be released: %s", error)


def _replace(store: Store, record: LeaseRecord, *, expires_at: float) -> bool:
    """Change when a lease expires; returns False if another writer holds it."""
    raw = store.read(LEASE_KEY)
    current = _parse(raw)
    if current is None or (current.owner, current.epoch) != (record.owner, record.epoch):
        return False
    store.compare_and_swap(LEASE_KEY, expected=raw, content=_dump(replace(record, expires_at=expires_at)))
    return True


def _is_alive(record: LeaseRecord) -> bool:
    if record.expires_at <= time.time():
        return False
    place = (record.host, record.boot_id, record.pid_namespace)
    is_visible = bool(record.boot_id and record.started) and place == (
        socket.gethostname(),
        _boot_id(),
        _pid_namespace(),
    )
    return not is_visible or _is_running(record.pid, record.started)


def _is_running(pid: int, started: int) -> bool:
    """Return whether the process with this start time is running; True if this user cannot see the start time."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it exists but belongs to another user
    found = _started(pid)
    return found is None or found == started


def _started(pid: int) -> int | None:
    """Start time of a process in clock ticks since boot; 0 if it ended but is not yet reaped; None if unknown."""
    try:
        state, *values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return 0 if state in "ZX" else int(values[18])  # field 22 of the file; this list starts at field 4


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _pid_namespace() -> int:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def _parse(raw: bytes | None) -> LeaseRecord | None:
    try:
        return None if raw is None else LeaseRecord(**json.loads(raw))
    except (ValueError, TypeError) as error:
        raise StoreError(
            f"{LEASE_KEY} is damaged; expected {', '.join(field.name for field in fields(LeaseRecord))}.",
            hint="Restore it from a backup: its epoch must not fall behind that of the last commit.",
        ) from error


def _dump(record: LeaseRecord) -> bytes:
    return json.dumps(asdict(record), sort_keys=True).encode()


def process_identity(pid: int) -> str:
    """Identity of a process that no other one has: process id, start time, boot and PID namespace."""
    return f"{pid} {_started(pid) or 0} {_boot_id()} {_pid_namespace()}"


def process_is_running(identity: str) -> bool:
    """Return whether a process of :func:`process_identity` lives; True if this process cannot see it."""
    pid, started, *place = identity.split(" ")
    is_visible = started != "0" and place == [_boot_id(), str(_pid_namespace())]
    return not is_visible or _is_running(int(pid), int(started))
