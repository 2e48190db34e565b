"""Watch the indexes of what is served: whether they cover every row, and how much the approximate index finds.

An index is tuned when it is built (``vector_index``). Here it is measured again, every night, on real queries: the
vectors of the other kind's documents, which matching searches for. A record beside the tables keeps the result, so that
a look at the status opens no table.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict

from data.schema import KINDS, TABLE_OF_KIND, DocumentKind
from data.store.base import Store
from data.store.records import Record
from data.vectors.lance import LanceTable, generation_key, open_table
from data.vectors.pointer import Pointer

TOP_K = 10
NUM_QUERIES = 100
MIN_WATCHED_RECALL = 0.97
"""Below this share there is an alert. The index is tuned to find 99 %; a small sample may find less by chance."""


class IndexWatch(BaseModel):
    """What was measured of the indexes of one table version.

    Attributes:
        words_indexed: Whether the word index covers every row.
        recall_at_10: Share of the ten nearest documents that the approximate index finds; None if search is exact.
        queries: Number of queries that this was measured on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    words_indexed: bool
    recall_at_10: float | None
    queries: int
    measured_at: datetime

    @property
    def faults(self) -> list[str]:
        """Sentences about what is wrong."""
        found = []
        if not self.words_indexed:
            found.append("The word index does not cover every row: keyword search misses documents.")
        if self.recall_at_10 is not None and self.recall_at_10 < MIN_WATCHED_RECALL:
            found.append(
                f"The vector index finds {self.recall_at_10:.1%} of the ten nearest documents, of {self.queries} "
                f"queries; expected {MIN_WATCHED_RECALL:.0%}."
            )
        return found

    def sentence(self) -> str:
        """One phrase for tables."""
        vectors = "exact" if self.recall_at_10 is None else f"finds {self.recall_at_10:.1%} of the ten nearest"
        return f"{vectors}; words {'indexed' if self.words_indexed else 'not all indexed'}"


def watch_indexes(store: Store, pointer: Pointer, *, now: datetime) -> dict[DocumentKind, IndexWatch]:
    """Measure the indexes of the served tables, and keep the result.

    Raises:
        StoreError: A table cannot be read.
        ConflictError: Another writer kept a result at the same time.
    """
    tables = {
        kind: open_table(store, generation=pointer.generation, kind=kind, version=pointer.version_of(kind))
        for kind in KINDS
    }
    found: dict[DocumentKind, IndexWatch] = {}
    for kind, table in tables.items():
        recall, queries = None, 0
        if table.probe is not None:
            other = next(each for name, each in tables.items() if name != kind)
            vectors = _sample_vectors(other if other.count() else table)
            recall, queries = _recall(table, vectors), len(vectors)
        found[kind] = IndexWatch(
            version=table.version,
            words_indexed=table.has_all_words_indexed(),
            recall_at_10=recall,
            queries=queries,
            measured_at=now,
        )
        record = _record(pointer, kind)
        record.swap(store, found[kind], expected=store.read(record.key))
    return found


def read_watch(store: Store, pointer: Pointer, kind: DocumentKind) -> IndexWatch | None:
    """The newest result for the served version of a table; None if this version was not measured yet."""
    found = _record(pointer, kind).read(store)
    return found if found is not None and found.version == pointer.version_of(kind) else None


def _record(pointer: Pointer, kind: DocumentKind) -> Record[IndexWatch]:
    return Record(IndexWatch, f"{generation_key(pointer.generation)}/watch/{TABLE_OF_KIND[kind]}.json")


def _sample_vectors(table: LanceTable) -> Float32[np.ndarray, "queries dim"]:
    """Vectors of documents that are spread evenly over a table."""
    offsets = np.unique(np.linspace(0, table.count() - 1, num=NUM_QUERIES, dtype=np.int64))
    column = table.rows_at(offsets.tolist(), ["vector"])["vector"].combine_chunks()
    vectors: Float32[np.ndarray, "queries dim"] = column.flatten().to_numpy().reshape(len(column), -1)
    return vectors


def _recall(table: LanceTable, queries: Float32[np.ndarray, "queries dim"]) -> float:
    probe = table.probe
    found = [_nearest(table, query) for query in queries]
    table.probe = None
    exact = [_nearest(table, query) for query in queries]
    table.probe = probe
    return float(np.mean([len(hits & best) / len(best) for hits, best in zip(found, exact, strict=True)]))


def _nearest(table: LanceTable, query: Float32[np.ndarray, " dim"]) -> set[str]:
    return set(table.nearest(query, limit=TOP_K, columns=["doc_id"])["doc_id"].to_pylist())
