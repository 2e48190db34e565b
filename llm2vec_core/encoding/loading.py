"""Models in memory: loaded from an encoder's directory, or assembled from a base model."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llm2vec_core.device.memory import device_errors
from llm2vec_core.device.precision import default_device, settle_precision, stored_parameters
from llm2vec_core.encoding.tokenizing import TextTokenizer
from llm2vec_core.errors import CheckpointError
from llm2vec_core.model.architectures import (
    apply_attention,
    prepare_padding,
    require_positions,
    seeded_missing_weights,
    state_width,
    text_transformer,
    transformer_directory,
)
from llm2vec_core.model.base_models import content_hash
from llm2vec_core.model.bidirectional import saved_attention
from llm2vec_core.model.chat_template import apply_chat_template
from llm2vec_core.model.checkpoint import RECORD_NAME, EncoderSpec, fingerprint, read_record, require_encoder_directory
from llm2vec_core.model.modes import Attention, EncoderView, PoolingMode, Precision
from llm2vec_core.model.pooling import pooling_module, saved_pooling_mode, with_pooling
from llm2vec_core.model.standardisation import is_standardisation
from llm2vec_core.model.weights import require_plain_weights, require_whole_weights

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}

_LOAD_HINT = 'Load it in precision="bf16" (encode.precision), or on another device; `l2v plan` says what it needs.'


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory, with its properties.

    Attributes:
        model: The ``SentenceTransformer``: a transformer, a pooling module, and any further modules.
        name: Name for messages.
        fingerprint: Identity of its weights, tokenizer and modules.
        attention: Attention of the transformer.
        pooling_mode: Mode of the pooling module; None for one that this package does not name, such as CLS.
        standardised: Whether its last module is a standardisation.
        spec: Its specification; None if this package does not name its pooling.
        precision: Precision of the transformer.
    """

    model: Any
    name: str
    fingerprint: str
    attention: Attention
    pooling_mode: PoolingMode | None
    standardised: bool
    spec: EncoderSpec | None
    precision: Precision

    def changes(self, view: EncoderView) -> EncoderView:
        """The part of a view that differs from the model as loaded."""
        return view.changes(attention=self.attention, pooling_mode=self.pooling_mode, standardised=self.standardised)

    def modules(self, change: EncoderView) -> list[Any]:
        """The modules with the pooling of a change; a saved standardisation is dropped if anything changes."""
        modules = list(self.model)
        if change and self.standardised:
            modules.pop()
        return modules if change.pooling_mode is None else with_pooling(modules, change.pooling_mode, name=self.name)


def load_model(
    directory: Path, *, name: str | None = None, precision: Precision | None = None, device: str | None = None
) -> LoadedModel:
    """Load a checkpoint or any other sentence-transformers directory.

    The weights are loaded in the precision in which they run, so a device never holds them twice or in fp32.

    Args:
        directory: Directory of the saved encoder.
        name: Name for messages and reports. Default: the directory's name.
        precision: Precision of the transformer; everything after it computes in fp32. Default: by the device.
        device: Device of the model. Default: the best device available.

    Raises:
        InputError: A large model would run in fp32 without being asked to
            (:func:`~llm2vec_core.device.precision.settle_precision`).
        DeviceError: The weights do not fit, or there is a GPU whose driver is too old.
        CheckpointError: The directory is incomplete, has other weights than its configuration says, or wraps its texts
            in a chat template.
        BaseModelError: The loaded model contradicts the attention in its configuration.
    """
    require_encoder_directory(directory)
    name = name or directory.name
    require_plain_weights(transformer_directory(directory), name=name, error=CheckpointError)
    from sentence_transformers import SentenceTransformer

    place = torch.device(device) if device else default_device()
    precision = settle_precision(precision, place, num_parameters=stored_parameters(directory), name=name)
    try:
        with require_whole_weights(name, error=CheckpointError), device_errors(f"load {name}", hint=_LOAD_HINT):
            model = SentenceTransformer(
                str(directory), local_files_only=True, device=str(place), model_kwargs={"dtype": DTYPES[precision]}
            )
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{directory} could not be loaded as an encoder: {str(error).splitlines()[0]}",
            hint="Restore the directory, or build the checkpoint again.",
        ) from error
    if "message" in getattr(model[0], "modality_config", {}):
        raise CheckpointError(
            f"{name} wraps every text in the chat template of its tokenizer; expected an encoder that reads "
            "texts unchanged.",
            hint="Train it again, or remove `message` from modality_config in its sentence_bert_config.json.",
        )
    record = read_record(directory) if (directory / RECORD_NAME).is_file() else None
    attention = saved_attention(model[0].model, name=name)
    pooling_mode = saved_pooling_mode(model)
    spec = None
    if record is not None:
        spec = EncoderSpec(**record.model_dump(include=set(EncoderSpec.model_fields)))
    elif pooling_mode is not None:
        spec = EncoderSpec(
            base_model=name,
            attention=attention,
            pooling_mode=pooling_mode,
            max_tokens=model.max_seq_length or 512,
        )
    return LoadedModel(
        model=model,
        name=name,
        fingerprint=record.fingerprint if record is not None else fingerprint(directory),
        attention=attention,
        pooling_mode=pooling_mode,
        standardised=is_standardisation(list(model)[-1]),
        spec=spec,
        precision=precision,
    )


