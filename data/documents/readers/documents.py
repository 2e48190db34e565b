"""Reader of files that hold one document each: PDF, DOCX, DOC, ODT, RTF, HTML, plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

from data.config import DEFAULT_TEXT_FIELDS, SourceConfig
from data.documents.extract.extracted import Mark
from data.documents.processes.reading import Reading, extract, failed, read_document
from data.documents.readers.formats import Format
from data.documents.readers.mappings import KNOWN_FORMATS
from data.documents.rows import RawRow, ReadLog, RejectedRow, RejectReason

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
            rows = _page_rows(path, file, config, log) if found is Format.HTML and config.kind == "job" else []
        except Exception as error:  # on damaged files, the parsers raise nearly any type of error
            rows = [document_row(failed(error, found), file, config, log)]
        yield from rows or [document_row(read_document(path, found, ocr=ocr), file, config, log)]

    return read


def document_row(reading: Reading, file: str, config: SourceConfig, log: ReadLog) -> RawRow | RejectedRow:
    """The row of a document file that was read."""
    extracted = reading.extracted
    if extracted is None:
        return RejectedRow(file, 1, reading.reason or RejectReason.UNREADABLE_FILE, reading.detail, "")
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
        rows[0].values[text_field] = extract(path, Format.HTML).text
    if rows:
        log.note("postings read from the JSON-LD of the page")
    elif config.format == "schema.org-jobposting":
        detail = "no JobPosting in the JSON-LD of the page; expected one (without format, its text is read)"
        rows.append(RejectedRow(file, 1, RejectReason.MISSING_TEXT, detail, ""))
    return rows
