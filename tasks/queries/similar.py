"""Similar documents share one place in a ranking: the newest stands for them, and the others are counted.

The newest of those that a reader may see: a filter applies first. Never imports prefect. Does not belong here: which
documents are similar, and their order by age (``data.snapshots.similar``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64

from data.snapshots.similar import SIMILAR_COLUMNS, group_keys
from data.vectors.filters import is_one_of
from data.vectors.lance import LanceTable

_HAS_OTHERS = "similar_order IS NOT NULL"


def similar_columns(table: LanceTable) -> list[str]:
    """Columns that say which documents are similar; tables of former layouts have none."""
    return [name for name in SIMILAR_COLUMNS if table.has_column(name)]


def newest_of_groups(
    keys: Sequence[str], places: Sequence[int]
) -> tuple[Bool[np.ndarray, " documents"], Int64[np.ndarray, " documents"]]:
    """Which documents stand for their group, and how many others each has.

    Args:
        keys: Group of each document.
        places: Place by age in the whole group, the newest being 1. Some of the group may be missing.
    """
    if not len(keys):
        return np.zeros(0, np.bool_), np.zeros(0, np.int64)
    _, group, counts = np.unique(np.array(keys), return_inverse=True, return_counts=True)
    order = np.lexsort((np.array(places), group))
    is_newest = np.zeros(len(keys), np.bool_)
    is_newest[order[np.searchsorted(group[order], np.arange(len(counts)))]] = True
    return is_newest, counts[group] - 1


def place_digest(row: Mapping[str, Any]) -> bytes:
    """Bytes that change when another of similar documents may be ranked; empty if a document has no similar ones."""
    return b"" if row.get("similar_order") is None else f"{row['similar_to']} {row['similar_order']}".encode()


def newest_only(table: LanceTable, *, where: str | None = None, among: str | None = None) -> str | None:
    """SQL condition for the documents that stand for their group; None if no two documents are similar.

    Args:
        table: Table of documents.
        where: SQL filter of the user. The newest of the documents that pass it stand for the others.
        among: Further SQL condition, likewise.
    """
    if not similar_columns(table) or not table.count(where="similar_order > 1"):
        return None
    is_shown = "similar_order IS NULL OR similar_order = 1"
    if where is not None or among is not None:
        members = _members(table, _HAS_OTHERS, where=where, among=among)
        places = members["similar_order"].to_numpy()
        is_newest, _ = newest_of_groups(group_keys(members["doc_id"], members["similar_to"]), places.tolist())
        if substitutes := members["doc_id"].filter(pa.array(is_newest & (places > 1))).to_pylist():
            is_shown += f" OR {is_one_of('doc_id', substitutes)}"
    return f"({is_shown})"


def both(*conditions: str | None) -> str | None:
    """SQL condition that holds where all given ones hold; None if there are none."""
    return " AND ".join(f"({condition})" for condition in conditions if condition is not None) or None


def count_similar(
    table: LanceTable, rows: Sequence[Mapping[str, Any]], *, where: str | None = None, among: str | None = None
) -> list[int]:
    """Number of documents that each row stands for, besides itself.

    Args:
        table: Table of the rows.
        rows: Rows with :func:`similar_columns`.
        where: SQL filter of the user; only documents that pass are counted.
        among: Further SQL condition, likewise.
    """
    keys = [None if row.get("similar_order") is None else row["similar_to"] or row["doc_id"] for row in rows]
    wanted = {key for key in keys if key is not None}
    if not wanted:
        return [0] * len(rows)
    named = f"{is_one_of('doc_id', wanted)} OR {is_one_of('similar_to', wanted)}"
    members = _members(table, f"{_HAS_OTHERS} AND ({named})", where=where, among=among)
    counts = Counter(group_keys(members["doc_id"], members["similar_to"]))
    return [0 if key is None else max(counts[key] - 1, 0) for key in keys]


def shown_instead(table: LanceTable, row: Mapping[str, Any]) -> str | None:
    """Id of the document that stands for a row in rankings without a filter; None if the row stands for itself."""
    if (row.get("similar_order") or 1) == 1:
        return None
    key = row["similar_to"] or row["doc_id"]
    named = f"{is_one_of('doc_id', [key])} OR {is_one_of('similar_to', [key])}"
    newest = _members(table, f"similar_order = 1 AND ({named})", where=None, among=None)["doc_id"].to_pylist()
    return newest[0] if newest else None


def versions_of(table: LanceTable, ids: Collection[str]) -> dict[str, list[str]]:
    """Ids of each document and of all that are similar to it, such as other versions of one person's resume."""
    found = {doc_id: [doc_id] for doc_id in ids}
    if not ids or not similar_columns(table):
        return found
    listed = _members(table, is_one_of("doc_id", ids), where=None, among=_HAS_OTHERS)
    key_of = dict(zip(listed["doc_id"].to_pylist(), group_keys(listed["doc_id"], listed["similar_to"]), strict=True))
    if not key_of:
        return found
    named = f"{is_one_of('doc_id', key_of.values())} OR {is_one_of('similar_to', key_of.values())}"
    members = _members(table, named, where=None, among=_HAS_OTHERS)
    groups: dict[str, list[str]] = {}
    for key, doc_id in zip(
        group_keys(members["doc_id"], members["similar_to"]), members["doc_id"].to_pylist(), strict=True
    ):
        groups.setdefault(key, []).append(doc_id)
    return found | {doc_id: sorted(groups[key]) for doc_id, key in key_of.items()}


def _members(table: LanceTable, condition: str, *, where: str | None, among: str | None) -> pa.Table:
    columns = ["doc_id", *SIMILAR_COLUMNS]
    batches = table.batches(columns, where=where, among=both(condition, among))
    return pa.Table.from_batches(batches, schema=table.schema_of(columns))
