"""Redaction: personal data is replaced by typed placeholders before anything is stored or encoded.

Equal values of a document get equal placeholders (``[EMAIL_1]``): a reader can still tell persons apart. Stored data
does not reveal the replaced values. Only a key file outside the store, if the settings name one, can restore them.
Redacting a redacted text changes nothing.

Does not belong here: recognising personal data (a module for each kind), cleaning (``data.documents.clean``).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from data.config import RedactConfig
from data.errors import InputError
from data.redaction.contact_keys import ContactKeys
from data.redaction.placeholders import PLACEHOLDER, PiiType
from data.redaction.recognisers.addresses import find_addresses
from data.redaction.recognisers.birth_dates import find_birth_dates
from data.redaction.recognisers.contacts import find_emails, find_urls
from data.redaction.recognisers.file_names import find_file_names
from data.redaction.recognisers.handles import find_handles
from data.redaction.recognisers.identity_numbers import find_identity_numbers
from data.redaction.recognisers.person_names import (
    NameModel,
    find_listed_names,
    find_parts,
    find_stated_names,
    load_name_model,
)
from data.redaction.recognisers.phones import find_phones
from data.redaction.recognisers.spans import Span, merge_spans
from data.schema import DocumentKind
from data.store.base import storage_errors

FILE_NAME_FIELD = "file_name"
"""Metadata field with the name of the file that a document came from."""
_FILE_NAME_FIELDS = (FILE_NAME_FIELD, "attachments")

_MAX_FIELD_CHARS = 200
"""Maximum length of a metadata value that may be a name."""
_MAX_KNOWN_FIELDS = 10_000


@dataclass
class Redacted:
    """A document after redaction.

    Attributes:
        title: Title.
        text: Body.
        metadata: Further columns of the source.
        replaced: Replaced value, as first written, by placeholder.
    """

    title: str
    text: str
    metadata: dict[str, object]
    replaced: dict[str, str] = field(default_factory=dict)


class Redactor:
    """Redacts documents of one kind.

    Args:
        config: Redaction settings.
        kind: Kind of the documents.
        keys: Key file for the replaced values, if any.
        contact_keys: Hashes the contacts of resumes, if they are to be recognised.

    Raises:
        InputError: The name model is not installed.
    """

    def __init__(
        self,
        config: RedactConfig,
        kind: DocumentKind,
        *,
        keys: KeyFile | None = None,
        contact_keys: ContactKeys | None = None,
    ) -> None:
        """Load the name model if the settings name one and names are replaced."""
        self.types = config.types(kind)
        self._config = config
        self._keys = keys
        self._contact_keys = contact_keys if kind == "resume" else None
        self._name_model = None
        if config.name_model is not None and "name" in self.types:
            self._name_model = _load(config.name_model)
        # The short fields of many rows have few different values.
        self._short_spans = functools.lru_cache(_MAX_KNOWN_FIELDS)(lambda text: [*self._unknown_spans(text)])
        self._whole_fields: dict[str, PiiType] = {
            name: type_
            for type_, names in (
                ("name", config.name_fields),
                ("birth_date", config.birth_date_fields),
                ("address", config.address_fields),
                ("phone", config.contact_fields),
            )
            if type_ in self.types
            for name in map(_field_key, names)
        }

    def redact(self, title: str, text: str, metadata: Mapping[str, object]) -> Redacted:
        """Replace personal data in a document."""
        if not self.types:
            return Redacted(title, text, dict(metadata))
        stated = list(find_stated_names(text)) if "name" in self.types else []
        known = {text[span.start : span.end] for span in stated} | set(self._field_names(metadata))
        is_file = "name" in self.types and _is_named_after_file(title, metadata)
        file_names = list(find_file_names(title)) if is_file else []
        numbering = _Numbering(title, text, json.dumps(metadata, default=str, ensure_ascii=False))
        return Redacted(
            title=self._replace(title, [*self._spans(title, known), *file_names], numbering),
            text=self._replace(text, [*stated, *self._spans(text, known)], numbering),
            metadata={key: self._redact_value(key, value, known, numbering) for key, value in metadata.items()},
            replaced=numbering.replaced,
        )

    def redact_text(self, text: str) -> str:
        """Replace personal data in a single text, such as the excerpt of a rejected row."""
        return self.redact("", text, {}).text

    def keep(self, doc_id: str, redacted: Redacted) -> None:
        """Record the replaced values of a document in the key file, if there is one."""
        if self._keys is not None:
            self._keys.add(doc_id, redacted.replaced)

    def contacts(self, redacted: Redacted) -> bytes | None:
        """Keys of the person that a resume is about; None for a job, or if contacts are not hashed."""
        if self._contact_keys is None:
            return None
        return self._contact_keys.of(redacted.title, redacted.text, redacted.metadata, redacted.replaced)

    def _spans(self, text: str, known: set[str]) -> Iterator[Span]:
        yield from self._unknown_spans(text)
        yield from self._known_spans(text, known)

    def _known_spans(self, text: str, known: set[str]) -> Iterator[Span]:
        if "name" in self.types:
            yield from find_parts(known, text)

    def _unknown_spans(self, text: str) -> Iterator[Span]:
        finders: dict[PiiType, Callable[[], Iterator[Span]]] = {
            "email": lambda: find_emails(text),
            "url": lambda: find_urls(text, kept_hosts=self._config.kept_hosts),
            "handle": lambda: find_handles(text),
            "birth_date": lambda: find_birth_dates(text),
            "id_number": lambda: find_identity_numbers(text),
            "phone": lambda: find_phones(text, self._config.phone_regions),
            "address": lambda: find_addresses(text),
            "name": lambda: self._find_names(text),
        }
        for type_ in self.types:
            yield from finders[type_]()

    def _find_names(self, text: str) -> Iterator[Span]:
        yield from find_listed_names(text)
        if self._name_model is not None:
            yield from (Span(start, end, "name") for start, end in self._name_model(text))

    def _field_names(self, metadata: Mapping[str, object]) -> Iterator[str]:
        for key, value in metadata.items():
            is_name = self._whole_fields.get(_field_key(key)) == "name"
            for item in value if isinstance(value, list | tuple) else [value]:
                if isinstance(item, Mapping):
                    yield from self._field_names(item)
                elif is_name and isinstance(item, str) and 1 < len(item) <= _MAX_FIELD_CHARS:
                    yield item

    def _redact_value(self, key: str, value: object, known: set[str], numbering: _Numbering) -> object:
        if isinstance(value, Mapping):
            return {str(name): self._redact_value(str(name), item, known, numbering) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._redact_value(key, item, known, numbering) for item in value]
        whole = self._whole_fields.get(_field_key(key))
        if whole is not None and value not in (None, "") and not isinstance(value, bool):
            shown = str(value)
            return shown if PLACEHOLDER.fullmatch(shown) else numbering.placeholder(whole, shown)
        if not isinstance(value, str):
            return value
        # The field name serves as the label that dates and numbers need.
        if key in _FILE_NAME_FIELDS and "name" in self.types:
            return self._replace(value, [*find_file_names(value), *self._spans(value, known)], numbering)
        label = f"{key.replace('_', ' ')}: "
        find = self._short_spans if len(value) <= _MAX_FIELD_CHARS else self._unknown_spans
        found = [*find(label + value), *self._known_spans(label + value, known)]
        spans = [
            Span(max(span.start - len(label), 0), span.end - len(label), span.type)
            for span in found
            if span.end > len(label)
        ]
        return self._replace(value, spans, numbering)

    @staticmethod
    def _replace(text: str, spans: Iterator[Span] | list[Span], numbering: _Numbering) -> str:
        kept = [match.span() for match in PLACEHOLDER.finditer(text)]
        pieces, at = [], 0
        for span in merge_spans(spans):
            if any(start < span.end and span.start < end for start, end in kept):
                continue
            pieces += [text[at : span.start], numbering.placeholder(span.type, text[span.start : span.end])]
            at = span.end
        return "".join([*pieces, text[at:]])


class _Numbering:
    """Numbers the values of one document, starting after its existing placeholders."""

    def __init__(self, *texts: str) -> None:
        self.replaced: dict[str, str] = {}
        self._last: Counter[str] = Counter()
        self._known: dict[tuple[str, str], str] = {}
        for text in texts:
            for name, number in PLACEHOLDER.findall(text):
                self._last[name] = max(self._last[name], int(number))

    def placeholder(self, type_: PiiType, value: str) -> str:
        key = (type_, _comparable(type_, value))
        if key not in self._known:
            name = type_.upper()
            self._last[name] += 1
            self._known[key] = f"[{name}_{self._last[name]}]"
            self.replaced[self._known[key]] = value
        return self._known[key]


def _comparable(type_: PiiType, value: str) -> str:
    """Normalise a value: different spellings of it become equal."""
    if type_ == "phone":
        return "".join(char for char in value if char.isdigit() or char == "+")
    return " ".join(re.split(r"[\s_]+", value.casefold()))


def _is_named_after_file(title: str, metadata: Mapping[str, object]) -> bool:
    """Return whether a title is the name of the document's file, without folder and ending."""
    name = metadata.get(FILE_NAME_FIELD)
    return isinstance(name, str) and title == PurePath(name).stem


