"""Conditions of pairs: facts of served documents, kept in a scratch file, and the columns of matches.

Verdicts stand beside the scores and change none. Never imports prefect.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Int64

from data.conditions.check import Facts, facts_from_json, facts_to_json
from data.conditions.statement import CONDITION_NAMES, OUTCOMES, Verdict
from data.outputs.facts import FACT_SCHEMA, add_facts, stored_facts
from data.outputs.matches import MATCH_SCHEMA, match_files
from data.schema import KINDS, DocumentKind, canonical_json
from data.store.base import Store
from data.store.digests import DIGEST_BYTES, DigestIndex, no_digests
from tasks.conditions.verdicts import FACETS, Conditions, changed_month, facts_of_row

_FACTS_IN_MEMORY = 50_000
_ROWS_PER_BATCH = 4096


def stated_digest(kind: DocumentKind, row: Mapping[str, Any]) -> bytes:
    """What the facts of a row depend on: equal digests give equal facts."""
    month = changed_month(kind, row)
    changed = [] if month is None else [month]
    return canonical_json([row["title"], row["text"], [row.get(name) for name in FACETS], *changed]).encode()


class FactFile:
    """Facts of many documents in a scratch file; only those read last are in memory.

    The file starts with the facts that the store keeps. Only documents that are not among them are read.
    """

    def __init__(self, path: Path, store: Store, kind: DocumentKind) -> None:
        """Copy the stored facts to the file."""
        self._path, self._store, self._kind = path, store, kind
        self._starts = array("q", [0])
        digests = [no_digests()]
        with path.open("wb") as file:
            for part in stored_facts(store, kind):
                digests.append(np.array(part["digest"].to_pylist(), f"S{DIGEST_BYTES}"))
                for raw in part["facts"].to_pylist():
                    self._append(file.write, raw)
        self._known = DigestIndex(np.concatenate(digests))
        self._entries = array("q")
        self._new: list[tuple[str, bytes]] = []
        self._cached = lru_cache(maxsize=_FACTS_IN_MEMORY)(self._read)

    def _append(self, write: Callable[[bytes], object], raw: bytes) -> None:
        write(raw)
        self._starts.append(self._starts[-1] + len(raw))

    def add(self, rows: Sequence[Mapping[str, Any]], stated: Sequence[bytes]) -> None:
        """Append documents.

        Args:
            rows: Rows with ``doc_id`` and the columns that facts are read from.
            stated: Result of :func:`stated_digest` for each row.
        """
        digests = [_digest(row["doc_id"], each) for row, each in zip(rows, stated, strict=True)]
        known = self._known.positions(np.array(digests, f"S{DIGEST_BYTES}"))
        with self._path.open("ab") as file:
            for row, digest, entry in zip(rows, digests, known.tolist(), strict=True):
                if entry < 0:
                    entry = len(self._starts) - 1
                    self._append(file.write, facts_to_json(facts_of_row(self._kind, row, CONDITION_NAMES)))
                    self._new.append((row["doc_id"], digest))
                self._entries.append(entry)

    def reorder(self, order: Int64[np.ndarray, " documents"]) -> None:
        """Number the documents anew: the first becomes the one that was added at ``order[0]``."""
        self._entries = array("q", np.frombuffer(self._entries, np.int64)[order].tobytes() if len(order) else b"")

    def keep(self, *, fence: Callable[[], None]) -> None:
        """Store the facts that were read; ``fence`` raises when this writer lost its lease."""
        if self._new:
            fence()
            add_facts(self._store, self._kind, self._new_batches())
            self._new = []

    def _new_batches(self) -> Iterator[pa.RecordBatch]:
        first = len(self._starts) - 1 - len(self._new)
        for start in range(0, len(self._new), _ROWS_PER_BATCH):
            part = self._new[start : start + _ROWS_PER_BATCH]
            raws = [self._raw(first + start + offset) for offset in range(len(part))]
            yield pa.record_batch([*map(list, zip(*part, strict=True)), raws], schema=FACT_SCHEMA)

    def of(self, row: int) -> Facts:
        """Facts of a document by its number."""
        return self._cached(self._entries[row])

    @cached_property
    def _bytes(self) -> np.ndarray:
        return np.memmap(self._path, np.uint8, "r")

    def _raw(self, entry: int) -> bytes:
        return self._bytes[self._starts[entry] : self._starts[entry + 1]].tobytes()

    def _read(self, entry: int) -> Facts:
        return facts_from_json(self._raw(entry))


def _digest(doc_id: str, stated: bytes) -> bytes:
    return hashlib.blake2b(doc_id.encode() + stated, digest_size=DIGEST_BYTES).digest()


class PairVerdicts:
    """Verdicts on many pairs: each distinct one once, and the pairs that got it."""

    def __init__(self, num_pairs: int) -> None:
        """Start without verdicts."""
        self._num_pairs = num_pairs
        self._verdicts: list[Verdict] = []
        self._pairs: list[Sequence[int] | Int64[np.ndarray, " pairs"]] = []

    def add(self, pairs: Sequence[int] | Int64[np.ndarray, " pairs"], verdicts: Sequence[Verdict]) -> None:
        """Add the same verdicts to some pairs, behind those that they have."""
        self._verdicts += verdicts
        self._pairs += [pairs] * len(verdicts)

    def worst(self) -> Int64[np.ndarray, " pairs"]:
        """Place of the worst outcome of each pair in ``OUTCOMES``; the number of outcomes if nothing is asked."""
        pairs, numbers = self._flat()
        outcomes = np.array([OUTCOMES.index(each.outcome) for each in self._verdicts], np.int64)
        found = np.full(self._num_pairs, len(OUTCOMES))
        np.minimum.at(found, pairs, outcomes[numbers])
        return found

    def columns(self) -> dict[str, pa.Array]:
        """The columns of matches that tell of conditions."""
        types = {name: MATCH_SCHEMA.field(name).type for name in ("verdict", "conditions")}
        pairs, numbers = self._flat()
        in_order = numbers[np.argsort(pairs, kind="stable")]
        ends = np.cumsum(np.bincount(pairs, minlength=self._num_pairs))
        fields = list(types["conditions"].value_type)
        values = [pa.array([getattr(each, field.name) for each in self._verdicts], field.type) for field in fields]
        distinct = pa.StructArray.from_arrays(values, fields=fields)
        offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
        return {
            "verdict": pa.array([*OUTCOMES, None], types["verdict"]).take(pa.array(self.worst())),
            "conditions": pa.ListArray.from_arrays(offsets, distinct.take(pa.array(in_order))).cast(
                types["conditions"]
            ),
        }

    def _flat(self) -> tuple[Int64[np.ndarray, " verdicts"], Int64[np.ndarray, " verdicts"]]:
        """Pair and number of each verdict."""
        counts = np.array([len(each) for each in self._pairs], np.int64)
        pairs = np.concatenate([np.zeros(0, np.int64), *(np.asarray(each, np.int64) for each in self._pairs)])
        return pairs, np.repeat(np.arange(len(counts)), counts)


def _by_value(
    items: Int64[np.ndarray, " items"], values: Int64[np.ndarray, " items"]
) -> Iterator[tuple[int, Int64[np.ndarray, " group"]]]:
    """Items grouped by a value of theirs."""
    order = np.argsort(values, kind="stable")
    distinct, starts = np.unique(values[order], return_index=True)
    return zip(distinct.tolist(), np.split(items[order], starts[1:]) if len(items) else [], strict=True)


@dataclass(frozen=True)
class PairConditions:
    """Conditions of the pairs of a match.

    Attributes:
        conditions: The conditions.
        facts: Facts of both kinds, by row.
    """

    conditions: Conditions
    facts: Mapping[DocumentKind, FactFile]

    def passing(
        self,
        jobs: Int64[np.ndarray, "queries hits"],
        resumes: Int64[np.ndarray, "queries hits"],
        is_hit: Bool[np.ndarray, "queries hits"],
        *,
        limit: int,
    ) -> Bool[np.ndarray, "queries hits"]:
        """Where a pair fails no condition. After ``limit`` such pairs of a query, the others are not looked at."""
        is_kept, is_open = np.zeros_like(is_hit), is_hit.copy()
        while True:
            left = limit - is_kept.sum(axis=1, keepdims=True)
            at = np.nonzero(is_open & (np.cumsum(is_open, axis=1) <= left))
            if not len(at[0]):
                return is_kept
            is_open[at] = False
            is_kept[at] = self.judge(jobs[at], resumes[at]).worst() > OUTCOMES.index("fail")

    def columns(self, jobs: Int64[np.ndarray, " pairs"], resumes: Int64[np.ndarray, " pairs"]) -> dict[str, pa.Array]:
        """The columns of matches that tell of conditions."""
        return self.judge(jobs, resumes).columns()

    def judge(self, jobs: Int64[np.ndarray, " pairs"], resumes: Int64[np.ndarray, " pairs"]) -> PairVerdicts:
        """Verdicts on pairs of rows.

        A document that asks, and whose counterpart is silent, gets the same verdicts in each such pair. So these are
        made once for each document; only where both sides state something is a pair looked at.
        """
        sides: dict[DocumentKind, tuple[list[Facts], np.ndarray]] = {}
        for kind in KINDS:
            distinct, place = np.unique(jobs if kind == "job" else resumes, return_inverse=True)
            sides[kind] = [self.facts[kind].of(row) for row in distinct.tolist()], place
        found = PairVerdicts(len(jobs))
        for check in self.conditions.checks:
            states = {
                kind: np.array([check.name in facts for facts in documents], np.bool_)[place]
                for kind, (documents, place) in sides.items()
            }
            other: DocumentKind = "resume" if check.asked_by == "job" else "job"
            asking, place = sides[check.asked_by]
            silent = np.flatnonzero(states[check.asked_by] & ~states[other])
            for document, pairs in _by_value(silent, place[silent]):
                pair = (asking[document], {}) if check.asked_by == "job" else ({}, asking[document])
                found.add(pairs, check.of_pair(*pair))
            for at in np.flatnonzero(states["job"] & states["resume"]).tolist():
                job, resume = (documents[place[at]] for documents, place in sides.values())
                found.add([at], check.of_pair(job, resume))
        return found


def count_verdicts(store: Store, match: str) -> dict[str, int]:
    """Number of stored pairs by verdict; pairs of which nothing is asked are counted as ``nothing asked``."""
    counts: Counter[str] = Counter()
    for path in match_files(store, match):
        file = pq.ParquetFile(path)
        if "verdict" in file.schema_arrow.names:
            counts.update(each or "nothing asked" for each in file.read(["verdict"])["verdict"].to_pylist())
    return dict(sorted(counts.items()))
