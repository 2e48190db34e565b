"""Schemas of stored data, and the hashes that identify documents.

The data dictionary of the exports is generated from these columns and meanings. Every export records them, so a
changed meaning requires a new version of the exports.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Literal, get_args

import pyarrow as pa

from data.redaction.placeholders import without_placeholders

DocumentKind = Literal["job", "resume"]
KINDS: tuple[DocumentKind, ...] = get_args(DocumentKind)
TABLE_OF_KIND: dict[DocumentKind, str] = {"job": "jobs", "resume": "resumes"}


def column(name: str, type_: pa.DataType, meaning: str, *, nullable: bool = False) -> pa.Field:
    """A column with its meaning, for the data dictionary of the exports."""
    return pa.field(name, type_, nullable=nullable, metadata={"description": meaning})


DOCUMENT_SCHEMA = pa.schema(
    [
        column("doc_id", pa.string(), "hash of source and source_id; stable across runs"),
        column("kind", pa.string(), "job or resume"),
        column("source", pa.string(), "name of the source that the document came from"),
        column("source_id", pa.string(), "the document's id within its source"),
        column("title", pa.string(), "cleaned title; may be empty"),
        column("text", pa.string(), "cleaned body"),
        column("content_sha256", pa.string(), "SHA-256 of the text that is encoded (title and body)"),
        column("metadata_sha256", pa.string(), "SHA-256 of metadata"),
        column("metadata", pa.string(), "all further columns of the source row, as one JSON object"),
        column("num_chars", pa.int64(), "characters of the text that is encoded"),
        column("duplicate_of", pa.string(), "doc_id of the first document with equal content", nullable=True),
        column("near_duplicate_of", pa.string(), "doc_id of a document with nearly equal content", nullable=True),
        column(
            "similar_to",
            pa.string(),
            "doc_id of the first of the similar documents: equal or nearly equal content, or resumes of one person; "
            "empty: it is the first, or there are no others",
            nullable=True,
        ),
        column(
            "similar_order",
            pa.int32(),
            "place by age among the similar documents, the newest being 1; empty: there are no others",
            nullable=True,
        ),
    ]
)

QUARANTINE_SCHEMA = pa.schema(
    [
        column("source", pa.string(), "name of the source"),
        column("file", pa.string(), "file the row came from, relative to the source's path"),
        column("row", pa.int64(), "1-based number of the row (line, page document) in its file"),
        column("reason", pa.string(), "why it was rejected; one of a closed set of words"),
        column("detail", pa.string(), "what was found and what was expected"),
        column("excerpt", pa.string(), "the beginning of the raw row, made printable"),
    ]
)


def document_id(source: str, source_id: str) -> str:
    """Stable id of a document: 32 hex digits of the SHA-256 over source and id."""
    return sha256_json([source, source_id])[:32]


def encoded_text(title: str, text: str) -> str:
    """Text of a document that counts: what is encoded, indexed by words, and compared.

    The title is on its own line, then the body follows. Placeholders of personal data are left out, and their labels
    if anything else is left.
    """
    read = whole_text(without_placeholders(title), without_placeholders(text))
    return read or whole_text(without_placeholders(title, labels=True), without_placeholders(text, labels=True))


def whole_text(title: str, text: str) -> str:
    """Text of a document as it is stored: the title on its own line, then the body."""
    return f"{title}\n{text}" if title else text


def sha256_text(text: str) -> str:
    """SHA-256 of a text's UTF-8 bytes, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_json(value: object) -> str:
    """SHA-256 over the canonical JSON form of ``value`` (sorted keys, no spaces), in hex."""
    return sha256_text(canonical_json(value))


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces. Equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def metadata_json(metadata: Mapping[str, object]) -> str:
    """Metadata of a document as stored; values that JSON cannot hold become strings."""
    return json.dumps(metadata, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
