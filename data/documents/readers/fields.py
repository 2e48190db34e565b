"""Find id, title and text in a record: columns by name, field paths, several fields joined.

A path names a nested field: ``basics.summary``, ``work[].highlights[]`` (of every element), ``offers[0].price``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from data.config import DEFAULT_TEXT_FIELDS, SourceConfig
from data.documents.rows import ReadLog

_STEP = re.compile(r"([^.\[\]]*)((?:\[\d*\])*)")
_INDEX = re.compile(r"\[(\d*)\]")
_INDEX_COLUMNS = ("", "unnamed: 0")  # pandas writes its row numbers in an unnamed column
_PARQUET_INDEX = "__index_level_0__"


def is_path(name: str) -> bool:
    """Return whether a name is a path to a nested field."""
    return "." in name or "[" in name


def values_at(record: object, path: str) -> list[object]:
    """All values at a path, in order; missing and null fields are left out."""
    found: list[object] = [record]
    for step in path.split("."):
        match = _STEP.fullmatch(step)
        if match is None:
            return []
        name, indexes = match.groups()
        if name:
            found = [each[name] for each in found if isinstance(each, Mapping) and name in each]
        for index in _INDEX.findall(indexes):
            lists = [each if isinstance(each, list) else [each] for each in found]
            found = [each for items in lists for each in (items if index == "" else items[int(index) : int(index) + 1])]
    return [each for each in found if each is not None]


def text_at(record: object, path: str) -> str:
    """Texts and numbers at a path, one per line; empty if there are none."""
    texts = [str(each) for each in values_at(record, path) if isinstance(each, (str, int, float))]
    return "\n".join(text for text in texts if text.strip())


def heading_of(path: str) -> str:
    """Heading of a field in a joined text: the last part of its path, as words."""
    last = re.sub(r"\[\d*\]", "", path).rpartition(".")[2]
    return re.sub(r"[_\-]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", last)).strip().capitalize()


def has_paths(config: SourceConfig) -> bool:
    """Return whether the source uses paths or joined fields, which :func:`resolve` handles."""
    return bool(config.text_fields) or any(map(is_path, config.named_fields))


def resolve(values: dict[str, object], config: SourceConfig) -> dict[str, object]:
    """Add the fields that the source names by a path, or joins, to a record as its own fields."""
    found = dict(values)
    for name in (config.id_field, config.title_field):
        if name not in found and is_path(name) and (reached := values_at(values, name)):
            found[name] = reached[0]
    if config.single_text_field and config.single_text_field not in found and is_path(config.single_text_field):
        found[config.single_text_field] = text_at(values, config.single_text_field)
    if config.text_fields:
        parts = [(name, text_at(values, name)) for name in config.text_fields]
        parts = [(name, text) for name, text in parts if text]
        for name in config.text_fields:
            found.pop(name, None)
        headed = [text if not number else f"{heading_of(name)}:\n{text}" for number, (name, text) in enumerate(parts)]
        found[config.single_text_field or DEFAULT_TEXT_FIELDS[0]] = "\n\n".join(headed)
    return found


def canonical_names(columns: Sequence[str], config: SourceConfig, log: ReadLog | None = None) -> list[str]:
    """Strip column names, and spell those of id, title and text as in the source settings, ignoring case.

    In a table without an id column, an unnamed first column is the id. Repeated names are numbered.
    """
    names = [column.strip() for column in columns]
    folded = Counter(name.casefold() for name in names)
    for wanted in config.named_fields:
        if wanted in columns or wanted in names or folded[wanted.strip().casefold()] != 1:
            continue
        at = next(number for number, name in enumerate(names) if name.casefold() == wanted.strip().casefold())
        if log is not None:
            log.note(f"column '{names[at]}' taken for '{wanted}'")
        names[at] = wanted
    index = next((at for at, name in enumerate(names) if name == _PARQUET_INDEX or (not at and _is_index(name))), None)
    if not config.makes_ids and config.id_field not in names and index is not None:
        names[index] = config.id_field
        if log is not None:
            log.note(f"unnamed {'first column' if not index else 'index'} taken for '{config.id_field}'")
    seen: Counter[str] = Counter()
    for at, name in enumerate(names):
        seen[name] += 1
        if seen[name] > 1 and name and name not in config.named_fields:
            names[at] = f"{name}_{seen[name]}"
    return names


def _is_index(name: str) -> bool:
    return name.casefold() in _INDEX_COLUMNS


def reachable_names(columns: Sequence[str], config: SourceConfig) -> list[str]:
    """The columns, and the configured paths that begin with one of them."""
    roots = set(columns)
    return [*columns, *(name for name in config.named_fields if is_path(name) and re.split(r"[.\[]", name)[0] in roots)]


def has_id_and_text(columns: Iterable[str], config: SourceConfig) -> bool:
    """Return whether the columns include an id and a text."""
    present = set(columns)
    has_text = bool(present & set(config.text_fields)) if config.text_fields else bool(config.text_name(present))
    return (config.makes_ids or config.id_field in present) and has_text
