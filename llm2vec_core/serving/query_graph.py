"""The query encoder of a checkpoint: an ONNX graph over the checkpoint's own weights, proven when it is written.

The graph names its weights by their place in the checkpoint's files, so it takes some kilobytes and no second copy. It
is built from the configuration, node by node: exporting 30 layers by ``torch.onnx`` takes 70 processor seconds, which
a night should not pay for each new encoder. It covers decoders of the Llama family (Llama, SmolLM2, Mistral, Qwen2,
Qwen3). Other encoders have no query encoder, and interactive commands use torch.

Does not belong here: running the graph (``query_encoder``), graphs for other programs (``onnx_graph``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llm2vec_core.errors import InputError, ParityError, require_extra
from llm2vec_core.model.modes import LongTexts
from llm2vec_core.serving.parity import PROBE_TEXTS, Limits
from llm2vec_core.serving.query_encoder import QUERY_GRAPH_NAME, OnnxEncoder, QueryGraph

if TYPE_CHECKING:
    from llm2vec_core.encoding.encoder import Encoder

QUERY_LIMITS = Limits(min_cosine=0.99999, max_abs_diff=1e-5)
"""Maximum difference from the encoder's own vectors in float32."""

_FAMILY = ("llama", "mistral", "qwen2", "qwen3")
_OPSET = 23
"""First version with attention, rotary positions and RMS normalisation as operators."""

