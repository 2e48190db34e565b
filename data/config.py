"""Settings of the data room: how documents are read, cleaned, redacted, checked and kept.

This module imports no reader and no table, so that a command can check its settings quickly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from data.redaction.names import NAMES_FILE
from data.schema import DocumentKind, sha256_json
from data.store.credentials import mask_credentials

PiiType = Literal["email", "url", "birth_date", "phone", "address", "name"]
PII_TYPES: tuple[PiiType, ...] = get_args(PiiType)
DEFAULT_TEXT_FIELDS = ("text", "description")
_RECOGNISER_VERSION = 2
"""Version of the recognisers in ``data.redaction``; raise it when they change, and all documents are cleaned again."""


class SourceConfig(BaseModel):
    """Where the documents of one source are, and which fields hold what."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: DocumentKind = Field(description="Kind of the documents: job or resume.")
    path: str = Field(
        min_length=1,
        description="File, folder or glob of .jsonl, .csv, .parquet, .pdf and .docx files, or 'bundled:sample'. "
        "A relative path starts at the working directory.",
    )
    id_field: str = Field(default="id", min_length=1, description="Field that holds the document's id.")
    title_field: str = Field(default="title", min_length=1, description="Field that holds the title; may be absent.")
    text_field: str | None = Field(
        default=None, min_length=1, description="Field that holds the text. None: 'text', else 'description'."
    )

    @field_validator("path")
    @classmethod
    def _is_local(cls, path: str) -> str:
        """Refuse a URI before anything runs: it may hold credentials, and runs keep what they were asked with."""
        if "://" in path:
            raise ValueError(
                f"'{mask_credentials(path)}' is a URI; expected a local file, folder or glob "
                "(fetch the files first, or mount the share)"
            )
        return path

    def text_name(self, columns: Iterable[str]) -> str | None:
        """Which of ``columns`` holds the text; None when none of them does."""
        wanted = (self.text_field,) if self.text_field else DEFAULT_TEXT_FIELDS
        present = set(columns)
        return next((name for name in wanted if name in present), None)


class CleanConfig(BaseModel):
    """Limits of a document, and how duplicates are looked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_chars: int = Field(
        default=200_000,
        gt=0,
        description="Longest title and text together, in characters, before cleaning; also the longest metadata. "
        "Beyond it a document is quarantined: 200,000 characters are some eighty pages.",
    )
    near_duplicates: bool = Field(default=True, description="Whether near duplicates are looked for and marked.")
    near_duplicate_threshold: float = Field(
        default=0.9,
        ge=0.5,
        le=1.0,
        description="Jaccard similarity of the word triples from which texts are near duplicates.",
    )


class RedactConfig(BaseModel):
    """What is replaced by placeholders before a document is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resume: tuple[PiiType, ...] = Field(default=PII_TYPES, description="What resumes lose; empty: nothing.")
    job: tuple[PiiType, ...] = Field(default=("email", "phone"), description="What jobs lose: contacts.")
    name_fields: tuple[str, ...] = Field(
        default=(
            "name", "full_name", "fullname", "first_name", "last_name", "firstname", "lastname", "given_name",
            "family_name", "middle_name", "maiden_name", "surname", "forename", "candidate_name", "applicant_name",
        ),
        description="Further columns whose whole value is a name; it is replaced in title and text, too.",
    )  # fmt: skip
    birth_date_fields: tuple[str, ...] = Field(
        default=("date_of_birth", "birth_date", "birthdate", "birthday", "dob"),
        description="Further columns whose whole value is a date of birth.",
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
        description="Further columns whose whole value is a part of an address.",
    )
    contact_fields: tuple[str, ...] = Field(
        default=("phone", "phone_number", "telephone", "mobile", "mobile_number", "cell", "fax"),
        description="Further columns whose whole value is a telephone number.",
    )
    phone_regions: tuple[str, ...] = Field(
        default=("GB", "US", "IE", "DE", "FR", "IN", "AU", "ES", "IT", "NL"),
        description="Regions (two letters) whose national telephone numbers are known; those with + always are.",
    )
    kept_hosts: tuple[str, ...] = Field(
        default=("data.europa.eu", "schema.org", "purl.org", "www.w3.org"),
        description="Hosts whose URLs stay: they name an occupation or a skill, and no person.",
    )
    name_model: str | None = Field(
        default=None, description="spaCy pipeline that finds names beyond the lists, such as en_core_web_sm."
    )
    key_file: str | None = Field(
        default=None, description="File outside the store that keeps what was replaced, readable by its owner only."
    )

    def types(self, kind: DocumentKind) -> tuple[PiiType, ...]:
        """What documents of a kind lose."""
        return self.resume if kind == "resume" else self.job

    def identity(self, kind: DocumentKind) -> str:
        """Hash of all that decides what is replaced in documents of a kind."""
        decisive = self.model_dump(mode="json", exclude={"resume", "job", "key_file"})
        names = hashlib.sha256(NAMES_FILE.read_bytes()).hexdigest()
        return sha256_json([_RECOGNISER_VERSION, sorted(self.types(kind)), decisive, names])


class ShrinkConfig(BaseModel):
    """Which losses of a source are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_shrink: float = Field(
        default=0.3, ge=0, le=1, description="share of its documents that a source may lose before it is refused"
    )
    allow_shrink: tuple[str, ...] = Field(default=(), description="sources whose losses are confirmed, for this run")


class GateConfig(BaseModel):
    """Limits of the generation gate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_duplicate_share: float = Field(
        default=0.01, ge=0, le=1, description="share of contents whose vector equals that of another content"
    )
    max_length_shift: float = Field(
        default=0.25, ge=0, description="population stability index of text lengths against what is served"
    )
    max_letter_shift: float = Field(
        default=0.1, ge=0, description="population stability index of letters and scripts, which tells languages apart"
    )
    max_centroid_shift: float = Field(
        default=0.2, ge=0, le=2, description="distance of the mean vector from that of what is served"
    )


class VectorIndexConfig(BaseModel):
    """When vectors get an approximate index, and how good it must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_exact_ms: float = Field(
        default=100.0, ge=0, description="median time of an exact search up to which there is no approximate index"
    )
    min_recall: float = Field(
        default=0.99, gt=0, le=1, description="share of the exact ten nearest that the index must find"
    )


class RetentionConfig(BaseModel):
    """What maintenance keeps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_served: int = Field(default=7, ge=1, description="served states that are kept, the current one among them")
    grace_hours: float = Field(
        default=168.0, ge=0, description="nothing younger is removed: a reader or a continued run may need it"
    )
