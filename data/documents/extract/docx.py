"""DOCX: the text that Word shows.

This module walks the XML itself. Of the libraries that were measured, python-docx leaves out content controls and text
boxes, docx2python repeats text boxes, and all keep hidden text.
"""

from __future__ import annotations

import posixpath
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

from lxml import etree

from data.documents.extract.archive import attribute, child, local_name, open_archive, parse_part
from data.documents.extract.extracted import Extracted, Mark
from data.documents.extract.second_reader import is_whole

MAX_PARAGRAPHS = 100_000
"""Maximum number of paragraphs in a DOCX: reading 8 MiB of empty ones would take minutes."""

# Elements whose content Word does not show: deleted and moved-away text, field codes, properties, comments.
_SKIPPED_NAMES = (
    "del moveFrom delText instrText delInstrText pPr rPr sdtPr sdtEndPr tblPr tblGrid trPr tcPr sectPr rt "
    "ffData docPr annotationRef"
)
_SKIPPED = frozenset(_SKIPPED_NAMES.split())
_NEARLY_WHITE = 0.9
_MIN_HALF_POINTS = 6  # text below 3 points is read only by machines
_NO_FILLS = frozenset({"auto", "FFFFFF", "ffffff", "clear", "nil", "none"})
_PLAIN_TABLES = frozenset({"TableGrid", "TableNormal"})


def read_docx(path: Path) -> Extracted:
    """Text of a DOCX: headers, body, notes, footers; a table row is one line.

    Raises:
        ValueError: It is too large, or not a DOCX.
        Exception: Nearly any type, from the parsers, if the file is malformed.
    """
    with open_archive(path) as archive:
        main = _main_part(archive)
        root = parse_part(archive, main)
        if root is None:
            raise ValueError("the archive has no main document")
        related = _related(archive, main)
        walker = _Walker(_hidden_styles(archive, main))
        body = walker.blocks(child(root, "body") if child(root, "body") is not None else root)
        roots = {
            kind: [part for name in names if (part := parse_part(archive, name)) is not None]
            for kind, names in related.items()
        }
        parts = {kind: [walker.blocks(part) for part in found] for kind, found in roots.items()}
        others = "\n".join(map(_all_words, [root, *(part for found in roots.values() for part in found)]))
    headers, footers = _once(parts["header"]), _once(parts["footer"])
    notes = [line for kind in ("footnotes", "endnotes") for lines in parts[kind] for line in lines if line.strip()]
    text = "\n".join([*headers, *body, *notes, *footers])
    marks = {
        Mark.HIDDEN_TEXT: bool(walker.hidden),
        Mark.WORDS_MISSING: not is_whole(text, others, hidden="\n".join(walker.hidden)),
    }
    return Extracted(text, marks=tuple(sorted(mark for mark, is_set in marks.items() if is_set)))


def _all_words(root: etree._Element) -> str:
    """Every text of a part by a plain walk, one line a paragraph, apart from text that was moved away."""
    lines: dict[etree._Element | None, str] = defaultdict(str)
    for text in root.iter("{*}t"):
        if next(text.iterancestors("{*}moveFrom"), None) is None:
            lines[next(text.iterancestors("{*}p"), None)] += text.text or ""
    return "\n".join(lines.values())


def _main_part(archive: zipfile.ZipFile) -> str:
    root = parse_part(archive, "_rels/.rels")
    for each in root if root is not None else ():
        if (attribute(each, "Type") or "").endswith("/officeDocument"):
            target = posixpath.normpath((attribute(each, "Target") or "").lstrip("/"))
            if target in archive.namelist():
                return target
    return "word/document.xml"


def _related(archive: zipfile.ZipFile, main: str) -> dict[str, list[str]]:
    """Names of the headers, footers and notes of the main part. Broken relationships are left out."""
    folder, name = posixpath.split(main)
    found: dict[str, list[str]] = {kind: [] for kind in ("header", "footer", "footnotes", "endnotes")}
    root = parse_part(archive, f"{folder}/_rels/{name}.rels")
    names = set(archive.namelist())
    for each in root if root is not None else ():
        kind = (attribute(each, "Type") or "").rpartition("/")[2]
        target = attribute(each, "Target") or ""
        part = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
        if kind in found and part in names and part not in found[kind]:
            found[kind].append(part)
    return {kind: sorted(parts) for kind, parts in found.items()}


def _once(parts: list[list[str]]) -> list[str]:
    """Lines of headers or footers, each once. A line without letters is a page number and left out."""
    return list(dict.fromkeys(line for lines in parts for line in lines if any(char.isalpha() for char in line)))


def _hidden_styles(archive: zipfile.ZipFile, main: str) -> frozenset[str]:
    """Ids of the styles with hidden text, by their own formatting or that of their base style."""
    root = parse_part(archive, f"{posixpath.dirname(main)}/styles.xml")
    hidden: dict[str, bool] = {}
    parents: dict[str, str] = {}
    for style in root if root is not None else ():
        name, properties, based = attribute(style, "styleId"), child(style, "rPr"), child(style, "basedOn")
        if local_name(style) != "style" or name is None:
            continue
        if properties is not None and child(properties, "vanish") is not None:
            hidden[name] = _is_on(child(properties, "vanish"))
        if based is not None:
            parents[name] = attribute(based, "val") or ""

    def is_hidden(name: str) -> bool:
        for _ in range(20):  # base styles may form a cycle
            if name in hidden or name not in parents:
                break
            name = parents[name]
        return hidden.get(name, False)

    return frozenset(name for name in {*hidden, *parents} if is_hidden(name))


def _is_on(toggle: etree._Element | None) -> bool:
    return toggle is not None and (attribute(toggle, "val") or "1").lower() not in ("0", "false", "off")


