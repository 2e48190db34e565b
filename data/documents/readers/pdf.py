"""Reader of PDF files: the text of all pages is one row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data.config import SourceConfig
from data.documents.readers.checks import (
    MAX_UNPACKED_BYTES,
    read_whole_file,
)
from data.documents.rows import (
    MAX_ROW_BYTES,
    RawRow,
    RejectedRow,
)

MAX_PAGES = 5000
"""Most pages to read: pages may share one huge content, so the size of the file does not bound the text."""


def read(path: Path, file: str, config: SourceConfig) -> Iterator[RawRow | RejectedRow]:
    """Read the file as one row; see :func:`data.documents.readers.checks.read_whole_file`."""
    yield from read_whole_file(path, file, config, _pdf_text)


def _pdf_text(path: Path) -> str:
    from pypdf import PdfReader  # slow to import, and most sources have no PDFs

    size_bytes = path.stat().st_size
    if size_bytes > MAX_UNPACKED_BYTES:
        raise ValueError(f"{size_bytes} bytes, at most {MAX_UNPACKED_BYTES} are read")
    texts: list[str] = []
    with path.open("rb") as handle:
        reader = PdfReader(handle)
        if len(reader.pages) > MAX_PAGES:
            raise ValueError(f"{len(reader.pages)} pages, at most {MAX_PAGES} are read")
        num_chars = 0
        for page in reader.pages:
            texts.append(page.extract_text())
            num_chars += len(texts[-1])
            if num_chars > MAX_ROW_BYTES:
                raise ValueError(f"more than {MAX_ROW_BYTES} characters of text")
    return "\n\n".join(texts)
