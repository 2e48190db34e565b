"""Reader of files that hold one document each: PDF, DOCX, ODT, RTF, HTML, plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

from data.config import DEFAULT_TEXT_FIELDS, SourceConfig
from data.documents.extract.extracted import Extracted, ImplausibleTextError, Mark, ScannedError
from data.documents.readers.formats import Format
from data.documents.rows import EXCERPT_CHARS, RawRow, ReadLog, RejectedRow, RejectReason

MARKS_FIELD = "reader_marks"
"""Metadata field with the possible losses of a document; absent if there are none."""


def read_as(found: Format) -> Callable[[Path, str, SourceConfig, ReadLog], Iterator[RawRow | RejectedRow]]:
    """Create the reader for one of the formats."""

    def read(path: Path, file: str, config: SourceConfig, log: ReadLog) -> Iterator[RawRow | RejectedRow]:
        """Read the file as one row. A damaged file is a rejected row: its folder may hold hundreds of good files."""
        try:
            extracted = _extract(path, found)
        except Exception as error:  # on damaged files, the parsers raise nearly any type of error
            yield RejectedRow(file, 1, _reason(error), _detail(error, found), "")
            return
        text_field = config.single_text_field or DEFAULT_TEXT_FIELDS[0]
        title = PurePath(file).stem
        values: dict[str, object] = {config.title_field: title, text_field: extracted.text, config.id_field: file}
        if extracted.marks:
            values[MARKS_FIELD] = [str(mark) for mark in extracted.marks]
            if extracted.pages_without_text:
                values[str(Mark.PAGES_WITHOUT_TEXT)] = extracted.pages_without_text
            log.marks.update(str(mark) for mark in extracted.marks)
        yield RawRow(file, 1, values)

    return read


def _extract(path: Path, found: Format) -> Extracted:
    # The readers are imported only when a source has such a file.
    if found is Format.PDF:
        from data.documents.extract.pdf import read_pdf

        return read_pdf(path)
    if found is Format.DOCX:
        from data.documents.extract.docx import read_docx

        return read_docx(path)
    if found is Format.ODT:
        from data.documents.extract.odt import read_odt

        return read_odt(path)
    from data.documents.extract import plain

    readers = {Format.RTF: plain.read_rtf, Format.HTML: plain.read_html_file, Format.TEXT: plain.read_plain}
    return readers[found](path)


def _reason(error: Exception) -> RejectReason:
    if isinstance(error, ScannedError):
        return RejectReason.SCANNED
    return RejectReason.IMPLAUSIBLE_TEXT if isinstance(error, ImplausibleTextError) else RejectReason.UNREADABLE_FILE


def _detail(error: Exception, found: Format) -> str:
    reason = " ".join(str(error).split())[:EXCERPT_CHARS] or "no further reason"
    if isinstance(error, (ScannedError, ImplausibleTextError)):
        return f"{reason}; expected a document whose text can be selected"
    return f"{type(error).__name__}: {reason}; expected a readable {found} file"
