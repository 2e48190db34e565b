"""Settings for reading, cleaning, redacting, checking and keeping documents.

This module does not import readers or tables: a command must be able to check its settings quickly.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from data.redaction.labels import LABELS_FILE
from data.redaction.names import NAMES_FILE
from data.redaction.placeholders import PII_TYPES, PiiType
from data.redaction.recognisers.addresses import FORMS_FILE
from data.schema import DocumentKind, sha256_json
from data.store.credentials import mask_credentials

SourceFormat = Literal[
    "json-resume",
    "schema.org-jobposting",
    "greenhouse",
    "lever",
    "workable",
    "hr-open",
    "indeed-xml",
    "linkedin-export",
]
DEFAULT_TEXT_FIELDS = ("text", "description")
MADE_IDS = ("#row", "#content")
"""Values of ``id_field`` for sources without an id field: number the rows, or hash their values."""
_ADDED_SETTINGS = ("mode",)
_LISTS = (NAMES_FILE, LABELS_FILE, FORMS_FILE)
_RECOGNISER_VERSION = 7
"""Version of the recognisers in ``data.redaction``; raise it when they change, and all documents are cleaned again."""


class SourceConfig(BaseModel):
    """Where a source's documents are, and which fields hold id, title and text."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: DocumentKind = Field(description="Kind of the documents: job or resume.")
    path: str = Field(
        min_length=1,
        description="File, folder or glob of tables and documents (see the how-to), or 'bundled:sample'. "
        "A relative path starts at the working directory.",
    )
    id_field: str = Field(
        default="id",
        min_length=1,
        description="Field that holds the document's id. Without such a field: '#row' (file and row number) or "
        "'#content' (hash of all values of the row).",
    )
    title_field: str = Field(default="title", min_length=1, description="Field that holds the title, if there is one.")
    text_field: Annotated[str, Field(min_length=1)] | tuple[str, ...] | None = Field(
        default=None,
        description="Field that holds the text, or a list of fields that are joined into it, in this order and with "
        "headings. Default: 'text', or 'description' where that is absent or empty.",
    )
    format: SourceFormat | None = Field(
        default=None, description="Known format of the records, which says where id, title and text are."
    )
    records: str | None = Field(
        default=None, min_length=1, description="Path to the records of a JSON file, or name of an XML element."
    )
    encoding: str | None = Field(default=None, description="Encoding of text files. Default: detected.")
    separator: str | None = Field(
        default=None, min_length=1, max_length=1, description="Separator of CSV cells. Default: detected."
    )
    required: bool = Field(
        default=True,
        description="Whether a night stops when the source cannot be read or shrank too much. Otherwise its former "
        "documents stay, and an alert names it.",
    )
    mode: Literal["replace", "newest"] = Field(
        default="replace",
        description="How the files of a source add up: 'replace' reads all files as one delivery, which replaces the "
        "former one; 'newest' reads a folder of dated deliveries, and the newest row of each id counts.",
    )

    @model_validator(mode="after")
    def _has_ids_that_last(self) -> Self:
        """Reject combinations in which no row of one file has the id of a row of another file."""
        if self.mode == "newest" and self.id_field == "#row":
            raise ValueError("mode 'newest' needs ids that stay; with '#row' every row of every file has its own")
        if self.mode == "newest" and self.format == "linkedin-export":
            raise ValueError("mode 'newest' reads dated tables; a linkedin-export is a folder for each resume")
        return self

    @field_validator("path")
    @classmethod
    def _is_local(cls, path: str) -> str:
        """Reject URIs before the run starts: they may contain credentials, and runs record their settings."""
        if "://" in path:
            raise ValueError(
                f"'{mask_credentials(path)}' is a URI; expected a local file, folder or glob "
                "(fetch the files first, or mount the share)"
            )
        return path

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, encoding: str | None) -> str | None:
        if encoding is not None:
            try:
                codecs.lookup(encoding)
            except LookupError:
                raise ValueError(
                    f"'{encoding}' is not a known encoding; expected one such as utf-8, utf-16 or cp1252"
                ) from None
        return encoding

    def decisive_json(self) -> str:
        """The settings that decide the rows of the files, as JSON; part of hashes at rest.

        A setting that was added later is left out while it has its default, so that its addition changes no hash.
        """
        added = {name for name in _ADDED_SETTINGS if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump_json(exclude={"path", "required", *added})

    @property
    def makes_ids(self) -> bool:
        """Whether the ids are made from the rows, because no field holds them."""
        return self.id_field in MADE_IDS

    @property
    def single_text_field(self) -> str | None:
        """The field that holds the text, if it is a single field."""
        return self.text_field if isinstance(self.text_field, str) else None

    @property
    def text_fields(self) -> tuple[str, ...]:
        """The fields that are joined into the text, if it is a list."""
        return () if self.text_field is None or isinstance(self.text_field, str) else self.text_field

    @property
    def text_names(self) -> tuple[str, ...]:
        """Fields that may hold the text, in order of preference."""
        return (self.single_text_field,) if self.single_text_field else DEFAULT_TEXT_FIELDS

    @property
    def named_fields(self) -> tuple[str, ...]:
        """Names of the fields that become id, title and text."""
        return (self.id_field, self.title_field, *self.text_names, *self.text_fields)

    def text_name(self, columns: Iterable[str]) -> str | None:
        """The column that holds the text; None if there is none."""
        present = set(columns)
        return next((name for name in self.text_names if name in present), None)


class CleanConfig(BaseModel):
    """Size limit of documents, and near-duplicate detection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_chars: int = Field(
        default=200_000,
        gt=0,
        description="Maximum length of title plus text before cleaning, and of the metadata, in characters. Longer "
        "documents are quarantined; 200,000 characters are about eighty pages.",
    )
    near_duplicates: bool = Field(default=True, description="Find and mark near duplicates.")


class RedactConfig(BaseModel):
    """Personal data to replace by placeholders before a document is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resume: tuple[PiiType, ...] = Field(
        default=PII_TYPES, description="Types of personal data to replace in resumes. An empty list replaces nothing."
    )
    job: tuple[PiiType, ...] = Field(
        default=("email", "phone"), description="Types of personal data to replace in jobs."
    )
    name_fields: tuple[str, ...] = Field(
        default=(
            "name", "full_name", "fullname", "first_name", "last_name", "firstname", "lastname", "given_name",
            "family_name", "middle_name", "maiden_name", "surname", "forename", "candidate_name", "applicant_name",
        ),
        description="Columns whose whole value is a name; the name is also replaced in title and text.",
    )  # fmt: skip
    birth_date_fields: tuple[str, ...] = Field(
        default=("date_of_birth", "birth_date", "birthdate", "birthday", "dob"),
        description="Columns whose whole value is a date of birth.",
    )
    address_fields: tuple[str, ...] = Field(
        default=(
            "address",
            "street",
            "street_address",
            "home_address",
            "postal_address",
            "postcode",
            "postal_code",
            "zip",
            "zip_code",
        ),
        description="Columns whose whole value is part of an address.",
    )
    contact_fields: tuple[str, ...] = Field(
        default=("phone", "phone_number", "telephone", "mobile", "mobile_number", "cell", "fax"),
        description="Columns whose whole value is a telephone number.",
    )
    phone_regions: tuple[str, ...] = Field(
        default=(
            "GB", "US", "DE", "FR", "IN", "IE", "AU", "ES", "IT", "NL", "AT", "CH", "BE", "PT", "BR", "PL", "SE", "NO",
            "DK", "RU", "CN", "JP",
        ),
        description="Two-letter regions whose national telephone numbers are recognised. Numbers with + always are.",
    )  # fmt: skip
    kept_hosts: tuple[str, ...] = Field(
        default=("data.europa.eu", "schema.org", "purl.org", "www.w3.org"),
        description="Hosts whose URLs are kept: they identify an occupation or a skill, not a person.",
    )
    name_model: str | None = Field(
        default=None,
        description="Name of a spaCy pipeline that finds more names than the lists, such as en_core_web_sm.",
    )
    key_file: str | None = Field(
        default=None, description="File outside the store that records the replaced values. Only its owner can read it."
    )

    def types(self, kind: DocumentKind) -> tuple[PiiType, ...]:
        """Types of personal data to replace in documents of a kind."""
        return self.resume if kind == "resume" else self.job

    def identity(self, kind: DocumentKind) -> str:
        """Hash of all settings and lists that affect the redaction of a kind."""
        decisive = self.model_dump(mode="json", exclude={"resume", "job", "key_file"})
        lists = hashlib.sha256(b"".join(file.read_bytes() for file in _LISTS)).hexdigest()
        return sha256_json([_RECOGNISER_VERSION, sorted(self.types(kind)), decisive, lists])


class ShrinkConfig(BaseModel):
    """Reading of scans, and how many documents a source may lose from one snapshot to the next."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_shrink: float = Field(
        default=0.3, ge=0, le=1, description="Maximum share of its documents that a source may lose."
    )
    allow_shrink: tuple[str, ...] = Field(
        default=(), description="Sources that may lose any number of documents in this run."
    )
    ocr: bool = Field(
        default=False, description="Read pages of PDFs that have no text with Tesseract, if it is installed."
    )


class GateConfig(BaseModel):
    """Limits of the generation gate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_unusable_share: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Maximum share of documents of a kind whose vector is not finite, or zero; they are left out.",
    )
    max_duplicate_share: float = Field(
        default=0.01, ge=0, le=1, description="Maximum share of texts whose vector equals that of another text."
    )
    max_length_shift: float = Field(
        default=0.25,
        ge=0,
        description="Maximum population stability index of text lengths, compared with the served table.",
    )
    max_letter_shift: float = Field(
        default=0.1,
        ge=0,
        description="Maximum population stability index of letters and scripts; detects a change of language.",
    )
    max_centroid_shift: float = Field(
        default=0.2, ge=0, le=2, description="Maximum distance of the mean vector from that of the served table."
    )


class VectorIndexConfig(BaseModel):
    """Condition for building an approximate vector index."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_exact_ms: float = Field(
        default=100.0,
        ge=0,
        description="Build an approximate index when exact search is slower than this (median, ms).",
    )


class RetentionConfig(BaseModel):
    """Retention policy of maintenance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_served: int = Field(default=7, ge=1, description="Number of served states to keep, including the current one.")
    keep_checkpoints: int = Field(
        default=5,
        ge=0,
        description="Number of newest trained checkpoints to keep, besides those that are served, that a rollback "
        "can reach, or that recipes and settings name.",
    )
    grace_hours: float = Field(
        default=168.0,
        ge=0,
        description="Minimum age in hours before anything is removed; readers and resumed runs may still need it.",
    )
