"""Keys of persons: keyed hashes of the contacts in a resume, by which several resumes of one person are recognised.

The e-mail addresses and telephone numbers themselves are never stored. The key of the hash is a secret of the store:
nobody can test a guessed address without it.

Only contacts that are likely the person's own count: fields of the source, the title, the head of the text, and a
section about contact details. Telephone numbers of employers and addresses of referees would join different persons,
and hide one behind the other. A missed contact only shows two versions of a resume.

Does not belong here: finding contacts (``redact``), groups of documents (``data.snapshots.similar``).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

from data.documents.headings import SECTION_HEADINGS
from data.redaction.placeholders import PLACEHOLDER

KEY_BYTES = 16
"""Length of the key of one contact."""

_HEAD_CHARS, _SECTION_CHARS = 1000, 400
_MIN_DIGITS = 7


def _heading(names: str) -> re.Pattern[str]:
    return re.compile(rf"[^\w\n]*(?:{names})[^\w\n]*", re.IGNORECASE)


_END_OF_HEAD = _heading(f"{SECTION_HEADINGS['experience']}|{SECTION_HEADINGS['education']}|references?|referees?")
_CONTACT_SECTION = _heading("contacts?(?: (?:me|details|information|info|data))?|personal (?:details|information|data)")
_OF_OTHERS = re.compile("refer|recruit|agen|employ|compan|manager", re.IGNORECASE)
"""Part of the name of a field that holds contacts of somebody else."""


class ContactKeys:
    """Hashes the contacts of resumes.

    Args:
        secret: Returns the secret of the store; called when the first contact is met.
    """

    def __init__(self, secret: Callable[[], bytes]) -> None:
        """Read no secret yet."""
        self._read_secret = secret

    @cached_property
    def _secret(self) -> bytes:
        return self._read_secret()

    def of(self, title: str, text: str, metadata: Mapping[str, object], replaced: Mapping[str, str]) -> bytes:
        """Keys of the person's own contacts in a redacted resume, sorted and joined; empty without any.

        Args:
            title: Redacted title.
            text: Redacted text.
            metadata: Redacted columns of the source.
            replaced: Replaced value by placeholder.
        """
        fields = [value for name, value in metadata.items() if not _OF_OTHERS.search(name)]
        parts = (title, *_own_parts(text), json.dumps(fields, default=str, ensure_ascii=False))
        placeholders = {match.group() for part in parts for match in PLACEHOLDER.finditer(part)}
        contacts = {_contact(name, replaced[name]) for name in placeholders if name in replaced}
        keys = {
            hashlib.blake2b(each.encode(), key=self._secret, digest_size=KEY_BYTES).digest() for each in contacts - {""}
        }
        return b"".join(sorted(keys))


def _own_parts(text: str) -> Iterator[str]:
    """The head of a resume, and the beginnings of its sections about contact details."""
    head: list[str] = []
    lines = text.split("\n")
    for line in lines:
        if _END_OF_HEAD.fullmatch(line):
            break
        head.append(line)
    yield "\n".join(head)[:_HEAD_CHARS]
    for number, line in enumerate(lines):
        if _CONTACT_SECTION.fullmatch(line):
            yield "\n".join(lines[number : number + _SECTION_CHARS])[:_SECTION_CHARS]


def _contact(placeholder: str, value: str) -> str:
    """A contact in a form that is equal for all spellings; empty if the placeholder replaced something else."""
    if "@" in value and placeholder.startswith(("[EMAIL", "[PHONE")):  # a field of contacts may hold either
        return value.strip().casefold()
    if not placeholder.startswith("[PHONE"):
        return ""
    number = _national(value)
    return number if len(number) >= _MIN_DIGITS else ""


def _national(value: str) -> str:
    """Digits of a telephone number without the prefix of a country or of national calls."""
    import phonenumbers  # search imports this module, and needs no telephone numbers

    digits = re.sub(r"\D", "", value)
    if value.lstrip(" (").startswith("+"):
        try:
            return str(phonenumbers.parse(f"+{digits}", None).national_number)
        except phonenumbers.NumberParseException:
            pass
    return digits.lstrip("0")
