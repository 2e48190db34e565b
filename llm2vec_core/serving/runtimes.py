"""Servers for converted encoders: what each of them supports, how to start it, how to prove it.

Belongs here: facts about these programs, from their sources and documentation; ``docs/serving.md`` says which were run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ServedEncoder:
    """Properties of an encoder that decide whether and how a server can serve it.

    Attributes:
        pooling: Mode of the pooling module, as sentence-transformers calls it.
        has_dense: Whether a linear layer follows the pooling, as a standardisation is one.
        max_tokens: Longer texts are cut here.
        dtype: ServedPrecision of the weights.
    """

    pooling: str
    has_dense: bool
    max_tokens: int
    dtype: str


@dataclass(frozen=True)
class Server:
    """A program that serves embeddings over HTTP.

    Attributes:
        name: Its name.
        port: Port that its command listens on.
        poolings: Pooling modes that it knows, as sentence-transformers calls them.
        applies_dense: Whether it applies linear layers behind the pooling.
        command: Command that starts it in the converted directory.
    """

    name: str
    port: int
    poolings: frozenset[str]
    applies_dense: bool
    command: Callable[[ServedEncoder], str]

    def obstacle(self, encoder: ServedEncoder) -> str | None:
        """Why the program cannot serve an encoder; None when it can."""
        if encoder.pooling not in self.poolings:
            return f"it has no pooling `{encoder.pooling}`, and would take another one"
        if encoder.has_dense and not self.applies_dense:
            return "it applies no linear layer behind the pooling, which the standardisation is"
        return None

    def proof_command(self) -> str:
        """Command that compares the running server with the encoder."""
        return f"l2v prove . --url http://localhost:{self.port}/v1/embeddings --runtime {self.name}"


_COMMON_POOLINGS = frozenset({"mean", "cls", "lasttoken"})


def _vllm(encoder: ServedEncoder) -> str:
    return (
        f"vllm serve . --runner pooling --convert embed --dtype {encoder.dtype} --max-model-len {encoder.max_tokens}"
        " --served-model-name encoder --port 8000"
    )


def _text_embeddings_inference(encoder: ServedEncoder) -> str:
    dense = " --dense-path 2_Dense" if encoder.has_dense else ""
    return f"text-embeddings-router --model-id . --dtype {encoder.dtype} --auto-truncate --port 8080{dense}"


def _llama_cpp(encoder: ServedEncoder) -> str:
    pooling = {"lasttoken": "last"}.get(encoder.pooling, encoder.pooling)
    # The whole text has to be in one physical batch where tokens look ahead.
    size = f"-c {encoder.max_tokens} -b {encoder.max_tokens} -ub {encoder.max_tokens} -np 1"
    return f"llama-server -m encoder.gguf --embedding --pooling {pooling} {size} --port 8081"


SERVERS = (
    Server("vllm", 8000, _COMMON_POOLINGS, applies_dense=True, command=_vllm),
    Server(
        "text-embeddings-inference",
        8080,
        _COMMON_POOLINGS,
        applies_dense=True,
        command=_text_embeddings_inference,
    ),
    Server("llama.cpp", 8081, _COMMON_POOLINGS, applies_dense=False, command=_llama_cpp),
)
