"""Plain text, Markdown, HTML pages and RTF."""

from __future__ import annotations

from pathlib import Path

from data.documents.extract import html
from data.documents.extract.encoding import read_text
from data.documents.extract.extracted import Extracted, Mark
from data.documents.extract.second_reader import is_whole, rtf_words

MAX_FILE_BYTES = 64 * 2**20
"""Maximum file size, in bytes."""


def read_plain(path: Path) -> Extracted:
    """Text of a plain or Markdown file as it is."""
    return Extracted(_bounded(path))


def read_html_file(path: Path) -> Extracted:
    """Text and title of an HTML page."""
    return html.read_html(read_markup(path))


def read_markup(path: Path) -> str:
    """An HTML page as it is written."""
    return _bounded(path)


def read_rtf(path: Path) -> Extracted:
    """Text of an RTF file."""
    from striprtf.striprtf import rtf_to_text

    _check_size(path)
    content = path.read_bytes().decode("latin-1")
    text: str = rtf_to_text(content, errors="replace")
    marks = () if is_whole(text, rtf_words(content)) else (Mark.WORDS_MISSING,)
    return Extracted(text.replace("|\n", "\n").replace("|", " | "), marks=marks)


def _bounded(path: Path) -> str:
    _check_size(path)
    return read_text(path)[0]


def _check_size(path: Path) -> None:
    size_bytes = path.stat().st_size
    if size_bytes > MAX_FILE_BYTES:
        raise ValueError(f"{size_bytes} bytes, at most {MAX_FILE_BYTES} are read")
