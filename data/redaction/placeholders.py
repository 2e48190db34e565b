"""Placeholders of personal data, and texts without them.

A placeholder (``[EMAIL_1]``) shows a reader that something was replaced. It is no word: two documents with contacts
have nothing in common by that. What is encoded, indexed or compared is therefore read without placeholders.

Does not belong here: recognising personal data (``contacts``, ``person_names``), replacing it (``redact``).
"""

from __future__ import annotations

import re
from typing import Literal, get_args

PiiType = Literal["email", "url", "birth_date", "phone", "address", "name"]
PII_TYPES: tuple[PiiType, ...] = get_args(PiiType)

PLACEHOLDER = re.compile(rf"\[({'|'.join(name.upper() for name in PII_TYPES)})_(\d{{1,6}})\]")
"""A placeholder: type and number."""

# A label belongs to the value behind it: "Tel: [PHONE_1]" says as little as "[PHONE_1]".
_LABEL = (
    r"(?:e-?mail(?: address)?|mail|courriel|correo|tel(?:\.|ephone|efon|éfono|efono)?|téléphone|(?:tele)?phone(?: number)?"
    r"|mobile?|mobil|móvil|portable|cell(?:phone|ulare)?|handy|fax|web(?:site)?|homepage|url|linkedin|github|skype|telegram"
    r"|twitter|whatsapp|contact|(?:full |first |last |sur)?name|(?:vor|nach|familien)name|nom|prénom|nombre|nome|cognome"
    r"|(?:home |postal )?address|adresse|anschrift|dirección|indirizzo|adres|date of birth|birth date|birthday|dob"
    r"|geb(?:\.|oren am|urtsdatum)|date de naissance|fecha de nacimiento|data di nascita"
    r"|姓名|氏名|电话|手机|邮箱|地址)"
)
_LABELLED = re.compile(rf"(?:(?<!\w){_LABEL}[ \t]?[:：.=|–-]?[ \t]{{0,4}})?{PLACEHOLDER.pattern}", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t]{2,}")
_EMPTY_BRACKETS = re.compile(r"\([ ,;|/]*\)|\[[ ,;|/]*\]")
_BLANK_BEFORE = re.compile(r"[ \t]+([,.;:!?)\]])")
_SEPARATORS = " \t|,;:/·"
_WORD = re.compile(r"\w")
_MANY_BREAKS = re.compile("\n{3,}")


def without_placeholders(text: str) -> str:
    """A text without its placeholders, their labels, and the lines that hold nothing else.

    Blanks and line breaks around them are closed up. A text without placeholders is returned as it is.
    """
    if "_" not in text or not PLACEHOLDER.search(text):
        return text
    lines = []
    for line in text.split("\n"):
        left, num_removed = _LABELLED.subn(" ", line)
        if not num_removed:
            lines.append(line)
            continue
        left = _BLANK_BEFORE.sub(r"\1", _BLANKS.sub(" ", _EMPTY_BRACKETS.sub(" ", left))).strip(_SEPARATORS)
        if _WORD.search(left):
            lines.append(left)
    return _MANY_BREAKS.sub("\n\n", "\n".join(lines)).strip()
