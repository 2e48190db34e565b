"""Folders of deliveries: of the rows with the same id, the one of the newest file counts.

The date in a file's name decides which file is newer. Modification times do not: a copy or a repeated delivery changes
them. Rows that a newer delivery replaces are counted in the log and not passed on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path, PurePath
from typing import TypeAlias

from data.config import SourceConfig
from data.documents.readers.formats import TABLES, promised_format
from data.documents.rows import RawRow, ReadLog, RejectedRow
from data.errors import InputError

_DATE = re.compile(
    r"(?<!\d)(?P<day>\d{4}(?P<sep>[-_.]?)\d{2}(?P=sep)\d{2})"
    r"(?:[T_ .-]?(?P<time>\d{2}[-_.:h]?\d{2}(?:[-_.:m]?\d{2})?))?(?!\d)",
    re.ASCII,
)
_SHOWN = 3

_File: TypeAlias = tuple[Path, str]
_ReadFile: TypeAlias = Callable[[Path, str], Iterator[RawRow | RejectedRow]]


def newest_rows(
    files: list[_File], config: SourceConfig, log: ReadLog, read_file: _ReadFile
) -> Iterator[RawRow | RejectedRow]:
    """Rows of dated files, the newest delivery first, without the rows that a newer delivery replaces.

    A newer row replaces an older one even if it is rejected later: a row without text withdraws its document. Files
    with the same date are one delivery, such as parts of one export.

    Args:
        files: Path and name of each file of the source.
        config: The source.
        log: Collects the number of replaced rows, and empty files.
        read_file: Reads one file.

    Raises:
        InputError: A name has no date, or several; or two files of one date have different rows with the same id.
    """
    dated = sorted(_with_dates(files), key=lambda each: (-each[0].timestamp(), each[2]))
    known: set[bytes] = set()
    for date, group in groupby(dated, key=lambda each: each[0]):
        delivered: dict[bytes, tuple[str, bytes]] = {}
        for _, path, file in group:
            if path.is_file() and path.stat().st_size == 0:
                log.skipped[file] = "an empty file"
                continue
            for row in read_file(path, file):
                key = _key(row, config)
                if key is None:
                    yield row
                elif key in known:
                    log.num_replaced += 1
                else:
                    _check_agrees(row, key, delivered, date)
                    yield row
        known.update(delivered)


def has_dated_tables(files: list[str]) -> bool:
    """Return whether the names of several tables differ by their dates only, as those of daily deliveries do."""
    names = [_DATE.sub("", file) for file in files if promised_format(file) in TABLES and _DATE.search(file)]
    return len(set(names)) < len(names)


def delivery_date(file: str) -> datetime | None:
    """Date and time in the name of a file, otherwise of its innermost folder with a date. None if there is none.

    The year comes first, as in ``jobs-2026-01-31.csv`` or ``20260131T1830/jobs.csv``: ``01-02-2026`` is ambiguous.

    Raises:
        ValueError: The name has several dates.
    """
    for part in reversed(PurePath(file).parts):
        found = {date for match in _DATE.finditer(part) if (date := _parsed(match)) is not None}
        if len(found) > 1:
            raise ValueError(f"'{part}' has {len(found)} dates")
        if found:
            return found.pop()
    return None


def _parsed(match: re.Match[str]) -> datetime | None:
    day = re.sub(r"\D", "", match["day"])
    time = re.sub(r"\D", "", match["time"] or "").ljust(6, "0")
    for digits in (day + time, day + "000000"):  # a number behind the date may be no time
        try:
            return datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def _with_dates(files: list[_File]) -> list[tuple[datetime, Path, str]]:
    if len(files) == 1:
        return [(datetime.now(UTC), *files[0])]
    dated, faults = [], []
    for path, file in files:
        try:
            date = delivery_date(file)
        except ValueError as error:
            faults.append(str(error))
            continue
        if date is None:
            faults.append(f"'{file}' has no date")
        else:
            dated.append((date, path, file))
    if faults:
        shown = ", ".join(faults[:_SHOWN]) + (f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else "")
        raise InputError(
            f"It is not clear which file is newer: {shown}; expected one date in each name.",
            hint='Name the files by date with the year first, such as jobs-2026-01-31.csv, or set mode = "replace".',
        )
    return dated


def _key(row: RawRow | RejectedRow, config: SourceConfig) -> bytes | None:
    """Digest of the id of a row; None without a usable id."""
    value = row.values.get(config.id_field) if isinstance(row, RawRow) else None
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        return None
    return hashlib.blake2b(str(value).strip().encode("utf-8", "surrogatepass"), digest_size=12).digest()


def _check_agrees(
    row: RawRow | RejectedRow, key: bytes, delivered: dict[bytes, tuple[str, bytes]], date: datetime
) -> None:
    """Raise an input error if another file of the same date has another row with the id."""
    assert isinstance(row, RawRow)
    content = hashlib.blake2b(repr(row.values).encode("utf-8", "backslashreplace"), digest_size=8).digest()
    file, former = delivered.setdefault(key, (row.file, content))
    if file != row.file and former != content:
        raise InputError(
            f"'{file}' and '{row.file}' are both of {date:%Y-%m-%d %H:%M} and have different rows with the same id "
            f"(row {row.row} of '{row.file}').",
            hint="Add the time to the names, such as jobs-2026-01-31T1830.csv, or remove the file that is out of date.",
        )
