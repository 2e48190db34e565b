"""A thin wrapper of LanceDB, and the only module that imports it.

The tables ``jobs`` and ``resumes`` of a generation are under ``lance/<generation>/``. Readers do not see
versions that are committed here until the pointer names them (``pointer``).
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib.abc import MetaPathFinder
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict

from data.documents.facets import FACET_SCHEMA
from data.errors import StoreError, VectorSpaceError
from data.schema import DOCUMENT_SCHEMA, TABLE_OF_KIND, DocumentKind
from data.store.base import Store
from data.store.records import Record
from data.vectors.filters import check_filter, is_one_of, tolerant_filter, unusable_filter

if TYPE_CHECKING:
    from lancedb import DBConnection
    from lancedb.query import LanceQueryBuilder
    from lancedb.table import Table

TABLE_LAYOUT = 8
"""Version of the columns and the tokenization; part of a generation's name."""

_MAX_IDS_PER_DELETE = 1000
_NAMED_ROWS = 3
_ROWS_PER_BATCH = 1024
_FOREVER = timedelta(days=36500)
_VERSION_GAP_S = 0.3
"""Minimum time between the last version to remove and the first to keep: LanceDB selects versions by age."""

_OVER_ROWS = ("AggregateFunction", "WindowFunction")


def table_schema(embedding_dim: int) -> pa.Schema:
    """Schema of ``jobs`` and ``resumes``: the document, its facets, its words, its row hash, checkpoint and vector.

    Metadata has LanceDB's JSON type, which LanceDB's JSON functions can read. Words are separated by spaces.
    Vectors have length one.
    """
    document = [field if field.name != "metadata" else field.with_type(pa.json_()) for field in DOCUMENT_SCHEMA]
    return pa.schema(
        [
            *document,
            *FACET_SCHEMA,
            pa.field("words", pa.string(), nullable=False),
            pa.field("row_sha256", pa.string(), nullable=False),
            pa.field("checkpoint", pa.string(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), embedding_dim), nullable=False),
        ]
    )


