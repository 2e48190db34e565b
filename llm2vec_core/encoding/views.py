"""Read one encoder in several ways, over one copy of its weights. Evaluations do this.

For example, an ablation gets the vectors of three poolings from one forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from llm2vec_core.encoding.encoder import Encoder, read_views
from llm2vec_core.encoding.forward import run_together
from llm2vec_core.encoding.loading import load_model
from llm2vec_core.encoding.result import Encoding
from llm2vec_core.model.modes import EncoderView, Precision


def load_views(
    directory: Path,
    views: Sequence[EncoderView],
    *,
    batch_tokens: int | None = None,
    precision: Precision | None = None,
    device: str | None = None,
    calibration: Sequence[str] = (),
    headings: Mapping[str, str] | None = None,
) -> list[Encoder]:
    """Load a directory once and read it in several ways.

    Args:
        directory: Directory of the saved encoder.
        views: Ways to read it. All must have the same attention, because the transformer has only one.
        batch_tokens: As for :meth:`Encoder.load`.
        precision: As for :meth:`Encoder.load`.
        device: As for :meth:`Encoder.load`.
        calibration: As for :meth:`Encoder.load`.
        headings: As for :meth:`Encoder.load`.

    Raises:
        CheckpointError: As :meth:`Encoder.load`.
        BaseModelError: As :meth:`Encoder.load`.
        InputError: As :meth:`Encoder.load`; or the views have different attentions.
    """
    loaded = load_model(directory, precision=precision, device=device)
    return read_views(loaded, views, calibration=calibration, batch_tokens=batch_tokens, headings=headings)


def shares_pass(encoder: Encoder, other: Encoder) -> bool:
    """Whether one forward pass can serve both encoders."""
    return encoder.forward.is_shared_with(other.forward) and encoder.batch_tokens == other.batch_tokens


def encode_together(
    encoders: Sequence[Encoder], texts: Sequence[str], *, prompt: str | None = None, pool_prompt: bool = True
) -> list[Encoding]:
    """Encode texts by several encoders in one forward pass; long texts are truncated.

    Args:
        encoders: Encoders that share their pass (:func:`shares_pass`).
        texts: Any number of texts, in any order; equal texts are encoded once.
        prompt: As for :meth:`Encoder.encode`.
        pool_prompt: As for :meth:`Encoder.encode`.

    Returns:
        One encoding per encoder; all have the counts of the shared pass.

    Raises:
        InputError: ``max_tokens`` leaves no room for two echo copies.
    """
    first = encoders[0]
    assert all(shares_pass(first, other) for other in encoders[1:]), "these encoders cannot share a forward pass"
    return run_together(
        [encoder.forward for encoder in encoders],
        texts,
        batch_tokens=first.batch_tokens,
        prompt=prompt,
        pool_prompt=pool_prompt,
    )
