"""Encode texts as vectors, and evaluate the vectors.

Four names are the public API; ``docs/python.md`` shows how to use them::

    from llm2vec_core import Encoder, Recipe, train, evaluate

They are imported on first use, so that ``import llm2vec_core`` loads no model library.

Belongs here: the bidirectional switch, LoRA, MNTP and SimCSE training, checkpoints, the encoder, lexical scoring,
fusion, evaluation and its reports. Plain Python and torch over texts and arrays.
Does not belong here: stored documents (``data``), orchestration (``tasks``, ``flows``).
Nothing in this package imports prefect, lancedb or ``data``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm2vec_core.encoding.encoder import Encoder
    from llm2vec_core.evaluation.api import evaluate
    from llm2vec_core.training.settings import Recipe
    from llm2vec_core.training.train import train

__all__ = ["Encoder", "Recipe", "evaluate", "train"]

_MODULES = {
    "Encoder": "llm2vec_core.encoding.encoder",
    "Recipe": "llm2vec_core.training.settings",
    "evaluate": "llm2vec_core.evaluation.api",
    "train": "llm2vec_core.training.train",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any of the four names
    """Import one of the four names on first use (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
