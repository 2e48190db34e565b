"""Sources: find the files of a source, and the reader for each file.

Readers of tables stream: they hold one row or one small batch in memory, never a whole file. CONTRIBUTING.md, "Adding",
explains how to add a format.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path, PurePath
from typing import TypeAlias

from data.config import SourceConfig
from data.documents.deliveries import has_dated_tables, newest_rows
from data.documents.extract.doc import doc_programs
from data.documents.extract.ocr import has_tesseract, languages
from data.documents.processes.workers import DocumentWorkers
from data.documents.readers import csv, documents, json_values, jsonl, linkedin, parquet, sheets, xml
from data.documents.readers.checks import readable
from data.documents.readers.formats import (
    OLE_SIGNATURE,
    PACKED,
    SUFFIXES,
    TABLES,
    Format,
    UnsupportedError,
    detect_format,
    promised_format,
)
from data.documents.readers.packed import unpacked
from data.documents.rows import RawRow, ReadLog, RejectedRow, RejectReason
from data.errors import InputError
from data.sample.read import BUNDLED_SAMPLE, read_sample_jobs, read_sample_resumes

Reader: TypeAlias = Callable[[Path, str, SourceConfig, ReadLog], Iterator[RawRow | RejectedRow]]
"""Reads one file. Arguments: path, name relative to the source's path, source settings, log."""

READERS: dict[Format, Reader] = {
    Format.JSONL: jsonl.read,
    Format.CSV: csv.read,
    Format.PARQUET: parquet.read,
    Format.JSON: json_values.read,
    Format.XML: xml.read,
    Format.SHEET: sheets.read,
    **{each: documents.read_as(each) for each in Format if each not in TABLES},
}
"""Readers by file format."""

READER_VERSION = 7
"""Version of the readers. Raise it when the same file gives different rows: all sources are then read again."""

_MARKER_FILES = frozenset({"_SUCCESS", "_metadata", "_common_metadata"})  # written by Spark and Dask
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})  # written by Windows and macOS


def read_rows(config: SourceConfig, log: ReadLog | None = None, *, ocr: bool = False) -> Iterator[RawRow | RejectedRow]:
    """Read all rows of a source, file by file in sorted order.

    Args:
        config: The source.
        log: Collects decisions of the readers, and skipped files.
        ocr: Recognise the text of PDF pages that have none.

    Yields:
        Every row of every file exactly once, raw or rejected. Blank lines are not rows. A file of an unsupported type
        is one rejected row.

    Raises:
        InputError: Nothing matches the path; no file has a supported type; or a table cannot be read or lacks the id
            or text column. The error may come after some rows, if the fault is at the end of a file: commit nothing
            before the iterator is exhausted.
    """
    if config.path.startswith("bundled:"):
        yield from _read_bundled(config)
        return
    log = log if log is not None else ReadLog()
    files = find_files(config.path, log)
    if config.format == "linkedin-export":
        yield from linkedin.read_exports(files, config, log)
        return
    texts = _texts_beside_tables([file for _, file in files])
    log.skipped.update(dict.fromkeys(texts, "a text beside tables"))
    files = [(path, file) for path, file in files if file not in texts]
    with DocumentWorkers(_documents(files, config), ocr=ocr) as workers:

        def read_file(path: Path, file: str) -> Iterator[RawRow | RejectedRow]:
            return _read_file(path, file, config, log, workers)

        if config.mode == "replace" and has_dated_tables([file for _, file in files]):
            log.note('tables with dates read as one delivery; with mode = "newest" the newest row of an id counts')
        if config.mode == "newest":
            yield from newest_rows(files, config, log, read_file)
            return
        for path, file in files:
            yield from read_file(path, file)


def _documents(files: list[tuple[Path, str]], config: SourceConfig) -> list[tuple[Path, Format]]:
    """Files that workers read, with their formats: they hold one document each and are not packed.

    Old Word files are read by programs of their own, and a web page may hold several postings.
    """
    others = {*TABLES, Format.DOC, *((Format.HTML,) if config.kind == "job" else ())}
    found = []
    for path, file in files:
        if path.suffix.lower() in PACKED or promised_format(file) in TABLES:
            continue
        try:
            kind = detect_format(path, file)
        except (UnsupportedError, OSError):  # the row of the file says so
            continue
        if kind not in others:
            found.append((path, kind))
    return found


