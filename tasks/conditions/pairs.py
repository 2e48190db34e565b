"""Conditions of pairs: facts of served documents, kept in a scratch file, and the columns of matches.

Verdicts stand beside the scores and change none. Never imports prefect.
"""

from __future__ import annotations

import pickle
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Int64

from data.conditions.check import Facts
from data.conditions.statement import Verdict, worst
from data.outputs.matches import MATCH_SCHEMA, match_files
from data.schema import DocumentKind, canonical_json
from data.store.base import Store
from tasks.conditions.verdicts import FACETS, Conditions

_FACTS_IN_MEMORY = 50_000


def stated_digest(row: Mapping[str, Any]) -> bytes:
    """What the facts of a row depend on: equal digests give equal facts."""
    return canonical_json([row["title"], row["text"], [row.get(name) for name in FACETS]]).encode()


class FactFile:
    """Facts of many documents in a scratch file; only those read last are in memory."""

    def __init__(self, path: Path) -> None:
        """Start without documents; the file is made with the first ones."""
        self._path = path
        self._starts = array("q", [0])
        self._order: Int64[np.ndarray, " documents"] | None = None
        self._cached = lru_cache(maxsize=_FACTS_IN_MEMORY)(self._read)

    def add(self, facts: Iterable[Facts]) -> None:
        """Append the facts of documents."""
        with self._path.open("ab") as file:
            for each in facts:
                raw = pickle.dumps(dict(each), protocol=pickle.HIGHEST_PROTOCOL) if each else b""
                file.write(raw)
                self._starts.append(self._starts[-1] + len(raw))

    def reorder(self, order: Int64[np.ndarray, " documents"]) -> None:
        """Number the documents anew: the first becomes the one that was added at ``order[0]``."""
        self._order = order

    def of(self, row: int) -> Facts:
        """Facts of a document by its number."""
        return self._cached(row)

    @cached_property
    def _bytes(self) -> np.ndarray:
        return np.memmap(self._path, np.uint8, "r")

    def _read(self, row: int) -> Facts:
        at = row if self._order is None else int(self._order[row])
        first, last = self._starts[at], self._starts[at + 1]
        if first == last:
            return {}
        found: Facts = pickle.loads(self._bytes[first:last].tobytes())  # this process wrote it
        return found


@dataclass(frozen=True)
class PairConditions:
    """Conditions of the pairs of a match.

    Attributes:
        conditions: The conditions.
        facts: Facts of both kinds, by row.
    """

    conditions: Conditions
    facts: Mapping[DocumentKind, FactFile]

    @property
    def removes(self) -> bool:
        """Whether a pair that fails leaves the matches."""
        return self.conditions.config.on_fail == "remove"

    def verdicts(self, job: int, resume: int) -> list[Verdict]:
        """Verdicts on the pair of two rows."""
        return self.conditions.verdicts(self.facts["job"].of(job), self.facts["resume"].of(resume))

    def passing(
        self,
        jobs: Int64[np.ndarray, "queries hits"],
        resumes: Int64[np.ndarray, "queries hits"],
        is_hit: Bool[np.ndarray, "queries hits"],
        *,
        limit: int,
    ) -> Bool[np.ndarray, "queries hits"]:
        """Where a pair fails no condition. After ``limit`` such pairs of a query, the others are not looked at."""
        is_kept = np.zeros_like(is_hit)
        for query, row in enumerate(is_hit):
            left = limit
            for hit in np.flatnonzero(row):
                verdicts = self.verdicts(int(jobs[query, hit]), int(resumes[query, hit]))
                if left and all(verdict.outcome != "fail" for verdict in verdicts):
                    is_kept[query, hit] = True
                    left -= 1
                if not left:
                    break
        return is_kept

    def columns(self, jobs: Int64[np.ndarray, " pairs"], resumes: Int64[np.ndarray, " pairs"]) -> dict[str, pa.Array]:
        """The columns of matches that tell of conditions."""
        pairs = zip(jobs.tolist(), resumes.tolist(), strict=True)
        return condition_columns([self.verdicts(job, resume) for job, resume in pairs])


def condition_columns(verdicts: Sequence[Sequence[Verdict]]) -> dict[str, pa.Array]:
    """Verdicts of pairs as the columns of matches."""
    types = {name: MATCH_SCHEMA.field(name).type for name in ("verdict", "conditions")}
    rows = [[verdict._asdict() for verdict in each] for each in verdicts]
    return {
        "verdict": pa.array([worst(verdict.outcome for verdict in each) for each in verdicts], types["verdict"]),
        "conditions": pa.array(rows, types["conditions"]),
    }


def count_verdicts(store: Store, match: str) -> dict[str, int]:
    """Number of stored pairs by verdict; pairs of which nothing is asked are counted as ``nothing asked``."""
    counts: Counter[str] = Counter()
    for path in match_files(store, match):
        file = pq.ParquetFile(path)
        if "verdict" in file.schema_arrow.names:
            counts.update(each or "nothing asked" for each in file.read(["verdict"])["verdict"].to_pylist())
    return dict(sorted(counts.items()))