class _Walker:
    """Walks the elements of a part in reading order and collects the texts that Word does not show."""

    def __init__(self, hidden_styles: frozenset[str]) -> None:
        self.hidden: list[str] = []
        self._hidden_styles = hidden_styles
        self._num_paragraphs = 0

    def blocks(self, parent: etree._Element, *, on_dark: bool = False) -> list[str]:
        """Lines of the paragraphs and tables below an element."""
        lines: list[str] = []
        for element in parent:
            name = local_name(element)
            if name == "p":
                lines += self._paragraph(element, on_dark)
            elif name == "tbl":
                lines += self._table(element, on_dark)
            elif name == "AlternateContent":
                lines += self._alternative(element, lambda each: self.blocks(each, on_dark=on_dark))
            elif name not in _SKIPPED:  # content controls, notes, custom XML
                lines += self.blocks(element, on_dark=on_dark)
        return lines

    def _alternative(self, element: etree._Element, read: Callable[[etree._Element], list[str]]) -> list[str]:
        """The first alternative of the same content that has text."""
        for choice in element:
            found: list[str] = read(choice)
            if any(line.strip() for line in found):
                return found
        return []

    def _paragraph(self, paragraph: etree._Element, on_dark: bool) -> list[str]:
        self._num_paragraphs += 1
        if self._num_paragraphs > MAX_PARAGRAPHS:
            raise ValueError(f"more than {MAX_PARAGRAPHS} paragraphs")
        properties = child(paragraph, "pPr")
        is_hidden = False
        if properties is not None:
            style = child(properties, "pStyle")
            is_hidden = style is not None and attribute(style, "val") in self._hidden_styles
            on_dark = on_dark or _is_filled(child(properties, "shd"))
        boxes: list[str] = []
        text = "".join(self._inline(paragraph, boxes, on_dark, is_hidden))
        return [*text.split("\n"), *boxes]

    def _inline(self, parent: etree._Element, boxes: list[str], on_dark: bool, is_hidden: bool) -> Iterator[str]:
        """Texts of the runs below an element; the lines of text boxes go to ``boxes``."""
        for element in parent:
            name = local_name(element)
            if name in _SKIPPED:
                continue
            if name == "r":
                yield from self._run(element, boxes, on_dark, is_hidden)
            elif name == "t":
                yield element.text or ""
            elif name in ("tab", "ptab"):
                yield "\t"
            elif name in ("br", "cr"):
                yield "\n"
            elif name == "noBreakHyphen":
                yield "-"
            elif name == "AlternateContent":
                # The text may be in a box: check both.
                for choice in element:
                    own: list[str] = []
                    found = "".join(self._inline(choice, own, on_dark, is_hidden))
                    if found.strip() or any(line.strip() for line in own):
                        boxes += own
                        yield found
                        break
            elif name == "txbxContent":
                boxes += self.blocks(element, on_dark=True)  # boxes are filled more often than not
            else:
                yield from self._inline(element, boxes, on_dark, is_hidden)

    def _run(self, run: etree._Element, boxes: list[str], on_dark: bool, is_hidden: bool) -> Iterator[str]:
        properties = child(run, "rPr")
        if properties is not None:
            is_hidden = self._is_hidden(properties, on_dark, is_hidden)
        texts = list(self._inline(run, boxes, on_dark, False))
        if is_hidden:
            self.hidden += [text for text in texts if text.strip()]
        else:
            yield from texts

    def _is_hidden(self, properties: etree._Element, on_dark: bool, is_hidden: bool) -> bool:
        style, vanish = child(properties, "rStyle"), child(properties, "vanish")
        if vanish is not None:
            is_hidden = _is_on(vanish)
        elif style is not None:
            is_hidden = is_hidden or attribute(style, "val") in self._hidden_styles
        size, colour = child(properties, "sz"), child(properties, "color")
        half_points = (attribute(size, "val") or "") if size is not None else ""
        is_tiny = half_points.isdigit() and int(half_points) < _MIN_HALF_POINTS
        is_ground = on_dark or _is_filled(child(properties, "shd")) or child(properties, "highlight") is not None
        is_white = colour is not None and _is_white(attribute(colour, "val") or "") and not is_ground
        return is_hidden or is_tiny or is_white

    def _table(self, table: etree._Element, on_dark: bool) -> list[str]:
        properties = child(table, "tblPr")
        style = child(properties, "tblStyle") if properties is not None else None
        is_styled = style is not None and attribute(style, "val") not in _PLAIN_TABLES
        lines: list[str] = []
        for row in _below(table, "tr"):
            row_properties = child(row, "trPr")
            if row_properties is not None and child(row_properties, "del") is not None:
                continue
            cells = []
            for cell in _below(row, "tc"):
                shade = child(cell, "tcPr", "shd")
                cells.append(
                    "\n".join(self.blocks(cell, on_dark=on_dark or is_styled or _is_filled(shade))).strip("\n")
                )
            lines.append(" | ".join(filter(None, cells)))
        return lines


def _below(parent: etree._Element, wanted: str) -> Iterator[etree._Element]:
    """Rows of a table, or cells of a row, including those in content controls."""
    for element in parent:
        name = local_name(element)
        if name == wanted:
            yield element
        elif name not in _SKIPPED and name not in ("p", "tbl", "tc"):
            yield from _below(element, wanted)


def _is_filled(shade: etree._Element | None) -> bool:
    return shade is not None and (attribute(shade, "fill") or "auto") not in _NO_FILLS


def _is_white(colour: str) -> bool:
    try:
        red, green, blue = (int(colour[at : at + 2], 16) for at in (0, 2, 4))
    except ValueError:
        return False
    return (0.3 * red + 0.59 * green + 0.11 * blue) / 255 > _NEARLY_WHITE
