"""Sources: reading a named place of documents into raw rows, without losing one.

Belongs here: file formats (JSONL, CSV, Parquet, PDF, DOCX), finding the files of a source, and the faults that a
format can have. A row that cannot be read becomes a :class:`RejectedRow`; a file that cannot be read at all is the
caller's mistake and raises :class:`~data.errors.InputError`. Everything streams: memory is bounded by one row, or one
small record batch, never by the size of a file.

Does not belong here: what a good document is (``clean``), and what becomes of it (``snapshot``).
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path, PurePath
from typing import BinaryIO, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data.config import DEFAULT_TEXT_FIELDS, SourceConfig
from data.errors import InputError

BUNDLED_SAMPLE = "bundled:sample"
MAX_ROW_BYTES = 64 * 2**20
"""Longest line or cell that is read, in bytes: a file without line breaks must not fill the memory."""
MAX_UNPACKED_BYTES = 256 * 2**20
"""Largest PDF, and largest DOCX after unpacking, in bytes: a small archive can hide a huge document."""
MAX_XML_BYTES = 8 * 2**20
"""Largest part of a DOCX that is parsed, in bytes after unpacking: some thousand pages of text."""
MAX_PARAGRAPHS = 100_000
"""Paragraphs and table rows of a DOCX, at most: reading 8 MiB of empty ones would take minutes."""
MAX_PAGES = 5000
"""Pages of a PDF, at most: pages may share one huge content, so that the size of the file bounds nothing."""

_BATCH_ROWS = 512
_BATCH_BYTES = 64 * 2**20
_MAX_ROWS_PER_BYTE = 64  # of a Parquet file: rows that differ, if only in their id, need more
_MAX_RATIO = 1000  # of a column chunk, unpacked to packed
_MAX_CHUNK_BYTES = 2**30  # of an unpacked column chunk beyond that ratio
_MAX_VALUES_PER_ROW = 2**24  # of a column of lists, on average
_EXCERPT_CHARS = 200
_MARKER_FILES = frozenset({"_SUCCESS", "_metadata", "_common_metadata"})  # what Spark and Dask put beside Parquet
_SURROGATE = re.compile("[\ud800-\udfff]")


class RejectReason(StrEnum):
    """Why a row was rejected. A closed set: reports count by it."""

    BAD_JSON = "bad_json"
    NOT_AN_OBJECT = "not_an_object"
    INVALID_UTF8 = "invalid_utf8"
    NUL_BYTES = "nul_bytes"
    ROW_TOO_LARGE = "row_too_large"
    WRONG_SHAPE = "wrong_shape"
    UNREADABLE_FILE = "unreadable_file"
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
    """One row as its file has it.

    Attributes:
        file: File it came from, relative to the source's path.
        row: 1-based number in that file: the line of JSONL, else the row without the header.
        values: Field name to value, not yet judged.
    """

    file: str
    row: int
    values: dict[str, object]


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """One row that does not become a document, and why.

    Attributes:
        file: File it came from, relative to the source's path.
        row: 1-based number in that file, as in :class:`RawRow`.
        reason: Word of the closed set.
        detail: What was found and what was expected.
        excerpt: Beginning of the raw row, made printable.
    """

    file: str
    row: int
    reason: RejectReason
    detail: str
    excerpt: str


def read_rows(config: SourceConfig) -> Iterator[RawRow | RejectedRow]:
    """Read all rows of a source, file by file in sorted order.

    Args:
        config: The source.

    Yields:
        Every row of every file exactly once, as it is or rejected. Blank lines are no rows.

    Raises:
        InputError: Nothing matches the path, a file has an extension that cannot be read, a tabular file cannot be
            read at all, or lacks the id or text column. May be raised after rows were yielded, when only the end of
            the file shows the fault: commit nothing before the iterator is exhausted.
    """
    if config.path.startswith("bundled:"):
        yield from _read_bundled(config)
        return
    for path, file in find_files(config.path):
        yield from _READERS[path.suffix.lower()](path, file, config)


def source_sha256(config: SourceConfig) -> str | None:
    """Hash of everything that the rows of a source come from: the bytes of its files, and which fields are read.

    None for a bundled source, which has no files of its own.

    Raises:
        InputError: As :func:`read_rows`; or a file cannot be read.
    """
    if config.path.startswith("bundled:"):
        return None
    digest = hashlib.sha256(config.model_dump_json(exclude={"path"}).encode())
    for path, file in find_files(config.path):
        with _readable(path), path.open("rb") as handle:
            digest.update(f"\n{file!r} ".encode() + hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def find_files(path: str) -> list[tuple[Path, str]]:
    """Files of a source's path, each with its name relative to the path, sorted by that name.

    Hidden files and the marker files of Parquet writers are skipped.

    Raises:
        InputError: Nothing is there, a file has an extension that cannot be read, or a link inside of a folder leads
            out of it: who may write into the folder must not choose what else is read.
    """
    base, candidates = _candidates(path)
    found = [
        (candidate, candidate.relative_to(base).as_posix())
        for candidate in candidates
        if not candidate.is_dir() and not _is_hidden(candidate.relative_to(base))
    ]
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
            "expected files inside of it.",
            hint="Name the folder that the files lie in, or copy them.",
        )
    strange = sorted(file for candidate, file in found if candidate.suffix.lower() not in _READERS)
    if strange:
        raise InputError(
            f"'{path}' has {len(strange)} file(s) of a type that cannot be read: {_shown(strange)}; "
            f"expected {_expected()}.",
            hint="Save a spreadsheet as 'CSV UTF-8'; move other files away, or name the wanted ones with a glob "
            "such as 'folder/*.jsonl'.",
        )
    return sorted(found, key=lambda pair: pair[1])


def make_excerpt(raw: bytes | str | Mapping[str, object]) -> str:
    """The beginning of a raw row in printable characters."""
    if isinstance(raw, bytes):
        text = raw[: 4 * _EXCERPT_CHARS].decode("utf-8", "backslashreplace")
    elif isinstance(raw, str):
        text = raw
    else:
        pairs = islice(raw.items(), 20)
        text = ", ".join(
            f"{name}: {value[:_EXCERPT_CHARS] if isinstance(value, str) else value}" for name, value in pairs
        )
    shown = text[:_EXCERPT_CHARS]
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)


def has_surrogates(text: str) -> bool:
    """Whether ``text`` holds half characters, which no UTF-8 can store (bytes that were not UTF-8 become such)."""
    return not text.isascii() and _SURROGATE.search(text) is not None


# --- finding files ----------------------------------------------------------------------------------------------------


def _candidates(path: str) -> tuple[Path, Iterable[Path]]:
    """Base directory and what lies under the path; a name that exists is never taken for a glob."""
    target = Path(path).expanduser()
    with _readable(target):
        if target.is_dir():
            return target, list(_walk(target))
        if target.exists() or not any(char in path for char in "*?["):
            return target.parent, [target] if target.exists() else []
    parts = target.parts
    fixed = next(index for index, part in enumerate(parts) if any(char in part for char in "*?["))
    base = Path(*parts[:fixed])
    if ".." in parts[fixed:]:
        raise InputError(
            f"'{path}' leads out of '{base}' by a '..' behind a wildcard; expected '..' before it.",
            hint="Name the folder that the files lie in.",
        )
    try:
        return base, list(base.glob(str(PurePath(*parts[fixed:]))))
    except ValueError as error:
        raise InputError(
            f"'{path}' is no valid glob: {error}.", hint="Use '**' only as a whole folder name."
        ) from error


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder. Unlike ``rglob`` it raises where it may not look; links to folders are not followed."""

    def fail(error: OSError) -> None:
        raise error

    for directory, _, names in os.walk(folder, onerror=fail):
        yield from (Path(directory, name) for name in names)


