"""Similar documents: equal or nearly equal texts, and resumes of one person. They share one place in a ranked list.

A group is everything that is linked, also over several documents: a person's resumes with two addresses belong
together if a third one has both. Each document of a group but the first names the first (``similar_to``), and all have
a place by age (``similar_order``), so that a reader can show the newest of those that pass its filter.

Does not belong here: finding near duplicates (``data.documents.near_duplicates``) and contacts
(``data.redaction.contact_keys``).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.documents.facets import last_change
from data.redaction.contact_keys import CONTACT_BYTES, KEY_BYTES, persons_of_contact

MAX_OF_ONE_PERSON = 10
"""A contact in more resumes than this is an office's or an agency's, and joins nobody."""

SIMILAR_COLUMNS = ("similar_to", "similar_order")
"""Columns of documents and tables that this module explains."""

_Rows = TypeVar("_Rows", pa.Table, pa.RecordBatch)

Standing = tuple[str | None, int | None]
"""``similar_to`` and ``similar_order`` of a document."""


class Links:
    """Links between documents, by row number in a snapshot. Memory grows with the linked documents and the contacts."""

    def __init__(self) -> None:
        """Start without documents."""
        self._parents: dict[int, int] = {}
        self._contacts: list[tuple[NDArray[np.int64], NDArray[np.uint8]]] = []

    def join(self, row: int, other: int) -> None:
        """Link two documents."""
        low, high = sorted((self._first(row), self._first(other)))
        self._parents[high] = low

    def _first(self, row: int) -> int:
        """The first document of a group. The path to it is shortened."""
        path = []
        while (parent := self._parents.setdefault(row, row)) != row:
            path.append(row)
            row = parent
        for each in path:
            self._parents[each] = row
        return row

    def add_contacts(self, contacts: Sequence[bytes | None], *, start: int) -> None:
        """Add the contacts of consecutive documents; see :class:`data.redaction.contact_keys.ContactKeys`."""
        lengths = np.array([len(each or b"") // KEY_BYTES for each in contacts], np.int64)
        if lengths.any():
            keys = np.frombuffer(b"".join(each or b"" for each in contacts), np.uint8).reshape(-1, KEY_BYTES)
            self._contacts.append((np.repeat(start + np.arange(len(contacts)), lengths), keys))

    @cached_property
    def persons(self) -> list[list[int]]:
        """Documents that share a contact, for each person with such a contact.

        They are sorted, so that the secret of a store has no effect on the id of a snapshot.
        """
        if not self._contacts:
            return []
        rows, keys = (np.concatenate(parts) for parts in zip(*self._contacts, strict=True))
        contacts = np.ascontiguousarray(keys[:, :CONTACT_BYTES]).view(f"S{CONTACT_BYTES}")[:, 0]
        _, inverse, counts = np.unique(contacts, return_inverse=True, return_counts=True)
        is_shared = (counts > 1) & (counts <= MAX_OF_ONE_PERSON)
        found: dict[int, list[int]] = {}
        for at in np.flatnonzero(is_shared[inverse]).tolist():
            found.setdefault(int(inverse[at]), []).append(at)
        return sorted(
            sorted(int(rows[shared[place]]) for place in person)
            for shared in found.values()
            for person in persons_of_contact([keys[at].tobytes() for at in shared])
        )

    def groups(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """All linked documents, ascending, and the first document of the group of each."""
        for first, *others in self.persons:
            for other in others:
                self.join(first, other)
        rows = np.array(sorted(self._parents), np.int64)
        return rows, np.array([self._first(row) for row in rows.tolist()], np.int64)


def days_of(metadata: Iterable[str]) -> NDArray[np.int64]:
    """Day of the last change of each document, as a number; 0 if its metadata names none."""
    found = (last_change(json.loads(text)) for text in metadata)
    return np.array([0 if day is None else date.fromisoformat(day).toordinal() for day in found], np.int64)


def places_by_age(rows: NDArray[np.int64], firsts: NDArray[np.int64], days: NDArray[np.int64]) -> NDArray[np.int32]:
    """Place of each document in its group, the newest being 1.

    A document without a day is older than any other. Among equal days, the later one in the order of the sources is
    newer.

    Args:
        rows: Row numbers of documents.
        firsts: First document of the group of each.
        days: Results of :func:`days_of`.
    """
    order = np.lexsort((-rows, -days, firsts))
    starts = np.searchsorted(firsts[order], firsts[order])
    places = np.empty(len(rows), np.int32)
    places[order] = np.arange(len(rows)) - starts + 1
    return places


def group_keys(ids: pa.Array | pa.ChunkedArray, similar_to: pa.Array | pa.ChunkedArray) -> list[str]:
    """Id of the first document of the group of each document."""
    return [first or doc_id for doc_id, first in zip(ids.to_pylist(), similar_to.to_pylist(), strict=True)]


def places_without(members: pa.Table, erased: Collection[str]) -> Mapping[str, Standing]:
    """New places of the documents whose group loses some.

    Args:
        members: Columns ``doc_id``, ``similar_to`` and ``similar_order`` of all documents that have others.
        erased: Ids of the documents that go.
    """
    groups: dict[str, list[tuple[int, str]]] = {}
    keys = group_keys(members["doc_id"], members["similar_to"])
    for key, doc_id, place in zip(
        keys, members["doc_id"].to_pylist(), members["similar_order"].to_pylist(), strict=True
    ):
        groups.setdefault(key, []).append((place, doc_id))
    found: dict[str, Standing] = {}
    for key, group in groups.items():
        left = [doc_id for _, doc_id in sorted(group) if doc_id not in erased]
        if len(left) == len(group):
            continue
        first = key if key in left else min(left, default="")
        for place, doc_id in enumerate(left, start=1):
            found[doc_id] = (None if doc_id == first else first, place) if len(left) > 1 else (None, None)
    return found


def with_places(rows: _Rows, places: Mapping[str, Standing]) -> _Rows:
    """Documents with other places; rows without a new place keep theirs."""
    ids = rows["doc_id"].to_pylist()
    if not places or not any(doc_id in places for doc_id in ids):
        return rows
    for at, name in enumerate(SIMILAR_COLUMNS):
        number = rows.schema.get_field_index(name)
        field = rows.schema.field(name)
        values = [
            places[each][at] if each in places else old for each, old in zip(ids, rows[name].to_pylist(), strict=True)
        ]
        rows = rows.set_column(number, field, pa.array(values, field.type))
    return rows