def assemble_model(
    backbone: Path, spec: EncoderSpec, *, precision: Precision | None = None, device: str | None = None
) -> LoadedModel:
    """Make an encoder from a transformer: set its attention and add a pooling module.

    Args:
        backbone: Directory of a transformer with its tokenizer (merged weights, no adapter).
        spec: Attention, pooling and ``max_tokens`` of the encoder. An encoder-only backbone (BERT) can only be
            bidirectional.
        precision: As for :func:`load_model`.
        device: Device of the model. Default: the best device available.

    Raises:
        DeviceError: As for :func:`load_model`.
        BaseModelError: The architecture ignores the requested attention, or has fewer positions than ``max_tokens``.
        InputError: EOS pooling, which cannot be saved; or as for :func:`load_model`.
    """
    from sentence_transformers import SentenceTransformer

    place = torch.device(device) if device else default_device()
    precision = settle_precision(precision, place, num_parameters=stored_parameters(backbone), name=spec.base_model)
    with seeded_missing_weights():
        transformer = text_transformer(
            backbone, max_tokens=spec.max_tokens, name=spec.base_model, dtype=DTYPES[precision]
        )
    require_positions(transformer.model.config, spec.max_tokens, name=spec.base_model)
    prepare_padding(transformer.tokenizer)
    if spec.chat_template:
        apply_chat_template(transformer.tokenizer, name=spec.base_model)
    apply_attention(transformer.model, spec.attention, name=spec.base_model)
    width = state_width(transformer.model.config)
    pooling = pooling_module(spec.pooling_mode, hidden_size=width, pools_prompt=spec.pools_prompt)
    with device_errors(f"load {spec.base_model}", hint=_LOAD_HINT):
        model = SentenceTransformer(modules=[transformer, pooling], device=str(place))
    identity = f"{content_hash(backbone)}\n{spec.attention}+{spec.pooling_mode}\n{spec.max_tokens}"
    identity += "" if spec.pools_prompt else "\nprompts are not pooled"
    identity += "\nchat template" if spec.chat_template else ""
    return LoadedModel(
        model=model,
        name=spec.base_model,
        fingerprint=hashlib.sha256(identity.encode()).hexdigest(),
        attention=spec.attention,
        pooling_mode=spec.pooling_mode,
        standardised=False,
        spec=spec,
        precision=precision,
    )


def load_tokenizer(directory: Path) -> TextTokenizer:
    """Load the tokenizer of a checkpoint without its weights, to count tokens as its encoder does.

    Raises:
        CheckpointError: The directory is not a complete checkpoint.
    """
    from transformers import AutoTokenizer

    record = read_record(directory)
    tokenizer = AutoTokenizer.from_pretrained(str(transformer_directory(directory)), local_files_only=True)
    return TextTokenizer(tokenizer, max_tokens=record.max_tokens, pooling_mode=record.pooling_mode, echo=False)