def _shown(files: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in files[:3]) + (" …" if len(files) > 3 else "")


def _is_hidden(relative: PurePath) -> bool:
    # "~$name.docx" is the lock that a word processor leaves beside an open document.
    return any(part.startswith((".", "~$")) for part in relative.parts) or relative.name in _MARKER_FILES


def _expected() -> str:
    return f"files ending in {', '.join(_READERS)}, or '{BUNDLED_SAMPLE}'"


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what the operating system or Arrow says about a file into one sentence with a remedy."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).splitlines()[0]
        raise InputError(
            f"'{path}' could not be read: {reason}.", hint="Check that the file is complete and its permissions."
        ) from error
    except (pa.ArrowException, UnicodeDecodeError) as error:  # the latter for damaged names of columns
        raise InputError(
            f"'{path}' is no readable Parquet file: {str(error).splitlines()[0]}",
            hint="The file is damaged or cut off; copy or write it again.",
        ) from error


def _require_content(path: Path) -> None:
    with _readable(path):
        if not path.is_file():
            raise InputError(f"'{path}' is no regular file.", hint="Name a file, a folder or a glob.")
        if path.stat().st_size == 0:
            raise _empty(path)


def _empty(path: Path) -> InputError:
    return InputError(f"'{path}' is empty; expected at least one row.", hint="Write the file again, or leave it out.")


