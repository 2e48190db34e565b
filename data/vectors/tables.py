"""Tables of a generation: updating them from a snapshot, indexing them, and verifying them before they are served.

Does not belong here: LanceDB's calls (``lance``), the figures and limits of the gate (``gate``), moving the pointer
(``pointer``).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.config import GateConfig
from data.documents.facets import FACET_SCHEMA, facet_columns, standard_json
from data.errors import StoreError
from data.schema import DOCUMENT_SCHEMA, TABLE_OF_KIND, DocumentKind, encoded_text
from data.snapshots.snapshot import Snapshot, contents_of
from data.store.base import Store
from data.store.digests import DigestIndex, Digests, hash_rows, no_digests, pack_digests, unpack_digests
from data.vectors.gate import PROFILE_COLUMNS, Check, GenerationRefusedError, TableProfile, judge_table, profile_table
from data.vectors.generations import Generation
from data.vectors.lance import LanceTable, create_table, generation_key, open_table
from data.vectors.pointer import read_pointer
from data.vectors.shards import ShardVectors, unusable_contents

logger = logging.getLogger(__name__)
_ROWS_PER_MERGE = 5000
# The text is in content_sha256, the metadata in metadata_sha256.
_HASHED_COLUMNS = [name for name in DOCUMENT_SCHEMA.names if name not in ("text", "metadata")]
_ROW_HASH = ("doc_id", "row_sha256")
_IDENTITY = ("doc_id", "content_sha256", "metadata_sha256")


@dataclass(frozen=True)
class TableChange:
    """Version of a table after an update, with the numbers of rows written and removed."""

    version: int
    upserted: int
    removed: int


def sync_table(
    store: Store,
    generation: Generation,
    snapshot: Snapshot,
    *,
    tokenize: Callable[[str], Sequence[str]] = str.split,
    rewritten: Digests | None = None,
) -> TableChange:
    """Make a generation's table equal to a snapshot: add new rows, replace changed ones, remove the others.

    If the generation is served, the update starts from the version that the pointer pins. Later versions come from a
    killed run and are dropped. An unchanged snapshot gives the pinned version. Every content of the snapshot must have
    a vector in a shard, or be recorded as unusable: its documents are left out. Uses about 100 bytes of memory per
    document, plus the rows of one merge.

    Args:
        store: Where shards and tables are.
        generation: Generation to update.
        snapshot: Documents that the table of the snapshot's kind must hold.
        tokenize: Splits a text into words for full-text search. Words must not contain white space.
        rewritten: Contents with new vectors. Their rows are replaced although they look unchanged.

    Raises:
        StoreError: A vector is missing, or reading or writing failed.
    """
    kind = snapshot.manifest.kind
    table = create_table(store, generation=generation.generation, kind=kind, embedding_dim=generation.embedding_dim)
    base = _pinned_table(store, generation, kind) or table
    difference = _difference(base, snapshot, rewritten, left_out=_unusable(store, generation, kind))
    if not len(difference.rows) and not difference.removed:
        return TableChange(version=base.version, upserted=0, removed=0)
    vectors = ShardVectors(store, fingerprint=generation.checkpoint, encode_key=generation.encode_keys[kind])
    missing = np.unique(difference.contents[~vectors.contains(difference.contents)])
    if len(missing):
        raise StoreError(
            f"{len(missing)} contents have no vector of checkpoint {generation.checkpoint[:12]}.",
            hint="Run `l2v embed` again: it encodes the missing contents.",
        )
    if table.version != base.version:
        table.restore(base.version)
    rows = _table_rows(generation, snapshot, difference.rows, vectors, tokenize)
    upserted = table.upsert(rows, rewrite=rewritten is not None)
    table.delete(difference.removed)
    return TableChange(version=table.version, upserted=upserted, removed=len(difference.removed))


def planned_change(
    store: Store,
    generation: Generation,
    snapshot: Snapshot,
    *,
    rewritten: Digests | None = None,
) -> tuple[int, int]:
    """Numbers of rows that :func:`sync_table` would write and remove. The generation need not exist yet."""
    kind = snapshot.manifest.kind
    left_out = _unusable(store, generation, kind)
    base = _pinned_table(store, generation, kind)
    if base is None:
        try:
            base = open_table(store, generation=generation.generation, kind=kind)
        except StoreError:  # a new generation
            is_left_out = DigestIndex(left_out).contains(contents_of(snapshot))
            return int((~is_left_out).sum()), 0
    difference = _difference(base, snapshot, rewritten, left_out=left_out)
    return len(difference.rows), len(difference.removed)


def index_table(store: Store, generation: Generation, kind: DocumentKind, version: int) -> int:
    """Build the word index of a table, unless it already covers every row.

    Args:
        store: Where the table is.
        generation: Generation of the table.
        kind: Kind of the table.
        version: Version from :func:`sync_table`. Newer versions come from a killed run and are dropped.

    Returns:
        Version with the index; may be the given one.

    Raises:
        StoreError: The index could not be built; the given version is unchanged.
    """
    table = open_table(store, generation=generation.generation, kind=kind, version=version)
    if table.has_all_words_indexed():
        return version
    newest = open_table(store, generation=generation.generation, kind=kind)
    if newest.version != version:
        newest.restore(version)
    newest.build_word_index()
    return newest.version


def verify_generation(
    store: Store,
    generation: Generation,
    snapshots: Mapping[DocumentKind, Snapshot],
    versions: Mapping[DocumentKind, int],
    config: GateConfig = GateConfig(),  # noqa: B008 - frozen
) -> list[Check]:
    """Check the tables of a generation with the gate before they are served.

    The tables must hold exactly the documents of the snapshots, with valid vectors similar to the served ones.

    Args:
        store: Where the tables are.
        generation: Generation to serve.
        snapshots: Documents that its tables must hold.
        versions: Versions of the tables to serve.
        config: Limits of the gate.

    Returns:
        All checks of all tables; all of them passed.

    Raises:
        GenerationRefusedError: A check failed; the message shows figures and limits.
    """
    checks: list[Check] = []
    for kind, snapshot in snapshots.items():
        table = open_table(store, generation=generation.generation, kind=kind, version=versions[kind])
        checks += _check_rows(table, generation, snapshot, left_out=_unusable(store, generation, kind))
        profile = _profile(store, generation, table)
        served = _pinned_table(store, generation, kind)
        reference = None if served is None else _profile(store, generation, served)
        checks += judge_table(TABLE_OF_KIND[kind], profile, reference, config)
    if not all(check.passed for check in checks):
        raise GenerationRefusedError(checks)
    return checks


def profiles_key(generation: str) -> str:
    """Folder with the figures of a generation's table versions."""
    return f"{generation_key(generation)}/profiles"