class IndexProbe(BaseModel):
    """Query settings for the approximate index of one table version, from :func:`data.vectors.vector_index.tune_probe`.

    Attributes:
        nprobes: Number of partitions to search.
        refine_factor: Candidates per hit to compare exactly.
        recall_at_10: Share of the ten exact nearest neighbours that these settings find, on a sample.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nprobes: int
    refine_factor: int
    recall_at_10: float


class LanceTable:
    """One table of one generation, at its newest or at a pinned version.

    Reading methods raise :class:`~data.errors.InputError` for an invalid filter, and
    :class:`~data.errors.StoreError` if a file of the table is missing or damaged.

    Attributes:
        probe: Query settings for the approximate index; None if search is exact.
    """

    def __init__(self, database: DBConnection, table: Table, *, probe: IndexProbe | None = None) -> None:
        """Use :func:`open_table` or :func:`create_table`."""
        self._database, self._table = database, table
        self.probe = probe

    @property
    def name(self) -> str:
        """``jobs`` or ``resumes``."""
        return str(self._table.name)

    @property
    def version(self) -> int:
        """Version that this object reads."""
        return int(self._table.version)

    @property
    def embedding_dim(self) -> int:
        """Length of the vectors."""
        return int(self._table.schema.field("vector").type.list_size)

    def schema_of(self, columns: Sequence[str]) -> pa.Schema:
        """Schema of the given columns, as :meth:`batches` yields them."""
        return pa.schema([pa.field(name, self._table.schema.field(name).type) for name in columns])

    def has_column(self, name: str) -> bool:
        """Whether the table has a column. Tables of former layouts have fewer."""
        return name in self._table.schema.names

    def count(self, *, where: str | None = None) -> int:
        """Number of rows, or of those that match the SQL filter ``where``."""
        with self._reading(where):
            return int(self._table.count_rows(where))

    def read(self, columns: Sequence[str], *, where: str | None = None) -> pa.Table:
        """Columns of all rows, or of those that match the SQL filter ``where``."""
        return self._run(self._table.search(), columns, where)

    def nearest(
        self,
        vector: Float32[np.ndarray, " dim"],
        *,
        limit: int,
        columns: Sequence[str],
        where: str | None = None,
        among: str | None = None,
    ) -> pa.Table:
        """The ``limit`` rows with the highest cosine to ``vector`` (length one); column ``score`` is the cosine.

        The search is exact if it is filtered by ``where``, or if this version has no tuned approximate index.

        Args:
            vector: Query vector.
            limit: Maximum number of rows.
            columns: Columns to read.
            where: SQL filter of the user.
            among: SQL condition that most rows meet, so that the approximate index still finds enough of them.

        Raises:
            VectorSpaceError: The dimension of the vector differs from that of the table.
        """
        if len(vector) != self.embedding_dim:
            raise VectorSpaceError(
                f"The query vector has {len(vector)} dimensions; expected {self.embedding_dim}, as in the table.",
                hint="Encode the query with the checkpoint that made the table.",
            )
        query = self._table.search(vector, vector_column_name="vector").distance_type("dot").limit(limit)
        if self.probe is None or where is not None:
            query = query.bypass_vector_index()
        else:
            query = query.nprobes(self.probe.nprobes).refine_factor(self.probe.refine_factor)
        found = self._run(query, [*columns, "_distance"], where, among)
        scores = pa.array(1.0 - found["_distance"].to_numpy(), pa.float32())  # dot distance is 1 - dot product
        return found.drop_columns(["_distance"]).append_column("score", scores)

    @property
    def has_words(self) -> bool:
        """Whether the table has a column of words. Tables of the first layout have none."""
        return "words" in self._table.schema.names

    @property
    def has_word_index(self) -> bool:
        """Whether :meth:`best_words` can be used. It also finds rows that were added after the index was built."""
        return any("words" in index.columns for index in self._table.list_indices())

    def best_words(
        self,
        words: Sequence[str],
        *,
        limit: int,
        columns: Sequence[str],
        where: str | None = None,
        among: str | None = None,
    ) -> pa.Table:
        """The rows with the highest BM25 (Lucene's variant) for ``words``; column ``score`` is the BM25.

        Args:
            words: Words of the query, from the tokenizer of the table; a word that occurs twice counts twice.
            limit: Maximum number of rows. Rows without any of the words are left out.
            columns: Columns to read.
            where: SQL filter of the user, applied before ranking.
            among: Further SQL condition.
        """
        assert self.has_word_index, "without the index, LanceDB would split the text with its own tokenizer"
        from lancedb.query import MatchQuery

        query = self._table.search(MatchQuery(" ".join(words), "words"), query_type="fts").limit(limit)
        return self._run(query, [*columns, "_score"], where, among).rename_columns([*columns, "score"])

    def unreadable_values(self, where: str) -> list[str]:
        """One sentence for each metadata value that a filter reads and that some rows hold in another form.

        Such a row has no value (null) for the filter. The sentence names the first rows.
        """
        notes = []
        for read in tolerant_filter(where)[1]:
            rows = self.read(["source", "source_id"], where=read.unreadable).sort_by("source_id").to_pylist()
            if rows:
                named = ", ".join(f"{row['source']}/{row['source_id']}" for row in rows[:_NAMED_ROWS])
                more = "" if len(rows) <= _NAMED_ROWS else f" and {len(rows) - _NAMED_ROWS:,} more"
                notes.append(
                    f"{len(rows):,} of {self.count():,} {self.name} have a '{read.key}' that is not {read.expected}; "
                    f"the filter reads it as null: {named}{more}."
                )
        return notes

    def batches(
        self,
        columns: Sequence[str] | None = None,
        *,
        where: str | None = None,
        among: str | None = None,
        limit: int | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Read rows in batches of bounded size: some or all columns, filtered by SQL, up to ``limit`` rows."""
        schema = self.schema_of(self._table.schema.names if columns is None else columns)
        query = self._filtered(self._table.search().limit(limit), where, among).select(schema.names)
        with self._reading(where):
            for batch in query.to_batches(batch_size=_ROWS_PER_BATCH):
                # With a filter, LanceDB reports different columns as nullable.
                yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

    def has_all_words_indexed(self) -> bool:
        """Return whether the word index covers every row. An empty table needs no index."""
        indexes = [index for index in self._table.list_indices() if "words" in index.columns]
        if not indexes:
            return not self.count()
        return not any(self._table.index_stats(index.name).num_unindexed_rows for index in indexes)

    def build_word_index(self) -> None:
        """Build the word index over all rows, as a new version. An empty table gets none.

        The index is always rebuilt: an extended one would keep the statistics of removed documents.

        Raises:
            StoreError: The index could not be built; the rows are unchanged.
        """
        from lancedb.index import FTS

        if not self.count():
            return
        # The caller's tokenizer produced the words: the index must not split them again.
        config = FTS(
            base_tokenizer="whitespace",
            max_token_length=None,
            lower_case=False,
            stem=False,
            remove_stop_words=False,
            ascii_folding=False,
        )
        action = f"build the word index of table '{self._table.name}'"
        try:
            with _table_errors(action):
                self._table.create_index("words", config=config, replace=True)
        except ValueError as error:  # Lance raises it for some internal errors
            raise StoreError(f"Could not {action}: {_reason(error)}", hint="Run `l2v embed` again.") from error

    def upsert(self, rows: Iterable[pa.Table], *, rewrite: bool = False) -> int:
        """Insert new documents and replace changed ones; each part becomes a table version.

        Args:
            rows: Parts with distinct ``doc_id``, in :func:`table_schema`.
            rewrite: Also replace unchanged documents.

        Returns:
            Number of rows written.

        Raises:
            StoreError: Writing failed; earlier parts are committed.
        """
        only_changed = None if rewrite else "target.row_sha256 != source.row_sha256"
        written = 0
        for part in rows:
            merge = (
                self._table.merge_insert("doc_id")
                .when_matched_update_all(where=only_changed)
                .when_not_matched_insert_all()
            )
            with _table_errors(f"write to table '{self._table.name}'"):
                result = merge.execute(part)
            written += int(result.num_inserted_rows + result.num_updated_rows)
        return written

    def delete(self, doc_ids: Sequence[str]) -> None:
        """Remove documents."""
        for start in range(0, len(doc_ids), _MAX_IDS_PER_DELETE):
            doomed = is_one_of("doc_id", doc_ids[start : start + _MAX_IDS_PER_DELETE])
            with _table_errors(f"remove rows from table '{self._table.name}'"):
                self._table.delete(doomed)

    def restore(self, version: int) -> None:
        """Restore ``version`` as the newest; later versions were never served."""
        with _table_errors(f"restore version {version} of table '{self._table.name}'"):
            self._table.checkout(version)
            self._table.restore()

    @property
    def has_vector_index(self) -> bool:
        """Whether the vectors have an approximate index."""
        return any("vector" in index.columns for index in self._table.list_indices())

    def create_vector_index(self, num_partitions: int) -> None:
        """Build the approximate index: inverted lists of uncompressed vectors.

        Raises:
            StoreError: Training or writing failed; the previous version is unchanged.
        """
        from lancedb.index import IvfFlat

        with _table_errors(f"index table '{self._table.name}'"):
            self._table.create_index(
                "vector", config=IvfFlat(distance_type="dot", num_partitions=num_partitions), replace=True
            )

    def rows_at(self, offsets: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Columns of the rows at the given offsets."""
        with _table_errors(f"read table '{self._table.name}'"):
            return self._table.take_offsets(list(offsets)).select(list(columns)).to_arrow()

    @property
    def num_small_fragments(self) -> int:
        """Number of files that compaction would merge."""
        return int(self._table.stats()["fragment_stats"]["num_small_fragments"])

    def compact(self, *, remove_older_than: timedelta | None = None, keep: Iterable[int] = ()) -> None:
        """Merge small files and add new rows to the indexes; commits a version if anything changed.

        Args:
            remove_older_than: Also permanently remove older versions, with the files that only they need.
            keep: Versions that must stay; nothing is removed if one of them would go.

        Raises:
            StoreError: Writing failed, or would have removed a version of ``keep``; the previous version is unchanged.
        """
        # Without an age, Lance removes versions after seven days, including served ones.
        with _table_errors(f"compact table '{self._table.name}'"), self._tagged(keep):
            self._table.optimize(cleanup_older_than=remove_older_than or _FOREVER)

    def prune(self, older_than: timedelta, *, keep: Iterable[int] = ()) -> int:
        """Permanently remove older versions and the files that only they need, without merging files.

        LanceDB prunes only after it has merged what it can. So the newest version is an empty one meanwhile, and is
        restored then. If the process is killed in between, pinned versions are as they were.

        Args:
            older_than: Minimum age, which LanceDB compares with its own clock, later: a process may be suspended.
            keep: Versions that must stay, besides the newest one; nothing is removed if one of them would go.

        Returns:
            Number of versions that were removed.

        Raises:
            StoreError: Writing failed, or would have removed a version of ``keep``; these versions are unchanged.
        """
        before, newest = set(self.versions()), self.version
        nothing = pa.RecordBatchReader.from_batches(self._table.schema, [])
        with _table_errors(f"prune table '{self._table.name}'"):
            self._table.add(nothing, mode="overwrite")
            try:
                with self._tagged([newest, *keep]):
                    self._table.optimize(cleanup_older_than=older_than)
            finally:
                self.restore(newest)
        return len(before - set(self.versions()))

    @contextlib.contextmanager
    def _tagged(self, versions: Iterable[int]) -> Iterator[None]:
        """Tag versions that exist. LanceDB removes nothing if a tagged version is old enough to go."""
        self._remove_tags()  # those of a process that was killed
        for version in {*versions} & {*self.versions()}:
            self._table.tags.create(f"keep-{version}", version)
        try:
            yield
        finally:
            self._remove_tags()

    def _remove_tags(self) -> None:
        for name in self._table.tags.list():
            self._table.tags.delete(name)

    def committed_at(self) -> dict[int, datetime]:
        """Commit time of each version, by the clock of its writer."""
        with _table_errors(f"list versions of table '{self._table.name}'"):
            versions = self._table.list_versions()
        return {int(each["version"]): each["timestamp"].astimezone(UTC) for each in versions}

    def at(self, version: int) -> LanceTable:
        """The same table, pinned to a version."""
        pinned = self._database.open_table(self._table.name)
        pinned.checkout(version)
        return LanceTable(self._database, pinned)

    def versions(self) -> list[int]:
        """All readable versions, oldest first."""
        return sorted(int(found["version"]) for found in self._table.list_versions())

    def overwrite(self, batches: Iterable[pa.RecordBatch]) -> int:
        """Write a version that shares no file with earlier ones; returns its number."""
        time.sleep(_VERSION_GAP_S)
        reader = pa.RecordBatchReader.from_batches(self._table.schema, batches)
        with _table_errors(f"write table '{self._table.name}'"):
            self._table.add(reader, mode="overwrite")
        return self.version

    def drop_history(self, first: int, *, keep: Iterable[int]) -> None:
        """Permanently remove every version before ``first``, with its files.

        Args:
            first: A version that :meth:`overwrite` made; tags do not protect earlier versions.
            keep: Versions that must stay; nothing is removed if one of them would go.

        Raises:
            StoreError: The removal failed, or would have removed a version of ``keep``.
        """
        made_at = {int(found["version"]): found["timestamp"].timestamp() for found in self._table.list_versions()}
        before = max((at for version, at in made_at.items() if version < first), default=None)
        with _table_errors(f"remove former versions of table '{self._table.name}'"), self._tagged(keep):
            cutoff = made_at[first] - _VERSION_GAP_S / 2 if before is None else (before + made_at[first]) / 2
            self._table.optimize(cleanup_older_than=timedelta(seconds=time.time() - cutoff), delete_unverified=True)

    def _run(
        self, query: LanceQueryBuilder, columns: Sequence[str], where: str | None, among: str | None = None
    ) -> pa.Table:
        query = self._filtered(query, where, among).select(list(columns))
        with self._reading(where):
            return query.to_arrow()

    def _filtered(self, query: LanceQueryBuilder, where: str | None, among: str | None = None) -> LanceQueryBuilder:
        conditions = [] if among is None else [among]
        if where is not None:
            check_filter(where, self._table.schema.names)
            # The line break ends a comment at the end of the user's filter.
            conditions.append(f"({tolerant_filter(where)[0]}\n)")
        return query.where(" AND ".join(conditions), prefilter=True) if conditions else query

    @contextlib.contextmanager
    def _reading(self, where: str | None) -> Iterator[None]:
        """Convert Lance's errors: an input error if the filter is invalid, otherwise a store error."""
        try:
            with _table_errors(f"read table '{self._table.name}'"):
                yield
        except (ValueError, StoreError) as error:
            is_over_rows = any(sign in str(error) for sign in _OVER_ROWS)
            if is_over_rows and where is not None:
                raise unusable_filter(
                    where, self._table.schema.names, "aggregates such as count or sum are not allowed in a filter"
                ) from error
            is_filter = isinstance(error, ValueError) or "filter expression" in str(error)
            if where is None or not is_filter:
                raise
            raise unusable_filter(where, self._table.schema.names, _reason(error)) from error


def create_table(store: Store, *, generation: str, kind: DocumentKind, embedding_dim: int) -> LanceTable:
    """Create the table of a kind in a generation, or open it if it exists.

    Raises:
        StoreError: It cannot be created, or exists with different columns or another vector dimension.
    """
    name = TABLE_OF_KIND[kind]
    with _table_errors(f"create table '{name}' of generation {generation}"):
        database = _connect(store.location(generation_key(generation)), store.storage_options)
        schema = table_schema(embedding_dim)
        try:
            table = database.open_table(name)
        except ValueError:  # the table does not exist
            return LanceTable(database, database.create_table(name, schema=schema))
    # Types are not compared: LanceDB has its own type for JSON.
    if table.schema.names != schema.names or table.schema.field("vector").type != schema.field("vector").type:
        raise StoreError(
            f"Table '{name}' of generation {generation} has unexpected columns: "
            f"{', '.join(table.schema.names)}; vectors of {table.schema.field('vector').type}.",
            hint=f"Remove {generation_key(generation)} and run `l2v embed` again.",
        )
    return LanceTable(database, table)


def open_table(store: Store, *, generation: str, kind: DocumentKind, version: int | None = None) -> LanceTable:
    """Open the table of a kind, pinned to ``version`` if one is given.

    Raises:
        StoreError: There is no such table or version.
    """
    name = TABLE_OF_KIND[kind]
    try:
        if not store.exists(generation_key(generation)):  # connecting would create it
            raise FileNotFoundError(generation)
        database = _connect(store.location(generation_key(generation)), store.storage_options)
        table = database.open_table(name)
        if version is not None:
            table.checkout(version)
    except (ValueError, RuntimeError, OSError) as error:
        wanted = f"table '{name}'" + ("" if version is None else f" at version {version}")
        raise StoreError(
            f"Generation {generation} has no {wanted}.",
            hint="Promote another generation (`l2v generations list`), or run `l2v embed` again.",
        ) from error
    return LanceTable(database, table, probe=_probe_record(generation, name, table.version).read(store))


def _connect(folder: str, storage_options: dict[str, str] | None) -> DBConnection:
    # By default, Lance reads ahead one fragment per core: a pass over a large table would hold many parts in memory.
    os.environ.setdefault("LANCE_DEFAULT_FRAGMENT_READAHEAD", "2")
    import lancedb

    return lancedb.connect(folder, storage_options=storage_options)


def import_without_pandas() -> None:
    """Import LanceDB without pandas, in a process that reads tables and makes no data frames.

    pyarrow imports pandas where it is installed, which takes a third of the time that importing LanceDB takes. It asks
    once only. So this is for interactive commands; nights work with libraries that pass data frames to pyarrow.
    """
    if "lancedb" in sys.modules or "pandas" in sys.modules:
        return
    absent = _WithoutPandas()
    sys.meta_path.insert(0, absent)
    try:
        import lancedb  # noqa: F401
    finally:
        sys.meta_path.remove(absent)


class _WithoutPandas(MetaPathFinder):
    """Says that pandas is not installed."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname, name=fullname)


def keep_probe(store: Store, *, generation: str, kind: DocumentKind, version: int, probe: IndexProbe) -> None:
    """Record the query settings for the index of a table version; :func:`open_table` reads them."""
    _probe_record(generation, TABLE_OF_KIND[kind], version).put_if_absent(store, probe)


def _probe_record(generation: str, name: str, version: int) -> Record[IndexProbe]:
    return Record(IndexProbe, f"{generation_key(generation)}/probes/{name}-{version:08d}.json")


def read_all_versions(
    folder: str, name: str, *, storage_options: dict[str, str] | None = None
) -> Iterator[Iterator[pa.RecordBatch]]:
    """Read every row of every version of a table, version by version.

    Args:
        folder: Directory or URI of the database.
        name: Name of the table.
        storage_options: Options that LanceDB needs to reach it.
    """
    table = _connect(folder, storage_options).open_table(name)
    for found in table.list_versions():
        table.checkout(found["version"])
        yield iter(table.search().to_batches())


def unreferenced_files(manifests: Iterable[bytes], files: Iterable[str]) -> list[str]:
    """Data files of a table that no manifest names. LanceDB never reads them."""
    named = b"".join(manifests)
    return [file for file in files if file.endswith(".lance") and file.encode() not in named]


def generation_key(generation: str) -> str:
    """Folder of a generation in the store."""
    return f"lance/{generation}"


@contextlib.contextmanager
def _table_errors(action: str) -> Iterator[None]:
    """Convert Lance's errors into a store error with a hint."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise StoreError(
            f"Could not {action}: {_reason(error)}",
            hint="The served state is unchanged. Free disk space or restore the files, then run again.",
        ) from error


def _reason(error: Exception) -> str:
    """The first line of an error, without the position in Lance's source code."""
    return re.split(r", (?=/|src|rust)", str(error))[0].split("\n")[0]
