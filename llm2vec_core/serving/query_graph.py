"""The query encoder of a checkpoint: an ONNX graph over the checkpoint's own weights, proven when it is written.

The graph names its weights by their place in the checkpoint's files, so it takes some kilobytes and no second copy. It
is built from the configuration, node by node: exporting 30 layers by ``torch.onnx`` takes 70 processor seconds, which
a night should not pay for each new encoder. It covers decoders of the Llama family (Llama, SmolLM2, Mistral, Qwen2,
Qwen3) and BERT, such as MiniLM. Other encoders have no query encoder, and interactive commands use torch.

Does not belong here: the nodes (``query_nodes``), running the graph (``query_encoder``), graphs for other programs
(``onnx_graph``).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llm2vec_core.errors import InputError, ParityError, require_extra
from llm2vec_core.model.modes import LongTexts
from llm2vec_core.serving.parity import PROBE_TEXTS, Limits
from llm2vec_core.serving.query_encoder import QUERY_GRAPH_NAME, OnnxEncoder, QueryGraph
from llm2vec_core.serving.query_nodes import BertGraph, DecoderGraph, EncoderGraph, Weights

if TYPE_CHECKING:
    from llm2vec_core.encoding.encoder import Encoder

QUERY_LIMITS = Limits(min_cosine=0.99999, max_abs_diff=1e-5)
"""Maximum difference from the encoder's own vectors in float32."""

_FAMILIES = {"silu": ("llama", "mistral", "qwen2", "qwen3"), "gelu": ("bert",)}
"""Architectures by their activation."""

_OPSET = 23
"""First version with attention, rotary positions and RMS normalisation as operators."""

_IR_VERSION = 11
_CHARS_BEYOND = 80
"""Characters of the longest probe text beyond the first part."""


def write_query_graph(load: Callable[[], Encoder], directory: Path, target: Path) -> QueryGraph:
    """Write the query encoder of a checkpoint, and compare its vectors with those of the encoder.

    Args:
        load: Loads the encoder of the directory on the CPU in float32. It is not called if the configuration or the
            weights rule a graph out.
        directory: Checkpoint with its weights in ``*.safetensors``.
        target: Directory for the graph. The weights must be there, too, when it is used.

    Returns:
        What the graph is, with the largest difference that was found.

    Raises:
        InputError: No graph is built for this encoder; the message says why.
        MissingPackageError: onnx or onnxruntime is not installed.
        ParityError: The graph returns other vectors; it is removed.
    """
    require_extra("A query encoder", "serving", "onnx", "onnxruntime")
    config = json.loads((directory / "config.json").read_text())
    _require_family(config)
    weights = Weights(directory)
    encoder = load()
    standardisation, is_normalised = _behind_pooling(encoder)
    tokenizer = encoder.model.tokenizer
    described = QueryGraph(
        fingerprint=encoder.fingerprint,
        embedding_dim=encoder.embedding_dim,
        max_tokens=encoder.max_tokens,
        special_tokens={
            name: token_id
            for name in ("bos", "eos", "sep", "pad")
            if (token_id := getattr(tokenizer, f"{name}_token_id")) is not None
        },
        max_abs_diff=0.0,
    )
    is_causal = encoder.attention == "causal"
    graph = BertGraph(config, weights) if config["model_type"] == "bert" else DecoderGraph(config, weights, is_causal)
    graph.pool(str(encoder.pooling_mode), standardisation, is_normalised=is_normalised)
    if weights.unused:
        raise InputError(f"The weights have {', '.join(sorted(weights.unused)[:3])}, which this graph does not read.")
    path = target / QUERY_GRAPH_NAME
    _save(graph, described, path)
    try:
        described = described.model_copy(update={"max_abs_diff": _prove(encoder, directory, path)})
    except Exception:
        path.unlink()
        raise
    _save(graph, described, path)
    return described


