"""Build a snapshot: the immutable union of each source's latest documents of one kind.

The id of a snapshot is a hash of its content, so unchanged sources give the existing snapshot.

Belongs here: the order of the steps, reading and cleaning the sources, the commit. Does not belong here: file formats
(``data.documents``), carrying rows over from the former snapshot (``carried``), processing documents.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from data.config import CleanConfig, RedactConfig, ShrinkConfig, SourceConfig
from data.documents.clean import Document, clean_row
from data.documents.file_names import FileNames
from data.documents.rows import RawRow, ReadLog, RejectedRow, RejectReason
from data.documents.sources import source_sha256
from data.errors import DataError, InputError, SourceShrankError
from data.redaction.contact_keys import ContactKeys
from data.redaction.redact import Redactor, open_key_file
from data.schema import (
    DOCUMENT_SCHEMA,
    KINDS,
    QUARANTINE_SCHEMA,
    DocumentKind,
)
from data.snapshots.carried import Former, FormerRows, chunks, in_order, no_known_rows, redact_rejected, stage_former
from data.snapshots.manifest import (
    SCHEMA_VERSION,
    PartInfo,
    SnapshotManifest,
    SourceCounts,
    TotalCounts,
    latest_record,
    manifest_record,
    put_manifest,
    snapshot_key,
)
from data.snapshots.parts import PartWriter
from data.snapshots.snapshot import ORIGIN_SCHEMA, Snapshot, follow_latest, open_snapshot
from data.snapshots.staging import Counts, Staged
from data.snapshots.tombstones import Tombstones, read_tombstones, store_secret
from data.store.base import Store, storage_errors
from data.store.digests import DIGEST_BYTES, Digests, FirstRows, pack_digests
from data.store.records import Latest

SHRINK_FROM = 50
"""A source with fewer documents may lose any number of documents."""

_ERASED_DETAIL = "erased on request; the source still holds it"
_PROGRESS_ROWS = 1000


def build_snapshot(
    store: Store,
    *,
    kind: DocumentKind,
    sources: Mapping[str, SourceConfig],
    clean: CleanConfig,
    redact: RedactConfig = RedactConfig(),  # noqa: B008 - frozen
    run_id: str,
    fence: Callable[[], None],
    now: datetime,
    shrink: ShrinkConfig = ShrinkConfig(),  # noqa: B008 - frozen
    on_progress: Callable[[int], None] | None = None,
    on_unread: Callable[[str, DataError], None] = lambda _name, _error: None,
) -> Snapshot:
    """Build the next snapshot and make it the latest.

    The listed sources are read, and their former documents are replaced. The documents of all other sources are carried
    over. Everything is built in a scratch directory and becomes visible in the last step. Repeating an interrupted
    build completes it; repeating a finished one writes nothing.

    Args:
        store: Store of the snapshots.
        kind: Kind of the documents.
        sources: Name and settings of each source. Documents are ordered by source name, then by row: the first of two
            equal documents is the original.
        clean: Size limit and duplicate detection.
        redact: Personal data to replace before anything is hashed or written. Documents that were redacted with
            other settings are redacted again.
        run_id: Id of this run, for the manifest.
        fence: Called before the new snapshot becomes the latest; raises when this writer lost its lease.
        now: Time for the manifest, with a time zone.
        shrink: Limits on how many documents a source may lose, and whether scans are read.
        on_progress: Called with the number of rows read so far.
        on_unread: Called with the name and the error of a source that cannot be read, or shrank too much, but is not
            required. Its former documents are carried over, and it is read again the next time.

    Returns:
        The latest snapshot: the new one, or the former one if no document changed.

    Raises:
        InputError: A required source cannot be read, no document is left, or the name model of ``redact`` is not
            installed; nothing was changed.
        SourceShrankError: A required source lost more documents than it may; nothing was changed.
        StoreError: Writing failed, or the former snapshot is damaged; the former snapshot is untouched.
        ConflictError: Another writer changed ``latest.json`` in the meantime.
    """
    _check_request(kind, sources, now)
    latest = latest_record(kind)
    raw = store.read(latest.key)
    previous = follow_latest(store, kind, raw)

    def pass_over(fault: _SourceFault) -> None:
        if sources[fault.name].required:
            raise fault.error
        on_unread(fault.name, fault.error)

    changed = _changed_sources(sources, clean, redact, previous, pass_over, shrink.ocr)
    while changed:
        try:
            return _build(
                store,
                kind=kind,
                changed=changed,
                clean=clean,
                redact=redact,
                run_id=run_id,
                fence=fence,
                now=now,
                shrink=shrink,
                latest=latest,
                raw=raw,
                previous=previous,
                on_progress=on_progress,
            )
        except _SourceFault as fault:
            pass_over(fault)
            del changed[fault.name]
    if previous is None:
        raise InputError(f"None of the {kind} sources could be read.", hint="Their errors are in the log.")
    return previous


class _SourceFault(Exception):
    """A source cannot be read, or shrank too much."""

    def __init__(self, name: str, error: DataError) -> None:
        super().__init__(name)
        self.name, self.error = name, error


def _build(
    store: Store,
    *,
    kind: DocumentKind,
    changed: Mapping[str, _Feed],
    clean: CleanConfig,
    redact: RedactConfig,
    run_id: str,
    fence: Callable[[], None],
    now: datetime,
    shrink: ShrinkConfig,
    latest: Latest,
    raw: bytes | None,
    previous: Snapshot | None,
    on_progress: Callable[[int], None] | None,
) -> Snapshot:
    """Read the changed sources, and make the snapshot of all sources the latest; see :func:`build_snapshot`.

    Raises:
        _SourceFault: One of the sources has a fault; nothing was changed.
    """
    home = store.machine.root
    with (
        storage_errors(f"write the {kind} snapshot"),
        store.scratch() as scratch,
        open_key_file(redact.key_file, home=home) as keys,
    ):
        staged = _stage(
            scratch / "staged",
            kind=kind,
            sources=changed,
            clean=clean,
            redactor=Redactor(redact, kind, keys=keys, contact_keys=ContactKeys(lambda: store_secret(store))),
            tombstones=read_tombstones(store),
            secret=lambda: store_secret(store),
            previous=Former(previous, redact) if previous is not None else None,
            on_progress=on_progress,
        )
        if previous is not None:
            _check_shrinkage(staged, previous, shrink)
        if keys is not None:
            keys.commit()
        snapshot_id = staged.snapshot_id(kind, redact)
        if previous is not None and previous.manifest.id == snapshot_id:
            return previous
        if store.read(manifest_record(kind, snapshot_id).key) is None:
            staged.mark_similar()
            manifest = _make_manifest(
                staged,
                snapshot_id=snapshot_id,
                kind=kind,
                clean=clean,
                redact=redact,
                run_id=run_id,
                now=now,
                parent=previous,
            )
            _put(store, scratch / "staged", manifest)
    # Opened before it becomes the latest: a damaged snapshot must not be served.
    snapshot = open_snapshot(store, kind, snapshot_id)
    fence()
    store.compare_and_swap(latest.key, expected=raw, content=latest.render(snapshot_id))
    return snapshot


@dataclass(frozen=True)
class _Feed:
    """A source to read, the hash of its files before reading, and whether its scans are read."""

    config: SourceConfig
    raw_sha256: str | None
    ocr: bool


def _changed_sources(
    sources: Mapping[str, SourceConfig],
    clean: CleanConfig,
    redact: RedactConfig,
    previous: Snapshot | None,
    pass_over: Callable[[_SourceFault], None],
    ocr: bool,
) -> dict[str, _Feed]:
    """Sources whose documents may have changed: the files, or the settings of cleaning or redaction, differ."""
    feeds = {}
    for name, config in sources.items():
        try:
            feeds[name] = _Feed(config, source_sha256(config, ocr=ocr), ocr)
        except InputError as error:
            pass_over(_SourceFault(name, error))
    if previous is None or (previous.manifest.clean, previous.manifest.schema_version) != (clean, SCHEMA_VERSION):
        return feeds
    if not Former(previous, redact).is_redacted:
        return feeds
    former = previous.manifest.sources
    return {
        name: feed
        for name, feed in feeds.items()
        if feed.raw_sha256 is None or name not in former or former[name].raw_sha256 != feed.raw_sha256
    }


def _check_request(kind: DocumentKind, sources: Mapping[str, SourceConfig], now: datetime) -> None:
    if kind not in KINDS:
        raise InputError(f"'{kind}' is not a document kind; expected one of {', '.join(KINDS)}.")
    if not sources:
        raise InputError(
            "No source was given; expected one or more.", hint="List sources in l2v.toml, or pass --source."
        )
    for name, config in sources.items():
        if not name.strip():
            raise InputError(f"The source at '{config.path}' has no name.", hint="Name it with --name.")
        if config.kind != kind:
            raise InputError(
                f"Source '{name}' holds documents of kind '{config.kind}'; expected '{kind}'.",
                hint="Ingest each kind separately, or correct the kind of the source.",
            )
    if now.tzinfo is None:
        raise InputError("The time of the snapshot has no time zone.", hint="Pass a time in UTC.")


def _stage(
    directory: Path,
    *,
    kind: DocumentKind,
    sources: Mapping[str, _Feed],
    clean: CleanConfig,
    redactor: Redactor,
    tombstones: Tombstones,
    secret: Callable[[], bytes],
    previous: Former | None,
    on_progress: Callable[[int], None] | None,
) -> Staged:
    """Gather the documents and rejected rows of all sources, read or carried over, in the order of their names."""
    staged = Staged(
        documents=PartWriter(directory, {"documents": DOCUMENT_SCHEMA, "origins": ORIGIN_SCHEMA}),
        rejected=PartWriter(directory, {"quarantine": QUARANTINE_SCHEMA}),
        clean=clean,
    )
    progress = _Progress(on_progress)
    names = FileNames(redactor, secret)
    former = previous.snapshot.manifest.sources if previous is not None else {}
    for name in sorted({*sources, *former}):
        if name in sources:
            feed = sources[name]
            staged.counts[name] = Counts(feed.config.path, feed.raw_sha256)
            try:
                _stage_source(
                    staged,
                    name,
                    feed=feed,
                    redactor=redactor,
                    names=names,
                    tombstones=tombstones,
                    progress=progress,
                    former=FormerRows.of(previous, name, clean) if name in former else None,
                )
            except InputError as error:
                raise _SourceFault(name, error) from error
        elif previous is not None:
            counts = former[name]
            staged.counts[name] = Counts(
                counts.path,
                # Without the hash, the source is read again when it is next listed: its settings have changed.
                counts.raw_sha256 if previous.is_cleaned(clean) else None,
                rows_in=counts.rows_in,
                marks=counts.marks,
                notes=counts.notes,
                skipped=counts.skipped,
                num_skipped=counts.num_skipped,
                rows_replaced=counts.rows_replaced,
            )
            stage_former(staged, name, previous=previous, redactor=redactor)
        staged.close_source(name)
    progress.finish()
    if not any(counts.rows_kept for counts in staged.counts.values()):
        raise _nothing_kept(kind, staged)
    return staged


def _stage_source(
    staged: Staged,
    name: str,
    *,
    feed: _Feed,
    redactor: Redactor,
    names: FileNames,
    tombstones: Tombstones,
    progress: _Progress,
    former: FormerRows | None,
) -> None:
    """Read a source in chunks: unchanged rows keep their documents, new and changed ones are cleaned."""
    config = feed.config
    seen = _SeenIds()
    log = ReadLog()
    for rows, digests in chunks(config, log, progress.step, ocr=feed.ocr):
        staged.counts[name].rows_in += len(rows)
        known = former.find(np.array(digests, f"S{DIGEST_BYTES}")) if former is not None else no_known_rows()
        is_known = np.isin(np.arange(len(rows)), known.numbers)
        cleaned: dict[int, Document] = {}
        rejected: dict[int, RejectedRow] = {}
        written = [row.values.get(config.id_field) if isinstance(row, RawRow) else None for row in rows]
        rows = [names.hidden(row, config) for row in rows]
        for number, row in enumerate(rows):
            if isinstance(row, RejectedRow):
                rejected[number] = row
            elif any(tombstones.holds_row(name, each) for each in (row.values.get(config.id_field), written[number])):
                rejected[number] = RejectedRow("", row.row, RejectReason.ERASED, _ERASED_DETAIL, "")
            elif not is_known[number]:
                result = clean_row(row, source=name, config=config, clean=staged.clean, redactor=redactor)
                if isinstance(result, Document):
                    cleaned[number] = result
                else:
                    rejected[number] = result
        numbers, documents = in_order(known, cleaned, digests, without=rejected)
        repeated = seen.add(documents)
        for at, reason, detail in repeated:
            row, title = rows[numbers[at]], documents["title"][at].as_py()
            excerpt = title[:100] or documents["text"][at].as_py()[:100]
            rejected[int(numbers[at])] = RejectedRow(row.file, row.row, reason, detail, excerpt)
        if repeated:
            documents = documents.filter(pa.array(~np.isin(np.arange(len(documents)), [at for at, _, _ in repeated])))
        staged.add_documents(documents, source=name)
        staged.add_rejected([redact_rejected(rejected[number], redactor) for number in sorted(rejected)], source=name)
    staged.counts[name].take_log(log)


class _SeenIds:
    """Find documents with the id of an earlier row of the same source. The first one is kept."""

    def __init__(self) -> None:
        self._ids = FirstRows()
        self._hashes: list[NDArray[np.uint64]] = []

    def add(self, documents: pa.Table) -> list[tuple[int, RejectReason, str]]:
        """Position, reason and detail of each new document whose id repeats an earlier one."""
        content, metadata = pack_digests(documents["content_sha256"]), pack_digests(documents["metadata_sha256"])
        self._hashes.append(_halves(content, metadata))
        firsts = self._ids.add(pack_digests(documents["doc_id"]))
        repeated = np.flatnonzero(firsts != np.arange(len(self._ids) - len(documents), len(self._ids)))
        if not len(repeated):
            return []
        self._hashes = [np.concatenate(self._hashes)]
        found = []
        for at in repeated.tolist():
            before, now = self._hashes[0][firsts[at]], self._hashes[0][len(self._ids) - len(documents) + at]
            shown = f"id '{documents['source_id'][at].as_py()[:100]}' came before"
            if (before == now).all():
                found.append((at, RejectReason.REPEATED_ROW, f"{shown}, in an equal row"))
            else:
                part = "text" if before[0] != now[0] else "metadata"
                found.append((at, RejectReason.DUPLICATE_ID, f"{shown}, with other {part}; expected an id of its own"))
        return found


def _halves(content: Digests, metadata: Digests) -> NDArray[np.uint64]:
    """The first 8 bytes of two hashes of each row, to detect which one differs; shape (rows, 2)."""
    return np.stack([each.view(np.uint64).reshape(-1, 2)[:, 0] for each in (content, metadata)], axis=1)


def _check_shrinkage(staged: Staged, previous: Snapshot, shrink: ShrinkConfig) -> None:
    """Reject a source that suddenly holds far fewer documents, usually because of an incomplete delivery."""
    for name, former in previous.manifest.sources.items():
        kept = staged.counts[name].rows_kept
        lost = 1 - kept / max(former.rows_kept, 1)
        if former.rows_kept >= SHRINK_FROM and lost > shrink.max_shrink and name not in shrink.allow_shrink:
            error = SourceShrankError(
                f"Source '{name}' had {former.rows_kept:,} documents and has {kept:,} now: {lost:.0%} fewer, the limit "
                f"is {shrink.max_shrink:.0%}.",
                hint=f"Nothing was changed. Check that the delivery is complete; if it is, confirm with "
                f"--allow-shrink {name}.",
            )
            raise _SourceFault(name, error)


def _nothing_kept(kind: DocumentKind, staged: Staged) -> InputError:
    rows_in = sum(counts.rows_in for counts in staged.counts.values())
    names = ", ".join(f"'{name}'" for name in islice(staged.counts, 5))
    reasons = ", ".join(f"{reason} ({count})" for reason, count in staged.reasons.most_common(3))
    return InputError(
        f"None of the {rows_in} rows of {names} became a {kind} document; reasons: {reasons or 'there are no rows'}.",
        hint="Check the path, that the files are UTF-8, and that id_field, title_field and text_field name the right "
        "fields.",
    )


class _Progress:
    """Counts rows, and reports the count every thousand rows."""

    def __init__(self, report: Callable[[int], None] | None) -> None:
        self._report = report
        self._num_rows = 0

    def step(self) -> None:
        self._num_rows += 1
        if self._num_rows % _PROGRESS_ROWS == 0:
            self.finish()

    def finish(self) -> None:
        if self._report is not None:
            self._report(self._num_rows)


def _make_manifest(
    staged: Staged,
    *,
    snapshot_id: str,
    kind: DocumentKind,
    clean: CleanConfig,
    redact: RedactConfig,
    run_id: str,
    now: datetime,
    parent: Snapshot | None,
) -> SnapshotManifest:
    sources = {name: SourceCounts(**asdict(counts)) for name, counts in staged.counts.items()}
    totals = TotalCounts.of(sources.values())
    return SnapshotManifest(
        id=snapshot_id,
        kind=kind,
        schema_version=SCHEMA_VERSION,
        created_at=now.astimezone(UTC).isoformat(),
        run_id=run_id,
        parent=parent.manifest.id if parent is not None else None,
        clean=clean,
        redact=redact,
        sources=sources,
        totals=totals,
        num_documents=totals.rows_kept,
        documents=_describe(staged.documents, "documents"),
        quarantine=_describe(staged.rejected, "quarantine"),
        origins=_describe(staged.documents, "origins"),
    )


def _describe(writer: PartWriter, folder: str) -> tuple[PartInfo, ...]:
    return tuple(
        PartInfo.of(writer.path(folder, part), file=f"{folder}/{part.name}", source=part.source, num_rows=part.num_rows)
        for part in writer.parts
    )


def _put(store: Store, directory: Path, manifest: SnapshotManifest) -> None:
    """Store all parts, then the manifest."""
    for info in manifest.parts:
        key = f"{snapshot_key(manifest.kind, manifest.id)}/{info.file}"
        stored = store.read(key)
        # An interrupted build may have left a part that another version of the Parquet library wrote.
        if stored is not None and hashlib.sha256(stored).hexdigest() != info.sha256:
            store.delete(key)
        store.put_if_absent(key, directory / info.file)
    put_manifest(store, manifest)