# --- columns ----------------------------------------------------------------------------------------------------------


def _check_columns(path: Path, columns: Iterable[str], config: SourceConfig) -> None:
    """Raise unless id and text are among ``columns``, each once; all faults in one message."""
    counted = Counter(columns)
    wanted = [config.text_field] if config.text_field else list(DEFAULT_TEXT_FIELDS)
    faults = []
    if config.id_field not in counted:
        faults.append(f"no id column '{config.id_field}' (set id_field)")
    if config.text_name(counted) is None:
        faults.append(f"no text column {' or '.join(repr(name) for name in wanted)} (set text_field, --text-field)")
    faults += [
        f"{counted[name]} columns named '{name}'"
        for name in (config.id_field, config.title_field, *wanted)
        if counted[name] > 1
    ]
    if faults:
        shown = ", ".join(islice(sorted(counted), 30)) or "none"
        raise InputError(
            f"'{path}' has {' and '.join(faults)}; columns found: {shown}.",
            hint="Name the columns that hold the id and the text with id_field and text_field of the source.",
        )


class _SeenFields:
    """Remembers which fields the objects of a JSONL file had: a field that no object has is a missing column."""

    def __init__(self) -> None:
        self.num_objects = 0
        self.names: set[str] = set()

    def add(self, values: Mapping[str, object]) -> None:
        self.num_objects += 1
        if len(self.names) < 10_000:  # objects with random keys must not fill the memory
            self.names.update(values)


# --- JSON lines -------------------------------------------------------------------------------------------------------


def _read_jsonl(path: Path, file: str, config: SourceConfig) -> Iterator[RawRow | RejectedRow]:
    _require_content(path)
    seen = _SeenFields()
    row = None
    with _readable(path), path.open("rb") as handle:
        for number, line, size in _bounded_lines(handle):
            row = _parse_json(line, file=file, number=number, size=size)
            if isinstance(row, RawRow):
                seen.add(row.values)
            yield row
    if row is None:
        raise _empty(path)
    if seen.num_objects:
        _check_columns(path, seen.names, config)