def _prove(encoder: Encoder, directory: Path, path: Path) -> float:
    """Largest difference of any dimension over the probe texts, and over one that is cut or read in parts."""
    found = OnnxEncoder.load(directory, graph=path)
    *short, long = PROBE_TEXTS
    beginning, *further = encoder.split(long)
    long = " ".join([beginning, *(part[:_CHARS_BEYOND] for part in further[:1])])  # each token of it costs time
    largest = 0.0
    proven: dict[LongTexts, list[str]] = {"parts": [*short, long], "cut": [long]}
    for mode, texts in proven.items():
        expected = encoder.encode(texts, long_texts=mode, normalize=True)
        vectors = found.encode(texts, long_texts=mode)
        difference, cosine = float(np.abs(vectors - expected).max()), float((vectors * expected).sum(axis=1).min())
        if not (difference <= QUERY_LIMITS.max_abs_diff and cosine >= QUERY_LIMITS.min_cosine):
            raise ParityError(
                f"The query encoder differs from the encoder by {difference:.1e} in a dimension; expected "
                f"{QUERY_LIMITS.max_abs_diff:.0e} or less.",
                hint="Queries are encoded by torch instead.",
            )
        largest = max(largest, difference)
    return largest


def _require_family(config: Mapping[str, Any]) -> None:
    rope, kind, act = config.get("rope_parameters") or {}, str(config.get("model_type")), str(config.get("hidden_act"))
    faults = [
        f"the architecture {kind}" if kind not in itertools.chain(*_FAMILIES.values()) else "",
        f"the activation {act} of {kind}" if kind not in _FAMILIES.get(act, ()) else "",
        f"the positions {rope.get('rope_type')}" if rope.get("rope_type", "default") != "default" else "",
        "partial rotary positions" if rope.get("partial_rotary_factor", 1.0) != 1.0 else "",
        "a sliding window" if config.get("sliding_window") and config.get("use_sliding_window", True) else "",
    ]
    if any(faults):
        raise InputError(f"A query encoder is not built for {', '.join(filter(None, faults))}.")


def _behind_pooling(encoder: Encoder) -> tuple[tuple[np.ndarray, np.ndarray] | None, bool]:
    """Scale and shift of a standardisation, if there is one, and whether vectors are normalised before they are read.

    Raises:
        InputError: The encoder reads texts or ends in a way that the graph has no nodes for.
    """
    from sentence_transformers.base.modules import Normalize, Transformer

    from llm2vec_core.model.standardisation import is_standardisation

    transformer, *behind = list(encoder.model)
    if encoder.echo or encoder.prompted or encoder.pooling_mode not in ("mean", "weighted_mean", "last"):
        raise InputError("A query encoder is not built for this pooling or way to read a text.")
    if not isinstance(transformer, Transformer) or (encoder.spec is not None and encoder.spec.chat_template):
        raise InputError("A query encoder is not built for texts in a chat template.")
    if not encoder.model.tokenizer.is_fast:
        raise InputError("A query encoder needs a fast tokenizer (tokenizer.json).")
    standardisation, is_normalised = None, False
    for module in behind[1:]:
        if is_standardisation(module) and not is_normalised and standardisation is None:
            linear = module.linear
            standardisation = (linear.weight.diagonal().detach().numpy(), linear.bias.detach().numpy())
        elif isinstance(module, Normalize):
            is_normalised = True
        else:
            raise InputError(f"A query encoder is not built for the module {type(module).__name__}.")
    return standardisation, is_normalised


def _save(graph: EncoderGraph, described: QueryGraph, path: Path) -> None:
    from onnx import TensorProto, helper

    def tensors(names: Sequence[str], kind: int, shape: list[str | int]) -> list[Any]:
        return [helper.make_tensor_value_info(name, kind, shape) for name in names]

    made = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "query_encoder",
            tensors(("input_ids", "attention_mask"), TensorProto.INT64, ["batch", "sequence"]),
            tensors(("sentence_embedding",), TensorProto.FLOAT, ["batch", described.embedding_dim]),
            list(graph.initializers.values()),
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="llm2vec-pipelines",
    )
    helper.set_model_props(made, {QUERY_GRAPH_NAME: described.model_dump_json()})
    path.write_bytes(made.SerializeToString())
