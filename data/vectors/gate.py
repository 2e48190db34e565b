"""The generation gate: compares figures of a new table with limits, and decides whether it may be served."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from data.config import GateConfig
from data.errors import RefusedError
from data.store.digests import DIGEST_BYTES, Digests, first_of_each, no_digests, pack_digests
from data.vectors.shards import LENGTH_TOLERANCE

PROFILE_COLUMNS = ("content_sha256", "num_chars", "text", "vector")
"""Columns that :func:`profile_table` reads."""

MIN_DOCUMENTS = 200
"""Tables with fewer documents are not checked for shares and shifts, which would be meaningless."""

_LENGTH_BINS = 24  # of doubling width, up to 16 million characters
_EXCERPT_CHARS = 500
# First code point of each range, and its class of letters; each letter from a to z is its own class.
_RANGES = (
    (0x00C0, "other Latin"), (0x0250, None), (0x0370, "Greek"), (0x0400, "Cyrillic"), (0x0530, None),
    (0x0590, "Hebrew"), (0x0600, "Arabic"), (0x0700, None), (0x0900, "Indic"), (0x0E00, "Thai and Lao"),
    (0x0F00, None), (0x1E00, "other Latin"), (0x1F00, "Greek"), (0x2000, None), (0x3040, "East Asian"),
    (0xD7B0, None),
)  # fmt: skip
_SCRIPTS = tuple(dict.fromkeys(name for _, name in _RANGES if name is not None))
_NUM_LETTERS = 26 + len(_SCRIPTS)


class Check(BaseModel):
    """One check of one table: the figure, its limit and the verdict."""

    model_config = ConfigDict(frozen=True)

    gate: str
    table: str
    figure: float
    limit: float
    passed: bool
    note: str = ""

    def sentence(self) -> str:
        """The failed check as a sentence."""
        return f"Table '{self.table}': {self.gate} is {self.figure:.4g}, the limit is {self.limit:g}."


class GenerationRefusedError(RefusedError):
    """The generation gate rejected new tables; the served state is unchanged.

    Attributes:
        checks: Every check of every table with figure, limit and verdict.
    """

    def __init__(self, checks: list[Check]) -> None:
        """Build the message from the failed checks."""
        failed = [check.note or check.sentence() for check in checks if not check.passed]
        super().__init__(
            f"The generation gate rejected the new tables. {' '.join(failed)}",
            hint="The served state is unchanged. Fix the cause and run `l2v embed` again. If the change is "
            "intended, raise the limit for this run (--set gate.max_length_shift=1).",
        )
        self.checks = checks


@dataclass(frozen=True)
class TableProfile:
    """Figures of a table, measured in one pass.

    Attributes:
        num_documents: Number of rows.
        num_unusable: Vectors that are not finite, or not of length one.
        num_contents: Distinct contents.
        num_shared: Contents whose vector equals that of an earlier content.
        lengths: Documents by number of characters, in bins of doubling width.
        letters: Letters at the beginning of the texts, counted by letter (a to z) or script.
        centroid: Mean of the usable vectors.
    """

    num_documents: int
    num_unusable: int
    num_contents: int
    num_shared: int
    lengths: NDArray[np.int64]
    letters: NDArray[np.int64]
    centroid: NDArray[np.float64]

    def to_json(self) -> str:
        """The figures as JSON; :meth:`from_json` restores them exactly."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return json.dumps(values, default=lambda array: array.tolist())

    @classmethod
    def from_json(cls, raw: bytes) -> TableProfile:
        """Read figures from JSON.

        Raises:
            ValueError: The JSON is damaged, or was written by another version of the gate.
        """
        values = json.loads(raw)
        try:
            for name, dtype in (("lengths", np.int64), ("letters", np.int64), ("centroid", np.float64)):
                values[name] = np.array(values[name], dtype)
            profile = cls(**values)
        except (KeyError, TypeError) as error:
            raise ValueError(f"it is not a valid profile: {error}") from error
        if (len(profile.lengths), len(profile.letters)) != (_LENGTH_BINS, _NUM_LETTERS):
            raise ValueError("its bins differ from the gate's.")
        return profile


def profile_table(batches: Iterable[pa.RecordBatch]) -> TableProfile:
    """Measure a table in one pass; uses 32 bytes of memory per document.

    Args:
        batches: The :data:`PROFILE_COLUMNS` of its rows.
    """
    num_documents = num_unusable = 0
    total: NDArray[np.float64] = np.zeros(0)
    lengths, letters = np.zeros(_LENGTH_BINS, np.int64), np.zeros(_NUM_LETTERS, np.int64)
    contents: list[Digests] = [no_digests()]
    vector_digests: list[Digests] = [no_digests()]
    for batch in batches:
        if not len(batch):
            continue
        column = batch["vector"]
        vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1)
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        is_usable = np.abs(norms - 1) <= LENGTH_TOLERANCE  # the comparison is false for NaN
        num_unusable += int((~is_usable).sum())
        total = (total if len(total) else np.zeros(vectors.shape[1])) + vectors[is_usable].sum(axis=0, dtype=np.float64)
        num_documents += len(batch)
        bins = np.log2(np.maximum(batch["num_chars"].to_numpy(), 1)).astype(np.int64)
        lengths += np.bincount(np.minimum(bins, _LENGTH_BINS - 1), minlength=_LENGTH_BINS)
        letters += _count_letters(batch["text"])
        contents.append(pack_digests(batch["content_sha256"]))
        vector_digests.append(_digests_of(vectors))
    firsts = first_of_each(np.concatenate(contents))
    num_contents = int(firsts.sum())
    return TableProfile(
        num_documents=num_documents,
        num_unusable=num_unusable,
        num_contents=num_contents,
        num_shared=num_contents - len(np.unique(np.concatenate(vector_digests)[firsts])),
        lengths=lengths,
        letters=letters,
        centroid=total / max(num_documents - num_unusable, 1),
    )