def _read_file(
    path: Path, file: str, config: SourceConfig, log: ReadLog, workers: DocumentWorkers
) -> Iterator[RawRow | RejectedRow]:
    promised = promised_format(file)
    with ExitStack() as stack:
        try:
            inner = stack.enter_context(unpacked(path))
        except InputError as error:
            if promised in TABLES:
                raise
            yield RejectedRow(file, 1, RejectReason.UNREADABLE_FILE, str(error).replace(f"'{path}'", "it"), "")
            return
        try:
            with readable(path):
                found = detect_format(inner, file) if inner.is_file() else promised
        except UnsupportedError as error:
            yield RejectedRow(file, 1, RejectReason.UNSUPPORTED_FILE, f"{error}", "")
            return
        if found is None:
            yield RejectedRow(file, 1, RejectReason.UNSUPPORTED_FILE, "no file that can be read", "")
            return
        if promised is not None and found is not promised:
            log.note(f"{promised} by its name, read as {found}")
        log.formats[str(found)] += 1
        if inner == path and (reading := workers.reading(path)) is not None:
            yield documents.document_row(reading, file, config, log)
            return
        reader = documents.read_as(found, ocr=True) if workers.ocr and found is Format.PDF else READERS[found]
        rows = reader(inner, file, config, log)
        if config.makes_ids and found in TABLES:
            rows = _with_ids(rows, file, config, log)
        try:
            yield from rows
        except InputError as error:
            if promised in TABLES:
                raise
            # A table among documents, or in place of one: it must not keep the others from being read.
            yield RejectedRow(file, 1, RejectReason.UNREADABLE_FILE, str(error).replace(f"'{inner}'", "it"), "")


def _with_ids(
    rows: Iterator[RawRow | RejectedRow], file: str, config: SourceConfig, log: ReadLog
) -> Iterator[RawRow | RejectedRow]:
    """Rows with ids that are made from their number, or from all their values."""
    log.note("ids made from row numbers" if config.id_field == "#row" else "ids made from the content of rows")
    for row in rows:
        if isinstance(row, RawRow):
            row.values[config.id_field] = f"{file}#{row.row}" if config.id_field == "#row" else _content_id(row)
        yield row


def _content_id(row: RawRow) -> str:
    try:
        content = json.dumps(row.values, sort_keys=True, default=str)
    except RecursionError:  # it will be rejected
        content = f"{row.file}#{row.row}"
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def _texts_beside_tables(files: list[str]) -> frozenset[str]:
    """Text files beside tables, such as a README, which are not documents."""
    promised = {file: promised_format(file) for file in files}
    if not any(found in TABLES for found in promised.values()):
        return frozenset()
    return frozenset(file for file, found in promised.items() if found in (Format.TEXT, Format.HTML))


def source_sha256(config: SourceConfig, *, ocr: bool = False) -> str | None:
    """Hash of everything that determines the rows of a source: the bytes of its files, and its settings.

    The installed programs that read old Word files and scans are part of it, if the source has such files: it is read
    again after one of them was installed.

    None for the bundled sample, which has no files of its own.

    Raises:
        InputError: As for :func:`read_rows`, or a file cannot be read.
    """
    if config.path.startswith("bundled:"):
        return None
    digest = hashlib.sha256(f"{READER_VERSION} {config.decisive_json()}".encode())
    programs: set[str] = set()
    for path, file in find_files(config.path):
        with readable(path), path.open("rb") as handle:
            head = handle.read(len(OLE_SIGNATURE))
            handle.seek(0)
            digest.update(f"\n{file!r} ".encode() + hashlib.file_digest(handle, "sha256").digest())
        promised = promised_format(file)
        if promised is Format.DOC or (head == OLE_SIGNATURE and promised is not Format.SHEET):
            programs.update(doc_programs())
        if ocr and (promised is Format.PDF or head.startswith(b"%PDF")) and has_tesseract():
            programs.add(f"tesseract {languages()}")
    if programs:
        digest.update(f"\nread by {sorted(programs)}".encode())
    return digest.hexdigest()


