"""The approximate index: built only if exact search is too slow, and tuned against exact search.

Does not belong here: LanceDB's calls (``lance``), the full-text index.
"""

from __future__ import annotations

import logging
import math
import time

import numpy as np
from jaxtyping import Float32

from data.config import VectorIndexConfig
from data.errors import StoreError
from data.schema import DocumentKind
from data.store.base import Store
from data.vectors.lance import IndexProbe, LanceTable, keep_probe, open_table

logger = logging.getLogger(__name__)

_TOP_K = 10
_TIMED_QUERIES = 15
SAMPLE_SIZE = 200
"""Number of queries for tuning the index."""
MIN_RECALL = 0.99
"""Minimum share of the ten nearest documents that the index must find."""


def settle_table(store: Store, *, generation: str, kind: DocumentKind, version: int, config: VectorIndexConfig) -> int:
    """Index a new table version if exact search is too slow.

    If indexing fails, a warning is logged and the version has no index: search is slower but still correct.

    Args:
        store: Where the table is.
        generation: Generation of the table.
        kind: Kind of its documents.
        version: Newest version, not yet served.
        config: Condition for building the index.

    Returns:
        Version to serve instead, with the same rows.
    """
    table = open_table(store, generation=generation, kind=kind)
    if table.version != version or not table.count():
        return version  # already served
    return reindex(store, table, generation=generation, kind=kind, config=config)


def reindex(store: Store, table: LanceTable, *, generation: str, kind: DocumentKind, config: VectorIndexConfig) -> int:
    """Index the newest version of a table if exact search is too slow, and record the query settings.

    Returns:
        Version to serve, with the same rows.
    """
    version = table.version
    try:
        probe = index_vectors(table, config)
        if probe is not None:
            keep_probe(store, generation=generation, kind=kind, version=table.version, probe=probe)
    except StoreError as error:
        logger.warning("%s Search is exact.", error)
        return version
    return table.version


def index_vectors(table: LanceTable, config: VectorIndexConfig) -> IndexProbe | None:
    """Index the vectors of a table's newest version and tune the index, if exact search is too slow.

    Returns:
        Query settings for the index; None if there is no index.

    Raises:
        StoreError: Building the index failed.
    """
    queries = _sample_queries(table, SAMPLE_SIZE)
    if not table.has_vector_index:
        if _exact_ms(table, queries[:_TIMED_QUERIES]) <= config.max_exact_ms:
            return None
        table.create_vector_index(num_partitions=max(1, math.isqrt(table.count())))
    return tune_probe(table, queries, min_recall=MIN_RECALL)


def tune_probe(table: LanceTable, queries: Float32[np.ndarray, "queries dim"], *, min_recall: float) -> IndexProbe:
    """Find the fewest partitions, in powers of two, that reach ``min_recall``.

    The index holds uncompressed vectors, so candidates need no refining. Searching all partitions is exact search.
    """
    exact = [_nearest(table, query) for query in queries]
    all_partitions = max(1, math.isqrt(table.count())) * 2  # the index may be older than the newest rows
    nprobes = 1
    while True:
        table.probe = IndexProbe(nprobes=nprobes, refine_factor=1, recall_at_10=0)
        found = [_nearest(table, query) for query in queries]
        recall = float(np.mean([len(each & best) / len(best) for each, best in zip(found, exact, strict=True)]))
        if recall >= min_recall or nprobes >= all_partitions:
            table.probe = None
            return IndexProbe(nprobes=nprobes, refine_factor=1, recall_at_10=recall)
        nprobes *= 2


def _nearest(table: LanceTable, query: Float32[np.ndarray, " dim"]) -> set[str]:
    return set(table.nearest(query, limit=_TOP_K, columns=["doc_id"])["doc_id"].to_pylist())


def _exact_ms(table: LanceTable, queries: Float32[np.ndarray, "queries dim"]) -> float:
    seconds = []
    for query in queries:
        started = time.perf_counter()
        table.nearest(query, limit=_TOP_K, columns=["doc_id"])
        seconds.append(time.perf_counter() - started)
    return 1000 * float(np.median(seconds))


def _sample_queries(table: LanceTable, size: int) -> Float32[np.ndarray, "queries dim"]:
    """Vectors halfway between two documents: like real queries, they equal no document and are harder to search."""
    count = table.count()
    offsets = np.unique(np.linspace(0, count - 1, num=min(2 * size, count), dtype=np.int64))
    column = table.rows_at(offsets.tolist(), ["vector"])["vector"].combine_chunks()
    vectors = column.flatten().to_numpy().reshape(len(column), -1)
    half = (len(vectors) + 1) // 2
    between = vectors[:half] + vectors[-half:]
    queries: Float32[np.ndarray, "queries dim"] = between / np.linalg.norm(between, axis=1, keepdims=True)
    return queries
