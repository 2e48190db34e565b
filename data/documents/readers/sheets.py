"""Reader of spreadsheets (XLSX, XLS, ODS): the first sheet with columns for id and text."""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Iterator
from pathlib import Path

from data.config import SourceConfig
from data.documents.readers.checks import check_columns, empty_file, require_content
from data.documents.readers.fields import canonical_names, has_id_and_text
from data.documents.readers.records import RecordRows
from data.documents.rows import RawRow, ReadLog, RejectedRow, RejectReason, make_excerpt
from data.errors import InputError

MAX_UNPACKED_BYTES = 2**30
"""Maximum size of an unpacked spreadsheet in bytes; it is read into memory as a whole."""

_MAX_PREAMBLE = 50
_Cells = list[object]


def read(path: Path, file: str, config: SourceConfig, log: ReadLog) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of the file; see :data:`data.documents.sources.READERS`."""
    require_content(path)
    sheets = _sheets(path)
    chosen = next(((name, rows, at) for name, rows in sheets if (at := _header(rows, config)) is not None), None)
    if chosen is None:
        filled = next((rows for _, rows in sheets if rows), None)
        if filled is None:
            raise empty_file(path)
        check_columns(path, canonical_names([str(cell) for cell in filled[0]], config), config)
        raise empty_file(path)
    name, rows, at = chosen
    if len(sheets) > 1:
        log.note("one sheet of several read")
        log.skipped.update({f"{file}: {other}": "another sheet" for other, found in sheets if other != name and found})
    if at:
        log.note(f"{at} line(s) before the header passed over")
    header = canonical_names([str(cell) for cell in rows[at]], config, log)
    check_columns(path, header, config)
    records = RecordRows(path, file, config, log)
    number = 0
    for cells in rows[at + 1 :]:
        if not any(cell not in ("", None) for cell in cells):
            continue
        number += 1
        if len(cells) > len(header) and any(cell not in ("", None) for cell in cells[len(header) :]):
            detail = f"{len(cells)} cells; expected {len(header)} as in the header"
            yield RejectedRow(file, number, RejectReason.WRONG_SHAPE, detail, make_excerpt(", ".join(map(str, cells))))
            continue
        cells = [*cells, *[""] * (len(header) - len(cells))]
        values = {name: cell for name, cell in zip(header, cells, strict=False) if name}
        for name in config.named_fields:
            if name in values and not isinstance(values[name], str):
                values[name] = str(values[name])
        yield records.row(number, values)


def _sheets(path: Path) -> list[tuple[str, list[_Cells]]]:
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > MAX_UNPACKED_BYTES:
                raise InputError(
                    f"'{path}' unpacks to {unpacked} bytes; at most {MAX_UNPACKED_BYTES} are read.",
                    hint="Save the sheet as CSV.",
                )
        workbook = CalamineWorkbook.from_path(str(path))
        found = [
            (name, workbook.get_sheet_by_name(name).to_python(skip_empty_area=True)) for name in workbook.sheet_names
        ]
    except (CalamineError, zipfile.BadZipFile, OSError, ValueError) as error:
        raise InputError(
            f"'{path}' is not a readable spreadsheet: {' '.join(str(error).split())[:200]}.",
            hint="Open it and save it again, or save the sheet as CSV.",
        ) from error
    return [(name, [[_cell(cell) for cell in row] for row in rows]) for name, rows in found]


def _cell(cell: object) -> object:
    """Convert a cell to a JSON value: whole numbers become integers, dates ISO 8601."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return int(cell)
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    if isinstance(cell, (datetime.date, datetime.time)):
        return cell.isoformat()
    return str(cell) if isinstance(cell, datetime.timedelta) else cell


def _header(rows: list[_Cells], config: SourceConfig) -> int | None:
    """Number of the first row that names id and text."""
    for at, cells in enumerate(rows[:_MAX_PREAMBLE]):
        if has_id_and_text(canonical_names([str(cell) for cell in cells], config), config):
            return at
    return None
