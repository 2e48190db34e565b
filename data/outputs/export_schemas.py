"""The exported columns of every row kind, with type, unit and meaning, and the data dictionary.

Exported columns are listed explicitly: a new column of stored data is not exported automatically. Personal data stays
in the store: exports hold no texts, and exported resumes have no ``metadata``, which holds names and addresses.

Does not belong here: writing and publishing an export (``export``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow as pa

from data.documents.facets import FACET_SCHEMA
from data.outputs.matches import MATCH_SCHEMA
from data.schema import DOCUMENT_SCHEMA, column

EXPORT_VERSION = 4
"""Version of the exported schemas. Raise it with every change that a reader would notice."""

_UNIT = b"unit"
_DESCRIPTION = b"description"


def _chosen(schema: pa.Schema, columns: Mapping[str, str]) -> pa.Schema:
    """Columns of a stored schema, each with its unit. An empty string means no unit."""
    return pa.schema([_with_unit(schema.field(name), unit) for name, unit in columns.items()])


def _with_unit(field: pa.Field, unit: str) -> pa.Field:
    return field.with_metadata({**(field.metadata or {}), _UNIT: unit.encode()}) if unit else field


_RESUME_COLUMNS = {
    "doc_id": "",
    "source": "",
    "source_id": "",
    "title": "",
    "content_sha256": "",
    "num_chars": "characters",
    "duplicate_of": "",
    "near_duplicate_of": "",
    "similar_to": "",
    "similar_order": "place, from 1",
}
_FACET_COLUMNS = {
    "location": "",
    "city": "",
    "region": "",
    "country": "",
    "employment_type": "",
    "remote": "",
    "category": "",
    "posted_at": "day",
    "valid_through": "day",
    "salary_min": "salary_currency per salary_unit",
    "salary_max": "salary_currency per salary_unit",
    "salary_currency": "",
    "salary_unit": "",
}
_MATCH_COLUMNS = {
    "direction": "",
    "job_id": "",
    "resume_id": "",
    "rank": "place, from 1",
    "score": "see fusion",
    "fusion": "",
    "dense_score": "cosine",
    "dense_rank": "place, from 1",
    "lexical_score": "BM25",
    "lexical_rank": "place, from 1",
    "matched_terms": "words",
    "verdict": "",
    "conditions": "",
    "fit": "share, 0 to 1",
    "fit_class": "",
    "num_similar": "documents",
    "checkpoint": "",
    "run_id": "",
}
_EXPORTED_CONDITIONS = pa.list_(
    pa.field("element", pa.struct([pa.field("condition", pa.string()), pa.field("outcome", pa.string())]))
)
"""The words behind a verdict stay in the store, as the texts do."""
_EVALUATION_SCHEMA = pa.schema(
    [
        column("system", pa.string(), "name of what was scored"),
        column("fingerprint", pa.string(), "identity of what was scored"),
        column("task", pa.string(), "evaluation task"),
        column("type", pa.string(), "MTEB category of the task"),
        column("metric", pa.string(), "name of the metric"),
        column("is_main_score", pa.bool_(), "whether it is the task's main metric"),
        _with_unit(column("value", pa.float64(), "score; 0 to 100, correlations from -100"), "points"),
    ]
)
_VECTOR_SCHEMA = pa.schema(
    [
        column("content_sha256", pa.string(), "SHA-256 of the text that was encoded; joins jobs and resumes"),
        column("document_kind", pa.string(), "job or resume: prompts may differ"),
        column("checkpoint", pa.string(), "fingerprint of the encoder"),
        column("vector", pa.list_(pa.field("element", pa.float16(), nullable=False)), "vector of length one"),
    ]
)

EXPORT_SCHEMAS: dict[str, pa.Schema] = {
    "jobs": pa.schema(
        [
            *_chosen(DOCUMENT_SCHEMA, {**_RESUME_COLUMNS, "metadata": "JSON object", "metadata_sha256": ""}),
            *_chosen(FACET_SCHEMA, _FACET_COLUMNS),
        ]
    ),
    "resumes": _chosen(DOCUMENT_SCHEMA, _RESUME_COLUMNS),
    "matches": pa.schema(
        [
            field.with_type(_EXPORTED_CONDITIONS) if field.name == "conditions" else field
            for field in _chosen(MATCH_SCHEMA, _MATCH_COLUMNS)
        ]
    ),
    "evaluation": _EVALUATION_SCHEMA,
    "vectors": _VECTOR_SCHEMA,
}
"""Columns by kind of rows."""


def dictionary_of(kind: str) -> list[dict[str, str | bool]]:
    """The data dictionary of one kind: name, type, unit, nullability and meaning of each column."""
    return [
        {
            "column": field.name,
            "type": str(field.type),
            "unit": _metadata(field, _UNIT),
            "nullable": field.nullable,
            "meaning": _metadata(field, _DESCRIPTION),
        }
        for field in EXPORT_SCHEMAS[kind]
    ]


def annotated_schema(kind: str) -> pa.Schema:
    """Schema of a kind's files. Its metadata holds the dictionary under the key ``data_dictionary``."""
    return EXPORT_SCHEMAS[kind].with_metadata(
        {
            "export_version": str(EXPORT_VERSION),
            "kind": kind,
            "data_dictionary": json.dumps(dictionary_of(kind), ensure_ascii=False),
        }
    )


def schema_record() -> bytes:
    """All exported schemas as JSON, which must not change under one version."""
    record = {"version": EXPORT_VERSION, "kinds": {kind: dictionary_of(kind) for kind in EXPORT_SCHEMAS}}
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()


def render_dictionary() -> str:
    """The data dictionary as Markdown."""
    lines = [f"# Data dictionary, version {EXPORT_VERSION}", ""]
    for kind in EXPORT_SCHEMAS:
        lines += [
            f"## {kind}",
            "",
            "| column | type | unit | may be empty | meaning |",
            "| --- | --- | --- | --- | --- |",
        ]
        for row in dictionary_of(kind):
            empty = "yes" if row["nullable"] else "no"
            lines.append(f"| {row['column']} | {row['type']} | {row['unit']} | {empty} | {row['meaning']} |")
        lines.append("")
    return "\n".join(lines)


def _metadata(field: pa.Field, key: bytes) -> str:
    return bytes((field.metadata or {}).get(key, b"")).decode()