def _bounded_lines(handle: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """Number, content and size of each line that is not blank; of a longer line than the limit only the beginning."""
    limit = MAX_ROW_BYTES
    number = 0
    while line := handle.readline(limit + 1):
        number += 1
        size = len(line.rstrip(b"\r\n"))
        end = line
        while len(end) == limit + 1 and not end.endswith(b"\n"):
            line = line[: 4 * _EXCERPT_CHARS]  # the rest of too long a line is skipped, not kept
            end = handle.readline(limit + 1)
            size += len(end.rstrip(b"\r\n"))
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line.strip():
            yield number, line, size


def _parse_json(line: bytes, *, file: str, number: int, size: int) -> RawRow | RejectedRow:
    def reject(reason: RejectReason, detail: str) -> RejectedRow:
        return RejectedRow(file, number, reason, detail, make_excerpt(line))

    if size > MAX_ROW_BYTES:
        return reject(RejectReason.ROW_TOO_LARGE, f"line of {size} bytes; expected at most {MAX_ROW_BYTES}")
    if b"\0" in line:
        return reject(RejectReason.NUL_BYTES, f"NUL byte at position {line.index(0)}; expected text without NUL bytes")
    try:
        values = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return reject(RejectReason.INVALID_UTF8, f"{error.reason} at byte {error.start}; expected UTF-8")
    except RecursionError:
        return reject(RejectReason.BAD_JSON, "nested too deeply; expected one flat JSON object a line")
    except ValueError as error:  # also numbers of more digits than Python converts
        return reject(RejectReason.BAD_JSON, f"{error}; expected one complete JSON object a line")
    if not isinstance(values, dict):
        return reject(RejectReason.NOT_AN_OBJECT, f"JSON {type(values).__name__}; expected an object")
    return RawRow(file, number, values)


# --- CSV --------------------------------------------------------------------------------------------------------------


class _LineTooLongError(csv.Error):
    """A line is longer than the limit; the rest of it was skipped."""


class _BoundedTextLines:
    """Lines of a text file for the csv module; a class, because a generator would end at its first error."""

    def __init__(self, handle: TextIO) -> None:
        self._handle = handle

    def __iter__(self) -> _BoundedTextLines:
        return self

    def __next__(self) -> str:
        limit = MAX_ROW_BYTES
        line = self._handle.readline(limit + 1)
        if not line:
            raise StopIteration
        if len(line) <= limit or line.endswith(("\n", "\r")):
            return line
        while rest := self._handle.readline(limit + 1):
            if len(rest) <= limit or rest.endswith(("\n", "\r")):
                break
        raise _LineTooLongError(f"line of more than {limit} characters")


def _read_csv(path: Path, file: str, config: SourceConfig) -> Iterator[RawRow | RejectedRow]:
    _require_content(path)
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ROW_BYTES))
    with _readable(path), path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
        reader = csv.reader(_BoundedTextLines(handle), strict=True)
        header = _read_header(path, reader)
        _check_columns(path, header, config)
        number = 0
        while True:
            line = reader.line_num
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                number += 1
                yield _reject_csv(error, file=file, number=number, lines=(line + 1, reader.line_num))
                continue
            if cells:  # a blank line is no row
                number += 1
                yield _parse_cells(cells, header=header, file=file, number=number)


def _read_header(path: Path, reader: Iterator[list[str]]) -> list[str]:
    try:
        header = next((cells for cells in reader if cells), None)
    except csv.Error as error:
        raise InputError(
            f"'{path}' has no readable header: {error}.", hint="Write the file as comma-separated CSV."
        ) from error
    if header is None:
        raise _empty(path)
    joined = ",".join(header)
    if has_surrogates(joined) or "\0" in joined:
        raise InputError(
            f"'{path}' has a header that is not UTF-8: {make_excerpt(joined)}",
            hint="Convert the file to UTF-8, for example with iconv, or save the spreadsheet as 'CSV UTF-8'.",
        )
    separator = next((found for found in ";\t|" if len(header) == 1 and found in joined), None)
    if separator is not None:
        raise InputError(
            f"'{path}' has a header of one column, {make_excerpt(joined)}, as if {separator!r} separated the columns; "
            "expected commas.",
            hint="Save the file with commas between the columns and quotes around cells that hold commas.",
        )
    return header


def _reject_csv(error: csv.Error, *, file: str, number: int, lines: tuple[int, int]) -> RejectedRow:
    too_long = isinstance(error, _LineTooLongError) or "field larger" in str(error)
    reason = RejectReason.ROW_TOO_LARGE if too_long else RejectReason.WRONG_SHAPE
    where = f"line {lines[0]}" if lines[1] <= lines[0] else f"lines {lines[0]} to {lines[1]}"
    return RejectedRow(file, number, reason, f"{error} in {where}; expected properly quoted cells", "")


def _parse_cells(cells: list[str], *, header: list[str], file: str, number: int) -> RawRow | RejectedRow:
    joined = ",".join(cells)
    if "\0" in joined:
        detail = f"NUL byte at position {joined.index(chr(0))}; expected text without NUL bytes"
        return RejectedRow(file, number, RejectReason.NUL_BYTES, detail, make_excerpt(joined))
    if has_surrogates(joined):
        detail = "bytes that are no characters; expected UTF-8"
        return RejectedRow(file, number, RejectReason.INVALID_UTF8, detail, make_excerpt(joined))
    if len(cells) != len(header):
        detail = f"{len(cells)} cells; expected {len(header)} as in the header"
        return RejectedRow(file, number, RejectReason.WRONG_SHAPE, detail, make_excerpt(joined))
    return RawRow(file, number, dict(zip(header, cells, strict=True)))


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _read_parquet(path: Path, file: str, config: SourceConfig) -> Iterator[RawRow | RejectedRow]:
    _require_content(path)
    with _readable(path), pq.ParquetFile(path, page_checksum_verification=True) as parquet:
        _check_columns(path, parquet.schema_arrow.names, config)
        _check_types(path, parquet.schema_arrow, config)
        _check_sizes(path, parquet.metadata)
        strings = [field.name for field in parquet.schema_arrow if _is_string(field.type)]
    number = 0
    # Strings stay in the file's dictionary until it is known what they unpack to.
    with _readable(path), pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=strings) as parquet:
        for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
            for part in _bounded_batches(batch):
                yield from _parse_batch(part, file=file, before=number)
                number += part.num_rows


