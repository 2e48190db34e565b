"""Checkpoints: an encoder as one directory that sentence-transformers loads anywhere, and its fingerprint.

A checkpoint states its attention in ``config.json`` and its pooling in the pooling module. ``checkpoint.json`` beside
them is ours: where the encoder came from and which files belong to it.

Does not belong here: training (``training``) and where checkpoints are kept (``tasks``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from llm2vec_core.errors import CheckpointError
from llm2vec_core.model.modes import STANDARDISED, Attention, PoolingMode

RECORD_NAME = "checkpoint.json"
CURVES_NAME = "training.json"
"""Loss curves of the training, beside the encoder."""

# What makes an encoder: its weights, its tokenizer, the configuration of its modules. Not: cards, metrics, versions.
_FINGERPRINTED_SUFFIXES = (".safetensors", ".json", ".txt", ".model", ".jinja")
_VERSION_KEYS = frozenset({"transformers_version", "__version__", "_name_or_path"})


class CheckpointRecord(BaseModel):
    """What is known about a checkpoint; stored in its directory as ``checkpoint.json``.

    Attributes:
        fingerprint: Identity of the encoder, 64 hex digits (see :func:`fingerprint`).
        base_model: Name of the base model it was made from.
        stages: Training stages it went through, in order; empty for an untrained base.
        max_tokens: Longer texts are cut here.
        standardised: Whether means and deviations of the dimensions are taken out after pooling.
        recipe_key: Key of the recipe that trained it; None for an untrained base.
        recipe: Settings of that recipe, those of stages that did not run left out; None where it is not known.
        training_snapshots: Ids of the snapshots it was trained on, by kind; None where they are not known.
        files: Size in bytes of every file of the encoder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: str
    base_model: str
    attention: Attention
    pooling_mode: PoolingMode
    embedding_dim: int
    max_tokens: int
    stages: tuple[str, ...] = ()
    standardised: bool = False
    recipe_key: str | None = None
    recipe: dict[str, Any] | None = None
    training_snapshots: dict[str, str] | None = None
    files: dict[str, int]

    @property
    def base_name(self) -> str:
        """The base model without where it is from, such as ``smollm2-135m``."""
        return self.base_model.rsplit("/", 1)[-1].rsplit(":", 1)[-1]

    @property
    def label(self) -> str:
        """Readable name, such as ``smollm2-135m+causal+weighted_mean``."""
        trained = "+".join(self.stages)
        modes = (self.attention, trained, self.pooling_mode, STANDARDISED if self.standardised else "")
        return "+".join(part for part in (self.base_name, *modes) if part)

    @property
    def seeds(self) -> dict[str, int]:
        """Seed of each training stage, as far as the recipe is known."""
        recipe = self.recipe or {}
        return {stage: recipe[stage]["seed"] for stage in self.stages if stage in recipe}


def write_checkpoint(
    directory: Path,
    *,
    backbone: Path,
    base_model: str,
    attention: Attention,
    pooling_mode: PoolingMode,
    max_tokens: int,
    stages: tuple[str, ...] = (),
    recipe_key: str | None = None,
    recipe: dict[str, Any] | None = None,
    training_snapshots: dict[str, str] | None = None,
    calibration: Sequence[str] = (),
) -> CheckpointRecord:
    """Write the encoder made of ``backbone`` and a pooling mode as a sentence-transformers directory.

    Args:
        directory: Target; must not hold another checkpoint.
        backbone: Directory of a transformer with its tokenizer (merged weights, no adapter).
        base_model: Name to record.
        attention: What the encoder shall do, whatever the backbone's configuration says; of an encoder-only backbone
            (BERT) only bidirectional.
        pooling_mode: How hidden states become one vector.
        max_tokens: Longer texts are cut here.
        stages: Training stages behind the backbone.
        recipe_key: Key of the recipe that trained it.
        recipe: Settings of that recipe, as JSON values.
        training_snapshots: Ids of the snapshots it was trained on, by kind.
        calibration: Training texts that a standardisation is measured on; none: the vectors stay as they are pooled.

    Raises:
        BaseModelError: The architecture ignores the attention asked for, or its positions end before ``max_tokens``.
        InputError: Too few calibration texts.
    """
    from sentence_transformers import SentenceTransformer

    from llm2vec_core.encoding.encoder import Encoder
    from llm2vec_core.model.architectures import (
        apply_attention,
        prepare_padding,
        require_positions,
        seeded_missing_weights,
        state_width,
        text_transformer,
    )
    from llm2vec_core.model.pooling import pooling_module
    from llm2vec_core.model.standardisation import standardisation_module

    with seeded_missing_weights():
        transformer = text_transformer(backbone, max_tokens=max_tokens)
    require_positions(transformer.model.config, max_tokens, name=base_model)
    prepare_padding(transformer.tokenizer)
    apply_attention(transformer.model, attention, name=base_model)
    hidden_size = state_width(transformer.model.config)
    model = SentenceTransformer(modules=[transformer, pooling_module(pooling_mode, hidden_size=hidden_size)])
    if calibration:
        plain = Encoder(model, fingerprint=base_model, attention=attention, pooling_mode=pooling_mode)
        model.append(standardisation_module(plain.encode(list(dict.fromkeys(calibration)))))
    model.save_pretrained(str(directory), create_model_card=False)
    record = CheckpointRecord(
        fingerprint=fingerprint(directory),
        base_model=base_model,
        attention=attention,
        pooling_mode=pooling_mode,
        embedding_dim=hidden_size,
        max_tokens=max_tokens,
        stages=stages,
        standardised=bool(calibration),
        recipe_key=recipe_key,
        recipe=recipe,
        training_snapshots=training_snapshots,
        files={name: path.stat().st_size for name, path in _encoder_files(directory)},
    )
    (directory / RECORD_NAME).write_text(record.model_dump_json(indent=2) + "\n")
    return record


def read_record(directory: Path) -> CheckpointRecord:
    """Record of one of our checkpoints, after a look that its files are all there.

    Raises:
        CheckpointError: No record, or a file that is missing or has another size.
    """
    path = directory / RECORD_NAME
    try:
        record = parse_record(path.read_bytes(), path=str(path))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{directory} holds no {RECORD_NAME}, so it is no checkpoint of this system.",
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
    """A record as it lies at ``path``.

    Raises:
        CheckpointError: It is damaged.
    """
    try:
        return CheckpointRecord.model_validate_json(content)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}", hint="Train the checkpoint again.") from error


def require_encoder_directory(directory: Path) -> None:
    """Refuse a directory that is no complete sentence-transformers directory.

    Raises:
        CheckpointError: Names the file that is missing.
    """
    modules_path = directory / "modules.json"
    if not modules_path.is_file():
        raise CheckpointError(
            f"{directory} holds no modules.json, so it is no sentence-transformers directory.",
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
