"""The store: where everything at rest lives, behind six small operations.

Keys are relative POSIX paths (``snapshots/job/3f…/manifest.json``). What is put under a key is immutable; only the few
mutable records (``current.json``, ``lease.json``, ``latest.json``) change, and only by compare-and-swap. A multi-part
artifact is committed by its manifest, which is put last: parts without a manifest do not exist for readers.

Does not belong here: what the keys mean (see ``snapshot``, ``generations``, ``export``).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from data.errors import ConflictError, InputError, StoreError

_SCRATCH = "tmp"


class Store(Protocol):
    """Atomic, immutable storage. Every operation either happens completely or not at all."""

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        """Store ``content`` (bytes, or a finished local file, which is moved) unless the key exists.

        Returns:
            True when this call stored it, False when the key already held something.
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

    def list(self, prefix: str) -> Iterator[str]:
        """All keys below ``prefix``, sorted."""
        ...

    def delete(self, prefix: str) -> None:
        """Remove ``prefix`` and all keys below it; absent keys are no error."""
        ...

    def local_path(self, key: str) -> Path:
        """A local path that holds what is under ``key`` (a file, or a directory of keys)."""
        ...

    def scratch(self) -> contextlib.AbstractContextManager[Path]:
        """A private directory for files under construction; removed when the context ends."""
        ...


class LocalStore:
    """A store in a local directory: temporary name, fsync, link or rename; flock around a swap.

    Args:
        root: Directory of the store; created when missing.
    """

    def __init__(self, root: Path) -> None:
        """Resolve the root, so that a later change of directory changes nothing."""
        self.root = root.expanduser().resolve()
        with _storage_errors(f"create the store at {self.root}"):
            self.root.mkdir(parents=True, exist_ok=True)

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        """See :meth:`Store.put_if_absent`."""
        target = self._path(key)
        if target.exists():
            return False
        with _storage_errors(f"write {key}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                _sync(content)
                temporary = content
            else:
                temporary = self._temporary(target)
                _write_synced(temporary, content)
            try:
                os.link(temporary, target)  # unlike rename, link refuses to replace
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
            _sync(target.parent)
        return True

    def compare_and_swap(self, key: str, *, expected: bytes | None, content: bytes) -> None:
        """See :meth:`Store.compare_and_swap`."""
        target = self._path(key)
        with _storage_errors(f"swap {key}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            with self._lock(), _unlinked_on_error(self._temporary(target)) as temporary:
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
        with _storage_errors(f"read {key}"):
            try:
                return self._path(key).read_bytes()
            except FileNotFoundError:
                return None

    def open(self, key: str) -> BinaryIO:
        """Open the content under ``key`` for reading."""
        with _storage_errors(f"open {key}"):
            return self._path(key).open("rb")

    def list(self, prefix: str) -> Iterator[str]:
        """See :meth:`Store.list`."""
        top = self._path(prefix)
        for path in sorted(top.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(self.root).as_posix()

    def delete(self, prefix: str) -> None:
        """See :meth:`Store.delete`."""
        path = self._path(prefix)
        with _storage_errors(f"delete {prefix}"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def local_path(self, key: str) -> Path:
        """See :meth:`Store.local_path`."""
        return self._path(key)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """See :meth:`Store.scratch`."""
        path = self.root / _SCRATCH / secrets.token_hex(8)
        with _storage_errors("make a scratch directory"):
            path.mkdir(parents=True)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _path(self, key: str) -> Path:
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or ".." in parts:
            raise InputError(f"'{key}' is no key of a store: expected a relative path without '..'.")
        return self.root.joinpath(*parts)

    def _temporary(self, target: Path) -> Path:
        return target.with_name(f".{target.name}.{secrets.token_hex(6)}")

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.root / ".lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def put_directory(store: Store, key: str, directory: Path, *, last: str) -> None:
    """Put all files of ``directory`` under ``key``, the file named ``last`` (its commit record) at the end.

    A directory that is already there completely stays as it is; parts of an interrupted put are completed.
    """
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    for path in sorted(files, key=lambda path: path.relative_to(directory).as_posix() == last):
        store.put_if_absent(f"{key}/{path.relative_to(directory).as_posix()}", path)


@contextlib.contextmanager
def _storage_errors(action: str) -> Iterator[None]:
    """Turn what the operating system says into one sentence with a remedy."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"Could not {action}: {reason}.",
            hint="Nothing that was stored before is touched. Free space or restore the permission, then run again.",
        ) from error


@contextlib.contextmanager
def _unlinked_on_error(temporary: Path) -> Iterator[Path]:
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _write_synced(path: Path, content: bytes) -> None:
    try:
        with path.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
