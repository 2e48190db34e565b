"""Generations: the vectors of one checkpoint and one set of encode settings, in the tables ``jobs`` and ``resumes``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from data.errors import InputError
from data.schema import DocumentKind, sha256_json
from data.store.base import Store
from data.store.records import Record
from data.vectors.lance import TABLE_LAYOUT, generation_key

_RECORD_NAME = "generation.json"


class Generation(BaseModel):
    """The record of a generation, stored beside its tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation: str
    checkpoint: str
    encode_keys: dict[DocumentKind, str]
    embedding_dim: int
    created_at: datetime


def generation_id(*, fingerprint: str, encode_keys: Mapping[DocumentKind, str]) -> str:
    """Name of the generation for a checkpoint, encode settings and table layout.

    The same inputs give the same name: a killed build is resumed, and a checkpoint that is served again finds its
    tables.
    """
    return f"{fingerprint[:12]}-{sha256_json([dict(encode_keys), TABLE_LAYOUT])[:6]}"


def create_generation(
    store: Store, *, fingerprint: str, encode_keys: Mapping[DocumentKind, str], embedding_dim: int, now: datetime
) -> Generation:
    """Write the record of a generation, or read it if it exists."""
    record = Generation(
        generation=generation_id(fingerprint=fingerprint, encode_keys=encode_keys),
        checkpoint=fingerprint,
        encode_keys=dict(encode_keys),
        embedding_dim=embedding_dim,
        created_at=now,
    )
    _record_of(record.generation).put_if_absent(store, record)
    return read_generation(store, record.generation)


def list_generations(store: Store) -> list[Generation]:
    """All generations, oldest first."""
    names = [key.split("/")[1] for key in store.list("lance") if key.endswith(f"/{_RECORD_NAME}")]
    return sorted((read_generation(store, name) for name in names), key=lambda found: found.created_at)


def read_generation(store: Store, name: str) -> Generation:
    """Read the record of a generation.

    Raises:
        InputError: There is no such generation.
        StoreError: The record is damaged.
    """
    found = _record_of(name).read(store)
    if found is None:
        raise InputError(f"There is no generation '{name}'.", hint="See `l2v generations list`.")
    return found


def _record_of(name: str) -> Record[Generation]:
    return Record(Generation, f"{generation_key(name)}/{_RECORD_NAME}")
