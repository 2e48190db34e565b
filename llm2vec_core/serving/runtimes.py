"""Servers for converted encoders: supported features, and commands to start and to verify them.

Belongs here: facts about these programs, from their sources and documentation; ``docs/serving.md`` lists those that
were run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ServedEncoder:
    """Properties of an encoder that matter to a server.

    Attributes:
        pooling: Mode of the pooling module, as sentence-transformers calls it.
        has_dense: Whether a linear layer, such as a standardisation, follows the pooling.
        max_tokens: Longer texts are truncated to this.
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
        poolings: Supported pooling modes, by their names in sentence-transformers.
        applies_dense: Whether it applies linear layers after the pooling.
        command: Command that starts it in the converted directory.
    """

    name: str
    port: int
    poolings: frozenset[str]
    applies_dense: bool
    command: Callable[[ServedEncoder], str]

    def obstacle(self, encoder: ServedEncoder) -> str | None:
        """Reason why the program cannot serve an encoder; None if it can."""
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
        " --served-model-name encoder --host 127.0.0.1 --port 8000"
    )


def _text_embeddings_inference(encoder: ServedEncoder) -> str:
    dense = " --dense-path 2_Dense" if encoder.has_dense else ""
    where = "--hostname 127.0.0.1 --port 8080"
    return f"text-embeddings-router --model-id . --dtype {encoder.dtype} --auto-truncate {where}{dense}"


def _llama_cpp(encoder: ServedEncoder) -> str:
    pooling = {"lasttoken": "last"}.get(encoder.pooling, encoder.pooling)
    # With bidirectional attention, the whole text must be in one physical batch.
    size = f"-c {encoder.max_tokens} -b {encoder.max_tokens} -ub {encoder.max_tokens} -np 1"
    return f"llama-server -m encoder.gguf --embedding --pooling {pooling} {size} --host 127.0.0.1 --port 8081"


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