def find_files(path: str, log: ReadLog | None = None) -> list[tuple[Path, str]]:
    """Find the files of a source. Hidden files and files of the operating system or Parquet writers are skipped.

    Args:
        path: File, folder or glob.
        log: Collects skipped files.

    Returns:
        Path and relative name of each file, sorted by name.

    Raises:
        InputError: There is no file; none has a supported type; or a link leads out of the folder. Write access to the
            folder must not give control over reading other files.
    """
    base, candidates = _candidates(path)
    found = []
    for candidate in candidates:
        if candidate.is_dir():
            continue
        relative = candidate.relative_to(base)
        reason = _passed_over(relative)
        if reason is None:
            found.append((candidate, relative.as_posix()))
        elif log is not None:
            log.skipped[relative.as_posix()] = reason
    if not found:
        is_there = Path(path).expanduser().exists() or any(char in path for char in "*?[")
        raise InputError(
            f"'{path}' {'has no files to read' if is_there else 'does not exist'}; expected {_expected()}.",
            hint=f"Check the path; a relative one starts at the working directory ({Path.cwd()}), hidden files are "
            "skipped.",
        )
    named, inside = Path(path).expanduser(), base.resolve()
    outside = sorted(
        file for candidate, file in found if candidate != named and not candidate.resolve().is_relative_to(inside)
    )
    if outside:
        raise InputError(
            f"'{path}' has {len(outside)} link(s) that lead out of '{base}': {_shown(outside)}; "
            "expected files inside it.",
            hint="Use the folder that contains the files, or copy them.",
        )
    if not any(_may_be_read(candidate, file) for candidate, file in found):
        strange = sorted(file for _, file in found)
        raise InputError(
            f"'{path}' has {len(strange)} file(s) of a type that cannot be read: {_shown(strange)}; "
            f"expected {_expected()}.",
            hint="Save the documents as PDF, DOCX or text, and tables as CSV, JSON lines or a spreadsheet.",
        )
    return sorted(found, key=lambda pair: pair[1])


def _candidates(path: str) -> tuple[Path, Iterable[Path]]:
    """Base directory and the pattern below it. An existing name is never treated as a glob."""
    target = Path(path).expanduser()
    with readable(target):
        if target.is_dir():
            return target, list(_walk(target))
        if target.exists() or not any(char in path for char in "*?["):
            return target.parent, [target] if target.exists() else []
    parts = target.parts
    fixed = next(index for index, part in enumerate(parts) if any(char in part for char in "*?["))
    base = Path(*parts[:fixed])
    if ".." in parts[fixed:]:
        raise InputError(
            f"'{path}' leads out of '{base}' by a '..' after a wildcard; expected '..' before it.",
            hint="Use the folder that contains the files.",
        )
    try:
        return base, list(base.glob(str(PurePath(*parts[fixed:]))))
    except ValueError as error:
        raise InputError(
            f"'{path}' is not a valid glob: {error}.", hint="Use '**' only as a whole folder name."
        ) from error


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder. Unlike ``rglob``, raises for unreadable folders, and follows no links to folders."""

    def fail(error: OSError) -> None:
        raise error

    for directory, _, names in os.walk(folder, onerror=fail):
        yield from (Path(directory, name) for name in names)


def _shown(files: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in files[:3]) + (" …" if len(files) > 3 else "")


def _passed_over(relative: PurePath) -> str | None:
    """Reason for skipping a file; None if it belongs to the source."""
    if relative.name in _MARKER_FILES:
        return "a marker of a Parquet writer"
    if relative.name.lower() in _SYSTEM_FILES or "__MACOSX" in relative.parts:
        return "a file of the operating system"
    # "~$name.docx" is the lock file that a word processor writes beside an open document.
    if any(part.startswith((".", "~$")) for part in relative.parts):
        return "a hidden file"
    return None


def _may_be_read(path: Path, file: str) -> bool:
    """Return whether the name or content of a file has a supported type."""
    if promised_format(file) is not None:
        return True
    try:
        with unpacked(path) as inner:
            detect_format(inner, file)
    except (UnsupportedError, OSError):
        return False
    return True


def _expected() -> str:
    suffixes = ", ".join(SUFFIXES)
    return f"files ending in {suffixes} (also with {' or '.join(PACKED)}), or '{BUNDLED_SAMPLE}'"


def _read_bundled(config: SourceConfig) -> Iterator[RawRow | RejectedRow]:
    if config.path != BUNDLED_SAMPLE:
        raise InputError(
            f"'{config.path}' is not bundled; expected '{BUNDLED_SAMPLE}'.", hint=f"Use '{BUNDLED_SAMPLE}'."
        )
    rows = read_sample_jobs() if config.kind == "job" else read_sample_resumes()
    for number, values in enumerate(rows, start=1):
        yield RawRow(BUNDLED_SAMPLE, number, dict(values))