def _profile(store: Store, generation: Generation, table: LanceTable) -> TableProfile:
    """Figures of a table version. They never change and are therefore stored, for the last two versions."""
    prefix = f"{profiles_key(generation.generation)}/{table.name}"
    key = f"{prefix}/{table.version:08d}.json"
    kept = store.read(key)
    if kept is not None:
        try:
            return TableProfile.from_json(kept)
        except ValueError:
            store.delete(key)
    profile = profile_table(table.batches(PROFILE_COLUMNS))
    for former in sorted(store.list(prefix))[:-1]:
        store.delete(former)
    store.put_if_absent(key, profile.to_json().encode())
    return profile


def _unusable(store: Store, generation: Generation, kind: DocumentKind) -> Digests:
    """Contents without a vector from the generation's checkpoint."""
    return unusable_contents(store, fingerprint=generation.checkpoint, encode_key=generation.encode_keys[kind])


def _check_rows(table: LanceTable, generation: Generation, snapshot: Snapshot, *, left_out: Digests) -> list[Check]:
    """Check that a table holds the documents of a snapshot, all encoded by the generation's checkpoint."""
    name = TABLE_OF_KIND[snapshot.manifest.kind]
    found, strangers = _identities(table.batches([*_IDENTITY, "checkpoint"]), generation.checkpoint)
    expected, _ = _identities(_without(snapshot.batches([*_IDENTITY]), left_out), generation.checkpoint)
    num_missing = int((~DigestIndex(found).contains(expected)).sum())
    num_excess = int((~DigestIndex(expected).contains(found)).sum())
    num_wrong = max(num_missing + num_excess, abs(len(found) - len(expected)))
    return [
        Check(
            gate="rows_unlike_snapshot",
            table=name,
            figure=num_wrong,
            limit=0,
            passed=not num_wrong,
            note=""
            if not num_wrong
            else f"Table '{name}' has {len(found)} rows, snapshot {snapshot.manifest.id[:12]} has {len(expected)} "
            f"documents: {num_missing} missing, {num_excess} unexpected.",
        ),
        Check(
            gate="rows_of_another_checkpoint",
            table=name,
            figure=sum(strangers.values()),
            limit=0,
            passed=not strangers,
            note=""
            if not strangers
            else f"Table '{name}' mixes vectors of checkpoint {min(strangers)[:12]} with those of "
            f"{generation.checkpoint[:12]}: remove lance/{generation.generation}.",
        ),
    ]


def _without(batches: Iterable[pa.RecordBatch], left_out: Digests) -> Iterator[pa.RecordBatch]:
    """Rows, without those of the excluded contents."""
    doomed = DigestIndex(left_out)
    for batch in batches:
        yield (
            batch.filter(pa.array(~doomed.contains(pack_digests(batch["content_sha256"])))) if len(left_out) else batch
        )


