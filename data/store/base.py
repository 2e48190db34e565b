"""The store: where everything at rest lives, behind a few small operations.

Keys are relative POSIX paths (``snapshots/job/3f…/manifest.json``). What is put under a key is immutable; only the few
mutable records (``current.json``, ``lease.json``, ``latest.json``) change, and only by compare-and-swap. A multi-part
artifact is committed by its manifest, which is put last: parts without a manifest do not exist for readers.

Does not belong here: what the keys mean (see ``snapshot``, ``generations``, ``export``), the store in a bucket
(``object_store``).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

import pyarrow as pa

from data.errors import ConflictError, InputError, StoreError

_SCRATCH = "tmp"


class StoredFile(NamedTuple):
    """What is known of a key without reading it.

    Attributes:
        key: Where it lies in the store.
        size_bytes: Its size.
        written_at: When it was written last; seconds since 1970.
    """

    key: str
    size_bytes: int
    written_at: float


class Store(Protocol):
    """Atomic, immutable storage. Every operation either happens completely or not at all.

    Attributes:
        machine: What belongs to this machine alone and is not shared: base models, training state, an embedded server's
            database. A local store is its own.
        storage_options: What LanceDB needs to reach :meth:`location`; None: nothing.
    """

    machine: LocalStore
    storage_options: dict[str, str] | None

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        """Store ``content`` (bytes, or a finished local file, which is moved) unless the key exists.

        Returns:
            True when this call stored it, False when the key already held something; a file then stays where it is.
        """
        ...

    def compare_and_swap(self, key: str, *, expected: bytes | None, content: bytes) -> None:
        """Replace the record under ``key`` if it still is ``expected`` (None: absent).

        Raises:
            ConflictError: The record is another one; nothing was written.
        """
        ...

    def read(self, key: str) -> bytes | None:
        """Content under ``key``, or None when there is none."""
        ...

    def open(self, key: str) -> pa.NativeFile:
        """What is under ``key``, to be read from any place on; the caller closes it.

        Raises:
            OSError: There is nothing, or it cannot be read.
        """
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """All keys below ``prefix``, in the order of their text."""
        ...

    def entries(self, prefix: str) -> Iterator[StoredFile]:
        """``prefix`` itself, if it is a key, or all keys below it, hidden ones too, with size and time.

        An empty prefix: all keys of the store.
        """
        ...

    def exists(self, prefix: str) -> bool:
        """Whether ``prefix`` is a key or has keys below it."""
        ...

    def delete(self, prefix: str) -> None:
        """Remove ``prefix`` and all keys below it; absent keys are no error."""
        ...

    def keeps_versions(self) -> bool:
        """Whether the place keeps, or kept, what was deleted or replaced as former versions."""
        ...

    def delete_unseen(self) -> int:
        """Remove for good what the place still holds of the store under no key; returns how many things there were."""
        ...

    def local_path(self, key: str) -> Path:
        """A local path that holds what is under ``key`` (a file, or a directory of keys), for reading."""
        ...

    def location(self, key: str) -> str:
        """Where a key lies, for people and for LanceDB: a path or a URI."""
        ...

    def scratch(self) -> contextlib.AbstractContextManager[Path]:
        """A private directory for files under construction; removed when the context ends."""
        ...


class LocalStore:
    """A store in a local directory: temporary name, fsync, link or rename; flock around a swap.

    What is under construction lies in ``tmp/``; what a killed process left there is of no use to anybody.

    Args:
        root: Directory of the store; created when missing.
    """

    machine: LocalStore
    storage_options: dict[str, str] | None

    def __init__(self, root: Path) -> None:
        """Resolve the root, so that a later change of directory changes nothing."""
        self.root = root.expanduser().resolve()
        self.machine, self.storage_options = self, None
        with storage_errors(f"create the store at {self.root}"):
            self.root.mkdir(parents=True, exist_ok=True)

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        """See :meth:`Store.put_if_absent`."""
        target = self._path(key)
        with storage_errors(f"write {key}"):
            if target.exists():
                return False
            _make_directory(target.parent)
            with self._temporary() as temporary:
                if isinstance(content, bytes):
                    _write_synced(temporary, content)
                    return _link(temporary, target)
                # Moved before it is linked: whatever is written to its old path later cannot change what is stored.
                shutil.move(content, temporary)
                stored = False
                try:
                    _sync(temporary)
                    stored = _link(temporary, target)
                finally:
                    if not stored:
                        shutil.move(temporary, content)
                return stored

    def compare_and_swap(self, key: str, *, expected: bytes | None, content: bytes) -> None:
        """See :meth:`Store.compare_and_swap`."""
        target = self._path(key)
        with storage_errors(f"swap {key}"):
            _make_directory(target.parent)
            with self._lock(), self._temporary() as temporary:
                found = self.read(key)
                if found != expected:
                    raise ConflictError(
                        f"{key} was changed by another writer since it was read.",
                        hint="Run the command again: it starts from the new state.",
                    )
                _write_synced(temporary, content)
                temporary.replace(target)
                _sync(target.parent)

    def read(self, key: str) -> bytes | None:
        """See :meth:`Store.read`."""
        with storage_errors(f"read {key}"):
            try:
                return self._path(key).read_bytes()
            except FileNotFoundError:
                return None

    def open(self, key: str) -> pa.NativeFile:
        """See :meth:`Store.open`."""
        return pa.OSFile(str(self._path(key)))

    def list(self, prefix: str) -> Iterator[str]:
        """See :meth:`Store.list`."""
        top = self._path(prefix)
        with storage_errors(f"list {prefix}"):
            paths = [path for path in top.rglob("*") if path.is_file() and not path.name.startswith(".")]
        yield from sorted(path.relative_to(self.root).as_posix() for path in paths)

    def entries(self, prefix: str) -> Iterator[StoredFile]:
        """See :meth:`Store.entries`; what goes away meanwhile is not there."""
        top = self._path(prefix) if prefix else self.root
        with storage_errors(f"list {prefix}"):
            paths = sorted(top.rglob("*")) if top.is_dir() else [top]
        for path in paths:
            with storage_errors(f"look at {prefix}"):
                try:
                    found = path.stat()
                except FileNotFoundError:
                    continue
            if not stat.S_ISDIR(found.st_mode):
                yield StoredFile(path.relative_to(self.root).as_posix(), found.st_size, found.st_mtime)

    def exists(self, prefix: str) -> bool:
        """See :meth:`Store.exists`."""
        return self._path(prefix).exists()

    def delete(self, prefix: str) -> None:
        """See :meth:`Store.delete`."""
        path = self._path(prefix)
        with storage_errors(f"delete {prefix}"):
            if path.is_dir():
                with self._temporary() as doomed:  # one step for readers, however long the removal takes
                    path.rename(doomed)
                    shutil.rmtree(doomed)
            else:
                path.unlink(missing_ok=True)

    def keeps_versions(self) -> bool:
        """See :meth:`Store.keeps_versions`."""
        return False

    def delete_unseen(self) -> int:
        """See :meth:`Store.delete_unseen`."""
        return 0

    def local_path(self, key: str) -> Path:
        """See :meth:`Store.local_path`."""
        return self._path(key)

    def location(self, key: str) -> str:
        """See :meth:`Store.location`."""
        return str(self._path(key))

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """See :meth:`Store.scratch`."""
        path = self.root / _SCRATCH / secrets.token_hex(8)
        with storage_errors("make a scratch directory"):
            path.mkdir(parents=True)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self.root.joinpath(*key_parts(key))

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[Path]:
        path = self.root / _SCRATCH / secrets.token_hex(8)
        path.parent.mkdir(exist_ok=True)
        try:
            yield path
        finally:
            if not path.is_dir():
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.root / ".lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def key_parts(key: str) -> tuple[str, ...]:
    """The parts of a key.

    Raises:
        InputError: It is empty or would leave the store.
    """
    parts = PurePosixPath(key).parts
    if not parts or key.startswith("/") or ".." in parts or "\0" in key:
        raise InputError(f"'{key}' is no key of a store: expected a relative path without '..'.")
    return parts


def put_directory(store: Store, key: str, directory: Path, *, last: str) -> None:
    """Put all files of ``directory`` under ``key``, the file named ``last`` (its commit record) at the end.

    What has its commit record stays as it is. An interrupted put is completed by a repeat with the same directory; a
    caller that may come back with other files deletes the ``key`` of an interrupted put first.
    """
    if store.read(f"{key}/{last}") is not None:
        return
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    assert directory / last in files, f"{directory} has no {last}"
    for path in sorted(files, key=lambda path: path == directory / last):
        store.put_if_absent(f"{key}/{path.relative_to(directory).as_posix()}", path)


@contextlib.contextmanager
def storage_errors(action: str) -> Iterator[None]:
    """Turn what the operating system says into one sentence with a remedy."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"Could not {action}: {reason}.",
            hint="Nothing that was stored before is touched. Free space or restore the permission, then run again.",
        ) from error


def _make_directory(path: Path) -> None:
    """Make a directory and its parents, each of which outlives a power cut."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(exist_ok=True)
    _sync(path.parent)


def _link(source: Path, target: Path) -> bool:
    """Give a finished file its name, unless that is taken: link refuses to replace, rename does not."""
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    try:
        _sync(target.parent)
    except OSError:
        target.unlink(missing_ok=True)
        raise
    return True


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
