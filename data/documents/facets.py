"""Facets: the most common filter fields of the metadata, as columns with a fixed name and type.

Sources use many names for the same field: this module lists the names of schema.org's JobPosting and common variants.
LanceDB's JSON functions filter by all other metadata.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa

from data.schema import column

FACET_SCHEMA = pa.schema(
    [
        column("location", pa.string(), "place, as the source writes it", nullable=True),
        column("employment_type", pa.string(), "such as full time, as the source writes it", nullable=True),
        column("category", pa.string(), "occupation or industry, as the source writes it", nullable=True),
        column("posted_at", pa.string(), "day on which it was published, as 2026-01-31", nullable=True),
    ]
)

# Names without case and punctuation, the most specific first.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "location": ("location", "joblocation", "locality", "addresslocality", "city", "place"),
    "employment_type": ("employmenttype", "jobtype", "contracttype", "worktype"),
    "category": ("category", "occupationalcategory", "jobcategory", "industry", "sector"),
    "posted_at": ("postedat", "dateposted", "posteddate", "posted", "publishedat", "publicationdate"),
}


def facet_columns(metadata: Iterable[str]) -> list[pa.Array]:
    """Read the facets of documents from their stored metadata, one JSON object each.

    Returns:
        One array for each column of :data:`FACET_SCHEMA`; null if the facet is missing or unreadable.
    """
    rows = [_facets(json.loads(text)) for text in metadata]
    return [pa.array([row[field.name] for row in rows], field.type) for field in FACET_SCHEMA]


def standard_json(metadata: str) -> str:
    """Metadata as standard JSON: Python's NaN and Infinity become null."""
    if "NaN" not in metadata and "Infinity" not in metadata:
        return metadata
    return json.dumps(json.loads(metadata, parse_constant=lambda _: None), ensure_ascii=False, separators=(",", ":"))


def _facets(metadata: Mapping[str, Any]) -> dict[str, str | None]:
    values = {re.sub(r"[\W_]", "", name).lower(): value for name, value in metadata.items()}
    found: dict[str, str | None] = {}
    for facet, names in _NAMES.items():
        text = next((said for name in names if (said := _as_text(values.get(name)))), None)
        found[facet] = _as_day(text) if facet == "posted_at" else text
    return found


def _as_text(value: object) -> str | None:
    """A value as text. The values of a list are joined; nested objects have no text."""
    if isinstance(value, list):
        return ", ".join(said for each in value if (said := _as_text(each))) or None
    if value is None or isinstance(value, dict | bool):
        return None
    return str(value).strip() or None


def _as_day(text: str | None) -> str | None:
    """Parse a day from ISO 8601, with or without a time. Other formats are ambiguous: 3/4 may be in March or April."""
    try:
        return None if text is None else datetime.fromisoformat(text).date().isoformat()
    except ValueError:
        return None
