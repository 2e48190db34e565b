"""A store for rehearsals: it reads another store, and keeps all writes to itself.

A preview runs the code of a night on it, so that it finds what the night would find, and the store below stays as it
is. LanceDB writes to the location of a table, past the store: a rehearsal must not write tables.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pyarrow as pa

from data.errors import ConflictError
from data.store.base import LocalStore, Store, StoredFile


class OverlayStore:
    """A store over another one, which it never writes to.

    Args:
        below: Store to read.
        folder: Local directory for everything that is written. The caller removes it.
    """

    machine: LocalStore
    storage_options: dict[str, str] | None

    def __init__(self, below: Store, folder: Path) -> None:
        """Start without any change."""
        self._below, self._above = below, LocalStore(folder)
        self._removed: set[str] = set()
        self.storage_options = below.storage_options
        is_local = below.machine is below
        machine = self if is_local else OverlayStore(below.machine, folder.with_name(f"{folder.name}-machine"))
        self.machine = cast(LocalStore, machine)
        self.root = below.machine.root

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        """See :meth:`Store.put_if_absent`."""
        return not self.exists(key) and self._above.put_if_absent(key, content)

    def compare_and_swap(self, key: str, *, expected: bytes | None, content: bytes) -> None:
        """See :meth:`Store.compare_and_swap`."""
        if self.read(key) != expected:
            raise ConflictError(
                f"{key} was changed by another writer since it was read.", hint="Run the preview again."
            )
        self._above.compare_and_swap(key, expected=self._above.read(key), content=content)

    def read(self, key: str) -> bytes | None:
        """See :meth:`Store.read`."""
        found = self._above.read(key)
        return found if found is not None or self._is_removed(key) else self._below.read(key)

    def open(self, key: str) -> pa.NativeFile:
        """See :meth:`Store.open`."""
        if self._above.exists(key):
            return self._above.open(key)
        if self._is_removed(key):
            raise FileNotFoundError(key)
        return self._below.open(key)

    def list(self, prefix: str) -> Iterator[str]:
        """See :meth:`Store.list`."""
        kept = (key for key in self._below.list(prefix) if not self._is_removed(key))
        yield from sorted({*kept, *self._above.list(prefix)})

    def entries(self, prefix: str) -> Iterator[StoredFile]:
        """See :meth:`Store.entries`."""
        found = {each.key: each for each in self._below.entries(prefix) if not self._is_removed(each.key)}
        found |= {each.key: each for each in self._above.entries(prefix)}
        yield from (found[key] for key in sorted(found))

    def exists(self, prefix: str) -> bool:
        """See :meth:`Store.exists`."""
        if self._above.exists(prefix):
            return True
        if not self._removed:
            return self._below.exists(prefix)
        return any(True for _ in self.entries(prefix))

    def delete(self, prefix: str) -> None:
        """See :meth:`Store.delete`."""
        self._above.delete(prefix)
        self._removed.add(prefix)

    def keeps_versions(self) -> bool:
        """See :meth:`Store.keeps_versions`."""
        return self._below.keeps_versions()

    def delete_unseen(self) -> int:
        """See :meth:`Store.delete_unseen`. Nothing is removed."""
        return 0

    def local_path(self, key: str) -> Path:
        """See :meth:`Store.local_path`. A directory is that of the store below, unless it is only in this one."""
        return self._above.local_path(key) if self._above.exists(key) else self._below.local_path(key)

    def location(self, key: str) -> str:
        """See :meth:`Store.location`: the place in the store below, for reading."""
        return self._below.location(key)

    def scratch(self) -> contextlib.AbstractContextManager[Path]:
        """See :meth:`Store.scratch`."""
        return self._above.scratch()

    def _is_removed(self, key: str) -> bool:
        parts = key.split("/")
        return bool(self._removed) and any("/".join(parts[:end]) in self._removed for end in range(1, len(parts) + 1))


@contextlib.contextmanager
def rehearsal(below: Store) -> Iterator[OverlayStore]:
    """An overlay in a private temporary directory, which is removed when the context ends."""
    with tempfile.TemporaryDirectory(prefix="l2v-preview-") as folder:
        yield OverlayStore(below, Path(folder) / "store")
