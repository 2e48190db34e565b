"""Streaming reader of XML feeds: every element with a given name is a row. No entities, no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lxml import etree

from data.config import SourceConfig
from data.documents.readers.checks import readable, require_content
from data.documents.readers.mappings import KNOWN_FORMATS
from data.documents.readers.records import RecordRows
from data.documents.rows import RawRow, ReadLog, RejectedRow, RejectReason
from data.errors import InputError

# Usual record names in feeds of postings and resumes.
_RECORD_NAMES = frozenset(
    ["ad", "advert", "candidate", "entry", "item", "job", "jobposting", "listing", "offer", "position", "posting"]
) | {"resume", "vacancy"}
_MAX_DEPTH = 50


def read(path: Path, file: str, config: SourceConfig, log: ReadLog) -> Iterator[RawRow | RejectedRow]:
    """Yield every row of the file; see :data:`data.documents.sources.READERS`."""
    require_content(path)
    rows = RecordRows(path, file, config, log)
    wanted = config.records or (KNOWN_FORMATS[config.format].records if config.format in KNOWN_FORMATS else None)
    name = wanted or _record_name(path)
    log.note(f"every element '{name}' read as a row")
    number = 0
    try:
        with readable(path), path.open("rb") as handle:
            for _, element in _parsed(handle, events=("end",)):
                if _local(element) != name:
                    continue
                values = _value(element)
                number += 1
                if isinstance(values, dict):
                    yield rows.row(number, values)
                else:
                    detail = f"element '{name}' without elements below; expected fields"
                    yield RejectedRow(file, number, RejectReason.NOT_AN_OBJECT, detail, str(values)[:200])
                _forget(element)
    except etree.XMLSyntaxError as error:
        detail = f"{' '.join(str(error).split())[:200]}; the rest of the file was not read"
        yield RejectedRow(file, number + 1, RejectReason.WRONG_SHAPE, detail, "")
    if not number and wanted:
        raise InputError(
            f"'{path}' has no element '{name}'.", hint="Set records of the source to the name of the record element."
        )
    rows.check()


def _parsed(handle: BinaryIO, *, events: tuple[str, ...]) -> etree.iterparse:
    return etree.iterparse(
        handle, events=events, resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
        remove_comments=True, remove_pis=True,
    )  # fmt: skip


def _record_name(path: Path) -> str:
    """Name of the record elements: a usual name, otherwise the most frequent name with child elements."""
    parents: Counter[str] = Counter()
    depth = 0
    try:
        with readable(path), path.open("rb") as handle:
            for event, element in _parsed(handle, events=("start", "end")):
                depth += 1 if event == "start" else -1
                if event == "start":
                    continue
                if len(element):
                    name = _local(element)
                    if name.lower() in _RECORD_NAMES:
                        return name
                    if depth:
                        parents[name] += 1
                if sum(parents.values()) > 1000:
                    break
    except etree.XMLSyntaxError as error:
        if not parents:
            raise InputError(
                f"'{path}' is not a readable XML file: {' '.join(str(error).split())[:200]}.",
                hint="The file is damaged or cut off; copy or write it again.",
            ) from error
    if not parents:
        raise InputError(
            f"'{path}' has no element with child elements.",
            hint="Set records of the source to the name of the record element.",
        )
    return parents.most_common(1)[0][0]


def _local(element: etree._Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _value(element: etree._Element, depth: int = 0) -> object:
    """Convert an element to a record: texts by name, repeated names as lists. A leaf element becomes its text."""
    below = [each for each in element if isinstance(each.tag, str)]  # skip entities
    if not below or depth > _MAX_DEPTH:
        return "".join(element.itertext(etree.Element)).strip()
    found: dict[str, object] = {}
    for each in below:
        name, value = _local(each), _value(each, depth + 1)
        if name in found:
            before = found[name]
            found[name] = [*before, value] if isinstance(before, list) else [before, value]
        else:
            found[name] = value
    return found


def _forget(element: etree._Element) -> None:
    """Free the memory of a record that was read, and of all records before it."""
    element.clear()
    while element.getprevious() is not None:
        del element.getparent()[0]
