"""Read one document file: detect its format, extract its text, or say why that is not possible.

Worker processes run this module: it imports no settings, and the parsers only when they are needed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.documents.extract.extracted import (
    ContainerError,
    Extracted,
    ImplausibleTextError,
    Mark,
    MissingProgramError,
    ScannedError,
)
from data.documents.readers.formats import Format
from data.documents.rows import EXCERPT_CHARS, RejectReason

READY = b"ready\n"
"""First line of a worker process."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Result of reading a document file: its text, or the reason why there is none."""

    extracted: Extracted | None = None
    reason: RejectReason | None = None
    detail: str = ""


def read_document(path: Path, found: Format, *, ocr: bool = False) -> Reading:
    """Read a file of a document format. Never raises: a damaged file costs itself only."""
    try:
        return Reading(extract(path, found, ocr=ocr))
    except Exception as error:  # on damaged files, the parsers raise nearly any type of error
        return failed(error, found)


def failed(error: Exception, found: Format) -> Reading:
    """The reading of a file whose parser raised an error."""
    return Reading(reason=_reason(error), detail=_detail(error, found))


def unreadable(found: Format, fault: str) -> Reading:
    """The reading of a file that could not be read for a reason outside of the parsers."""
    return Reading(reason=RejectReason.UNREADABLE_FILE, detail=f"{fault}; expected a readable {found} file")


def encoded(reading: Reading) -> dict[str, Any]:
    """A reading as JSON values, for another process."""
    return asdict(reading)


def decoded(values: dict[str, Any]) -> Reading:
    """The reading that :func:`encoded` wrote."""
    found = values["extracted"]
    if found is None:
        return Reading(reason=RejectReason(values["reason"]), detail=values["detail"])
    tuples = {"marks": tuple(map(Mark, found["marks"])), "attachments": tuple(found["attachments"])}
    return Reading(Extracted(**{**found, **tuples}))


def extract(path: Path, found: Format, *, ocr: bool = False) -> Extracted:
    """Text of a file.

    Raises:
        Exception: Nearly any type, from the parsers, if the file is malformed.
    """
    # The readers are imported only when a source has such a file.
    if found is Format.PDF:
        from data.documents.extract.pdf import read_pdf

        return read_pdf(path, ocr=ocr)
    if found is Format.DOCX:
        from data.documents.extract.docx import read_docx

        return read_docx(path)
    if found is Format.DOC:
        from data.documents.extract.doc import read_doc

        return read_doc(path)
    if found is Format.ODT:
        from data.documents.extract.odt import read_odt

        return read_odt(path)
    from data.documents.extract import plain

    readers = {Format.RTF: plain.read_rtf, Format.HTML: plain.read_html_file, Format.TEXT: plain.read_plain}
    return readers[found](path)


_REASONS: dict[type[Exception], RejectReason] = {
    ScannedError: RejectReason.SCANNED,
    ImplausibleTextError: RejectReason.IMPLAUSIBLE_TEXT,
    MissingProgramError: RejectReason.UNSUPPORTED_FILE,
    ContainerError: RejectReason.UNSUPPORTED_FILE,
}


def _reason(error: Exception) -> RejectReason:
    return _REASONS.get(type(error), RejectReason.UNREADABLE_FILE)


def _detail(error: Exception, found: Format) -> str:
    reason = " ".join(str(error).split())[:EXCERPT_CHARS] or "no further reason"
    if isinstance(error, ScannedError | MissingProgramError | ContainerError):
        return reason
    if isinstance(error, ImplausibleTextError):
        return f"{reason}; expected a document whose text can be selected"
    return f"{type(error).__name__}: {reason}; expected a readable {found} file"