def _identities(batches: Iterable[pa.RecordBatch], checkpoint: str) -> tuple[Digests, Counter[str]]:
    """Digest of id, content and metadata for each row, and the number of rows by other checkpoints."""
    parts: list[Digests] = [no_digests()]
    strangers: Counter[str] = Counter()
    for batch in batches:
        parts.append(pack_digests(hash_rows([batch[name] for name in _IDENTITY])))
        if "checkpoint" in batch.schema.names:
            makers = batch["checkpoint"].value_counts().to_pylist()
            strangers.update({each["values"]: each["counts"] for each in makers if each["values"] != checkpoint})
    return np.concatenate(parts), strangers


def _pinned_table(store: Store, generation: Generation, kind: DocumentKind) -> LanceTable | None:
    """The table at its served version; None if the generation is not served."""
    pointer = read_pointer(store)
    if pointer is None or pointer.generation != generation.generation:
        return None
    try:
        return open_table(store, generation=generation.generation, kind=kind, version=pointer.version_of(kind))
    except StoreError as error:  # the table was removed; a rebuild repairs it
        logger.warning("%s Rebuilding it.", error)
        return None


@dataclass(frozen=True)
class _Difference:
    """Changes that make a table equal to a snapshot.

    Attributes:
        rows: Row numbers of the documents to write.
        contents: Digests of their contents.
        removed: Ids of the documents to remove.
    """

    rows: NDArray[np.int64]
    contents: Digests
    removed: list[str]


def _difference(base: LanceTable, snapshot: Snapshot, rewritten: Digests | None, *, left_out: Digests) -> _Difference:
    present = [(pack_digests(rows["doc_id"]), pack_digests(rows["row_sha256"])) for rows in base.batches(_ROW_HASH)]
    ids = np.concatenate([no_digests(), *(each for each, _ in present)])
    hashes = np.concatenate([no_digests(), *(each for _, each in present)])
    index, anew = DigestIndex(ids), DigestIndex(no_digests() if rewritten is None else rewritten)
    doomed, is_seen = DigestIndex(left_out), np.zeros(len(ids), dtype=np.bool_)
    rows, contents, start = [np.zeros(0, np.int64)], [no_digests()], 0
    for batch in snapshot.batches(_HASHED_COLUMNS):
        places = index.positions(pack_digests(batch["doc_id"]))
        content = pack_digests(batch["content_sha256"])
        is_left_out = doomed.contains(content)
        is_known = (places >= 0) & ~is_left_out
        is_seen[places[is_known]] = True
        is_same = is_known & ~anew.contains(content)
        is_same[is_same] = hashes[places[is_same]] == pack_digests(_row_hashes(batch))[is_same]
        is_new = ~is_same & ~is_left_out
        rows.append(start + np.flatnonzero(is_new))
        contents.append(content[is_new])
        start += len(batch)
    return _Difference(np.concatenate(rows), np.concatenate(contents), unpack_digests(ids[~is_seen]))


def _row_hashes(documents: pa.RecordBatch | pa.Table) -> pa.StringArray:
    """Hash all columns of each document, to detect any change."""
    columns = [documents[name] for name in _HASHED_COLUMNS]
    return hash_rows([each.combine_chunks() if isinstance(each, pa.ChunkedArray) else each for each in columns])


def _table_rows(
    generation: Generation,
    snapshot: Snapshot,
    numbers: NDArray[np.int64],
    vectors: ShardVectors,
    tokenize: Callable[[str], Sequence[str]],
) -> Iterator[pa.Table]:
    """Table rows for the documents at the given row numbers of a snapshot, in parts."""
    for start in range(0, len(numbers), _ROWS_PER_MERGE):
        window = numbers[start : start + _ROWS_PER_MERGE]
        documents = pa.Table.from_batches(snapshot.rows(window), schema=DOCUMENT_SCHEMA)
        chosen = vectors.of(pack_digests(documents["content_sha256"]))
        column = pa.FixedSizeListArray.from_arrays(pa.array(chosen.reshape(-1)), generation.embedding_dim)
        yield (
            _with_facets_and_words(documents, tokenize)
            .append_column(pa.field("row_sha256", pa.string(), nullable=False), [_row_hashes(documents)])
            .append_column("checkpoint", pa.array([generation.checkpoint] * len(documents), pa.string()))
            .append_column("vector", column)
        )


def _with_facets_and_words(documents: pa.Table, tokenize: Callable[[str], Sequence[str]]) -> pa.Table:
    """Add the columns for filters and full-text search to documents."""
    metadata = documents["metadata"].to_pylist()
    at = documents.schema.get_field_index("metadata")
    rows = documents.set_column(at, "metadata", pa.array([standard_json(text) for text in metadata], pa.json_()))
    for field, values in zip(FACET_SCHEMA, facet_columns(metadata), strict=True):
        rows = rows.append_column(field.name, values)
    texts = zip(documents["title"].to_pylist(), documents["text"].to_pylist(), strict=True)
    words = [" ".join(tokenize(encoded_text(title, text))) for title, text in texts]
    return rows.append_column("words", pa.array(words, pa.string()))
