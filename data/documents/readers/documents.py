"""Reader of files that hold one document each: PDF, DOCX, DOC, ODT, RTF, HTML, plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

from data.config import DEFAULT_TEXT_FIELDS, SourceConfig
from data.documents.extract.extracted import (
    ContainerError,
    Extracted,
    ImplausibleTextError,
    Mark,
    MissingProgramError,
    ScannedError,
)
from data.documents.readers.formats import Format
from data.documents.readers.mappings import KNOWN_FORMATS
from data.documents.rows import EXCERPT_CHARS, RawRow, ReadLog, RejectedRow, RejectReason

MARKS_FIELD = "reader_marks"
"""Metadata field with the possible losses of a document; absent if there are none."""


def read_as(
    found: Format, *, ocr: bool = False
) -> Callable[[Path, str, SourceConfig, ReadLog], Iterator[RawRow | RejectedRow]]:
    """Create the reader for one of the formats.

    Args:
        found: The format.
        ocr: Recognise the text of pages that have none.
    """

    def read(path: Path, file: str, config: SourceConfig, log: ReadLog) -> Iterator[RawRow | RejectedRow]:
        """Read the file as one row. A damaged file is a rejected row: its folder may hold hundreds of good files.

        A web page with postings in JSON-LD gives a row for each of them.
        """
        try:
            if found is Format.HTML and config.kind == "job" and (rows := _page_rows(path, file, config, log)):
                yield from rows
                return
            extracted = _extract(path, found, ocr=ocr)
        except Exception as error:  # on damaged files, the parsers raise nearly any type of error
            yield RejectedRow(file, 1, _reason(error), _detail(error, found), "")
            return
        yield _row(extracted, file, config, log)

    return read


def _row(extracted: Extracted, file: str, config: SourceConfig, log: ReadLog) -> RawRow:
    text_field = config.single_text_field or DEFAULT_TEXT_FIELDS[0]
    title = PurePath(file).stem
    values: dict[str, object] = {config.title_field: title, text_field: extracted.text, config.id_field: file}
    if extracted.marks:
        values[MARKS_FIELD] = [str(mark) for mark in extracted.marks]
        counts = {
            Mark.PAGES_WITHOUT_TEXT: extracted.pages_without_text,
            Mark.OCR: extracted.pages_recognised,
            Mark.ATTACHMENTS: list(extracted.attachments),
        }
        values.update({str(mark): count for mark, count in counts.items() if count})
        log.marks.update(str(mark) for mark in extracted.marks)
    return RawRow(file, 1, values)


def _page_rows(path: Path, file: str, config: SourceConfig, log: ReadLog) -> list[RawRow | RejectedRow]:
    """Postings of a web page, from its JSON-LD; empty if it has none.

    Raises:
        ValueError: The page is too large.
    """
    from data.documents.extract.jsonld import page_postings
    from data.documents.extract.plain import read_markup

    postings, is_damaged = page_postings(read_markup(path))
    if is_damaged:
        log.note("JSON-LD with a posting that cannot be read; the text of the page was taken")
    rows: list[RawRow | RejectedRow] = []
    for number, posting in enumerate(postings, start=1):
        fallback_id = file if len(postings) == 1 else f"{file}#{number}"
        values = KNOWN_FORMATS["schema.org-jobposting"].apply(posting, config, fallback_id=fallback_id)
        rows.append(RawRow(file, number, values))
    text_field = config.single_text_field or DEFAULT_TEXT_FIELDS[0]
    if len(rows) == 1 and isinstance(rows[0], RawRow) and not rows[0].values[text_field]:
        log.note("a posting without a description in its JSON-LD; the text of the page was taken")
        rows[0].values[text_field] = _extract(path, Format.HTML).text
    if rows:
        log.note("postings read from the JSON-LD of the page")
    elif config.format == "schema.org-jobposting":
        detail = "no JobPosting in the JSON-LD of the page; expected one (without format, its text is read)"
        rows.append(RejectedRow(file, 1, RejectReason.MISSING_TEXT, detail, ""))
    return rows


def _extract(path: Path, found: Format, *, ocr: bool = False) -> Extracted:
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
