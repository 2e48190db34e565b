"""Propose the settings of a source that was refused, from its first records; and show what its files look like."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, Field

from data.config import DEFAULT_TEXT_FIELDS, SourceConfig
from data.documents.extract.encoding import detect_encoding
from data.documents.readers.checks import MappingError
from data.documents.readers.formats import TEXTS, UnsupportedError, detect_format
from data.documents.readers.packed import unpacked
from data.documents.rows import RawRow, make_excerpt
from data.documents.sources import find_files, read_rows
from data.errors import InputError

_LOOKED_AT_FILES = 3
_LOOKED_AT_LINES = 5
_SAMPLED_ROWS = 50
_MAX_COLUMNS = 30
_MAX_DEPTH = 4
_MIN_TEXT_CHARS = 30
_ID_NAMES = ("id", "uuid", "guid", "reference", "ref", "number", "no", "nr", "code", "key", "slug", "url", "link")
_TITLE_NAMES = ("title", "position", "role", "headline", "occupation", "label")
_TEXT_NAMES = ("text", "description", "body", "content", "resume", "cv", "summary", "duties", "profile", "details")


class FileLook(BaseModel):
    """The outside of one file."""

    file: str = Field(description="Name in the source.")
    format: str = Field(description="Detected format, or the reason why it is not read.")
    encoding: str | None = Field(description="Detected encoding of a text file.")
    first_lines: list[str] = Field(description="Beginning of a text file in printable characters.")


def look_at_files(config: SourceConfig) -> list[FileLook]:
    """Format, encoding and first lines of the first files of a source; empty if it has none."""
    try:
        files = find_files(config.path)
    except InputError:
        path = Path(config.path).expanduser()
        files = [(path, path.name)] if path.is_file() else []
    looks = []
    for path, file in files[:_LOOKED_AT_FILES]:
        try:
            with unpacked(path) as inner:
                looks.append(_look(inner, file, config))
        except (InputError, OSError) as error:
            looks.append(FileLook(file=file, format=str(error), encoding=None, first_lines=[]))
    return looks


def _look(path: Path, file: str, config: SourceConfig) -> FileLook:
    try:
        found = detect_format(path, file)
    except UnsupportedError as error:
        return FileLook(file=file, format=str(error), encoding=None, first_lines=[])
    if found not in TEXTS:
        return FileLook(file=file, format=str(found), encoding=None, first_lines=[])
    encoding = config.encoding or detect_encoding(path)
    with path.open(encoding=encoding, errors="replace") as handle:
        text = handle.read(2**16)
    lines = [make_excerpt(line) for line in text.splitlines()[:_LOOKED_AT_LINES]]
    return FileLook(file=file, format=str(found), encoding=encoding, first_lines=lines)


def propose_settings(config: SourceConfig, error: InputError) -> dict[str, str]:
    """Settings with which a refused source may be read, by name; empty if nothing can be proposed."""
    proposed: dict[str, str] = {}
    # A file may need its records named first, and then the fields in them.
    for _round in range(2):
        if not isinstance(error, MappingError):
            break
        proposed |= error.proposed or _proposed_fields(config.model_copy(update=proposed), error.columns)
        try:
            for _ in read_rows(config.model_copy(update=proposed)):
                pass  # some readers check the fields at the end of a file
        except InputError as following:
            error = following
        else:
            break
    return proposed


def _proposed_fields(config: SourceConfig, columns: Iterable[str]) -> dict[str, str]:
    records = _sampled(config, columns)
    values: dict[str, list[str]] = defaultdict(list)
    for record in records:
        for path, value in _flattened(record):
            values[path].append(value)
    texts = {path: sum(map(len, found)) / len(records) for path, found in values.items()}
    weights = {path: mean * (4 if _named(path, _TEXT_NAMES) is not None else 1) for path, mean in texts.items()}
    text = max(weights, key=lambda path: weights[path], default=None)
    if text is None or weights[text] < _MIN_TEXT_CHARS:
        return {}
    ids = [
        path
        for path, found in values.items()
        if path != text and "[]" not in path and _named(path, _ID_NAMES) is not None
        and len(found) == len(set(found)) == len(records) and max(map(len, found)) <= 200
    ]  # fmt: skip
    titles = [path for path in values if path != text and _named(path, _TITLE_NAMES) is not None and texts[path] <= 200]
    found_id = min(ids, key=lambda path: (_named(path, _ID_NAMES), path.count(".")), default="#content")
    title = min(titles, key=lambda path: (path.count("."), _named(path, _TITLE_NAMES)), default=None)
    settings = {"id_field": found_id, "text_field": text}
    if title is not None:
        settings["title_field"] = title
    defaults = {"id_field": ("id",), "title_field": ("title",), "text_field": DEFAULT_TEXT_FIELDS}
    return {name: value for name, value in settings.items() if value.strip().casefold() not in defaults[name]}


def _sampled(config: SourceConfig, columns: Iterable[str]) -> list[Mapping[str, object]]:
    """The first records, read with any column as the text."""
    for column in islice(columns, _MAX_COLUMNS):
        if not column:
            continue
        changed = {"id_field": "#row", "text_field": column, "mode": "replace"}
        rows = read_rows(config.model_copy(update=changed))
        try:
            sampled = [row.values for row in islice(rows, _SAMPLED_ROWS) if isinstance(row, RawRow)]
        except InputError:
            continue
        if sampled:
            return [{name: value for name, value in values.items() if name != "#row"} for values in sampled]
    return []


def _flattened(value: object, path: str = "", depth: int = 0) -> Iterable[tuple[str, str]]:
    """Paths and texts of the leaves of a record."""
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        for name, below in value.items():
            yield from _flattened(below, f"{path}.{name}" if path else str(name), depth + 1)
    elif isinstance(value, list) and depth < _MAX_DEPTH:
        for below in value[:_MAX_COLUMNS]:
            yield from _flattened(below, f"{path}[]", depth + 1)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool) and path:
        text = str(value).strip()
        if text:
            yield path, text


def _named(path: str, names: tuple[str, ...]) -> int | None:
    """Position of the first of ``names`` that is a word of the last part of a path; None if there is none."""
    last = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", path.rpartition(".")[2])
    words = {word.casefold() for word in re.findall(r"[^\W_]+", last)}
    return next((at for at, name in enumerate(names) if name in words), None)
