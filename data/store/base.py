"""The store interface, and the store in a local directory.

Keys are relative POSIX paths (``snapshots/job/3f…/manifest.json``). Stored content is immutable. Only records, such as
``current.json``, change, by compare-and-swap; ARCHITECTURE.md lists them. An artifact with several parts has a
manifest, which is put last: for readers, parts without a manifest do not exist.

Does not belong here: the meaning of keys, the store in a bucket (``bucket``).
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
    """A key with its size and the time of its last write, in seconds since 1970."""

    key: str
    size_bytes: int
    written_at: float


class Store(Protocol):
    """Atomic, immutable storage: every operation completes or has no effect.

    Attributes:
        machine: Store for files of this machine only: base models, training state, the database of
            an embedded server. For a local store it is the store itself.
        storage_options: Options that LanceDB needs to reach :meth:`location`, if any.
    """

    machine: LocalStore
    storage_options: dict[str, str] | None

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        """Store bytes, or move a finished local file into the store, unless the key exists.

        Returns:
            True if this call stored it. If not, the local file stays where it was.
        """
        ...

    def compare_and_swap(self, key: str, *, expected: bytes | None, content: bytes) -> None:
        """Replace the record under ``key`` if its content is still ``expected`` (None: the record does not exist).

        Raises:
            ConflictError: The content has changed; nothing was written.
        """
        ...

    def read(self, key: str) -> bytes | None:
        """Content under ``key``, or None if there is none."""
        ...

    def open(self, key: str) -> pa.NativeFile:
        """Open the content under ``key`` for random access; the caller closes it.

        Raises:
            OSError: There is no such key, or it cannot be read.
        """
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """All keys below ``prefix``, sorted."""
        ...

    def entries(self, prefix: str) -> Iterator[StoredFile]:
        """``prefix`` itself, if it is a key, or all keys below it, including hidden ones; ``""``: all keys."""
        ...

    def exists(self, prefix: str) -> bool:
        """Return whether ``prefix`` is a key or has keys below it."""
        ...

    def delete(self, prefix: str) -> None:
        """Remove ``prefix`` and all keys below it; a missing key is not an error."""
        ...

    def keeps_versions(self) -> bool:
        """Return whether the storage keeps, or once kept, former versions of deleted or replaced content."""
        ...

    def delete_unseen(self) -> int:
        """Permanently remove content that has no key, such as former versions; returns the number of items."""
        ...

    def local_path(self, key: str) -> Path:
        """Local path for reading the content of ``key``: a file, or a directory of keys."""
        ...

    def location(self, key: str) -> str:
        """Path or URI of a key, for people and for LanceDB."""
        ...

    def scratch(self) -> contextlib.AbstractContextManager[Path]:
        """A private directory for unfinished files; removed when the context ends."""
        ...


class LocalStore:
    """A store in a local directory. It writes to a temporary name, syncs, then links or renames; flock guards swaps.

    Unfinished files are in ``tmp/``; maintenance removes the files of killed processes. Directories that it makes have
    mode 0700 and files 0600, whatever the umask is. LanceDB writes with the umask, below such directories.

    Args:
        root: Directory of the store; created if missing. An existing one keeps its mode.
        is_private: Otherwise modes follow the umask: exports for others.
    """

    machine: LocalStore
    storage_options: dict[str, str] | None

    def __init__(self, root: Path, *, is_private: bool = True) -> None:
        """Resolve the root, so that the store does not depend on the working directory."""
        self.root = root.expanduser().resolve()
        self._file_mode = 0o600 if is_private else None
        self._directory_mode = 0o700 if is_private else 0o777
        self.machine, self.storage_options = self, None
        with storage_errors(f"create the store at {self.root}"):
            self.root.mkdir(self._directory_mode, parents=True, exist_ok=True)

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        """See :meth:`Store.put_if_absent`."""
        target = self._path(key)
        with storage_errors(f"write {key}"):
            if target.exists():
                return False
            _make_directory(target.parent, self._directory_mode)
            with self._temporary() as temporary:
                if isinstance(content, bytes):
                    _write_synced(temporary, content, self._file_mode)
                    return _link(temporary, target)
                # Moved before it is linked: later writes to its old path cannot change the stored file.
                shutil.move(content, temporary)
                stored = False
                try:
                    if self._file_mode is not None:
                        temporary.chmod(self._file_mode)
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
            _make_directory(target.parent, self._directory_mode)
            with self._lock(), self._temporary() as temporary:
                found = self.read(key)
                if found != expected:
                    raise ConflictError(
                        f"{key} was changed by another writer since it was read.",
                        hint="Run the command again: it starts from the new state.",
                    )
                _write_synced(temporary, content, self._file_mode)
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
        """See :meth:`Store.entries`; files that disappear during the listing are left out."""
        top = self._path(prefix) if prefix else self.root
        with storage_errors(f"list {prefix}"):
            paths = sorted(top.rglob("*")) if top.is_dir() else [top]
        for path in paths:
            with storage_errors(f"list {prefix}"):
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
                with self._temporary() as doomed:  # atomic for readers, even if the removal takes long
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
            _make_directory(path.parent, self._directory_mode)
            path.mkdir(self._directory_mode)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _path(self, key: str) -> Path:
        return self.root.joinpath(*key_parts(key))

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[Path]:
        path = self.root / _SCRATCH / secrets.token_hex(8)
        path.parent.mkdir(self._directory_mode, exist_ok=True)
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
    """Split a key into its parts.

    Raises:
        InputError: The key is empty, or points outside the store.
    """
    parts = PurePosixPath(key).parts
    if not parts or key.startswith("/") or ".." in parts or "\0" in key:
        raise InputError(f"'{key}' is not a valid store key; expected a relative path without '..'.")
    return parts


def put_directory(store: Store, key: str, directory: Path, *, last: str) -> None:
    """Put all files of ``directory`` under ``key``, its commit record ``last`` at the end.

    If the commit record exists, nothing is done. Repeating an interrupted put with the same directory completes it.
    A caller whose files may differ the next time deletes ``key`` first.
    """
    if store.read(f"{key}/{last}") is not None:
        return
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    assert directory / last in files, f"{directory} has no {last}"
    for path in sorted(files, key=lambda path: path == directory / last):
        store.put_if_absent(f"{key}/{path.relative_to(directory).as_posix()}", path)


@contextlib.contextmanager
def storage_errors(action: str) -> Iterator[None]:
    """Convert operating system errors, including those that Arrow reports, into a store error with a hint."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).splitlines()[0]
        raise StoreError(
            f"Could not {action}: {reason}.",
            hint="Stored data is unchanged. Free disk space or restore the permissions, then run again.",
        ) from error


def _make_directory(path: Path, mode: int) -> None:
    """Make a directory and its parents, and sync each to disk."""
    if path.is_dir():
        return
    _make_directory(path.parent, mode)
    path.mkdir(mode, exist_ok=True)
    _sync(path.parent)


def _link(source: Path, target: Path) -> bool:
    """Rename a finished file unless the name is taken; ``rename`` alone would replace the other file."""
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


def _write_synced(path: Path, content: bytes, mode: int | None) -> None:
    with path.open("wb") as handle:
        if mode is not None:
            os.fchmod(handle.fileno(), mode)
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
