"""Differences of two snapshots, by source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.snapshots.snapshot import Snapshot
from data.store.digests import DigestIndex, Digests, no_digests, pack_digests
from tasks.preview.records import RejectedSample, Sample, SourceChange

NUM_SAMPLES = 3
"""Documents, and rejected rows, to show of each change of a source."""

_TITLE_CHARS = 80


def source_changes(former: Snapshot | None, new: Snapshot, *, read: Collection[str]) -> list[SourceChange]:
    """What changed in each source from one snapshot to the next.

    Args:
        former: The latest snapshot; None if there is none yet.
        new: The snapshot that a run would make. Uses 48 bytes of memory per document of the largest source.
        read: Sources that the run reads. Others are listed only if the new snapshot holds their documents.
    """
    return [
        _change(former, new, name, is_read=name in read)
        for name, counts in sorted(new.manifest.sources.items())
        if name in read or counts.rows_in
    ]


def _change(former: Snapshot | None, new: Snapshot, source: str, *, is_read: bool) -> SourceChange:
    counts = new.manifest.sources[source]
    is_same = former is not None and former.manifest.id == new.manifest.id
    rows: dict[str, NDArray[np.int64]] = {}
    if not is_same:
        now = _Identities.of(new, source)
        before = _Identities.of(former, source) if former is not None else _Identities.empty()
        places = DigestIndex(before.ids).positions(now.ids)
        is_known = places >= 0
        text, metadata = (np.zeros(len(now.ids), np.bool_) for _ in range(2))
        text[is_known] = now.contents[is_known] != before.contents[places[is_known]]
        metadata[is_known] = now.metadata[is_known] != before.metadata[places[is_known]]
        rows = {
            "added": np.flatnonzero(~is_known),
            "changed": np.flatnonzero(text),
            "changed_metadata": np.flatnonzero(metadata & ~text),
            "removed": np.flatnonzero(~DigestIndex(now.ids).contains(before.ids)),
        }
    samples = {}
    for name, places in rows.items():
        snapshot = former if name == "removed" else new
        if len(places) and snapshot is not None:
            samples[name] = _samples(snapshot, source, places[:NUM_SAMPLES])
    reasons, rejected = _rejected(new, source)
    return SourceChange(
        kind=new.manifest.kind,
        source=source,
        is_read=is_read,
        rows_in=counts.rows_in,
        rows_kept=counts.rows_kept,
        rows_quarantined=counts.rows_quarantined,
        rows_duplicate=counts.rows_duplicate,
        samples=samples,
        quarantine_reasons=reasons,
        rejected=rejected,
        **{name: len(rows.get(name, ())) for name in ("added", "changed", "changed_metadata", "removed")},
    )


@dataclass(frozen=True)
class _Identities:
    """Digests of the documents of a source, in order."""

    ids: Digests
    contents: Digests
    metadata: Digests

    @classmethod
    def empty(cls) -> _Identities:
        return cls(no_digests(), no_digests(), no_digests())

    @classmethod
    def of(cls, snapshot: Snapshot, source: str) -> _Identities:
        columns = ["doc_id", "content_sha256", "metadata_sha256"]
        batches = list(snapshot.batches(columns, source=source))
        return cls(
            *(np.concatenate([no_digests(), *(pack_digests(each[name]) for each in batches)]) for name in columns)
        )


def _samples(snapshot: Snapshot, source: str, places: NDArray[np.int64]) -> list[Sample]:
    """Documents of a source by their position in it."""
    wanted, start, found = {int(place) for place in places}, 0, []
    for batch in snapshot.batches(["source_id", "title", "text"], source=source):
        for place in sorted(wanted & set(range(start, start + len(batch)))):
            row = {name: batch[name][place - start].as_py() for name in ("source_id", "title", "text")}
            found.append(Sample(source_id=row["source_id"], title=(row["title"] or row["text"])[:_TITLE_CHARS]))
        start += len(batch)
        if start > max(wanted):
            break
    return found


def _rejected(snapshot: Snapshot, source: str) -> tuple[dict[str, int], list[RejectedSample]]:
    """Reasons with their counts, the most frequent first, and the first rejected rows."""
    reasons: Counter[str] = Counter()
    first: list[RejectedSample] = []
    for row in _quarantined(snapshot, source):
        reasons[str(row["reason"])] += 1
        if len(first) < NUM_SAMPLES:
            first.append(RejectedSample.model_validate({name: row[name] for name in RejectedSample.model_fields}))
    return dict(reasons.most_common()), first


def _quarantined(snapshot: Snapshot, source: str) -> Iterator[dict[str, object]]:
    for batch in snapshot.quarantine_batches(source=source):
        yield from batch.to_pylist()
