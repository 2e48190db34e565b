"""Build a checkpoint: an encoder's directory from a transformer and a specification."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llm2vec_core.encoding.encoder import read_views
from llm2vec_core.encoding.loading import assemble_model
from llm2vec_core.model.checkpoint import CheckpointRecord, EncoderSpec, write_encoder
from llm2vec_core.model.modes import EncoderView, Precision


def write_checkpoint(
    directory: Path,
    *,
    backbone: Path,
    spec: EncoderSpec,
    calibration: Sequence[str] = (),
    precision: Precision = "fp32",
) -> CheckpointRecord:
    """Make an encoder of a transformer and save it as a sentence-transformers directory.

    Args:
        directory: Target; must not hold another checkpoint.
        backbone: Directory of a transformer with its tokenizer (merged weights, no adapter).
        spec: Specification of the encoder. Its attention overrides the backbone's configuration.
        calibration: Texts to measure a standardisation on. Default: no standardisation.
        precision: Precision that the weights are saved in.

    Raises:
        BaseModelError: The architecture ignores the requested attention, or has fewer positions than ``max_tokens``.
        InputError: EOS pooling, which cannot be saved, or too few calibration texts.
    """
    standardised = bool(calibration)
    view = EncoderView(standardised=standardised)
    # On the CPU: no device needs room for the weights. Only a calibration encodes more than a few texts.
    loaded = assemble_model(backbone, spec, precision=precision, device=None if standardised else "cpu")
    (encoder,) = read_views(loaded, [view], calibration=calibration)
    return write_encoder(encoder.model, directory, spec, standardised=standardised)
