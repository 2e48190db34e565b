"""Documents that are archives of XML parts (DOCX, ODT). Opened within limits, parsed without entities or network.

Nothing is unpacked to disk, so file names in the archive can do no harm.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lxml import etree

from data.documents.extract.extracted import MAX_UNPACKED_BYTES, MAX_XML_BYTES


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an archive, and check its total unpacked size.

    Raises:
        ValueError: It unpacks to more than the limits.
        zipfile.BadZipFile: It is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > MAX_UNPACKED_BYTES:
            raise ValueError(f"unpacks to {unpacked} bytes, at most {MAX_UNPACKED_BYTES} are read")
        parsed = max((each.file_size for each in members if each.filename.endswith((".xml", ".rels"))), default=0)
        if parsed > MAX_XML_BYTES:
            raise ValueError(f"has a part that unpacks to {parsed} bytes of XML, at most {MAX_XML_BYTES} are parsed")
        yield archive


def parse_part(archive: zipfile.ZipFile, name: str) -> etree._Element | None:
    """Root element of an XML part; None if the archive has no such part.

    Raises:
        lxml.etree.XMLSyntaxError: It is not well-formed XML, or nested too deeply.
    """
    try:
        content = archive.read(name)
    except KeyError:
        return None
    return etree.fromstring(content, parser=xml_parser())


def xml_parser() -> etree.XMLParser:
    """A parser that expands no entities, loads nothing, and rejects trees that are too deep."""
    return etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, remove_comments=True, remove_pis=True
    )


def local_name(element: etree._Element) -> str:
    """Name of an element without its namespace: the strict and transitional variants differ only in the namespace."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: etree._Element, name: str) -> str | None:
    """Value of an attribute, by its name without namespace."""
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return str(value)
    return None


def child(element: etree._Element | None, *path: str) -> etree._Element | None:
    """Follow a path of child names, taking the first child of each name; None if one is missing."""
    for name in path:
        if element is None:
            return None
        element = next((each for each in element if local_name(each) == name), None)
    return element