def _field_key(name: str) -> str:
    """Normalise a field name: ``given_name``, ``givenName`` and ``Given Name`` become equal."""
    return re.sub(r"[\W_]", "", name).casefold()


def _load(name: str) -> NameModel:
    try:
        return load_name_model(name)
    except (ImportError, OSError) as error:
        raise InputError(
            f"The name model '{name}' (redact.name_model) is not installed.",
            hint="Install spaCy and the model, or remove redact.name_model. Names are then found in fields, in heads "
            "of resumes, after labels and titles, and by the repository's lists.",
        ) from error


# --- the key file -----------------------------------------------------------------------------------------------------


class KeyFile:
    """A JSONL file with the replaced values of each document, readable by its owner only.

    It is written beside the former file and replaces it at the end: a killed build leaves the former one unchanged.
    Lines of documents that were not read again are kept.
    """

    def __init__(self, path: Path) -> None:
        """Use :func:`open_key_file`."""
        self.path = path
        self._temporary = path.with_name(f".{path.name}.new")
        descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._handle = os.fdopen(descriptor, "w", encoding="utf-8")
        self._written: set[bytes] = set()

    def add(self, doc_id: str, replaced: Mapping[str, str]) -> None:
        """Record the replaced values of a document."""
        self._written.add(bytes.fromhex(doc_id))
        if replaced:
            self._handle.write(json.dumps({"doc_id": doc_id, "replaced": replaced}, ensure_ascii=False) + "\n")

    def commit(self) -> None:
        """Copy the lines of all other documents, and replace the former file."""
        for doc_id, line in _key_lines(self.path):
            if bytes.fromhex(doc_id) not in self._written:
                self._handle.write(line)
        self._handle.flush()
        os.fsync(self._handle.fileno())
        self._temporary.replace(self.path)

    def close(self) -> None:
        """Remove the unfinished file."""
        self._handle.close()
        self._temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def open_key_file(key_file: str | None, *, home: Path) -> Iterator[KeyFile | None]:
    """Open the key file for writing; yields None if the settings name none.

    Raises:
        InputError: The file would be inside the store, where backups would include it.
    """
    if key_file is None:
        yield None
        return
    path = Path(key_file).expanduser().resolve()
    if path.is_relative_to(home.resolve()):
        raise InputError(
            f"The key file {path} is in the home directory.",
            hint="Set redact.key_file to a file elsewhere: it must not be copied along with the data that it unlocks.",
        )
    with storage_errors(f"write the key file {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        keys = KeyFile(path)
        try:
            yield keys
        finally:
            keys.close()


def read_key_file(path: Path, doc_id: str) -> dict[str, str]:
    """Replaced values of one document by placeholder; empty if the file has none."""
    return next((json.loads(line)["replaced"] for found, line in _key_lines(path) if found == doc_id), {})


def forget_keys(path: Path, doc_ids: set[str]) -> int:
    """Remove documents from a key file; returns the number of removed documents."""
    known = sum(doc_id in doc_ids for doc_id, _ in _key_lines(path))
    if known:
        keys = KeyFile(path)
        try:
            for doc_id in doc_ids:
                keys.add(doc_id, {})
            keys.commit()
        finally:
            keys.close()
    return known


def _key_lines(path: Path) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as handle:
        for line in handle:
            yield str(json.loads(line)["doc_id"]), line
