"""Checkpoints: encoder directories that sentence-transformers can load, and their fingerprints.

A checkpoint states its attention in ``config.json`` and its pooling in the pooling module. We add ``checkpoint.json``,
which records where the encoder came from and which files belong to it.

Does not belong here: making the encoder (``encoding.build``), training (``training``), and storing checkpoints
(``tasks``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from llm2vec_core.errors import CheckpointError
from llm2vec_core.model.modes import STANDARDISED, Attention, PoolingMode

RECORD_NAME = "checkpoint.json"
CURVES_NAME = "training.json"
"""Loss curves of the training, beside the encoder."""

# Files that define an encoder: weights, tokenizer, module configurations; not cards, metrics or versions.
_FINGERPRINTED_SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja")
_VERSION_KEYS = frozenset({"transformers_version", "__version__", "_name_or_path"})


class EncoderSpec(BaseModel):
    """Specification of an encoder: its base model, training, attention, pooling and length.

    Attributes:
        base_model: Name of the base model that it was made from.
        attention: Attention of its transformer.
        pooling_mode: Pooling of hidden states.
        max_tokens: Longer texts are truncated to this.
        stages: Training stages it went through, in order; empty for an untrained base.
        recipe_key: Key of the recipe that trained it; None for an untrained base.
        recipe: Settings of that recipe as JSON values, without stages that did not run; None if unknown.
        training_snapshots: Ids of the snapshots it was trained on, by kind; None if unknown.
        pools_prompt: Whether the tokens of a prompt are pooled. An encoder that was trained with an instruction
            reads them without pooling.
        chat_template: Whether its tokenizer puts every text into the base model's chat template.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_model: str
    attention: Attention
    pooling_mode: PoolingMode
    max_tokens: int
    stages: tuple[str, ...] = ()
    recipe_key: str | None = None
    recipe: dict[str, Any] | None = None
    training_snapshots: dict[str, str] | None = None
    pools_prompt: bool = True
    chat_template: bool = False

    @property
    def base_name(self) -> str:
        """Name of the base model without its origin, such as ``smollm2-135m``."""
        return self.base_model.rsplit("/", 1)[-1].rsplit(":", 1)[-1]


class CheckpointRecord(EncoderSpec):
    """Record of a checkpoint, stored in its directory as ``checkpoint.json``.

    Attributes:
        fingerprint: Identity of the encoder, 64 hex digits (see :func:`fingerprint`).
        embedding_dim: Length of a vector.
        standardised: Whether each dimension is standardised after pooling.
        files: Size in bytes of every file of the encoder.
    """

    fingerprint: str
    embedding_dim: int
    standardised: bool = False
    files: dict[str, int]

    @property
    def label(self) -> str:
        """Readable name, such as ``smollm2-135m+causal+weighted_mean``."""
        trained = "+".join(self.stages)
        modes = (self.attention, trained, self.pooling_mode, STANDARDISED if self.standardised else "")
        return "+".join(part for part in (self.base_name, *modes) if part)

    @property
    def seeds(self) -> dict[str, int]:
        """Seed of each training stage, if the recipe is known."""
        recipe = self.recipe or {}
        return {stage: recipe[stage]["seed"] for stage in self.stages if stage in recipe}


def write_encoder(
    model: Any,  # noqa: ANN401 - SentenceTransformer, which ships no types
    directory: Path,
    spec: EncoderSpec,
    *,
    standardised: bool = False,
) -> CheckpointRecord:
    """Save a model as a sentence-transformers directory with our record beside it.

    Args:
        model: The ``SentenceTransformer`` to save.
        directory: Target; must not hold another encoder.
        spec: Specification of the model.
        standardised: Whether its last module is a standardisation.

    Raises:
        CheckpointError: The directory gives other vectors than the model; it is removed.
    """
    from llm2vec_core.model.saved import require_saved_encoder

    model.save_pretrained(str(directory), create_model_card=False)
    require_saved_encoder(model, directory)
    record = CheckpointRecord(
        **dict(spec),
        fingerprint=fingerprint(directory),
        embedding_dim=model.get_embedding_dimension(),
        standardised=standardised,
        files={name: path.stat().st_size for name, path in _encoder_files(directory)},
    )
    (directory / RECORD_NAME).write_text(record.model_dump_json(indent=2) + "\n")
    return record


def read_record(directory: Path) -> CheckpointRecord:
    """Read the record of one of our checkpoints and check that all its files are there.

    Raises:
        CheckpointError: There is no record, or a file is missing or has another size.
    """
    path = directory / RECORD_NAME
    try:
        record = parse_record(path.read_bytes(), path=str(path))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{directory} has no {RECORD_NAME}, so it is not a checkpoint of this system.",
            hint="Give a fingerprint from `l2v generations list`, or a sentence-transformers directory.",
        ) from error
    for name, size in record.files.items():
        found = (directory / name).stat().st_size if (directory / name).is_file() else None
        if found != size:
            state = "is missing" if found is None else f"has {found} bytes instead of {size}"
            raise CheckpointError(
                f"Checkpoint {record.fingerprint[:12]} is incomplete: {name} {state}.",
                hint="Restore the file, or remove the checkpoint's directory and train or build it again.",
            )
    return record


def parse_record(content: bytes, *, path: str) -> CheckpointRecord:
    """Parse a record that was read from ``path``.

    Raises:
        CheckpointError: The record is damaged.
    """
    try:
        return CheckpointRecord.model_validate_json(content)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}", hint="Train the checkpoint again.") from error


def require_encoder_directory(directory: Path) -> None:
    """Refuse a directory that is not a complete sentence-transformers directory.

    Raises:
        CheckpointError: A file is missing; the message names it.
    """
    modules_path = directory / "modules.json"
    if not modules_path.is_file():
        raise CheckpointError(
            f"{directory} has no modules.json, so it is not a sentence-transformers directory.",
            hint="Give a directory that `l2v train` or SentenceTransformer.save_pretrained wrote.",
        )
    if (directory / RECORD_NAME).is_file():
        read_record(directory)
        return
    needed = ["config.json"] + [
        f"{module['path']}/config.json"
        for module in json.loads(modules_path.read_text())
        if "Pooling" in module["type"]
    ]
    missing = [name for name in needed if not (directory / name).is_file()]
    if missing or not any(directory.glob("*.safetensors")):
        raise CheckpointError(
            f"Checkpoint directory {directory} is incomplete: {', '.join(missing or ['*.safetensors'])} is missing.",
            hint="Restore the file, or give another directory.",
        )


def fingerprint(directory: Path) -> str:
    """SHA-256 over weights, tokenizer and module configurations of an encoder directory.

    Library versions and names in the configurations do not count: the same encoder, saved again by a newer library,
    keeps its fingerprint.
    """
    digest = hashlib.sha256()
    for name, path in _encoder_files(directory):
        digest.update(f"{name}\0{_file_digest(path)}\0".encode())
    return digest.hexdigest()


def _encoder_files(directory: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and path.suffix in _FINGERPRINTED_SUFFIXES and name not in (RECORD_NAME, CURVES_NAME):
            yield name, path


def _file_digest(path: Path) -> str:
    if path.suffix == ".json" and path.name != "tokenizer.json":
        canonical = json.dumps(_without_versions(json.loads(path.read_text())), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _without_versions(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _without_versions(inner) for key, inner in value.items() if key not in _VERSION_KEYS}
    return value
