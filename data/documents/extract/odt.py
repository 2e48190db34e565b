"""ODT: the text that LibreOffice shows."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from data.documents.extract.archive import attribute, child, local_name, open_archive, parse_part
from data.documents.extract.extracted import Extracted, Mark
from data.documents.extract.second_reader import is_whole

_SKIPPED_NAMES = "tracked-changes annotation annotation-end sequence-decls forms desc title note-citation"
_SKIPPED = frozenset(_SKIPPED_NAMES.split())
_PARAGRAPHS = ("p", "h")
_POINTS = re.compile(r"([\d.]+)pt")
_MIN_POINTS = 3.0
_MAX_SPACES = 100


def read_odt(path: Path) -> Extracted:
    """Text of an ODT: headers, body, footers; a table row is one line.

    Raises:
        ValueError: It is too large, or not an ODT.
        Exception: Nearly any type, from the parsers, if the file is malformed.
    """
    with open_archive(path) as archive:
        content, styles = parse_part(archive, "content.xml"), parse_part(archive, "styles.xml")
        if content is None or child(content, "body", "text") is None:
            raise ValueError(f"the archive is not a text document ({_kind(archive)})")
    walker = _Walker(_hidden_styles(content, styles))
    lines = walker.blocks(child(content, "body", "text"))
    sides: dict[str, list[str]] = {"header": [], "footer": []}
    for element in styles.iter() if styles is not None else ():
        side = local_name(element).split("-")[0]
        if side in sides and local_name(element) in (side, f"{side}-first", f"{side}-left"):
            sides[side] += [line for line in walker.blocks(element) if any(char.isalpha() for char in line)]
    text = "\n".join([*dict.fromkeys(sides["header"]), *lines, *dict.fromkeys(sides["footer"])])
    marks = {
        Mark.HIDDEN_TEXT: bool(walker.hidden),
        Mark.WORDS_MISSING: not is_whole(text, _all_words(content), hidden="\n".join(walker.hidden)),
    }
    return Extracted(text, marks=tuple(sorted(mark for mark, is_set in marks.items() if is_set)))


def _all_words(content: etree._Element) -> str:
    """Every text of the body by a plain walk, apart from comments and deleted text, which are taken out."""
    etree.strip_elements(content, *(f"{{*}}{name}" for name in _SKIPPED), with_tail=False)
    body = child(content, "body")
    return "\n".join(body.itertext()) if body is not None else ""


def _kind(archive: zipfile.ZipFile) -> str:
    try:
        return archive.read("mimetype")[:100].decode("ascii", "replace")
    except KeyError:
        return "of an unknown type"


def _hidden_styles(*roots: etree._Element | None) -> frozenset[str]:
    hidden = set()
    for root in roots:
        for style in root.iter() if root is not None else ():
            properties = child(style, "text-properties") if local_name(style) == "style" else None
            if properties is None:
                continue
            size = _POINTS.fullmatch(attribute(properties, "font-size") or "")
            ground = attribute(properties, "background-color") or "transparent"
            is_white = (attribute(properties, "color") or "").lower() == "#ffffff" and ground in (
                "transparent",
                "#ffffff",
            )
            is_tiny = size is not None and float(size.group(1)) < _MIN_POINTS
            if (
                attribute(properties, "display") == "none"
                or is_tiny
                or (is_white and attribute(style, "family") == "text")
            ):
                hidden.add(attribute(style, "name") or "")
    return frozenset(hidden)


class _Walker:
    """Walks elements in reading order and collects the texts that are not shown."""

    def __init__(self, hidden_styles: frozenset[str]) -> None:
        self.hidden: list[str] = []
        self._hidden_styles = hidden_styles

    def blocks(self, parent: etree._Element) -> list[str]:
        """Lines of the paragraphs and tables below an element."""
        lines: list[str] = []
        for element in parent:
            name = local_name(element)
            if name in _PARAGRAPHS:
                boxes: list[str] = []
                text = "".join(self._inline(element, boxes))
                lines += [*text.split("\n"), *boxes]
            elif name == "table-row":
                cells = [
                    "\n".join(self.blocks(cell)).strip("\n") for cell in element if local_name(cell) == "table-cell"
                ]
                lines.append(" | ".join(filter(None, cells)))
            elif name not in _SKIPPED:
                lines += self.blocks(element)
        return lines

    def _inline(self, parent: etree._Element, boxes: list[str]) -> Iterator[str]:
        if attribute(parent, "style-name") in self._hidden_styles or local_name(parent) == "hidden-text":
            self.hidden += [text for text in parent.itertext() if text.strip()]
            return
        yield _collapsed(parent.text)
        for element in parent:
            name = local_name(element)
            if name == "s":
                count = attribute(element, "c") or "1"
                yield " " * min(int(count) if count.isdigit() else 1, _MAX_SPACES)
            elif name == "tab":
                yield "\t"
            elif name == "line-break":
                yield "\n"
            elif name == "text-box" or name == "note-body":
                boxes += self.blocks(element)
            elif name not in _SKIPPED:
                yield from self._inline(element, boxes)
            yield _collapsed(element.tail)


def _collapsed(text: str | None) -> str:
    return re.sub(r"\s+", " ", text) if text else ""
