"""Compare the text of a document with the words that a second, independent reader finds: loss must not be silent."""

from __future__ import annotations

import html.parser
import re
import unicodedata
from collections import Counter

MAX_MISSING_SHARE = 0.02
"""Share of the second reader's words that may be missing before a document is marked."""

MAX_CHECKED_CHARS = 2**21
"""Maximum length of a page or an RTF file that is read a second time, in characters."""
_NO_TEXT = frozenset({"head", "script", "style", "noscript", "template", "svg", "math", "iframe", "object", "canvas"})
_RTF_PART = re.compile(
    r"\\(?P<word>[a-z]{1,32})-?\d{0,10} ?|\\(?:'[0-9a-fA-F]{2}|.)|(?P<edge>[{}])|[^\\{}]+", re.DOTALL
)
_RTF_NO_TEXT = frozenset({"fonttbl", "colortbl", "stylesheet", "info", "pict", "object", "themedata", "datastore"})
_WORD = re.compile(r"[a-z]{2,}|[^\W\d_a-z]{2,}")  # scripts are apart, as some readers glue them
_NO_LETTERS = re.compile(r"[\W\d_]+")


def missing_share(text: str, other: str, *, hidden: str = "") -> float:
    """Share of the words of another reader that are not in a text.

    Readers disagree about spaces, hyphens, ligatures, accents, and the direction of Arabic and Hebrew. Only letters
    are compared, and a word may be anywhere in the text: a word that occurs twice and was lost once is not noticed.

    Args:
        text: The text to check.
        other: Text of the second reader.
        hidden: Text that was left out on purpose.

    Returns:
        0 to 1; 0 if the other reader found no words.
    """
    words = Counter(_WORD.findall(_plain(other)))
    if not words:
        return 0.0
    letters = _NO_LETTERS.sub("", _plain(text)) + " " + _NO_LETTERS.sub("", _plain(hidden))
    lost = [word for word in words if word not in letters and not (_is_backward(word) and word[::-1] in letters)]
    return sum(words[word] for word in lost) / words.total()


def _is_backward(word: str) -> bool:
    return unicodedata.bidirectional(word[0]) in ("R", "AL")


def _plain(text: str) -> str:
    """Text in small letters without accents."""
    if text.isascii():
        return text.lower()
    return "".join(char for char in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(char))


def is_whole(text: str, other: str, *, hidden: str = "") -> bool:
    """Return whether a text has the words of another reader, up to the share that is permitted to be missing."""
    return missing_share(text, other, hidden=hidden) <= MAX_MISSING_SHARE


class _PageWords(html.parser.HTMLParser):
    """Collects all texts of a page, apart from elements that no browser shows."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._left_out: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _NO_TEXT:
            self._left_out.append(tag)
        elif tag == "body":
            self._left_out.clear()

    def handle_endtag(self, tag: str) -> None:
        if tag in self._left_out:
            del self._left_out[self._left_out.index(tag) :]

    def handle_data(self, data: str) -> None:
        if not self._left_out:
            self.texts.append(data)


def page_words(markup: str) -> str:
    """Texts of an HTML page by Python's own parser; empty for a page that is too long to be read twice."""
    if len(markup) > MAX_CHECKED_CHARS:
        return ""
    page = _PageWords()
    page.feed(markup)
    page.close()
    return "\n".join(page.texts)


def rtf_words(content: str) -> str:
    """Texts of an RTF file outside of its tables of fonts, colours and styles. Letters beyond ASCII are gaps."""
    if len(content) > MAX_CHECKED_CHARS:
        return ""
    texts: list[str] = []
    depth = left_out = 0  # depth of the outermost group without text, if this is one
    for part in _RTF_PART.finditer(content):
        if part["edge"] == "{":
            depth += 1
        elif part["edge"] == "}":
            left_out = 0 if depth == left_out else left_out
            depth -= 1
        elif part.group() == "\\*" or part["word"] in _RTF_NO_TEXT:
            left_out = left_out or depth
        elif not left_out:
            texts.append(" " if part.group().startswith("\\") else part.group())
    return "".join(texts)
