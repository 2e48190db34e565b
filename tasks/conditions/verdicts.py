"""Verdicts on a pair of documents, on the hits of a search, and on an explained pair. Never imports prefect."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from data.conditions.check import ConditionCheck, Facts, check_pair, checks_of, read_facts, reading_key
from data.conditions.config import ConditionConfig
from data.conditions.employments import CHANGED_MONTH
from data.conditions.places import Places, read_places
from data.conditions.statement import ConditionName, Verdict
from data.documents.facets import FACET_SCHEMA, last_change
from data.schema import DocumentKind, sha256_json
from data.vectors.filters import is_one_of

if TYPE_CHECKING:
    from data.vectors.lance import LanceTable

FACETS = tuple(FACET_SCHEMA.names)
"""Facets that conditions are read from."""


class Conditions:
    """The conditions of the settings, with the table of places that they name.

    Attributes:
        config: The settings.
        day: Today; its month is part of the key, because employments may last.
    """

    def __init__(self, config: ConditionConfig, day: date) -> None:
        """Keep the settings; the table of places is read when it is needed."""
        self.config, self.day = config, day

    @cached_property
    def places(self) -> Places | None:
        """Coordinates of places; None without a table.

        Raises:
            InputError: The table cannot be read.
        """
        return None if self.config.places is None else read_places(self.config.places)

    @property
    def key(self) -> dict[str, object]:
        """What conditions add to the recipe of matches; nothing if none is checked."""
        if not self.config.check:
            return {}
        known = None if self.places is None else sorted(self.places.by_name.items())
        decisive = {**self.config.model_dump(mode="json"), "places": known and sha256_json(known)}
        month = [f"{self.day:%Y-%m}"] if "years" in self.config.check else []
        return {"conditions": sha256_json([decisive, reading_key(), *month])}

    @property
    def removes(self) -> bool:
        """Whether a pair that fails leaves rankings."""
        return self.config.on_fail == "remove" and bool(self.config.check)

    def columns(self, table: LanceTable) -> list[str]:
        """Columns of a table that facts are read from."""
        if not self.config.check:
            return []
        return ["title", "text", *(name for name in (*FACETS, "metadata") if table.has_column(name))]

    def facts(self, kind: DocumentKind, row: Mapping[str, Any]) -> Facts:
        """Facts of a row with the columns of :meth:`columns`."""
        return facts_of_row(kind, row, self.config.check)

    @cached_property
    def checks(self) -> list[ConditionCheck]:
        """The checks of the settings.

        Raises:
            InputError: The table of places cannot be read.
        """
        return checks_of(self.config.check, day=self.day, places=self.places, radius_km=self.config.radius_km)

    def verdicts(self, job: Facts, resume: Facts) -> list[Verdict]:
        """Verdicts on a pair."""
        return check_pair(job, resume, self.checks)


def facts_of_row(kind: DocumentKind, row: Mapping[str, Any], names: Collection[ConditionName]) -> Facts:
    """Facts of a row of a table, for some conditions."""
    facets = {name: row.get(name) for name in FACETS} | {CHANGED_MONTH: changed_month(kind, row)}
    return read_facts(kind, row["title"] or "", row["text"], facets, names)


def changed_month(kind: DocumentKind, row: Mapping[str, Any]) -> str | None:
    """Month of the last change of a resume, as 2026-01, by its metadata or facets; None for a job, or if unknown."""
    if kind == "job":
        return None
    stored = row.get("metadata") or "{}"
    day = (None if stored == "{}" else last_change(json.loads(stored))) or row.get("posted_at")
    return None if day is None else day[:7]


def verdicts_on_hits(
    table: LanceTable, conditions: Conditions, query: str, *, kind: DocumentKind, ids: Sequence[str], limit: int
) -> dict[str, list[Verdict]]:
    """Verdicts on the hits of a search, best first; none for a query that states nothing.

    Args:
        table: Table of the hits.
        conditions: The conditions. If failed ones remove pairs, hits that fail are left out.
        query: Text that is read as a document of the other kind.
        kind: Kind of the hits.
        ids: ``doc_id`` of each hit, best first.
        limit: Maximum number of hits to return; the documents behind them are not read.

    Returns:
        ``doc_id`` to verdicts of the first ``limit`` hits, or of the first ones that fail nothing.
    """
    asking: DocumentKind = "resume" if kind == "job" else "job"
    stated = conditions.facts(asking, {"title": "", "text": query}) if ids else {}
    if not stated:
        return {doc_id: [] for doc_id in ids[:limit]}
    found: dict[str, list[Verdict]] = {}
    for start in range(0, len(ids), limit):
        part = ids[start : start + limit]
        rows = table.read(["doc_id", *conditions.columns(table)], where=is_one_of("doc_id", part)).to_pylist()
        facts = {row["doc_id"]: conditions.facts(kind, row) for row in rows}
        for doc_id in part:
            pair = (stated, facts[doc_id]) if asking == "job" else (facts[doc_id], stated)
            verdicts = conditions.verdicts(*pair)
            if not (conditions.removes and any(verdict.outcome == "fail" for verdict in verdicts)):
                found[doc_id] = verdicts
        if len(found) >= limit:
            break
    return dict(islice(found.items(), limit))
