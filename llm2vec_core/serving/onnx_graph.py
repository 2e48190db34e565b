"""An encoder as one ONNX graph: token ids and attention mask in, vectors of length one out.

Pooling, standardisation and normalisation are in the graph, so that only a tokenizer is needed to run it. Batch size
and length are dynamic. Padding may be on either side, because only the mask decides the attention. Tests compare the
graph with the encoder for both attentions.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from llm2vec_core.errors import InputError

_GRAPH_NAME = "sentence_vector.onnx"
"""Not ``model.onnx``: servers expect hidden states from a file of that name, and would pool again."""

_INPUTS = ("input_ids", "attention_mask")
_AXES = {0: "batch", 1: "sequence"}
_EXAMPLE_SHAPE = (2, 7)
"""Shape of the example. Not one and not equal, because the exporter could treat such numbers as constants."""


def require_exporter() -> None:
    """Check that the packages that write ONNX are installed.

    Raises:
        InputError: Some are missing; the message lists them.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"Writing ONNX needs the packages onnx and onnxscript, of which {' and '.join(missing)} cannot be found.",
            hint="Install the extra: pip install 'llm2vec-pipelines[serving]'. Or leave the graph out: --no-onnx.",
        )


def write_onnx(model: Any, directory: Path) -> Path:  # noqa: ANN401 - SentenceTransformer, which ships no types
    """Write a model (``portable.servable_model``) as an ONNX graph in float32, its weights in a file beside it.

    Returns:
        The graph.

    Raises:
        InputError: The packages that write ONNX are missing.
    """
    require_exporter()
    directory.mkdir(parents=True)
    path = directory / _GRAPH_NAME
    example = torch.ones(_EXAMPLE_SHAPE, dtype=torch.int64, device=model.device)
    mask = example.clone()
    mask[1, 4:] = 0
    with _quiet_exporter(), torch.inference_mode():
        torch.onnx.export(
            _SentenceVector(model).eval(),
            (example, mask),
            str(path),
            dynamo=True,
            external_data=True,
            input_names=list(_INPUTS),
            output_names=["sentence_embedding"],
            dynamic_shapes=dict.fromkeys(_INPUTS, _AXES),
            verbose=False,
        )
    return path


def encode_with_onnx(
    graph: Path,
    texts: Sequence[str],
    *,
    tokenizer: Any,  # noqa: ANN401 - ships no types
    max_tokens: int,
) -> Float32[np.ndarray, "num_texts dim"]:
    """Vectors of texts by ONNX Runtime, in one batch, padded on the tokenizer's side.

    Raises:
        ImportError: ONNX Runtime is not installed.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    batch = tokenizer(list(texts), padding=True, truncation=True, max_length=max_tokens, return_tensors="np")
    (vectors,) = session.run(None, {name: batch[name].astype(np.int64) for name in _INPUTS})
    return np.asarray(vectors, dtype=np.float32)


class _SentenceVector(nn.Module):
    """The modules of a sentence-transformers model without its tokenizer, as a function of tensors."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        super().__init__()
        first, *behind = model
        self.transformer = first.model
        self.behind = nn.ModuleList(behind)

    def forward(
        self, input_ids: Int64[Tensor, "batch seq"], attention_mask: Int64[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch dim"]:
        states = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        features: dict[str, Tensor] = {"token_embeddings": states, "attention_mask": attention_mask}
        for module in self.behind:
            features = module(features)
        return features["sentence_embedding"]


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep messages of the exporter off stdout, which may carry JSON, and out of the log."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
