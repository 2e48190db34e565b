"""Rows of a source as yielded by a reader: raw, or rejected with a reason.

A row that cannot be read becomes a :class:`RejectedRow`. A file that cannot be read at all is the caller's mistake and
raises :class:`~data.errors.InputError`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import PurePath

MAX_ROW_BYTES = 64 * 2**20
"""Maximum size of a line or cell in bytes: a file without line breaks must not exhaust memory."""
EXCERPT_CHARS = 200
_PLAIN_NAMES = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini"})
_PLAIN_STARTS = ("readme", "license", "licence", "notice", "changelog", "_success", "_metadata", "_common_metadata")
_SURROGATE = re.compile("[\ud800-\udfff]")


class RejectReason(StrEnum):
    """Reasons for rejecting a row. Reports count rows by reason."""

    BAD_JSON = "bad_json"
    NOT_AN_OBJECT = "not_an_object"
    INVALID_UTF8 = "invalid_utf8"
    NUL_BYTES = "nul_bytes"
    ROW_TOO_LARGE = "row_too_large"
    WRONG_SHAPE = "wrong_shape"
    UNREADABLE_FILE = "unreadable_file"
    UNSUPPORTED_FILE = "unsupported_file"
    SCANNED = "scanned"
    IMPLAUSIBLE_TEXT = "implausible_text"
    MISSING_ID = "missing_id"
    MISSING_TEXT = "missing_text"
    WRONG_TYPE = "wrong_type"
    ID_TOO_LONG = "id_too_long"
    EMPTY_TEXT = "empty_text"
    TEXT_TOO_LONG = "text_too_long"
    METADATA_TOO_LONG = "metadata_too_long"
    DUPLICATE_ID = "duplicate_id"
    REPEATED_ROW = "repeated_row"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row of a file, not yet checked.

    Attributes:
        file: File it came from, relative to the source's path.
        row: 1-based number in that file: the line in JSONL, otherwise the row, not counting the header.
        values: Values by field name.
    """

    file: str
    row: int
    values: dict[str, object]


@dataclass
class ReadLog:
    """Decisions made while a source was read, for the log and the report.

    Attributes:
        notes: Decision to the number of files that it was made for, such as "read as Windows-1252".
        skipped: Reason by skipped file.
        marks: Loss that a document may have to the number of documents.
        formats: Format to the number of files that were read as it.
        num_replaced: Rows of older files that a row of a newer file replaced.
    """

    notes: Counter[str] = field(default_factory=Counter)
    skipped: dict[str, str] = field(default_factory=dict)
    marks: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    num_replaced: int = 0

    def note(self, text: str) -> None:
        """Record a decision about a file."""
        self.notes[text] += 1

    def stored_skipped(self) -> dict[str, str]:
        """Skipped files in a form that may be stored: names that may be a person's become ``*.docx``."""
        shown = {}
        for file, reason in sorted(self.skipped.items()):
            name = PurePath(file).name
            is_plain = (
                name.lower() in _PLAIN_NAMES or name.lower().startswith(_PLAIN_STARTS) or reason == "another sheet"
            )
            shown[name if is_plain else f"*{PurePath(name).suffix}"] = reason
        return shown


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that does not become a document, with the reason.

    Attributes:
        file: File it came from, relative to the source's path.
        row: 1-based number in that file, as in :class:`RawRow`.
        reason: Reason for the rejection.
        detail: What was found and what was expected. Part of the snapshot's id: rewording it changes ids.
        excerpt: Beginning of the raw row in printable characters.
    """

    file: str
    row: int
    reason: RejectReason
    detail: str
    excerpt: str


def make_excerpt(raw: bytes | str | Mapping[str, object]) -> str:
    """The beginning of a raw row in printable characters."""
    if isinstance(raw, bytes):
        text = raw[: 4 * EXCERPT_CHARS].decode("utf-8", "backslashreplace")
    elif isinstance(raw, str):
        text = raw
    else:
        pairs = islice(raw.items(), 20)
        text = ", ".join(
            f"{name}: {value[:EXCERPT_CHARS] if isinstance(value, str) else value}" for name, value in pairs
        )
    shown = text[:EXCERPT_CHARS]
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)


def has_surrogates(text: str) -> bool:
    """Return whether ``text`` contains unpaired surrogates (from invalid UTF-8), which UTF-8 cannot store."""
    return not text.isascii() and _SURROGATE.search(text) is not None
