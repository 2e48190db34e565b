"""The limits of fit of a generation, and the background that a fit is a share of. Never imports prefect.

Cosines of another encoder have another scale, so the limits are stored beside the tables of their generation. All
readers use them: matching, search, exports and explanations. They are fitted again only when the served documents have
drifted away from what they state.

The background is not stored. It consists of the served documents whose id, which is a hash, is below a bound. So no
vector of a person lies outside of the tables, and nobody stays in it who was erased.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64
from pydantic import BaseModel, ConfigDict

from data.schema import KINDS, DocumentKind
from data.store.base import Store
from data.store.records import Record
from data.vectors.filters import sql_string
from data.vectors.lance import LanceTable, generation_key
from data.vectors.pointer import Pointer
from llm2vec_core.ranking.fit import (
    MAX_BACKGROUND,
    FitClass,
    FitLimits,
    Rate,
    fit_limits,
    has_drifted,
    held_back_rates,
    shares_below,
)
from tasks.queries.served import served_table
from tasks.run.context import Run

logger = logging.getLogger(__name__)

Vectors = Float32[np.ndarray, "documents dim"]

_SEED = 42
_BOUND_DIGITS = 8


class GenerationFit(BaseModel):
    """The limits of a generation; stored beside its tables.

    Attributes:
        limits: Limits of the classes.
        bounds: Hexadecimal bound of the ids of the background, by kind; None for all documents.
        least_chars: Least characters of a query that the limits hold for, by its kind. Cosines of a few words are
            lower than those of a document.
        held_back: Whether stated rates hold on a half of the jobs that the limits were not fitted on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    limits: FitLimits
    bounds: dict[DocumentKind, str | None]
    least_chars: dict[DocumentKind, int]
    held_back: list[Rate]


@dataclass(frozen=True)
class Fit:
    """Limits and background of what is served.

    Attributes:
        limits: Limits of the classes.
        background: Vectors of random documents, by kind.
        least_chars: Least characters of a query that the limits hold for, by kind.
    """

    limits: FitLimits
    background: Mapping[DocumentKind, Vectors]
    least_chars: Mapping[DocumentKind, int]

    def has_class(self, kind: DocumentKind, text: str) -> bool:
        """Whether a text is long enough for a class, as a query like a document of a kind."""
        return len(text) >= self.least_chars[kind]

    def of_pairs(
        self,
        kind: DocumentKind,
        cosines: Float32[np.ndarray, " pairs"],
        found: Int64[np.ndarray, " pairs"],
        vectors: Vectors,
    ) -> tuple[list[float], list[FitClass]]:
        """Fit and class of ranked documents of a kind.

        Args:
            kind: Kind of the ranked documents. Their background are the documents of the other kind.
            cosines: Cosine of each pair.
            found: Row of each pair's ranked document in ``vectors``.
            vectors: Vectors of length one.
        """
        shares = shares_below(cosines, found, vectors, self.background[other_kind(kind)])
        return shares.tolist(), self.limits.classes(cosines).tolist()


def other_kind(kind: DocumentKind) -> DocumentKind:
    """``job`` for ``resume``, and the other way round."""
    return "resume" if kind == "job" else "job"


@dataclass(frozen=True)
class Settled:
    """Limits of a generation after :func:`settle_fit`.

    Attributes:
        record: The stored record; None if the background is too small.
        note: A sentence when there are no limits, or when they were fitted again; otherwise empty.
    """

    record: GenerationFit | None
    note: str = ""


