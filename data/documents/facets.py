"""Facets: the columns of a document's metadata that filters are asked for most, under one name and type each.

Sources call the same thing by many names; schema.org's JobPosting and the usual variants are known here. All other
metadata can be filtered with LanceDB's JSON functions, which README.md shows. Does not belong here: running filters
(``lance``).
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

# Names without case and punctuation, the most telling first.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "location": ("location", "joblocation", "locality", "addresslocality", "city", "place"),
    "employment_type": ("employmenttype", "jobtype", "contracttype", "worktype"),
    "category": ("category", "occupationalcategory", "jobcategory", "industry", "sector"),
    "posted_at": ("postedat", "dateposted", "posteddate", "posted", "publishedat", "publicationdate"),
}


def facet_columns(metadata: Iterable[str]) -> list[pa.Array]:
    """Read the facets of documents.

    Args:
        metadata: The stored metadata of each document, one JSON object each.

    Returns:
        One array a column of :data:`FACET_SCHEMA`; null where a document does not say, or not in a way that can be
        read.
    """
    rows = [_facets(json.loads(text)) for text in metadata]
    return [pa.array([row[field.name] for row in rows], field.type) for field in FACET_SCHEMA]


def standard_json(metadata: str) -> str:
    """Metadata as JSON that every reader takes: Python's NaN and Infinity, which JSON lacks, become null."""
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
    """A value as text; several as one list; nested ones cannot be compared."""
    if isinstance(value, list):
        return ", ".join(said for each in value if (said := _as_text(each))) or None
    if value is None or isinstance(value, dict | bool):
        return None
    return str(value).strip() or None


def _as_day(text: str | None) -> str | None:
    """A day in ISO 8601, with or without a time; other spellings cannot be told apart (3/4 is March or April)."""
    try:
        return None if text is None else datetime.fromisoformat(text).date().isoformat()
    except ValueError:
        return None
