"""Convert an encoder to one directory with everything that other runtimes need, verified before it appears.

The directory is built beside its target and moved there after the check. Every existing target has passed it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import InputError, ParityError
from llm2vec_core.model.pooling import pooling_position
from llm2vec_core.serving.gguf_file import require_llama, write_gguf
from llm2vec_core.serving.onnx_graph import encode_with_onnx, require_exporter, write_onnx
from llm2vec_core.serving.parity import PROBE_NAME, ParityProbe, ServedPrecision, build_probe
from llm2vec_core.serving.portable import servable_model, write_portable
from llm2vec_core.serving.record import FORMATS, Conversion, Proof, ServedFormat, describe, prove, write_conversion
from llm2vec_core.serving.runtimes import SERVERS, ServedEncoder

_ONNX_DIR = "onnx"


def convert(
    encoder: Encoder,
    target: Path,
    *,
    label: str,
    formats: Collection[ServedFormat] = frozenset(("onnx",)),
    precision: ServedPrecision = "float32",
    prompts: Mapping[str, str] | None = None,
) -> Conversion:
    """Convert an encoder for other runtimes, and verify each installed runtime.

    Args:
        encoder: Freshly loaded; do not use it afterwards.
        target: Directory to create.
        label: Readable name of the encoder.
        formats: Formats to write in addition to safetensors.
        precision: Precision of the safetensors and the GGUF file.
        prompts: Prompts before texts, by name; sentence-transformers and text-embeddings-inference add the prompt named
            in a request.

    Raises:
        InputError: The target exists, the encoder cannot be converted, or a package is missing.
        ParityError: A runtime returns other vectors; nothing is left at the target.
    """
    if target.exists():
        raise InputError(f"{target} exists already.", hint="Name a directory that does not exist yet.")
    if "onnx" in formats:
        require_exporter()
    probe = build_probe(encoder)
    model = servable_model(encoder, prompts=prompts or {})
    pooling = _pooling(model)
    if "gguf" in formats:
        require_llama(model, pooling=pooling)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        directory = Path(scratch) / target.name
        directory.mkdir()
        graph = write_onnx(model, directory / _ONNX_DIR) if "onnx" in formats else None
        # Last, because float16 rounds the weights of the model.
        write_portable(model, directory, attention=encoder.attention, precision=precision)
        (directory / PROBE_NAME).write_text(probe.model_dump_json() + "\n")
        if "gguf" in formats:
            write_gguf(model, directory, attention=encoder.attention, pooling=pooling, precision=precision)
        conversion = Conversion(
            label=label,
            fingerprint=encoder.fingerprint,
            attention=encoder.attention,
            pooling=pooling,
            standardised=encoder.standardised,
            embedding_dim=encoder.embedding_dim,
            max_tokens=encoder.max_tokens,
            precision=precision,
            formats=tuple(name for name in FORMATS if name in formats),
            empty_text=probe.empty_text,
            prompts=dict(prompts or {}),
            proofs=(
                *_prove_libraries(directory, graph, probe, precision),
                *_unproven_servers(_served_encoder(model, precision)),
            ),
        )
        _require_parity(conversion)
        write_conversion(directory, conversion)
        directory.rename(target)
    return conversion


def _prove_libraries(
    directory: Path, graph: Path | None, probe: ParityProbe, precision: ServedPrecision
) -> list[Proof]:
    """Compare the vectors of the installed libraries with those of the encoder."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(directory), local_files_only=True, device="cpu")
    vectors = np.asarray(model.encode(list(probe.texts), show_progress_bar=False), dtype=np.float32)
    name = "sentence-transformers"
    proofs = [prove(name, vectors, probe=probe, precision=precision, version=importlib.metadata.version(name))]
    if graph is None:
        return proofs
    if importlib.util.find_spec("onnxruntime") is None:
        reason = "onnxruntime is not installed; install the extra `serving` and convert again"
        return [*proofs, Proof(runtime="onnxruntime", status="not proven here", reason=reason)]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    vectors = encode_with_onnx(graph, probe.texts, tokenizer=tokenizer, max_tokens=model.max_seq_length)
    version = importlib.metadata.version("onnxruntime")
    return [*proofs, prove("onnxruntime", vectors, probe=probe, precision="float32", version=version)]


def _unproven_servers(served: ServedEncoder) -> list[Proof]:
    proofs = []
    for server in SERVERS:
        obstacle = server.obstacle(served)
        if obstacle:
            proofs.append(Proof(runtime=server.name, status="cannot serve it", reason=obstacle))
        else:
            commands = {"serve": server.command(served), "prove": server.proof_command()}
            proofs.append(
                Proof(runtime=server.name, status="not proven here", reason="no server was asked", **commands)
            )
    return proofs


def _pooling(model: Any) -> str:  # noqa: ANN401
    position = pooling_position(model)
    mode = "none" if position is None else model[position].pooling_mode
    return mode if isinstance(mode, str) else "+".join(mode)


def _served_encoder(model: Any, precision: ServedPrecision) -> ServedEncoder:  # noqa: ANN401
    from sentence_transformers.base.modules import Dense

    return ServedEncoder(
        pooling=_pooling(model),
        has_dense=any(isinstance(module, Dense) for module in model),
        max_tokens=model.max_seq_length,
        dtype=precision,
    )


def _require_parity(conversion: Conversion) -> None:
    failed = [proof for proof in conversion.proofs if proof.status == "failed"]
    if failed:
        raise ParityError(
            f"{conversion.label} has other vectors in: {'; '.join(map(describe, failed))}. Nothing was written.",
            hint="With float16, try float32. Otherwise please report the architecture as a bug.",
        )
