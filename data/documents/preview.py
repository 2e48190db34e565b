"""Preview of a source: the detected formats, and the documents that its rows would become. Nothing is written."""

from __future__ import annotations

import contextlib
import secrets
from collections import Counter

from pydantic import BaseModel, Field

from data.config import CleanConfig, RedactConfig, SourceConfig
from data.documents.clean import Document, clean_row
from data.documents.file_names import FileNames
from data.documents.proposal import FileLook, look_at_files, propose_settings
from data.documents.rows import RawRow, ReadLog, RejectedRow, RejectReason
from data.documents.sources import read_rows
from data.errors import InputError
from data.redaction.redact import Redactor

_SHOWN_DOCUMENTS = 3
_SHOWN_REJECTED = 3


class PreviewDocument(BaseModel):
    """A document as it would be stored."""

    id: str
    title: str
    text: str
    metadata: str = Field(description="Further fields, as JSON.")


class PreviewRejected(BaseModel):
    """A row that would be quarantined."""

    file: str
    row: int
    reason: str
    detail: str


class SourceRefusal(BaseModel):
    """Why a source cannot be read as it is configured, and what its files look like."""

    error: str
    hint: str
    files: list[FileLook] = Field(description="The first files.")
    proposed: dict[str, str] = Field(description="Settings of the source that may help, by name.")


class SourcePreview(BaseModel):
    """Expected result of ingesting a source; ``rows_in = rows_kept + rows_quarantined``.

    Of a source that is refused, the rows are those with the proposed settings; there are none without a proposal.
    """

    refused: SourceRefusal | None = Field(default=None, description="Set if the source is refused as it is.")
    formats: dict[str, int] = Field(description="Number of files by detected format.")
    fields: dict[str, str] = Field(description="Fields used as id, title and text.")
    notes: dict[str, int] = Field(description="Decisions of the readers, with file counts.")
    marks: dict[str, int] = Field(description="Possible losses of documents, with their counts.")
    skipped: dict[str, str] = Field(description="Skipped files, with the reason.")
    rows_in: int
    rows_kept: int
    rows_quarantined: int
    quarantine_reasons: dict[str, int]
    documents: list[PreviewDocument] = Field(description="The first documents.")
    rejected: list[PreviewRejected] = Field(description="The first rows that would be quarantined.")


def preview_source(
    config: SourceConfig, *, clean: CleanConfig, redact: RedactConfig, ocr: bool = False
) -> SourcePreview:
    """Read, clean and redact every row of a source, and return the first documents.

    Near duplicates and erased documents are not checked. A source that cannot be read is described.
    """
    redactor = Redactor(redact.model_copy(update={"key_file": None}), config.kind)
    try:
        return _previewed(config, clean, redactor, ocr=ocr)
    except InputError as error:
        refused = _refusal(config, error, redactor)
    if refused.proposed:
        with contextlib.suppress(InputError):
            preview = _previewed(config.model_copy(update=refused.proposed), clean, redactor, ocr=ocr)
            return preview.model_copy(update={"refused": refused})
    return SourcePreview(
        refused=refused, formats={}, fields={}, notes={}, marks={}, skipped={}, rows_in=0, rows_kept=0,
        rows_quarantined=0, quarantine_reasons={}, documents=[], rejected=[],
    )  # fmt: skip


def _refusal(config: SourceConfig, error: InputError, redactor: Redactor) -> SourceRefusal:
    files = [
        look.model_copy(update={"first_lines": [redactor.redact_text(line) for line in look.first_lines]})
        for look in look_at_files(config)
    ]
    proposed = propose_settings(config, error)
    return SourceRefusal(error=redactor.redact_text(str(error)), hint=error.hint, files=files, proposed=proposed)


def _previewed(config: SourceConfig, clean: CleanConfig, redactor: Redactor, *, ocr: bool) -> SourcePreview:
    log = ReadLog()
    documents: list[PreviewDocument] = []
    rejected: list[PreviewRejected] = []
    reasons: Counter[str] = Counter()
    seen: set[str] = set()
    texts: Counter[str] = Counter()
    rows_in = rows_kept = 0
    secret = secrets.token_bytes(32)
    names = FileNames(redactor, lambda: secret)
    for read in read_rows(config, log, ocr=ocr):
        row = names.hidden(read, config)
        rows_in += 1
        found: Document | RejectedRow
        if isinstance(row, RawRow):
            texts.update([config.text_name(row.values) or ""])
            found = clean_row(row, source="preview", config=config, clean=clean, redactor=redactor)
        else:
            found = row
        if isinstance(found, Document) and found.source_id in seen:
            detail = "its id came before; expected an id of its own"
            found = RejectedRow(row.file, row.row, RejectReason.DUPLICATE_ID, detail, "")
        if isinstance(found, Document):
            rows_kept += 1
            seen.add(found.source_id)
            if len(documents) < _SHOWN_DOCUMENTS:
                shown = PreviewDocument(id=found.source_id, title=found.title, text=found.text, metadata=found.metadata)
                documents.append(shown)
            continue
        reasons[str(found.reason)] += 1
        if len(rejected) < _SHOWN_REJECTED:
            detail = redactor.redact_text(found.detail)
            rejected.append(PreviewRejected(file=found.file, row=found.row, reason=str(found.reason), detail=detail))
    texts.pop("", None)
    text_field = ", ".join(config.text_fields) or next((name for name, _ in texts.most_common(1)), config.text_names[0])
    fields = {"id": config.id_field, "title": config.title_field, "text": text_field}
    return SourcePreview(
        formats=dict(log.formats.most_common()),
        fields={"format": config.format} if config.format else fields,
        notes=dict(log.notes.most_common()),
        marks=dict(log.marks.most_common()),
        skipped=dict(sorted(log.skipped.items())),
        rows_in=rows_in,
        rows_kept=rows_kept,
        rows_quarantined=rows_in - rows_kept,
        quarantine_reasons=dict(reasons.most_common()),
        documents=documents,
        rejected=rejected,
    )
