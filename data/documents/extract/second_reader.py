"""Compare the text of a document with the words that a second, independent reader finds: loss must not be silent."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

MAX_MISSING_SHARE = 0.02
"""Share of the second reader's words that may be missing before a document is marked."""

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
