"""Placeholders of personal data, and texts without them.

A placeholder (``[EMAIL_1]``) shows a reader that something was replaced. It is no word: two documents with contacts
have nothing in common by that. What is encoded, indexed or compared is therefore read without placeholders.

Does not belong here: recognising personal data (``contacts``, ``person_names``), replacing it (``redact``).
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from data.redaction.labels import label_before

PiiType = Literal["email", "url", "handle", "birth_date", "id_number", "phone", "address", "name"]
PII_TYPES: tuple[PiiType, ...] = get_args(PiiType)

PLACEHOLDER = re.compile(rf"\[({'|'.join(name.upper() for name in PII_TYPES)})_(\d{{1,6}})\]")
"""A placeholder: type and number."""

_BLANKS = re.compile(r"[ \t]{2,}")
_EMPTY_BRACKETS = re.compile(r"\([ ,;|/]*\)|\[[ ,;|/]*\]")
_BLANK_BEFORE = re.compile(r"[ \t]+([,.;:!?)\]])")
_SEPARATORS = " \t|,;:/·"
_WORD = re.compile(r"\w")
_MANY_BREAKS = re.compile("\n{3,}")


def without_placeholders(text: str, *, labels: bool = False) -> str:
    """A text without its placeholders, their labels, and the lines that hold nothing else.

    Blanks and line breaks around them are closed up. A text without placeholders is returned as it is.

    Args:
        text: Text.
        labels: Keep the labels.
    """
    if "_" not in text or not PLACEHOLDER.search(text):
        return text
    lines = []
    for line in text.split("\n"):
        left = PLACEHOLDER.sub(" ", line) if labels else _without_labelled(line)
        if left == line:
            lines.append(line)
            continue
        left = _BLANK_BEFORE.sub(r"\1", _BLANKS.sub(" ", _EMPTY_BRACKETS.sub(" ", left))).strip(_SEPARATORS)
        if _WORD.search(left):
            lines.append(left)
    return _MANY_BREAKS.sub("\n\n", "\n".join(lines)).strip()


def _without_labelled(line: str) -> str:
    """A line with a blank in place of each placeholder and its label, which says as little: "Tel: [PHONE_1]"."""
    pieces, at = [], 0
    for match in PLACEHOLDER.finditer(line):
        label = label_before(line, match.start(), *PII_TYPES)
        pieces.append(line[at : match.start() if label is None or label < at else label])
        at = match.end()
    return " ".join([*pieces, line[at:]])
