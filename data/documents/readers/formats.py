"""Format of a file: detected from its content, and from its suffix only if the content fits several formats."""

from __future__ import annotations

import codecs
import json
import zipfile
from enum import StrEnum
from pathlib import Path, PurePath

_HEAD = 2**16
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*")


class Format(StrEnum):
    """Supported formats."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"
    SHEET = "spreadsheet"
    XML = "xml"
    PDF = "pdf"
    DOCX = "docx"
    DOC = "doc"
    ODT = "odt"
    RTF = "rtf"
    HTML = "html"
    TEXT = "text"


TABLES = frozenset({Format.JSONL, Format.JSON, Format.CSV, Format.PARQUET, Format.SHEET, Format.XML})
"""Formats whose files hold many rows. A file of any other format is one row."""

SUFFIXES: dict[str, Format] = {
    ".jsonl": Format.JSONL,
    ".csv": Format.CSV,
    ".parquet": Format.PARQUET,
    ".pdf": Format.PDF,
    ".docx": Format.DOCX,
    ".ndjson": Format.JSONL,
    ".json": Format.JSON,
    ".tsv": Format.CSV,
    ".xlsx": Format.SHEET,
    ".xlsm": Format.SHEET,
    ".xls": Format.SHEET,
    ".ods": Format.SHEET,
    ".xml": Format.XML,
    ".rss": Format.XML,
    ".doc": Format.DOC,
    ".odt": Format.ODT,
    ".rtf": Format.RTF,
    ".html": Format.HTML,
    ".htm": Format.HTML,
    ".md": Format.TEXT,
    ".txt": Format.TEXT,
}
"""Promised format by file suffix."""

OLE_SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""First bytes of an Office file before 2007."""

PACKED = (".gz", ".zst")
"""Suffixes of files that are unpacked first. The suffix before them names the format."""

TEXTS = frozenset({Format.JSONL, Format.JSON, Format.CSV, Format.XML, Format.HTML, Format.TEXT})
"""Formats of plain text, of which an encoding is detected."""


class UnsupportedError(Exception):
    """A file of an unsupported format. The message names the format and what to do."""


def promised_format(file: str) -> Format | None:
    """Format promised by a file name; None for an unknown suffix."""
    name = PurePath(file)
    if name.suffix.lower() in PACKED:
        name = PurePath(name.stem)
    return SUFFIXES.get(name.suffix.lower())


def detect_format(path: Path, file: str) -> Format:
    """Detect the format of an unpacked file.

    Args:
        path: Path of the file.
        file: Its name in the source.

    Raises:
        UnsupportedError: Its format is not supported.
        OSError: It cannot be read.
    """
    promised = promised_format(file)
    with path.open("rb") as handle:
        head = handle.read(_HEAD)
    if not head and promised is not None:
        return promised
    if (found := _by_signature(path, head, is_text=promised in TEXTS)) is not None:
        return found
    if promised is None:
        raise UnsupportedError("a file of an unknown type; expected a suffix that names its format")
    if promised not in TEXTS:
        if _starts_as_page(head) and promised is Format.DOC:
            return Format.HTML  # word processors save pages under this suffix
        if _starts_as_page(head):
            raise UnsupportedError(f"a web page, not {promised}; it may be the error page of a download")
        if promised in (Format.PDF, Format.DOCX, Format.ODT) and head and _is_text(head):
            raise UnsupportedError(f"plain text, not {promised}; if it is a document, name it .txt")
        return promised  # its reader reports the fault
    return _text_format(head, promised)


def _by_signature(path: Path, head: bytes, *, is_text: bool) -> Format | None:
    # PDF readers search for the signature in the first kilobyte; a table may contain it as a word.
    if head.startswith(b"%PDF-") or (b"%PDF-" in head[:1024] and not is_text):
        return Format.PDF
    if head.startswith(b"PAR1"):
        return Format.PARQUET
    if head.startswith(b"PK\x03\x04"):
        return _zip_format(path)
    if head.startswith(b"{\\rtf"):
        return Format.RTF
    if head.startswith(OLE_SIGNATURE):
        return _ole_format(path)
    if head.startswith(_IMAGES):
        raise UnsupportedError("an image; expected a document with text")
    return None


def _zip_format(path: Path) -> Format | None:
    """Format of an archive; None if it is damaged, in which case the suffix decides."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            kind = archive.read("mimetype")[:100] if "mimetype" in names else b""
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError):
        return None
    if any(name.startswith("word/") for name in names):
        return Format.DOCX
    if b"opendocument.text" in kind:
        return Format.ODT
    if b"opendocument.spreadsheet" in kind or any(name.startswith("xl/") for name in names):
        return Format.SHEET
    if "_rels/.rels" in names and not any(name.startswith("ppt/") for name in names):
        return Format.DOCX
    raise UnsupportedError("a plain archive; unpack it first")


def _ole_format(path: Path) -> Format:
    """Format of an Office file before 2007, by the names of its streams, which are in its directory."""
    with path.open("rb") as handle:
        content = handle.read(2**22)
        header = content[:52].ljust(52, b"\0")
        sector_bytes, directory = 1 << min(header[30], 12), int.from_bytes(header[48:52], "little")
        handle.seek((directory + 1) * sector_bytes)
        content += handle.read(2**14)
    if "EncryptedPackage".encode("utf-16-le") in content:
        raise UnsupportedError("an Office file with a password; save it without one")
    if "Workbook".encode("utf-16-le") in content:
        return Format.SHEET
    if "WordDocument".encode("utf-16-le") in content:
        return Format.DOC
    raise UnsupportedError("an Office file that is neither a Word document nor a table; save it as .docx or PDF")


def _starts_as_page(head: bytes) -> bool:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:200].lower()
    return start.startswith((b"<!doctype html", b"<html"))


def _is_text(head: bytes) -> bool:
    """Return whether the start of a file is text in UTF-8; it may end within a character."""
    if any(code < 32 and code not in b"\t\n\f\r" for code in head):
        return False
    try:
        codecs.utf_8_decode(head, "strict", False)
    except UnicodeDecodeError:
        return False
    return True


def _text_format(head: bytes, promised: Format) -> Format:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if promised in (Format.CSV, Format.JSONL, Format.JSON, Format.XML):
        if _starts_as_page(head):
            return Format.HTML if promised is Format.XML else promised
        if start.startswith(b"<?xml"):
            return Format.XML
        if promised is Format.JSONL and _is_json_value(start):
            return Format.JSON
        if promised is Format.JSON and _is_json_lines(start):
            return Format.JSONL
    return promised


def _is_json_value(start: bytes) -> bool:
    """Return whether JSON values span lines: an array of objects, or objects that are not one per line."""
    if start.startswith(b"["):
        return start[1:].lstrip()[:1] in (b"{", b"]")
    first = start.split(b"\n", 1)[0].strip()
    if not first.startswith(b"{") or _is_json(first):
        return False
    try:
        json.JSONDecoder().raw_decode(start.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return first == b"{" and len(start) > _HEAD // 2  # the object is longer than the head
    return True


def _is_json_lines(start: bytes) -> bool:
    lines = [line for line in start.split(b"\n")[:3] if line.strip()]
    return len(lines) > 1 and all(line.lstrip().startswith(b"{") and _is_json(line) for line in lines[:2])


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