def settle_fit(run: Run, generation: str, tables: Mapping[DocumentKind, LanceTable]) -> Settled:
    """Fit the limits of a generation, unless they are stored and the documents have not drifted away from them.

    Args:
        run: The run.
        generation: Name of the generation.
        tables: Its tables, at the versions to be served.
    """
    record = _record_of(generation)
    raw = run.store.read(record.key)
    known = record.parse(raw)
    bounds = {kind: _bound(table.count()) for kind, table in tables.items()} if known is None else known.bounds
    vectors = {kind: read_background(table, bounds[kind]) for kind, table in tables.items()}
    if known is not None and not has_drifted(known.limits, vectors["job"] @ vectors["resume"].T):
        return Settled(known)
    if known is not None:
        bounds = {kind: _bound(table.count()) for kind, table in tables.items()}
        vectors = {kind: read_background(table, bounds[kind]) for kind, table in tables.items()}
    limits = fit_limits(vectors["job"], vectors["resume"])
    if isinstance(limits, str):
        return Settled(known, limits if known is None else "")
    found = GenerationFit(
        limits=limits,
        bounds=bounds,
        least_chars={kind: _least_chars(table, bounds[kind]) for kind, table in tables.items()},
        held_back=held_back_rates(vectors["job"], vectors["resume"], seed=_SEED),
    )
    run.lease.check()
    record.swap(run.store, found, expected=raw)
    if known is None:
        return Settled(found)
    note = (
        f"The served documents have drifted away from the limits of fit ({known.limits.possible:.3f} and "
        f"{known.limits.strong:.3f}); they were fitted again ({limits.possible:.3f} and {limits.strong:.3f})."
    )
    logger.warning("%s", note)
    return Settled(found, note)


def known_fit(store: Store, generation: str) -> GenerationFit | None:
    """The stored limits of a generation."""
    return _record_of(generation).read(store)


def served_fit(store: Store, pointer: Pointer, ranked: Sequence[DocumentKind] = KINDS) -> Fit | None:
    """Limits and background of what is served; None without limits.

    Args:
        store: Where the tables are.
        pointer: Served versions.
        ranked: Kinds of the documents that will be ranked.
    """
    known = known_fit(store, pointer.generation)
    if known is None:
        return None
    background = {
        kind: read_background(served_table(store, pointer, kind), known.bounds[kind])
        for kind in KINDS
        if set(ranked) - {kind}
    }
    return Fit(known.limits, background, known.least_chars)


def nobody_fits(hits: Sequence[Mapping[str, Any]]) -> bool | None:
    """Whether no hit of a ranking is a possible or strong fit; None if the classes are not known."""
    classes = {hit["fit_class"] for hit in hits}
    return None if None in classes or not classes else classes == {"none"}


def read_background(table: LanceTable, bound: str | None) -> Vectors:
    """Vectors of the documents with an id below a bound, in the order of the ids; copies are left out."""
    rows = table.read(["doc_id", "vector"], where=_in_background(table, bound)).sort_by("doc_id")
    vectors = rows["vector"].combine_chunks()
    flat = vectors.flatten() if isinstance(vectors, pa.FixedSizeListArray) else pa.array([], pa.float32())
    found: Vectors = flat.to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(-1, table.embedding_dim)
    return found


def _in_background(table: LanceTable, bound: str | None) -> str | None:
    """SQL condition of the background."""
    conditions = [f"{name} IS NULL" for name in ("duplicate_of", "near_duplicate_of") if table.has_column(name)]
    conditions += [] if bound is None else [f"doc_id < {sql_string(bound)}"]
    return " AND ".join(conditions) or None


def _least_chars(table: LanceTable, bound: str | None) -> int:
    """Half of the length of the shortest documents: the twentieth of the background with the fewest characters."""
    lengths = table.read(["num_chars"], where=_in_background(table, bound))["num_chars"].to_numpy()
    return int(np.quantile(lengths, 0.05) / 2)


def _bound(num_documents: int) -> str | None:
    """Bound of the ids of about :data:`MAX_BACKGROUND` documents; None for all of them."""
    if num_documents <= MAX_BACKGROUND:
        return None
    return f"{int(MAX_BACKGROUND / num_documents * 16**_BOUND_DIGITS):0{_BOUND_DIGITS}x}"


def _record_of(generation: str) -> Record[GenerationFit]:
    return Record(
        GenerationFit, f"{generation_key(generation)}/fit.json", hint="Remove the file, then run `l2v match`."
    )
