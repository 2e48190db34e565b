"""JSON records in a store: validated records, and ``latest.json``, which names the newest artifact of a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from data.errors import StoreError
from data.schema import canonical_json
from data.store.base import Store

T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True)
class Record(Generic[T]):
    """A JSON record of one model under one key.

    Attributes:
        model: Pydantic model of the record.
        key: Key in the store.
        hint: What to do when the record is damaged.
    """

    model: type[T]
    key: str
    hint: str = "Restore it from a backup."

    def read(self, store: Store) -> T | None:
        """Read the record; None if it does not exist.

        Raises:
            StoreError: The record is damaged.
        """
        return self.parse(store.read(self.key))

    def parse(self, raw: bytes | None) -> T | None:
        """Validate bytes read from the key; a caller that swaps the record needs the same bytes.

        Raises:
            StoreError: The record is damaged.
        """
        try:
            return None if raw is None else self.model.model_validate_json(raw)
        except ValidationError as error:
            raise StoreError(f"{self.key} is damaged: {error.error_count()} fault(s).", hint=self.hint) from error

    def put_if_absent(self, store: Store, value: T) -> bool:
        """Write the record unless it exists; returns whether this call wrote it."""
        return store.put_if_absent(self.key, value.model_dump_json().encode())

    def swap(self, store: Store, value: T, *, expected: bytes | None) -> None:
        """Replace the record if its bytes are still ``expected``.

        Raises:
            ConflictError: Another writer changed it.
        """
        store.compare_and_swap(self.key, expected=expected, content=value.model_dump_json().encode())


@dataclass(frozen=True)
class Latest:
    """The record that names the newest artifact of a folder, such as ``{"report": "3f0c…"}``.

    Attributes:
        key: Key in the store.
        field: Field that holds the name.
        end: Written after the JSON object.
        hint: What to do when the record is damaged.
    """

    key: str
    field: str
    end: str = ""
    hint: str = "Restore it from a backup, or remove it: the next run writes it again."

    def name(self, store: Store) -> str | None:
        """Name of the newest artifact; None if there is no artifact yet.

        Raises:
            StoreError: The record is damaged.
        """
        return self.parse(store.read(self.key))

    def parse(self, raw: bytes | None) -> str | None:
        """Parse the name from bytes that were read from the key.

        Raises:
            StoreError: The record is damaged.
        """
        try:
            return None if raw is None else str(json.loads(raw)[self.field])
        except (ValueError, KeyError, TypeError) as error:
            raise self.damaged(f'expected {{"{self.field}": …}}.') from error

    def damaged(self, reason: str) -> StoreError:
        """The error for a record that cannot be used."""
        return StoreError(f"{self.key} is damaged: {reason}", hint=self.hint)

    def render(self, name: str, more: Mapping[str, object] | None = None) -> bytes:
        """The bytes of the record; ``more`` are further fields."""
        return (canonical_json({self.field: name, **(more or {})}) + self.end).encode()

    def put(
        self,
        store: Store,
        name: str,
        *,
        more: Mapping[str, object] | None = None,
        fence: Callable[[], None] | None = None,
    ) -> None:
        """Name the newest artifact; if the record already names it, nothing is written.

        Args:
            store: Store of the record.
            name: The artifact.
            more: Further fields of the record.
            fence: Called before the record changes; raises when this writer lost its lease.

        Raises:
            ConflictError: Another writer changed the record.
        """
        current, content = store.read(self.key), self.render(name, more)
        if current != content:
            if fence is not None:
                fence()
            store.compare_and_swap(self.key, expected=current, content=content)

    def rename(self, store: Store, names: Mapping[str, str]) -> None:
        """Replace the name in the record by its successor, if there is one."""
        raw = store.read(self.key)
        new = names.get(self.parse(raw) or "")
        if new is not None:
            store.compare_and_swap(self.key, expected=raw, content=self.render(new))


LATEST_REPORT = Latest("reports/latest.json", "report")
"""Names the newest report of an evaluation."""

LATEST_AUDIT = Latest("audits/latest.json", "audit")
"""Names the newest fairness audit."""
