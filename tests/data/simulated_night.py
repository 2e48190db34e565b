"""A nightly run without a model: real sources, snapshots, shards, tables, pointer and export, with vectors from hashes.

Tests import it, or run it as a script that they kill: ``python simulated_night.py HOME FEEDS RUN [KILL_AT]``. Faults
are injected at the interpreter's audit events (opening for writing, linking, renaming, removing) and at fsync, so the
shipped code needs no hooks. The script prints the number of these events.
"""

import hashlib
import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.config import CleanConfig, ShrinkConfig, SourceConfig
from data.documents.facets import FACET_SCHEMA, facet_columns
from data.outputs.export import ExportTable, publish_export
from data.outputs.export_schemas import EXPORT_SCHEMAS
from data.schema import DOCUMENT_SCHEMA, KINDS, TABLE_OF_KIND
from data.snapshots.build import build_snapshot
from data.snapshots.snapshot import contents_of
from data.store.base import LocalStore
from data.store.digests import DigestIndex, first_of_each, pack_digests
from data.store.lease import hold_lease
from data.vectors.generations import create_generation
from data.vectors.index_watch import watch_indexes
from data.vectors.lance import open_table
from data.vectors.pointer import pointer_history, promote, read_pointer
from data.vectors.shards import encoded_contents, list_shards, write_shard
from data.vectors.tables import sync_table, verify_generation

DIM = 8
SHARD_SIZE = 5
FINGERPRINT = "1" * 64
ENCODE_KEYS = {"job": "job: ", "resume": "resume: "}


class Faults:
    """Counts writing events below a directory, and lets one of them go wrong."""

    _EVENTS = frozenset({"open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir"})

    def __init__(self):
        self.root, self.count, self.at, self.fault = None, 0, None, None
        sys.addaudithook(self._hear)  # cannot be taken away again, but listens to nothing without a root
        self._fsync, os.fsync = os.fsync, self._sync

    def arm(self, root, at, fault):
        """Let the ``at``-th event below ``root`` call ``fault``."""
        self.root, self.count, self.at, self.fault = str(root), 0, at, fault

    def disarm(self):
        self.root = None
        return self.count

    def _hear(self, event, arguments):
        if self.root is None or event not in self._EVENTS or not isinstance(arguments[0], (str, os.PathLike)):
            return
        is_reading = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if not is_reading and os.fspath(arguments[0]).startswith(self.root):
            self._step()

    def _sync(self, descriptor):
        if self.root is not None:
            self._step()
        return self._fsync(descriptor)

    def _step(self):
        self.count += 1
        if self.count == self.at:
            self.fault()


def vector(content, fingerprint):
    """The vector that a checkpoint makes of a content."""
    seed = int.from_bytes(hashlib.sha256(f"{content} {fingerprint}".encode()).digest()[:8])
    numbers = np.random.default_rng(seed).normal(size=DIM)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)


