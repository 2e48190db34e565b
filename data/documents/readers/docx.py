"""Reader of DOCX files: paragraphs and tables of the body are one row."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from data.config import SourceConfig
from data.documents.readers.checks import (
    MAX_UNPACKED_BYTES,
    read_whole_file,
)
from data.documents.rows import (
    RawRow,
    RejectedRow,
)

MAX_XML_BYTES = 8 * 2**20
"""Largest XML part to parse, in bytes after unpacking: some thousand pages of text."""
MAX_PARAGRAPHS = 100_000
"""Most paragraphs and table rows to read: 8 MiB of empty ones would take minutes."""


def read(path: Path, file: str, config: SourceConfig) -> Iterator[RawRow | RejectedRow]:
    """Read the file as one row; see :func:`data.documents.readers.checks.read_whole_file`."""
    yield from read_whole_file(path, file, config, _docx_text)


def _docx_text(path: Path) -> str:
    """Paragraphs and tables of the body in reading order; a table row is one line.

    Nothing is unpacked to disk, so the file names in the archive cannot do harm.
    """
    import docx
    from docx.table import Table, _Cell

    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_UNPACKED_BYTES:
        raise ValueError(f"unpacks to {unpacked} bytes, at most {MAX_UNPACKED_BYTES} are read")
    parsed = max((member.file_size for member in members if member.filename.endswith((".xml", ".rels"))), default=0)
    if parsed > MAX_XML_BYTES:
        raise ValueError(f"has a part that unpacks to {parsed} bytes of XML, at most {MAX_XML_BYTES} are parsed")
    lines: list[str] = []
    for block in docx.Document(str(path)).iter_inner_content():
        if isinstance(block, Table):
            # The cells as written: `row.cells` would repeat a merged cell as often as the file says.
            rows = ([_Cell(cell, block).text for cell in row._tr.tc_lst] for row in block.rows)
            lines += [" | ".join(filter(None, cells)) for cells in rows]
        else:
            lines.append(block.text)
        if len(lines) > MAX_PARAGRAPHS:
            raise ValueError(f"more than {MAX_PARAGRAPHS} paragraphs")
    return "\n".join(lines)
