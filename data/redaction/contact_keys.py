"""Keys of persons: keyed hashes of the contacts in a resume, by which several resumes of one person are recognised.

The e-mail addresses and telephone numbers themselves are never stored. The key of the hash is a secret of the store:
nobody can test a guessed address without it.

Only contacts that are likely the person's own count: fields of the source, the title, the head of the text, and a
section about contact details. Telephone numbers of employers and addresses of referees would join different persons,
and hide one behind the other. A missed contact only shows two versions of a resume.

A switchboard or an agency may still stand in the head of several persons' resumes. So a key also holds marks of the
person's name: a contact with several names joins only those who share one of them (:func:`persons_of_contact`).

Does not belong here: finding contacts (``redact``), groups of documents (``data.snapshots.similar``).
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

from data.documents.headings import SECTION_HEADINGS
from data.redaction.placeholders import PLACEHOLDER

KEY_BYTES, CONTACT_BYTES = 16, 12
"""Length of a key, and of its first part, which stands for the contact. The rest are marks of two parts of a name."""

_MARK_BYTES = (KEY_BYTES - CONTACT_BYTES) // 2
_NO_NAME = bytes(KEY_BYTES - CONTACT_BYTES)
_NAME_PART = re.compile(r"[^\W\d_]{2,}")
_FORMS_OF_ADDRESS = frozenset({"dr", "frau", "herr", "miss", "mme", "mr", "mrs", "ms", "mx", "prof"})
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

        A fixed line is left out if no name is known: it may be a switchboard.

        Args:
            title: Redacted title.
            text: Redacted text.
            metadata: Redacted columns of the source.
            replaced: Replaced value by placeholder.
        """
        fields = [value for name, value in metadata.items() if not _OF_OTHERS.search(name)]
        parts = (json.dumps(fields, default=str, ensure_ascii=False), title, *_own_parts(text))
        found = [[match.group() for match in PLACEHOLDER.finditer(part)] for part in parts]
        known = [[name for name in names if name in replaced] for names in found]
        of_fields, *of_texts = [[replaced[name] for name in names if name.startswith("[NAME")] for names in known]
        stated = [" ".join(of_fields), *(names[0] for names in of_texts if names)]
        person = next(filter(None, map(_name_parts, stated)), ())
        contacts = {
            _contact(name, replaced[name])
            for names in known
            for name in names
            if person or not _is_fixed_line(name, replaced[name])
        }
        marks = self._marks(person) if contacts - {""} else b""
        return b"".join(sorted(self._hash(each)[:CONTACT_BYTES] + marks for each in contacts - {""}))

    def _marks(self, person: Sequence[str]) -> bytes:
        """Marks of the first and the last part of a name."""
        if not person:
            return _NO_NAME
        return b"".join(self._hash(f"name {part}")[:_MARK_BYTES] for part in (person[0], person[-1]))

    def _hash(self, value: str) -> bytes:
        return hashlib.blake2b(value.encode(), key=self._secret, digest_size=KEY_BYTES).digest()


def persons_of_contact(keys: Sequence[bytes]) -> list[list[int]]:
    """Positions of the keys of one contact that belong together, by person; only groups of two or more.

    Keys whose names share a part are of one person. Keys without a name belong to the only person, if there is one.
    """
    groups: list[tuple[set[bytes], list[int]]] = []
    nameless = []
    for at, key in enumerate(keys):
        marks = key[CONTACT_BYTES:]
        if marks == _NO_NAME:
            nameless.append(at)
            continue
        parts = {marks[:_MARK_BYTES], marks[_MARK_BYTES:]}
        near = [group for group in groups if group[0] & parts]
        groups = [group for group in groups if not group[0] & parts]
        groups.append((parts.union(*(group[0] for group in near)), [*(n for group in near for n in group[1]), at]))
    members = [sorted(group) for _, group in groups]
    if len(members) <= 1:
        members = [sorted([*nameless, *(members[0] if members else ())])]
    return [group for group in members if len(group) > 1]


def _name_parts(name: str) -> tuple[str, ...]:
    """Distinct words of a name in plain lower-case letters, without forms of address."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(char))
    return tuple(dict.fromkeys(part for part in _NAME_PART.findall(plain) if part not in _FORMS_OF_ADDRESS))


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


def _is_fixed_line(placeholder: str, value: str) -> bool:
    """Whether a telephone number with the prefix of a country is surely none of a mobile telephone."""
    if not placeholder.startswith("[PHONE") or not value.lstrip(" (").startswith("+"):
        return False
    import phonenumbers

    try:
        parsed = phonenumbers.parse(re.sub(r"[^\d+]", "", value), None)
    except phonenumbers.NumberParseException:
        return False
    return bool(phonenumbers.number_type(parsed) == phonenumbers.PhoneNumberType.FIXED_LINE)