_IR_VERSION = 11
_MAX_WEIGHT_BYTES = 4 * 1024**3
"""Larger models are slow on a CPU with any library, and the comparison would load them a second time."""

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
    weights = _Weights(directory)
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
    graph = _DecoderGraph(config, weights, is_causal=encoder.attention == "causal")
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
    rope = config.get("rope_parameters") or {}
    faults = [
        f"the architecture {config.get('model_type')}" if config.get("model_type") not in _FAMILY else "",
        f"the activation {config.get('hidden_act')}" if config.get("hidden_act") != "silu" else "",
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


class _Weights:
    """The float32 tensors of a directory, by name, as places in its files.

    Attributes:
        unused: Names of the tensors that were not asked for.
    """

    def __init__(self, directory: Path) -> None:
        self._places: dict[str, tuple[list[int], str, int, int]] = {}
        for path in sorted(directory.glob("*.safetensors")):
            for name, shape, start, size in _tensors(path):
                self._places[name.removeprefix("model.")] = (shape, path.name, start, size)
        self.unused = set(self._places) - {"lm_head.weight"}
        num_bytes = sum(size for *_, size in self._places.values())
        if num_bytes > _MAX_WEIGHT_BYTES:
            limit = _MAX_WEIGHT_BYTES / 1e9
            raise InputError(f"The weights take {num_bytes / 1e9:.1f} GB; expected {limit:.1f} or less.")

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def initializer(self, name: str) -> Any:  # noqa: ANN401 - onnx.TensorProto
        """A tensor of the graph that lies in a file of the directory."""
        from onnx import TensorProto

        if name not in self._places:
            raise InputError(f"The weights have no {name}, which this architecture needs.")
        self.unused.discard(name)
        shape, file, start, size = self._places[name]
        tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        for key, value in {"location": file, "offset": start, "length": size}.items():
            tensor.external_data.add(key=key, value=str(value))
        return tensor


def _tensors(path: Path) -> Iterator[tuple[str, list[int], int, int]]:
    """Name, shape, first byte and number of bytes of each tensor of a safetensors file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        if tensor["dtype"] != "F32":
            raise InputError(f"The weights are {tensor['dtype']}; a query encoder needs F32.")
        start, end = tensor["data_offsets"]
        yield name, tensor["shape"], 8 + length + start, end - start


class _DecoderGraph:
    """Nodes of a decoder of the Llama family. States are two-dimensional: a row per token of the batch."""

    def __init__(self, config: Mapping[str, Any], weights: _Weights, *, is_causal: bool) -> None:
        self._weights = weights
        self._num_heads = int(config["num_attention_heads"])
        self._num_kv_heads = int(config.get("num_key_value_heads") or self._num_heads)
        self._head_dim = int(config.get("head_dim") or config["hidden_size"] // self._num_heads)
        self._epsilon = float(config["rms_norm_eps"])
        self._is_causal = is_causal
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self._num_names = 0
        theta = (config.get("rope_parameters") or config)["rope_theta"]
        # As transformers computes them, in float32.
        exponents = np.arange(0, self._head_dim, 2, dtype=np.float32) / np.float32(self._head_dim)
        frequencies = (np.float32(1.0) / np.float32(theta) ** exponents).astype(np.float32)
        self._read_inputs(frequencies[None, :])
        states = self._node(
            "Reshape",
            self._node("Gather", self._weight("embed_tokens.weight"), "input_ids"),
            self._ints(-1, int(config["hidden_size"])),
        )
        for layer in range(int(config["num_hidden_layers"])):
            states = self._layer(states, f"layers.{layer}.")
        self._states = self._norm(states, "norm.weight")

    def _read_inputs(self, frequencies: np.ndarray) -> None:
        """Shapes, rotations and the mask, which all layers share."""
        self._shape = self._node("Shape", "input_ids")
        length = self._node("Gather", self._shape, self._ints(1))
        scalar = self._node("Squeeze", length)
        self._positions = self._node("Cast", self._node("Range", self._int(0), scalar, self._int(1)), to=1)
        angles = self._node(
            "MatMul", self._node("Unsqueeze", self._positions, self._ints(1)), self._floats(frequencies)
        )
        rotation_shape = self._node("Concat", self._shape, self._ints(frequencies.shape[1]), axis=0)
        self._rotation = [self._node("Expand", self._node(kind, angles), rotation_shape) for kind in ("Cos", "Sin")]
        self._mask = self._node("Cast", "attention_mask", to=1)
        batch = self._node("Gather", self._shape, self._ints(0))
        is_read = self._node("Unsqueeze", self._node("Cast", "attention_mask", to=9), self._ints(1, 2))
        self._attended = self._node(
            "Expand", is_read, self._node("Concat", batch, self._ints(1), length, length, axis=0)
        )

    def _layer(self, states: str, prefix: str) -> str:
        inside = self._norm(states, f"{prefix}input_layernorm.weight")
        query, key, value = (
            self._of_batch(self._linear(inside, f"{prefix}self_attn.{name}_proj")) for name in ("q", "k", "v")
        )
        query = self._rotated(query, f"{prefix}self_attn.q_norm.weight", self._num_heads)
        key = self._rotated(key, f"{prefix}self_attn.k_norm.weight", self._num_kv_heads)
        attended = self._node(
            "Attention",
            query,
            key,
            value,
            self._attended,
            q_num_heads=self._num_heads,
            kv_num_heads=self._num_kv_heads,
            is_causal=int(self._is_causal),
        )
        rows = self._node("Reshape", attended, self._ints(-1, self._num_heads * self._head_dim))
        states = self._node("Add", states, self._linear(rows, f"{prefix}self_attn.o_proj"))
        inside = self._norm(states, f"{prefix}post_attention_layernorm.weight")
        gate = self._linear(inside, f"{prefix}mlp.gate_proj")
        gate = self._node("Mul", gate, self._node("Sigmoid", gate))
        wide = self._node("Mul", gate, self._linear(inside, f"{prefix}mlp.up_proj"))
        return self._node("Add", states, self._linear(wide, f"{prefix}mlp.down_proj"))

    def pool(self, mode: str, standardisation: tuple[np.ndarray, np.ndarray] | None, *, is_normalised: bool) -> None:
        """Add the pooling and what comes behind it. The output is named ``sentence_embedding``."""
        weights = self._mask
        if mode == "weighted_mean":
            weights = self._node("Mul", weights, self._node("Add", self._positions, self._floats(np.float32(1))))
        elif mode == "last":
            places = self._node("Mul", weights, self._node("Add", self._positions, self._floats(np.float32(1))))
            last = self._node("ReduceMax", places, self._ints(1), keepdims=1)
            weights = self._node("Mul", weights, self._node("Cast", self._node("Equal", places, last), to=1))
        states = self._of_batch(self._states)
        weighted = self._node("Mul", states, self._node("Unsqueeze", weights, self._ints(2)))
        total = self._node("ReduceSum", weighted, self._ints(1), keepdims=0)
        count = self._node("ReduceSum", weights, self._ints(1), keepdims=1)
        vectors = self._node("Div", total, self._node("Max", count, self._floats(np.float32(1e-9))))
        if standardisation is not None:
            scale, shift = map(self._floats, standardisation)
            vectors = self._node("Add", self._node("Mul", vectors, scale), shift)
        if is_normalised:
            lengths = self._node("ReduceL2", vectors, self._ints(1), keepdims=1)
            vectors = self._node("Div", vectors, self._node("Max", lengths, self._floats(np.float32(1e-12))))
        self._node("Identity", vectors, output="sentence_embedding")

    def _rotated(self, states: str, norm: str, num_heads: int) -> str:
        """Queries or keys with rotary positions, after the norm of each head that Qwen3 has."""
        if norm in self._weights:
            heads = self._node("Reshape", states, self._ints(-1, self._head_dim))
            states = self._of_batch(
                self._node("Reshape", self._norm(heads, norm), self._ints(-1, num_heads * self._head_dim))
            )
        return self._node("RotaryEmbedding", states, *self._rotation, num_heads=num_heads)

    def _of_batch(self, rows: str) -> str:
        """Rows of tokens as ``[batch, sequence, width]``."""
        return self._node("Reshape", rows, self._node("Concat", self._shape, self._ints(-1), axis=0))

    def _linear(self, states: str, name: str) -> str:
        bias = [self._weight(f"{name}.bias")] if f"{name}.bias" in self._weights else []
        return self._node("Gemm", states, self._weight(f"{name}.weight"), *bias, transB=1)

    def _norm(self, states: str, name: str) -> str:
        return self._node("RMSNormalization", states, self._weight(name), axis=-1, epsilon=self._epsilon)

    def _weight(self, name: str) -> str:
        if name not in self.initializers:
            self.initializers[name] = self._weights.initializer(name)
        return name

    def _ints(self, *values: int) -> str:
        return self._constant(np.array(values, np.int64))

    def _int(self, value: int) -> str:
        return self._constant(np.array(value, np.int64))

    def _floats(self, values: np.ndarray | np.float32) -> str:
        return self._constant(np.asarray(values, np.float32))

    def _constant(self, values: np.ndarray) -> str:
        from onnx import numpy_helper

        name = f"constant_{values.dtype}_{values.shape}_{values.tobytes().hex() if values.size < 8 else self._next()}"
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(values, name)
        return name

    def _node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:  # noqa: ANN401
        from onnx import helper

        name = output or f"{kind}_{self._next()}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def _next(self) -> int:
        self._num_names += 1
        return self._num_names


def _save(graph: _DecoderGraph, described: QueryGraph, path: Path) -> None:
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