def judge_table(table: str, profile: TableProfile, reference: TableProfile | None, config: GateConfig) -> list[Check]:
    """Compare a table's figures with the limits.

    Args:
        table: Name of the table.
        profile: Figures of the table.
        reference: Figures of the served table of the same checkpoint, if there is one.
        config: The limits.
    """

    def check(gate: str, figure: float, limit: float, *, reason_to_pass: str = "") -> Check:
        passed = bool(reason_to_pass) or figure <= limit
        return Check(gate=gate, table=table, figure=figure, limit=limit, passed=passed, note=reason_to_pass)

    too_few = f"fewer than {MIN_DOCUMENTS} documents: not checked"
    few = too_few if profile.num_documents < MIN_DOCUMENTS else ""
    checks = [
        check("unusable_vectors", profile.num_unusable, 0),
        check(
            "duplicate_share",
            profile.num_shared / max(profile.num_contents, 1),
            config.max_duplicate_share,
            reason_to_pass=few,
        ),
    ]
    if reference is None:
        shifts, reason = (0.0, 0.0, 0.0), "no table of this checkpoint is served: nothing to compare with"
    else:
        shifts = (
            stability_index(reference.lengths, profile.lengths),
            stability_index(reference.letters, profile.letters),
            float(np.linalg.norm(reference.centroid - profile.centroid)),
        )
        reason = too_few if reference.num_documents < MIN_DOCUMENTS else few
    limits = (config.max_length_shift, config.max_letter_shift, config.max_centroid_shift)
    for gate, figure, limit in zip(("length_shift", "letter_shift", "centroid_shift"), shifts, limits, strict=True):
        checks.append(check(gate, figure, limit, reason_to_pass=reason))
    return checks


def judge_unusable(table: str, num_unusable: int, num_documents: int, config: GateConfig) -> Check:
    """Compare the number of documents without a usable vector with the limit.

    One bad document is within any limit above zero, also in a small table; a table without any vector never is.
    """
    limit = config.max_unusable_share
    allowed = max(1, int(limit * num_documents)) if limit else 0
    return Check(
        gate="unusable_share",
        table=table,
        figure=num_unusable / num_documents,
        limit=limit,
        passed=num_unusable <= allowed and num_unusable < num_documents,
        note=f"{num_unusable:,} of {num_documents:,} {table} have no vector (not finite, or zero); they are left out. "
        f"gate.max_unusable_share allows {allowed:,}.",
    )


def stability_index(reference: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """Population stability index of two histograms: the symmetric Kullback-Leibler divergence of their shares.

    One count is added to each bin to limit the influence of empty bins. A value below 0.1 means no change, above 0.25 a
    considerable one.

    Source: Siddiqi, Credit Risk Scorecards (2006).
    """
    expected = (reference + 1) / (reference + 1).sum()
    shares = (found + 1) / (found + 1).sum()
    return float(np.sum((shares - expected) * np.log(shares / expected)))


def _digests_of(vectors: NDArray[np.float32]) -> Digests:
    rows = np.ascontiguousarray(vectors)
    found = [hashlib.blake2b(row, digest_size=DIGEST_BYTES).digest() for row in rows]
    return np.array(found, dtype=f"S{DIGEST_BYTES}")


def _count_letters(texts: pa.Array) -> NDArray[np.int64]:
    """Count letters at the beginning of texts, by class."""
    excerpts = pc.utf8_lower(pc.utf8_slice_codeunits(texts, 0, _EXCERPT_CHARS))
    points = np.frombuffer("".join(excerpts.to_pylist()).encode("utf-32-le", "replace"), dtype=np.uint32)
    classes = _CLASS_OF_POINT[np.minimum(points, len(_CLASS_OF_POINT) - 1)]
    return np.bincount(classes, minlength=_NUM_LETTERS + 1)[:_NUM_LETTERS].astype(np.int64)


def _letter_classes() -> NDArray[np.uint8]:
    """Class of each code point; the last class is for code points that are not letters."""
    last = _RANGES[-1][0]
    classes = np.full(last + 1, _NUM_LETTERS, dtype=np.uint8)
    classes[ord("a") : ord("z") + 1] = np.arange(26)
    for (first, name), (stop, _) in itertools.pairwise(_RANGES):
        if name is not None:
            classes[first:stop] = 26 + _SCRIPTS.index(name)
    return classes


_CLASS_OF_POINT = _letter_classes()
