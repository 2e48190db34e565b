"""Cleaning: turn a raw row into a document, or reject it with a reason.

Belongs here: Unicode repair, whitespace, checks of ids, texts and metadata. Does not belong here: file formats
(``readers``), duplicates (``near_duplicates``, ``data.snapshots``), redaction (``data.redaction``).
"""

from __future__ import annotations

import html
import html.entities
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import ftfy

from data.config import CleanConfig, SourceConfig
from data.documents.rows import RawRow, RejectedRow, RejectReason, has_surrogates, make_excerpt
from data.redaction.redact import Redactor
from data.schema import DocumentKind, document_id, encoded_text, metadata_json, sha256_text

MAX_ID_CHARS = 1024

# Quotes stay as written: straightening them is not a repair. `_unescape` resolves entities.
_FTFY = ftfy.TextFixerConfig(uncurl_quotes=False, unescape_html=False, explain=False)
_MAX_PASSES = 8

# Text of only these characters needs no repair. This check is a hundred times faster than ftfy.
_SOUND = re.compile("[\t\n\x20-\x7e\u00a0£·–—‘’“”•…€]*")
_LINE_BREAK = re.compile("\r\n|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Control characters, byte order mark, zero-width spaces, soft hyphens: invisible, except to tokenizers.
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u00ad\u200b\ufeff]")
# Words that programs write for missing values.
_EMPTY_WORDS = frozenset({"", "nan", "n/a", "#n/a", "none", "null", "-", "--"})
_MANY_BREAKS = re.compile("\n{3,}")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")


@dataclass(frozen=True, slots=True)
class Document:
    """One cleaned document; :data:`data.schema.DOCUMENT_SCHEMA` explains the columns.

    ``contacts`` is no column of it: the keys of a person (``data.redaction.contact_keys``); None if they are unknown.
    """

    doc_id: str
    kind: DocumentKind
    source: str
    source_id: str
    title: str
    text: str
    content_sha256: str
    metadata_sha256: str
    metadata: str
    num_chars: int
    duplicate_of: str | None = None
    near_duplicate_of: str | None = None
    similar_to: str | None = None
    similar_order: int | None = None
    contacts: bytes | None = None