def _check_sizes(path: Path, metadata: pq.FileMetaData) -> None:
    """Refuse a file that declares far more than so small a file can honestly hold."""
    size_bytes = path.stat().st_size
    fault = None
    if metadata.num_rows > _MAX_ROWS_PER_BYTE * size_bytes:
        fault = f"{metadata.num_rows} rows in {size_bytes} bytes; expected at most {_MAX_ROWS_PER_BYTE} a byte"
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for index in range(group.num_columns):
            chunk = group.column(index)
            unpacked = chunk.total_uncompressed_size
            if unpacked > max(_MAX_CHUNK_BYTES, _MAX_RATIO * chunk.total_compressed_size):
                fault = f"{chunk.total_compressed_size} bytes of '{chunk.path_in_schema}' that unpack to {unpacked}"
            if chunk.num_values > _MAX_VALUES_PER_ROW * max(group.num_rows, 1):
                fault = f"{chunk.num_values} values of '{chunk.path_in_schema}' in {group.num_rows} rows"
    if fault:
        raise InputError(
            f"'{path}' declares {fault}.", hint="It looks like a bomb. If it is none, write it in smaller row groups."
        )


def _bounded_batches(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The rows of a batch with their strings unpacked, in parts of bounded size.

    A row that is too large by itself is a part by itself: one cell is bounded by its page, and ``clean`` rejects it.
    """
    sizes = np.zeros(batch.num_rows, dtype=np.int64)
    for column in batch.columns:
        if pa.types.is_dictionary(column.type):
            lengths = pc.take(pc.binary_length(column.dictionary), column.indices)
            sizes += pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False)
    start = 0
    while start < batch.num_rows:
        stop = start + max(1, int(np.searchsorted(np.cumsum(sizes[start:]), _BATCH_BYTES, side="right")))
        part = batch.slice(start, stop - start)
        columns = [each.dictionary_decode() if pa.types.is_dictionary(each.type) else each for each in part.columns]
        yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
        start = stop


def _check_types(path: Path, schema: pa.Schema, config: SourceConfig) -> None:
    text_name = config.text_name(schema.names)
    rules: list[tuple[str, str, Callable[[pa.DataType], bool]]] = [
        ("id", config.id_field, lambda found: _is_string(found) or pa.types.is_integer(found)),
        ("title", config.title_field, lambda found: _is_string(found) or pa.types.is_null(found)),
        ("text", str(text_name), _is_string),
    ]
    faults = [
        f"{role} column '{name}' of type {schema.field(name).type}"
        for role, name, is_right in rules
        if name in schema.names and not is_right(schema.field(name).type)
    ]
    if faults:
        raise InputError(
            f"'{path}' has a {' and a '.join(faults)}; expected strings (integers too for the id).",
            hint="Write the column as strings, or name another one with id_field, title_field or text_field.",
        )


def _is_string(found: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    return bool(pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found))


def _parse_batch(batch: pa.RecordBatch, *, file: str, before: int) -> Iterator[RawRow | RejectedRow]:
    """Rows of a batch; a value that Python cannot hold costs its own row, not the batch."""
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):
        rows = None
    for index in range(batch.num_rows):
        number = before + index + 1
        try:
            values = rows[index] if rows is not None else batch.slice(index, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            detail = f"{error.reason} at byte {error.start}; expected UTF-8"
            yield RejectedRow(file, number, RejectReason.INVALID_UTF8, detail, make_excerpt(error.object))
        except (ValueError, OverflowError) as error:
            detail = f"a value that cannot be represented: {error}"
            yield RejectedRow(file, number, RejectReason.WRONG_TYPE, detail, "")
        else:
            yield RawRow(file, number, values)


# --- PDF and DOCX -----------------------------------------------------------------------------------------------------


def _read_document(path: Path, file: str, config: SourceConfig) -> Iterator[RawRow | RejectedRow]:
    """One file is one row. One that cannot be read is quarantined: hundreds of good ones may lie beside it."""
    extract = _pdf_text if path.suffix.lower() == ".pdf" else _docx_text
    try:
        text = extract(path)
    except Exception as error:  # the parsers raise nearly every type on files that break the format
        reason = " ".join(str(error).split())[:_EXCERPT_CHARS] or "no further reason"
        detail = f"{type(error).__name__}: {reason}; expected a readable {path.suffix.lower()} file"
        yield RejectedRow(file, 1, RejectReason.UNREADABLE_FILE, detail, "")
        return
    text_field = config.text_field or DEFAULT_TEXT_FIELDS[0]
    yield RawRow(file, 1, {config.title_field: path.stem, text_field: text, config.id_field: file})


def _pdf_text(path: Path) -> str:
    from pypdf import PdfReader  # here, because most sources have no PDFs and it takes a while to import

    size_bytes = path.stat().st_size
    if size_bytes > MAX_UNPACKED_BYTES:
        raise ValueError(f"{size_bytes} bytes, at most {MAX_UNPACKED_BYTES} are read")
    texts: list[str] = []
    with path.open("rb") as handle:
        reader = PdfReader(handle)
        if len(reader.pages) > MAX_PAGES:
            raise ValueError(f"{len(reader.pages)} pages, at most {MAX_PAGES} are read")
        num_chars = 0
        for page in reader.pages:
            texts.append(page.extract_text())
            num_chars += len(texts[-1])
            if num_chars > MAX_ROW_BYTES:
                raise ValueError(f"more than {MAX_ROW_BYTES} characters of text")
    return "\n\n".join(texts)


def _docx_text(path: Path) -> str:
    """Paragraphs and tables of the body in reading order; a table row is one line.

    Nothing is unpacked to disk, so that the names in the archive lead nowhere.
    """
    import docx
    from docx.table import Table, _Cell

    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_UNPACKED_BYTES:
        raise ValueError(f"unpacks to {unpacked} bytes, at most {MAX_UNPACKED_BYTES} are read")
    parsed = max((member.file_size for member in members if member.filename.endswith((".xml", ".rels"))), default=0)
    if parsed > MAX_XML_BYTES:
        raise ValueError(f"has a part that unpacks to {parsed} bytes of XML, at most {MAX_XML_BYTES} are parsed")
    lines: list[str] = []
    for block in docx.Document(str(path)).iter_inner_content():
        if isinstance(block, Table):
            # The cells as they are written: `row.cells` repeats a merged one as often as the file says.
            rows = ([_Cell(cell, block).text for cell in row._tr.tc_lst] for row in block.rows)
            lines += [" | ".join(filter(None, cells)) for cells in rows]
        else:
            lines.append(block.text)
        if len(lines) > MAX_PARAGRAPHS:
            raise ValueError(f"more than {MAX_PARAGRAPHS} paragraphs")
    return "\n".join(lines)


# --- the bundled sample -----------------------------------------------------------------------------------------------


def _read_bundled(config: SourceConfig) -> Iterator[RawRow | RejectedRow]:
    if config.path != BUNDLED_SAMPLE:
        raise InputError(
            f"'{config.path}' is not bundled; expected '{BUNDLED_SAMPLE}'.", hint=f"Use '{BUNDLED_SAMPLE}'."
        )
    from data.sample.read import read_sample_jobs, read_sample_resumes

    rows = read_sample_jobs() if config.kind == "job" else read_sample_resumes()
    for number, values in enumerate(rows, start=1):
        yield RawRow(BUNDLED_SAMPLE, number, dict(values))


_READERS: dict[str, Callable[[Path, str, SourceConfig], Iterator[RawRow | RejectedRow]]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".pdf": _read_document,
    ".docx": _read_document,
}
