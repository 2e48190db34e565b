"""Checkpoints in the store, kept by fingerprint, and found by fingerprint or by base model and stages.

Never imports prefect: ``l2v search`` needs an encoder, too.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.documents.headings import SECTION_HEADINGS
from data.errors import InputError
from data.sample.esco import read_calibration_texts
from data.schema import DocumentKind, sha256_json
from data.store.base import Store, put_directory
from llm2vec_core.model.base_models import base_content
from llm2vec_core.model.checkpoint import (
    RECORD_NAME,
    CheckpointRecord,
    EncoderSpec,
    parse_record,
    read_record,
)
from llm2vec_core.model.modes import Attention, EncoderView, Precision
from tasks.run.reports import CheckpointRef
from tasks.run.settings import EncodeSettings, Settings

if TYPE_CHECKING:
    from llm2vec_core.encoding.encoder import Encoder
    from llm2vec_core.encoding.result import Encoding
    from llm2vec_core.ranking.reranking import Reranker

MIN_PREFIX = 6
"""Minimum number of fingerprint characters in a checkpoint's name."""


def base_models_dir(store: Store) -> Path:
    """Directory of converted base models."""
    return store.machine.local_path("base_models")


def checkpoint_dir(store: Store, fingerprint: str) -> Path:
    """Directory of a stored checkpoint, for reading."""
    return store.local_path(f"checkpoints/{fingerprint}")


def store_checkpoint(store: Store, directory: Path) -> CheckpointRef:
    """Move a finished checkpoint directory into the store; its record is put last."""
    record = read_record(directory)
    put_directory(store, f"checkpoints/{record.fingerprint}", directory, last=RECORD_NAME)
    return _ref(record)


def stored_checkpoints(store: Store) -> list[CheckpointRecord]:
    """Records of all complete checkpoints of the store: a record is written last.

    Only the records are read, so that no weights are downloaded from a bucket.
    """
    keys = [key for key in store.list("checkpoints") if key.endswith(f"/{RECORD_NAME}")]
    contents = ((key, store.read(key)) for key in keys)
    return [parse_record(content, path=key) for key, content in contents if content is not None]


def find_checkpoint(store: Store, fingerprint: str) -> CheckpointRef:
    """Return the stored checkpoint with this fingerprint or fingerprint prefix.

    Raises:
        InputError: No checkpoint, or more than one, has this fingerprint.
    """
    found = [record for record in stored_checkpoints(store) if record.fingerprint.startswith(fingerprint)]
    if len(found) != 1 or len(fingerprint) < MIN_PREFIX:
        known = ", ".join(f"{record.fingerprint[:12]} ({record.label})" for record in stored_checkpoints(store))
        state = f"{len(found)} checkpoints of this store" if found else "No checkpoint of this store"
        raise InputError(f"{state} has the fingerprint '{fingerprint}'.", hint=f"Checkpoints: {known or 'none yet'}.")
    return _ref(found[0])


def build_untrained(store: Store, settings: Settings, base_model: str) -> CheckpointRef:
    """The checkpoint of an untrained base model. It is built once, and found again by name and settings.

    A decoder keeps the attention of its configuration, which is nearly always causal, and gets the pooling of the
    settings (weighted mean is best for an untrained one: LLM2Vec, table 5). Bidirectional models get mean pooling.
    """
    known = find_untrained(store, settings, base_model)
    if known is not None:
        return known
    from llm2vec_core.encoding.build import write_checkpoint
    from llm2vec_core.model.architectures import base_attention
    from llm2vec_core.model.base_models import fetch_base_model

    backbone = fetch_base_model(base_model, cache_dir=base_models_dir(store))
    attention = base_attention(backbone)
    with store.scratch() as scratch:
        write_checkpoint(
            scratch / "checkpoint",
            backbone=backbone,
            spec=EncoderSpec(
                base_model=base_model,
                attention=attention,
                pooling_mode="mean" if attention == "bidirectional" else settings.evaluate.base_pooling,
                max_tokens=settings.train.max_tokens,
            ),
        )
        ref = store_checkpoint(store, scratch / "checkpoint")
    store.put_if_absent(_untrained_key(settings, base_model), ref.model_dump_json().encode())
    return ref


def find_untrained(store: Store, settings: Settings, base_model: str) -> CheckpointRef | None:
    """The checkpoint of an untrained base model, if it was built."""
    known = store.read(_untrained_key(settings, base_model))
    return None if known is None else CheckpointRef.model_validate_json(known)


def _untrained_key(settings: Settings, base_model: str) -> str:
    decisive = [_base_identity(base_model), settings.evaluate.base_pooling, settings.train.max_tokens]
    return f"untrained/{sha256_json(decisive)[:32]}.json"


