"""Saved models: a directory must give what the model in memory gives, shown on a few texts.

Does not belong here: weights that a load leaves out (``weights``), and other runtimes (``serving.parity``).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from llm2vec_core.errors import BaseModelError, CheckpointError
from llm2vec_core.model.weights import require_whole_weights

SAVED_TEXTS = ("nurse", "Registered nurse, night shifts; ACLS and PALS required.", "C++ and C#, 5+ years (2019)")
"""Texts that a saved model is compared on."""

_TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-4}  # of the largest value
_LOW_PRECISION_TOLERANCE = 2e-2


@torch.inference_mode()
def transformer_outputs(model: Any, tokenizer: Any) -> list[Float[Tensor, "1 seq width"]]:  # noqa: ANN401
    """What a transformer gives :data:`SAVED_TEXTS`: logits, or hidden states where it has no output layer."""
    was_training = model.training
    model.eval()
    outputs = []
    for text in SAVED_TEXTS:
        tokens = tokenizer(text, return_tensors="pt", return_token_type_ids=False).to(model.device)
        outputs.append(model(**tokens)[0].float().cpu())
    model.train(was_training)
    return outputs


def require_saved_transformer(
    directory: Path,
    kind: type[Any],
    expected: list[Float[Tensor, "1 seq width"]],
    *,
    name: str,
) -> None:
    """Load a transformer that was just saved, and hold it against the model that was in memory.

    Args:
        directory: Transformer with its tokenizer.
        kind: Class of the model.
        expected: Its :func:`transformer_outputs` before it was saved.
        name: Model's name, for messages.

    Raises:
        BaseModelError: It has other outputs, or not all of its weights.
    """
    from transformers import AutoTokenizer

    with require_whole_weights(name):
        model = kind.from_pretrained(directory, dtype=torch.float32, local_files_only=True)
    found = transformer_outputs(model, AutoTokenizer.from_pretrained(directory, local_files_only=True))
    if (difference := _difference(expected, found)) > _TOLERANCES[torch.float32]:
        raise BaseModelError(_differs(name, difference), hint=_HINT)


def require_saved_encoder(model: Any, directory: Path) -> None:  # noqa: ANN401 - SentenceTransformer
    """Load an encoder that was just saved, and hold it against the one in memory. Removes the directory if they differ.

    Args:
        model: The ``SentenceTransformer`` that was saved. A device holds one of the two models at a time.
        directory: Where it was saved.

    Raises:
        CheckpointError: It gives other vectors, or has not all of its weights.
    """
    from sentence_transformers import SentenceTransformer

    device = model.device
    expected = _vectors(model)
    dtype = next(model.parameters()).dtype
    model.to("cpu")
    try:
        with require_whole_weights(directory.name, error=CheckpointError):
            saved = SentenceTransformer(str(directory), local_files_only=True, device=str(device))
        difference = _difference(expected, _vectors(saved))
        if difference > _TOLERANCES.get(dtype, _LOW_PRECISION_TOLERANCE):
            raise CheckpointError(_differs(directory.name, difference), hint=_HINT)
    except CheckpointError:
        shutil.rmtree(directory)
        raise
    finally:
        model.to(device)


_HINT = "Nothing was kept. Please report the architecture as a bug."


def _vectors(model: Any) -> list[Float[Tensor, " dim"]]:  # noqa: ANN401
    was_training = model.training
    vectors = model.encode(list(SAVED_TEXTS), show_progress_bar=False, convert_to_tensor=True).float().cpu()
    model.train(was_training)
    return list(vectors)


def _difference(expected: list[Any], found: list[Any]) -> float:
    """Largest difference as a share of the largest value; infinite where shapes differ or a value is not finite."""
    largest = 0.0
    for one, other in zip(expected, found, strict=True):
        if one.shape != other.shape or not (one.isfinite().all() and other.isfinite().all()):
            return float("inf")
        largest = max(largest, ((one - other).abs().max() / one.abs().max().clamp(min=1e-12)).item())
    return largest


def _differs(name: str, difference: float) -> str:
    return (
        f"{name} was saved, and the directory does not give what the model in memory gives: a difference of "
        f"{difference:.1e} of the largest value, and at most {_TOLERANCES[torch.float32]:.0e} was expected."
    )
