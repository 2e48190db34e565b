"""LanceDB, wrapped thinly: the only file that imports it.

Tables ``jobs`` and ``resumes`` of one generation lie under ``lance/<generation>/``. What is committed here stays
invisible to readers until the pointer names its version (``generations``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import lancedb
import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from data.errors import InputError, StoreError
from data.schema import DOCUMENT_SCHEMA, TABLE_OF_KIND, DocumentKind
from data.store import Store

_MAX_IDS_PER_DELETE = 1000


def table_schema(embedding_dim: int) -> pa.Schema:
    """Schema of ``jobs`` and ``resumes``: the document, what made its vector, the vector (length one)."""
    return pa.schema(
        [
            *DOCUMENT_SCHEMA,
            pa.field("row_sha256", pa.string(), nullable=False),
            pa.field("checkpoint", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), embedding_dim), nullable=False),
        ]
    )


class LanceTable:
    """One table of one generation, at its newest or at a pinned version."""

    def __init__(self, table: lancedb.table.Table) -> None:
        """Use :func:`open_table` or :func:`create_table`."""
        self._table = table

    @property
    def version(self) -> int:
        """Version that this object reads."""
        return int(self._table.version)

    @property
    def embedding_dim(self) -> int:
        """Length of the vectors."""
        return int(self._table.schema.field("vector").type.list_size)

    def count(self) -> int:
        """Number of rows."""
        return int(self._table.count_rows())

    def read(self, columns: Sequence[str], *, where: str | None = None) -> pa.Table:
        """Columns of all rows that ``where`` (SQL) lets through.

        Raises:
            InputError: The filter cannot be read or names an unknown column.
        """
        query = self._table.search()
        return self._run(query, columns, where)

    def nearest(
        self, vector: Float32[np.ndarray, " dim"], *, limit: int, columns: Sequence[str], where: str | None = None
    ) -> pa.Table:
        """The ``limit`` rows of highest cosine with ``vector`` (of length one), and ``score``, that cosine.

        Exact search: there is no approximate index.

        Raises:
            InputError: The filter cannot be read or names an unknown column.
        """
        query = self._table.search(vector, vector_column_name="vector").distance_type("dot").limit(limit)
        found = self._run(query, [*columns, "_distance"], where)
        scores = pa.array(1.0 - found["_distance"].to_numpy(), pa.float32())  # dot distance is 1 - dot product
        return found.drop_columns(["_distance"]).append_column("score", scores)

    def upsert(self, rows: Iterable[pa.Table]) -> int:
        """Insert new documents and replace changed ones; unchanged ones are left alone.

        Args:
            rows: Parts with distinct ``doc_id``, in :func:`table_schema`.

        Returns:
            Number of rows written.
        """
        written = 0
        for part in rows:
            result = (
                self._table.merge_insert("doc_id")
                .when_matched_update_all(where="target.row_sha256 != source.row_sha256")
                .when_not_matched_insert_all()
                .execute(part)
            )
            written += int(result.num_inserted_rows + result.num_updated_rows)
        return written

    def delete(self, doc_ids: Sequence[str]) -> None:
        """Remove documents by id."""
        for start in range(0, len(doc_ids), _MAX_IDS_PER_DELETE):
            quoted = ", ".join(f"'{doc_id}'" for doc_id in doc_ids[start : start + _MAX_IDS_PER_DELETE])
            self._table.delete(f"doc_id IN ({quoted})")

    def restore(self, version: int) -> None:
        """Make ``version`` the newest one again: what was committed after it was never served."""
        self._table.checkout(version)
        self._table.restore()

    @staticmethod
    def _run(query: lancedb.query.LanceQueryBuilder, columns: Sequence[str], where: str | None) -> pa.Table:
        if where:
            query = query.where(where, prefilter=True)
        try:
            return query.select(list(columns)).to_arrow()
        except ValueError as error:
            if not where:
                raise
            reason = re.split(r", (?=/|src|rust)", str(error))[0].split("\n")[0]
            raise InputError(
                f"The filter {where!r} cannot be used: {reason}",
                hint="Write it as SQL over columns of the table, for example \"source = 'nhs'\".",
            ) from error


def create_table(store: Store, *, generation: str, kind: DocumentKind, embedding_dim: int) -> LanceTable:
    """Create the table of a kind in a generation, or open it when it is there."""
    database = lancedb.connect(store.local_path(generation_key(generation)))
    return LanceTable(database.create_table(TABLE_OF_KIND[kind], schema=table_schema(embedding_dim), exist_ok=True))


def open_table(store: Store, *, generation: str, kind: DocumentKind, version: int | None = None) -> LanceTable:
    """Open the table of a kind, pinned to ``version`` if one is given.

    Raises:
        StoreError: There is no such table or version.
    """
    name = TABLE_OF_KIND[kind]
    try:
        table = lancedb.connect(store.local_path(generation_key(generation))).open_table(name)
        if version is not None:
            table.checkout(version)
    except (ValueError, RuntimeError, OSError) as error:
        wanted = f"table '{name}'" + ("" if version is None else f" at version {version}")
        raise StoreError(
            f"Generation {generation} has no {wanted}.",
            hint="Promote another generation (`l2v generations list`), or run `l2v embed` again.",
        ) from error
    return LanceTable(table)


def generation_key(generation: str) -> str:
    """Where a generation lies in the store."""
    return f"lance/{generation}"
