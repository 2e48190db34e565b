"""Sources: which files belong to a source, and which reader reads which file.

To add a format, write a module in ``readers`` with a function ``read(path, file, config)`` that yields a
:class:`~data.documents.rows.RawRow` or a :class:`~data.documents.rows.RejectedRow` for every row, and name it in
:data:`READERS`. Readers stream: memory is bounded by one row or one small batch, never by the size of the file.

Does not belong here: the settings of a source (``data.config``), which documents are good (``clean``).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import TypeAlias

from data.config import SourceConfig
from data.documents.readers import csv, docx, jsonl, parquet, pdf
from data.documents.readers.checks import readable
from data.documents.rows import RawRow, RejectedRow
from data.errors import InputError
from data.sample.read import BUNDLED_SAMPLE, read_sample_jobs, read_sample_resumes

Reader: TypeAlias = Callable[[Path, str, SourceConfig], Iterator[RawRow | RejectedRow]]
"""Reads one file: its path, its name relative to the source's path, and which fields hold what."""

READERS: dict[str, Reader] = {
    ".jsonl": jsonl.read,
    ".csv": csv.read,
    ".parquet": parquet.read,
    ".pdf": pdf.read,
    ".docx": docx.read,
}
"""Suffix of a file to its reader."""

_MARKER_FILES = frozenset({"_SUCCESS", "_metadata", "_common_metadata"})  # written by Spark and Dask


def read_rows(config: SourceConfig) -> Iterator[RawRow | RejectedRow]:
    """Read all rows of a source, file by file in sorted order.

    Args:
        config: The source.

    Yields:
        Every row of every file exactly once, raw or rejected. Blank lines are no rows.

    Raises:
        InputError: Nothing matches the path; no reader knows a file's suffix; or a table cannot be read at all, or
            lacks the id or text column. It may come after some rows, if only the end of a file shows the fault: commit
            nothing before the iterator is exhausted.
    """
    if config.path.startswith("bundled:"):
        yield from _read_bundled(config)
        return
    for path, file in find_files(config.path):
        yield from READERS[path.suffix.lower()](path, file, config)


def source_sha256(config: SourceConfig) -> str | None:
    """Hash of everything that decides the rows of a source: the bytes of its files, and its fields.

    None for the bundled sample, which has no files of its own.

    Raises:
        InputError: As for :func:`read_rows`, or a file cannot be read.
    """
    if config.path.startswith("bundled:"):
        return None
    digest = hashlib.sha256(config.model_dump_json(exclude={"path"}).encode())
    for path, file in find_files(config.path):
        with readable(path), path.open("rb") as handle:
            digest.update(f"\n{file!r} ".encode() + hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def find_files(path: str) -> list[tuple[Path, str]]:
    """Find the files of a source. Hidden files and the marker files of Parquet writers are skipped.

    Args:
        path: File, folder or glob.

    Returns:
        Path and relative name of each file, sorted by name.

    Raises:
        InputError: There is no file; no reader knows a file's suffix; or a link leads out of the folder. Whoever may
            write into the folder must not choose what else is read.
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
    strange = sorted(file for candidate, file in found if candidate.suffix.lower() not in READERS)
    if strange:
        raise InputError(
            f"'{path}' has {len(strange)} file(s) of a type that cannot be read: {_shown(strange)}; "
            f"expected {_expected()}.",
            hint="Save a spreadsheet as 'CSV UTF-8'; move other files away, or name the wanted ones with a glob "
            "such as 'folder/*.jsonl'.",
        )
    return sorted(found, key=lambda pair: pair[1])


def _candidates(path: str) -> tuple[Path, Iterable[Path]]:
    """Base directory and what lies below it; a name that exists is never read as a glob."""
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
    """All files below a folder. Unlike ``rglob`` it raises if it may not look; it does not follow links to folders."""

    def fail(error: OSError) -> None:
        raise error

    for directory, _, names in os.walk(folder, onerror=fail):
        yield from (Path(directory, name) for name in names)


def _shown(files: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in files[:3]) + (" …" if len(files) > 3 else "")


def _is_hidden(relative: PurePath) -> bool:
    # "~$name.docx" is the lock file that a word processor writes beside an open document.
    return any(part.startswith((".", "~$")) for part in relative.parts) or relative.name in _MARKER_FILES


def _expected() -> str:
    return f"files ending in {', '.join(READERS)}, or '{BUNDLED_SAMPLE}'"


def _read_bundled(config: SourceConfig) -> Iterator[RawRow | RejectedRow]:
    if config.path != BUNDLED_SAMPLE:
        raise InputError(
            f"'{config.path}' is not bundled; expected '{BUNDLED_SAMPLE}'.", hint=f"Use '{BUNDLED_SAMPLE}'."
        )
    rows = read_sample_jobs() if config.kind == "job" else read_sample_resumes()
    for number, values in enumerate(rows, start=1):
        yield RawRow(BUNDLED_SAMPLE, number, dict(values))