def store_candidate(store: Store, name: str) -> CheckpointRef:
    """Keep an encoder that was not trained here as a checkpoint, so that a night can serve it. It is stored once.

    Args:
        store: The store.
        name: A sentence-transformers directory, a bundled name or a hub name.

    Raises:
        InputError: The encoder's pooling cannot be saved.
        BaseModelError: There is no such model.
        CheckpointError: The directory is incomplete.
    """
    key = f"untrained/candidate-{sha256_json(_base_identity(name))[:32]}.json"
    known = store.read(key)
    if known is not None:
        ref = CheckpointRef.model_validate_json(known)
        if store.read(f"checkpoints/{ref.fingerprint}/{RECORD_NAME}") is not None:
            return ref
    from llm2vec_core.encoding.encoder import Encoder

    with store.scratch() as scratch:
        Encoder.load(name, precision="fp32", device="cpu", cache_dir=base_models_dir(store)).save(
            scratch / "checkpoint"
        )
        ref = store_checkpoint(store, scratch / "checkpoint")
    store.put_if_absent(key, ref.model_dump_json().encode())
    return ref


def _base_identity(base_model: str) -> list[str]:
    """Identity of a base model: its name, and the content of an adapter or a directory."""
    content = base_content(base_model)
    return [base_model] if content is None else [base_model, content]


def find_trained_checkpoint(
    store: Store, base_model: str, *, attention: Attention, stages: tuple[str, ...]
) -> CheckpointRef:
    """Return the newest stored checkpoint of a base model that was trained by these stages.

    Raises:
        InputError: There is none; the hint shows how to train it.
    """
    found = [
        record
        for record in stored_checkpoints(store)
        if (record.base_model, record.stages, record.attention) == (base_model, stages, attention)
    ]
    if not found:
        listed = ", ".join(f'"{stage}"' for stage in stages)
        raise InputError(
            f"No checkpoint of this store is {base_model}, {attention}, trained by {', '.join(stages)}.",
            hint=f"Train it: l2v train --base-model {base_model} --set train.attention={attention} "
            f"--set 'train.stages=[{listed}]'",
        )
    return _ref(max(found, key=lambda record: stored_at(store, record.fingerprint)))


def stored_at(store: Store, fingerprint: str) -> float:
    """Time at which a checkpoint was stored, in seconds since 1970."""
    return next(store.entries(f"checkpoints/{fingerprint}/{RECORD_NAME}")).written_at


def cached_views(directory: Path, encode: EncodeSettings, views: tuple[EncoderView, ...]) -> tuple[Encoder, ...]:
    """Load an encoder in several views, once per process. The two most recently used directories stay loaded."""
    return _cached_views(directory, encode.token_budget, encode.precision, views)


@functools.lru_cache(maxsize=2)
def _cached_views(
    directory: Path, batch_tokens: int | None, precision: Precision | None, views: tuple[EncoderView, ...]
) -> tuple[Encoder, ...]:
    from llm2vec_core.encoding import views as encoder_views

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    encoders = encoder_views.load_views(
        directory,
        views,
        batch_tokens=batch_tokens,
        precision=precision,
        calibration=read_calibration_texts() if any(view.standardised for view in views) else (),
        headings=SECTION_HEADINGS,
    )
    return tuple(encoders)


def load_encoder(directory: Path, encode: EncodeSettings) -> Encoder:
    """Load an encoder as it was saved, once per process. The two most recently used encoders stay loaded."""
    return cached_views(directory, encode, (EncoderView(),))[0]


@functools.lru_cache(maxsize=1)
def load_reranker(name: str, cache_dir: Path) -> Reranker:
    """Return a cross-encoder by directory or hub name; its weights are loaded for the first pair.

    Args:
        name: The directory, or the name.
        cache_dir: Directory from :func:`base_models_dir`.

    Raises:
        BaseModelError: The model is not available.
    """
    from llm2vec_core.model.base_models import fetch_base_model
    from llm2vec_core.ranking.reranking import Reranker

    return Reranker(fetch_base_model(name, cache_dir=cache_dir))


def encode_documents(
    encoder: Encoder,
    texts: Sequence[str],
    kind: DocumentKind,
    settings: EncodeSettings,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> Encoding:
    """Encode texts as documents of a kind, with its prompt and the long-text setting; vectors have length one.

    The prompt is read but not pooled, as in training and in evaluation.
    """
    prompt = settings.prompts.get(kind)
    return encoder.encode_with_counts(
        texts,
        prompt=prompt,
        pool_prompt=not prompt,
        long_texts=settings.long_texts,
        normalize=True,
        on_progress=on_progress,
    )


def _ref(record: CheckpointRecord) -> CheckpointRef:
    return CheckpointRef(fingerprint=record.fingerprint, label=record.label, trained=bool(record.stages))
