"""Nodes of query encoders: the architectures as ONNX operators, over weights that stay in their files.

Does not belong here: which encoders have a graph, and its proof (``query_graph``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llm2vec_core.errors import InputError

_MAX_WEIGHT_BYTES = 4 * 1024**3
"""Larger models are slow on a CPU with any library, and the comparison would load them a second time."""

_UNREAD = {"lm_head.weight", "pooler.dense.weight", "pooler.dense.bias"}
"""Weights that no pooling of ours uses."""


class Weights:
    """The float32 tensors of a directory, by name, as places in its files.

    Attributes:
        unused: Names of the tensors that were not asked for.
    """

    def __init__(self, directory: Path) -> None:
        """Read the places; the weights are not loaded."""
        self._places: dict[str, tuple[list[int], str, int, int]] = {}
        for path in sorted(directory.glob("*.safetensors")):
            for name, shape, start, size in _tensors(path):
                self._places[name.removeprefix("model.")] = (shape, path.name, start, size)
        self.unused = set(self._places) - _UNREAD
        num_bytes = sum(size for *_, size in self._places.values())
        if num_bytes > _MAX_WEIGHT_BYTES:
            limit = _MAX_WEIGHT_BYTES / 1e9
            raise InputError(f"The weights take {num_bytes / 1e9:.1f} GB; expected {limit:.1f} or less.")

    def __contains__(self, name: str) -> bool:
        """Return whether the directory has a tensor of that name."""
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


class EncoderGraph:
    """Nodes of an encoder. States are two-dimensional: a row per token of the batch.

    Attributes:
        nodes: The nodes so far.
        initializers: Weights and constants by name.
    """

    def __init__(self, weights: Weights, *, num_heads: int, num_kv_heads: int, head_dim: int, is_causal: bool) -> None:
        """Read the inputs, which all layers share. A subclass adds its layers and sets ``_states``."""
        self._weights = weights
        self._num_heads, self._num_kv_heads, self._head_dim = num_heads, num_kv_heads, head_dim
        self._is_causal = is_causal
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self._num_names = 0
        self._states = ""
        self._shape = self._node("Shape", "input_ids")
        batch, length = (self._node("Gather", self._shape, self._ints(axis)) for axis in (0, 1))
        self._places = self._node("Range", self._int(0), self._node("Squeeze", length), self._int(1))
        self._positions = self._node("Cast", self._places, to=1)
        self._mask = self._node("Cast", "attention_mask", to=1)
        is_read = self._node("Unsqueeze", self._node("Cast", "attention_mask", to=9), self._ints(1, 2))
        self._attended = self._node(
            "Expand", is_read, self._node("Concat", batch, self._ints(1), length, length, axis=0)
        )

    def _attention(self, query: str, key: str, value: str) -> str:
        """What the tokens read, from queries, keys and values ``[batch, sequence, width]``."""
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
        return self._node("Reshape", attended, self._ints(-1, self._num_heads * self._head_dim))

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

    def _of_batch(self, rows: str) -> str:
        """Rows of tokens as ``[batch, sequence, width]``."""
        return self._node("Reshape", rows, self._node("Concat", self._shape, self._ints(-1), axis=0))

    def _linear(self, states: str, name: str) -> str:
        bias = [self._weight(f"{name}.bias")] if f"{name}.bias" in self._weights else []
        return self._node("Gemm", states, self._weight(f"{name}.weight"), *bias, transB=1)

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


class DecoderGraph(EncoderGraph):
    """Nodes of a decoder of the Llama family."""

    def __init__(self, config: Mapping[str, Any], weights: Weights, is_causal: bool) -> None:
        """Build the layers."""
        num_heads = int(config["num_attention_heads"])
        head_dim = int(config.get("head_dim") or config["hidden_size"] // num_heads)
        num_kv_heads = int(config.get("num_key_value_heads") or num_heads)
        super().__init__(
            weights, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim, is_causal=is_causal
        )
        self._epsilon = float(config["rms_norm_eps"])
        self._rotation = self._rotations(float((config.get("rope_parameters") or config)["rope_theta"]))
        states = self._node(
            "Reshape",
            self._node("Gather", self._weight("embed_tokens.weight"), "input_ids"),
            self._ints(-1, int(config["hidden_size"])),
        )
        for layer in range(int(config["num_hidden_layers"])):
            states = self._layer(states, f"layers.{layer}.")
        self._states = self._norm(states, "norm.weight")

    def _rotations(self, theta: float) -> list[str]:
        """Cosines and sines of rotary positions, which all layers share."""
        # As transformers computes them, in float32.
        exponents = np.arange(0, self._head_dim, 2, dtype=np.float32) / np.float32(self._head_dim)
        frequencies = (np.float32(1.0) / np.float32(theta) ** exponents).astype(np.float32)[None, :]
        angles = self._node(
            "MatMul", self._node("Unsqueeze", self._positions, self._ints(1)), self._floats(frequencies)
        )
        shape = self._node("Concat", self._shape, self._ints(frequencies.shape[1]), axis=0)
        return [self._node("Expand", self._node(kind, angles), shape) for kind in ("Cos", "Sin")]

    def _layer(self, states: str, prefix: str) -> str:
        inside = self._norm(states, f"{prefix}input_layernorm.weight")
        query, key, value = (
            self._of_batch(self._linear(inside, f"{prefix}self_attn.{name}_proj")) for name in ("q", "k", "v")
        )
        query = self._rotated(query, f"{prefix}self_attn.q_norm.weight", self._num_heads)
        key = self._rotated(key, f"{prefix}self_attn.k_norm.weight", self._num_kv_heads)
        attended = self._attention(query, key, value)
        states = self._node("Add", states, self._linear(attended, f"{prefix}self_attn.o_proj"))
        inside = self._norm(states, f"{prefix}post_attention_layernorm.weight")
        gate = self._linear(inside, f"{prefix}mlp.gate_proj")
        gate = self._node("Mul", gate, self._node("Sigmoid", gate))
        wide = self._node("Mul", gate, self._linear(inside, f"{prefix}mlp.up_proj"))
        return self._node("Add", states, self._linear(wide, f"{prefix}mlp.down_proj"))

    def _rotated(self, states: str, norm: str, num_heads: int) -> str:
        """Queries or keys with rotary positions, after the norm of each head that Qwen3 has."""
        if norm in self._weights:
            heads = self._node("Reshape", states, self._ints(-1, self._head_dim))
            states = self._of_batch(
                self._node("Reshape", self._norm(heads, norm), self._ints(-1, num_heads * self._head_dim))
            )
        return self._node("RotaryEmbedding", states, *self._rotation, num_heads=num_heads)

    def _norm(self, states: str, name: str) -> str:
        return self._node("RMSNormalization", states, self._weight(name), axis=-1, epsilon=self._epsilon)


class BertGraph(EncoderGraph):
    """Nodes of BERT: learned positions, and norms behind each block."""

    def __init__(self, config: Mapping[str, Any], weights: Weights) -> None:
        """Build the layers."""
        num_heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
        super().__init__(
            weights, num_heads=num_heads, num_kv_heads=num_heads, head_dim=width // num_heads, is_causal=False
        )
        self._epsilon = float(config["layer_norm_eps"])
        kinds = self._node("Gather", self._weight("embeddings.token_type_embeddings.weight"), self._int(0))
        places = self._node("Gather", self._weight("embeddings.position_embeddings.weight"), self._places)
        words = self._node("Gather", self._weight("embeddings.word_embeddings.weight"), "input_ids")
        states = self._node("Add", self._node("Add", words, kinds), places)
        states = self._norm(self._node("Reshape", states, self._ints(-1, width)), "embeddings.LayerNorm")
        for layer in range(int(config["num_hidden_layers"])):
            states = self._layer(states, f"encoder.layer.{layer}.")
        self._states = states

    def _layer(self, states: str, prefix: str) -> str:
        query, key, value = (
            self._of_batch(self._linear(states, f"{prefix}attention.self.{name}")) for name in ("query", "key", "value")
        )
        attended = self._linear(self._attention(query, key, value), f"{prefix}attention.output.dense")
        states = self._norm(self._node("Add", attended, states), f"{prefix}attention.output.LayerNorm")
        wide = self._node("Gelu", self._linear(states, f"{prefix}intermediate.dense"))
        narrow = self._linear(wide, f"{prefix}output.dense")
        return self._norm(self._node("Add", narrow, states), f"{prefix}output.LayerNorm")

    def _norm(self, states: str, name: str) -> str:
        scale, shift = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._node("LayerNormalization", states, scale, shift, axis=-1, epsilon=self._epsilon)