class _RejectError(Exception):
    """Carries the reason for a rejection to :func:`clean_row`."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def clean_row(
    row: RawRow, *, source: str, config: SourceConfig, clean: CleanConfig, redactor: Redactor
) -> Document | RejectedRow:
    """Turn a raw row into a document.

    Args:
        row: Raw row.
        source: Name of the source.
        config: Which fields hold id, title and text.
        clean: Limits.
        redactor: Replaces personal data before anything is hashed.

    Returns:
        The document, not yet marked as duplicate or near duplicate; or the rejected row with the first reason.
    """
    try:
        return _to_document(row.values, source=source, config=config, clean=clean, redactor=redactor)
    except _RejectError as error:
        return RejectedRow(row.file, row.row, error.reason, error.detail, make_excerpt(row.values))
    except RecursionError:
        detail = "metadata nested too deeply; expected a flat row"
        return RejectedRow(row.file, row.row, RejectReason.WRONG_TYPE, detail, "")


def redact_document(document: Document, redactor: Redactor) -> Document:
    """Redact a stored document and clear its duplicate marks."""
    redacted = redactor.redact(document.title, document.text, json.loads(document.metadata))
    redactor.keep(document.doc_id, redacted)
    metadata, content = metadata_json(redacted.metadata), encoded_text(redacted.title, redacted.text)
    return replace(
        document,
        title=redacted.title,
        text=redacted.text,
        content_sha256=sha256_text(content),
        metadata_sha256=sha256_text(metadata),
        metadata=metadata,
        num_chars=len(content),
        duplicate_of=None,
        near_duplicate_of=None,
        contacts=redactor.contacts(redacted) or document.contacts,
    )


def clean_text(text: str) -> str:
    """Repair the Unicode of a text and normalise its whitespace. Cleaning a clean text changes nothing.

    Wrongly decoded characters, broken surrogates and HTML entities are repaired. Invisible characters are removed. Runs
    of spaces become one space, runs of empty lines one empty line.
    """
    # One repair can reveal another (an entity that encodes an entity): repeat until nothing changes. Only texts made
    # to be slow reach the limit.
    for _ in range(_MAX_PASSES):
        cleaned = _clean_once(text)
        if cleaned == text:
            break
        text = cleaned
    return text


def _clean_once(text: str) -> str:
    if not _SOUND.fullmatch(text):
        text = _INVISIBLE.sub("", _LINE_BREAK.sub("\n", text))
        lines = text.split("\n")
        text = "\n".join(line if _SOUND.fullmatch(line) else ftfy.fix_text(line, _FTFY) for line in lines)
    if "&" in text:
        text = _unescape(text)
    text = "\n".join(" ".join(line.split()) for line in text.split("\n"))
    if "\n\n\n" in text:
        text = _MANY_BREAKS.sub("\n\n", text)
    return text.strip()


def _unescape(text: str) -> str:
    """Resolve only complete, known HTML entities: ``AT&T``, ``R&D;`` and a bare ``&copy`` stay unchanged."""

    def resolve(match: re.Match[str]) -> str:
        entity = match.group()
        is_known = entity[1] == "#" or entity[1:] in html.entities.html5
        return html.unescape(entity) if is_known else entity

    return _ENTITY.sub(resolve, text)


# --- checks -----------------------------------------------------------------------------------------------------------


def _to_document(
    values: Mapping[str, object], *, source: str, config: SourceConfig, clean: CleanConfig, redactor: Redactor
) -> Document:
    text_name = _text_name(values, config)
    source_id = _check_id(values, config.id_field)
    title = "" if config.title_field == text_name else _check_title(values.get(config.title_field), config.title_field)
    text = _check_text(values, text_name)
    _check_length(len(title) + len(text), clean, before="before cleaning")
    title, text = _without_markup(title), _without_markup(text)
    title, text = clean_text(title).replace("\n", " "), clean_text(text)
    if not text:
        raise _RejectError(RejectReason.EMPTY_TEXT, "no text is left after cleaning; expected some (a scan has none)")
    _check_length(len(title) + len(text), clean, before="after cleaning")
    named = {config.id_field, config.title_field, text_name}
    # An empty field that another field replaced carries no information.
    named |= {name for name in config.text_names if _is_empty(values.get(name, ""))}
    further = {str(name): _plain(value) for name, value in values.items() if name not in named}
    redacted = redactor.redact(title, text, further)
    title, text = redacted.title, redacted.text
    metadata = metadata_json(redacted.metadata)
    metadata = _without_surrogates(metadata)
    if len(metadata) > clean.max_chars:
        detail = f"metadata of {len(metadata)} characters; expected at most {clean.max_chars}"
        raise _RejectError(RejectReason.METADATA_TOO_LONG, detail)
    content = encoded_text(title, text)
    if not content:
        raise _RejectError(RejectReason.EMPTY_TEXT, "no text is left beside personal data; expected some")
    doc_id = document_id(source, source_id)
    redactor.keep(doc_id, redacted)
    return Document(
        doc_id=doc_id,
        kind=config.kind,
        source=source,
        source_id=source_id,
        title=title,
        text=text,
        content_sha256=sha256_text(content),
        metadata_sha256=sha256_text(metadata),
        metadata=metadata,
        num_chars=len(content),
        contacts=redactor.contacts(redacted),
    )


def _text_name(values: Mapping[str, object], config: SourceConfig) -> str | None:
    """Field that holds the text: the first non-empty one, otherwise the first one present."""
    filled = (name for name in config.text_names if not _is_empty(values.get(name)))
    return next(filled, config.text_name(values))


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip().casefold() in _EMPTY_WORDS)


def _without_markup(text: str) -> str:
    if "<" not in text and "&" not in text:
        return text
    from data.documents.extract.html import strip_markup

    return strip_markup(text)


def _check_id(values: Mapping[str, object], name: str) -> str:
    if name not in values:
        raise _RejectError(RejectReason.MISSING_ID, f"no field '{name}'; expected the document's id there")
    value = values[name]
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    found = _check_string(value, name, expected="a string or an integer").strip()
    if _is_empty(found) and found != "-":
        raise _RejectError(RejectReason.MISSING_ID, f"'{name}' is empty; expected the document's id")
    if len(found) > MAX_ID_CHARS:
        detail = f"'{name}' of {len(found)} characters; expected at most {MAX_ID_CHARS}"
        raise _RejectError(RejectReason.ID_TOO_LONG, detail)
    if has_surrogates(found):
        raise _RejectError(RejectReason.INVALID_UTF8, f"'{name}' holds half a character; expected valid Unicode")
    return found


def _check_title(value: object, name: str) -> str:
    return "" if _is_empty(value) else _check_string(value, name, expected="a string or nothing")


def _check_text(values: Mapping[str, object], name: str | None) -> str:
    if name is None:
        raise _RejectError(RejectReason.MISSING_TEXT, "none of the fields that may hold the text is there")
    if values[name] is None:
        raise _RejectError(RejectReason.MISSING_TEXT, f"'{name}' is null; expected the document's text")
    text = _check_string(values[name], name, expected="a string")
    if text.strip() and _is_empty(text):
        raise _RejectError(RejectReason.EMPTY_TEXT, f"'{name}' is {text.strip()!r}; expected the document's text")
    return text


def _check_string(value: object, name: str, *, expected: str) -> str:
    if not isinstance(value, str):
        raise _RejectError(RejectReason.WRONG_TYPE, f"'{name}' is a {type(value).__name__}; expected {expected}")
    if "\0" in value:
        raise _RejectError(RejectReason.NUL_BYTES, f"'{name}' holds a NUL character; expected none")
    return value


def _check_length(num_chars: int, clean: CleanConfig, *, before: str) -> None:
    if num_chars > clean.max_chars:
        detail = f"title and text of {num_chars} characters {before}; expected at most {clean.max_chars}"
        raise _RejectError(RejectReason.TEXT_TOO_LONG, detail)


def _plain(value: object) -> object:
    """Convert a metadata value to one that JSON can hold: text keys, no NaN, no infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8") if has_surrogates(text) else text