def write_feed(feeds, kind, documents):
    """Write a source: id to (text, city)."""
    feeds.mkdir(exist_ok=True)
    rows = [{"id": key, "title": "T", "text": text, "city": city} for key, (text, city) in documents.items()]
    (feeds / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def encode(store, snapshot, fingerprint, log):
    """Write shards for what has no vector yet; tell ``log`` of every content that is encoded."""
    encode_key = ENCODE_KEYS[snapshot.manifest.kind]
    done = DigestIndex(encoded_contents(store, fingerprint=fingerprint, encode_key=encode_key))
    contents = contents_of(snapshot)
    stale = np.flatnonzero(first_of_each(contents) & ~done.contains(contents))
    for start in range(0, len(stale), SHARD_SIZE):
        batches = snapshot.rows(stale[start : start + SHARD_SIZE], ["content_sha256"])
        names = [name for batch in batches for name in batch.column(0).to_pylist()]
        log(names)
        vectors = np.stack([vector(name, fingerprint) for name in names])
        write_shard(store, names, vectors, fingerprint=fingerprint, encode_key=encode_key)


def exported(snapshot):
    """Documents of a snapshot on their way into an export."""
    schema = EXPORT_SCHEMAS[TABLE_OF_KIND[snapshot.manifest.kind]]
    columns = [name for name in schema.names if name in DOCUMENT_SCHEMA.names]
    return ExportTable(snapshot.manifest.id, (with_facets(each, schema) for each in snapshot.batches(columns)))


def with_facets(batch, schema):
    """Rows of an export: resumes have no metadata there, and so no facets."""
    rows = pa.Table.from_batches([batch])
    if "metadata" in rows.column_names:
        for field, values in zip(FACET_SCHEMA, facet_columns(rows["metadata"].to_pylist()), strict=True):
            rows = rows.append_column(field, values)
    return rows.select(schema.names)


def sources_of(feeds, kind):
    """The source of a kind, and one that is not required, if it ever delivered."""
    sources = {"board": SourceConfig(kind=kind, path=str(feeds / f"{kind}.jsonl"))}
    if kind == "job" and (feeds / "extra").is_dir():
        sources["extra"] = SourceConfig(kind=kind, path=str(feeds / "extra" / "job.jsonl"), required=False)
    return sources


def run_night(store, feeds, *, run_id, fingerprint=FINGERPRINT, log=lambda names: None, now=None, day=None):
    """Ingest, encode, update, verify, promote, export, watch the indexes."""
    now = now or datetime.now(UTC)
    with hold_lease(store, owner=run_id) as lease:
        snapshots = {
            kind: build_snapshot(
                store,
                kind=kind,
                sources=sources_of(feeds, kind),
                clean=CleanConfig(near_duplicates=False),
                run_id=run_id,
                fence=lease.check,
                now=now,
                shrink=ShrinkConfig(max_shrink=1),
            )
            for kind in KINDS
        }
        generation = create_generation(
            store, fingerprint=fingerprint, encode_keys=ENCODE_KEYS, embedding_dim=DIM, now=now
        )
        for snapshot in snapshots.values():
            encode(store, snapshot, fingerprint, log)
        versions = {kind: sync_table(store, generation, snapshot).version for kind, snapshot in snapshots.items()}
        verify_generation(store, generation, snapshots, versions)
        ids = {kind: snapshot.manifest.id for kind, snapshot in snapshots.items()}
        pointer = promote(store, generation, versions=versions, snapshots=ids, lease=lease, run_id=run_id, now=now)
        publish_export(
            store,
            {TABLE_OF_KIND[kind]: exported(snapshot) for kind, snapshot in snapshots.items()},
            run_id=run_id,
            day=day or datetime(2026, 3, 1, tzinfo=UTC).date(),
            keep=2,
            fence=lease.check,
            prefix="exports/",
        )
        watch_indexes(store, pointer, now=now)
        return pointer


def served(store, kind):
    """What readers see: id to (text, city); every vector is checked on the way."""
    pointer = read_pointer(store)
    table = open_table(store, generation=pointer.generation, kind=kind, version=pointer.version_of(kind))
    rows = table.read(["source_id", "text", "metadata", "content_sha256", "checkpoint", "vector"]).to_pylist()
    for row in rows:
        assert row["checkpoint"] == pointer.checkpoint
        assert row["vector"] == vector(row["content_sha256"], pointer.checkpoint).tolist()
    found = {row["source_id"]: (row["text"], json.loads(row["metadata"])["city"]) for row in rows}
    assert len(found) == len(rows), "no document is there twice"
    return found


def state(store):
    """All that a reader, a rollback or an analyst could ever see."""
    history = [(each.checkpoint, each.snapshots, each.sequence) for each in pointer_history(store)]
    latest = json.loads(store.read("exports/latest.json"))["export"]
    files = sorted(key for key in store.list(f"exports/{latest}") if key.endswith(".parquet"))
    exported = [pa.parquet.read_table(store.local_path(key), partitioning=None).to_pylist() for key in files]
    return history, {kind: served(store, kind) for kind in KINDS}, exported


def finished(store):
    """First half of the hash of every content that a whole shard holds."""
    shards = list_shards(store, fingerprint=FINGERPRINT)
    return {content.hex() for shard in shards for content in shard.contents.tolist()}


def digest_of(name):
    """A content's hash as :func:`finished` gives it."""
    return pack_digests(pa.array([name], pa.string())).tolist()[0].hex()


def main():
    home, feeds, run_id, *kill_at = sys.argv[1:]
    store, log = LocalStore(Path(home)), Path(home).with_name("encoded.log")

    def append(names):
        with log.open("a") as handle:
            handle.write("".join(f"{name}\n" for name in names))

    faults = Faults()
    at = int(kill_at[0]) if kill_at else None
    faults.arm(store.root, at, lambda: os.kill(os.getpid(), signal.SIGKILL))
    run_night(store, Path(feeds), run_id=run_id, log=append)
    print(faults.disarm())  # noqa: T201


if __name__ == "__main__":
    main()
