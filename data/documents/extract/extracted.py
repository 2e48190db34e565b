"""Result of reading one document file, and limits and checks shared by all document readers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

MAX_TEXT_CHARS = 64 * 2**20
"""Maximum text length of one document, in characters."""
MAX_UNPACKED_BYTES = 256 * 2**20
"""Maximum size of a document file and of an unpacked archive, in bytes: a small archive can hide a huge document."""
MAX_XML_BYTES = 8 * 2**20
"""Maximum unpacked size of a parsed XML part, in bytes: some thousand pages of text."""


class Mark(StrEnum):
    """Reasons why a kept document may lack content of its file. A closed set, which reports count by."""

    HIDDEN_TEXT = "hidden_text"
    """Text that no reader sees was left out: white, invisible, off the page, tiny, or formatted as hidden."""
    PAGES_WITHOUT_TEXT = "pages_without_text"
    """Some pages have no text, most often because they were scanned."""
    ATTACHMENTS = "attachments"
    """The file holds other files, which were not read."""
    WORDS_MISSING = "words_missing"
    """A second reader finds words that are not in the text: more than 2 % of its words."""
    SECOND_READER = "second_reader"
    """The first reader's text was implausible; another reader's text was taken."""
    OCR = "ocr"
    """The text of some pages, or of all, was recognised in pictures and may have errors."""
    ANTIWORD = "antiword"
    """An old Word file was read by antiword, which leaves out text boxes, headers and footers."""


class ScannedError(ValueError):
    """A document whose pages have no text: a scan, which only text recognition can read."""


class MissingProgramError(ValueError):
    """A program that could read the document is not installed. The message names it."""


class ContainerError(ValueError):
    """The content is in attached files, which must be saved as files of their own. The message names them."""


class ImplausibleTextError(ValueError):
    """No reader found plausible text, usually because the fonts do not map their glyphs to letters."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """Text of one document file.

    Attributes:
        text: Text in reading order; one line a paragraph, table row or line of a page.
        title: Title from the file's own metadata; empty if it has none.
        marks: Losses that users must know about, sorted, each once.
        pages_without_text: Number of pages without text, if other pages have some.
        pages_recognised: Number of pages whose text was recognised in a picture.
        attachments: Names of attached files, with blanks for ``_`` and ``-``, so that redaction sees names of persons.
    """

    text: str
    title: str = ""
    marks: tuple[Mark, ...] = ()
    pages_without_text: int = 0
    pages_recognised: int = 0
    attachments: tuple[str, ...] = ()


_WORD = re.compile(r"[^\W\d_]+(?:['’\-][^\W\d_]+)*")
_SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_BROKEN = re.compile("[\ue000-\uf8ff\ufffd]|\\(cid:\\d+\\)")
_MIN_JUDGED_CHARS = 40
_MAX_MEAN_WORD = 14.0  # letters; German and Finnish texts have about 7
_MIN_LETTER_SHARE = 0.3
_MAX_BROKEN_SHARE = 0.1
_MAX_SINGLE_SHARE = 0.6


def implausibility(text: str) -> str | None:
    """Reason why ``text`` is implausible, or None. Scripts without spaces are judged only by letters."""
    dense = "".join(text.split())
    if len(dense) < _MIN_JUDGED_CHARS:
        return None
    broken = sum(len(match) for match in _BROKEN.findall(dense)) / len(dense)
    if broken > _MAX_BROKEN_SHARE:
        return f"{broken:.0%} of its characters are unknown"
    letters = sum(char.isalpha() for char in dense) / len(dense)
    if letters < _MIN_LETTER_SHARE:
        return f"only {letters:.0%} of its characters are letters"
    words = _WORD.findall(text)
    if len(_SPACELESS.findall(dense)) > 0.2 * len(dense) or not words:
        return None
    mean = sum(map(len, words)) / len(words)
    if mean > _MAX_MEAN_WORD:
        return f"its words have {mean:.0f} letters on average"
    single = sum(len(word) == 1 for word in words) / len(words)
    if single > _MAX_SINGLE_SHARE:
        return f"{single:.0%} of its words are single letters"
    return None
