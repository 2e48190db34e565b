"""Tables and limits of fit of what is served, kept open between the searches of a server. Never imports prefect."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from data.schema import DocumentKind
from data.store.base import Store
from data.vectors.pointer import Pointer
from tasks.encoders.fit import Fit, GenerationFit, known_fit, served_fit
from tasks.queries.served import served_table

if TYPE_CHECKING:
    from data.vectors.lance import LanceTable


@dataclass
class OpenedState:
    """Tables and backgrounds of one served state at a time. Threads may share it.

    Opening a table and reading a background take most of a short search. A table version never changes, so they stay
    valid until the pointer moves. Then they are dropped, and a search under way keeps its own references.
    """

    _pointer: Pointer | None = None
    _tables: dict[DocumentKind, LanceTable] = field(default_factory=dict)
    _fits: dict[DocumentKind, tuple[GenerationFit, Fit | None]] = field(default_factory=dict)
    _changing: threading.Lock = field(default_factory=threading.Lock)

    def table(self, store: Store, pointer: Pointer, kind: DocumentKind) -> LanceTable:
        """The served table of a kind of documents."""
        with self._changing:
            self._follow(pointer)
            if kind not in self._tables:
                self._tables[kind] = served_table(store, pointer, kind)
            return self._tables[kind]

    def fit(self, store: Store, pointer: Pointer, kind: DocumentKind) -> Fit | None:
        """Limits and background for ranked documents of a kind; None without limits. Limits may change in place."""
        known = known_fit(store, pointer.generation)
        if known is None:
            return None
        with self._changing:
            self._follow(pointer)
            if kind not in self._fits or self._fits[kind][0] != known:
                self._fits[kind] = known, served_fit(store, pointer, [kind])
            return self._fits[kind][1]

    def _follow(self, pointer: Pointer) -> None:
        if self._pointer != pointer:
            self._pointer, self._tables, self._fits = pointer, {}, {}
