"""Reader of LinkedIn's data exports: the CSV files of one folder are one resume."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from data.config import DEFAULT_TEXT_FIELDS, SourceConfig
from data.documents.extract.encoding import read_text
from data.documents.readers.checks import readable
from data.documents.rows import RawRow, ReadLog, RejectedRow, RejectReason
from data.errors import InputError

_MAX_FILE_BYTES = 64 * 2**20
_Row = Mapping[str, str]


@dataclass(frozen=True)
class _Section:
    """A file of an export: its heading, and the columns for the entry line, the dates and further texts."""

    heading: str
    line: tuple[str, ...]
    dates: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


_PROFILE = "profile.csv"
_SECTIONS = {
    "positions.csv": _Section(
        "Experience", ("Title", "Company Name", "Location"), ("Started On", "Finished On"), ("Description",)
    ),
    "volunteering.csv": _Section(
        "Volunteering", ("Role", "Company Name"), ("Started On", "Finished On"), ("Description",)
    ),
    "projects.csv": _Section("Projects", ("Title",), ("Started On", "Finished On"), ("Description",)),
    "education.csv": _Section(
        "Education", ("Degree Name", "School Name"), ("Start Date", "End Date"), ("Notes", "Activities")
    ),
    "certifications.csv": _Section("Certificates", ("Name", "Authority"), ("Started On",)),
    "courses.csv": _Section("Courses", ("Name",)),
    "skills.csv": _Section("Skills", ("Name",)),
    "languages.csv": _Section("Languages", ("Name", "Proficiency")),
}


def read_exports(files: list[tuple[Path, str]], config: SourceConfig, log: ReadLog) -> Iterator[RawRow | RejectedRow]:
    """Yield a resume for each folder that has a profile or positions. Other files are skipped by name.

    Args:
        files: Path and relative name of each file of the source.
        config: Settings of the source.
        log: Collects skipped files.

    Raises:
        InputError: No folder is an export.
    """
    folders: dict[str, dict[str, Path]] = defaultdict(dict)
    for path, file in files:
        name = PurePath(file).name.lower()
        if name == _PROFILE or name in _SECTIONS:
            folders[str(PurePath(file).parent)][name] = path
        else:
            log.skipped[file] = "no part of a resume in a LinkedIn export"
    exports = {folder: parts for folder, parts in folders.items() if {_PROFILE, "positions.csv"} & parts.keys()}
    for folder in sorted(folders.keys() - exports.keys()):
        log.skipped.update({f"{folder}/{name}": "no profile and no positions beside it" for name in folders[folder]})
    if not exports:
        raise InputError(
            f"'{config.path}' has no folder with Profile.csv or Positions.csv.",
            hint="Unpack the LinkedIn export, and use its folder or a folder of several exports.",
        )
    for folder, parts in sorted(exports.items()):
        log.formats["linkedin-export"] += 1
        try:
            tables = {name: _table(path) for name, path in parts.items()}
        except (ValueError, csv.Error) as error:
            detail = f"{str(error)[:200]}; expected the CSV files of an export"
            yield RejectedRow(folder, 1, RejectReason.UNREADABLE_FILE, detail, "")
            continue
        name = PurePath(config.path).name if folder == "." else folder
        yield RawRow(name, 1, _values(name, tables, config))


def _values(export: str, tables: Mapping[str, list[_Row]], config: SourceConfig) -> dict[str, object]:
    profile: _Row = next(iter(tables.get(_PROFILE, [])), {})
    blocks = [profile.get("Headline", ""), profile.get("Summary", "")]
    for name, section in _SECTIONS.items():
        lines = [line for row in tables.get(name, []) for line in _entry(row, section) if line]
        blocks.append("\n".join([f"{section.heading}:", *lines]) if lines else "")
    positions = tables.get("positions.csv", [])
    names = [profile.get("First Name", ""), profile.get("Last Name", "")]
    further = {
        "name": " ".join(each for each in names if each),
        "industry": profile.get("Industry", ""),
        "location": profile.get("Geo Location", ""),
    }
    return {
        **{name: value for name, value in further.items() if value},
        config.id_field: export,
        config.title_field: profile.get("Headline") or (positions[0].get("Title", "") if positions else ""),
        config.single_text_field or DEFAULT_TEXT_FIELDS[0]: "\n\n".join(block for block in blocks if block),
    }


def _entry(row: _Row, section: _Section) -> list[str]:
    line = ", ".join(row[name] for name in section.line if row.get(name))
    dates = " - ".join(row[name] for name in section.dates if row.get(name))
    return [f"{line} ({dates})" if line and dates else line, *(row.get(name, "") for name in section.texts)]


def _table(path: Path) -> list[_Row]:
    """Rows of a small CSV by column. Notes that LinkedIn writes before some headers are skipped."""
    with readable(path):
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise ValueError(f"'{path.name}' has more than {_MAX_FILE_BYTES} bytes")
        text, _ = read_text(path)
    section = _SECTIONS.get(path.name.lower())
    expected = section.line if section is not None else ("First Name", "Headline")
    rows = [row for row in csv.reader(text.splitlines(keepends=True), strict=True) if any(row)]
    header = next((at for at, row in enumerate(rows) if set(expected) & {cell.strip() for cell in row}), None)
    if header is None:
        return []
    names = [cell.strip() for cell in rows[header]]
    return [{name: cell.strip() for name, cell in zip(names, row, strict=False)} for row in rows[header + 1 :]]
