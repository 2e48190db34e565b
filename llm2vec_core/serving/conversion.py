"""Converting an encoder: everything that other runtimes need in one directory, proven before anybody can use it.

The directory is made beside its target and moved there when the proof stands, so that a directory that exists is one
whose vectors were compared.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict

from llm2vec_core.encoder import Encoder
from llm2vec_core.errors import CheckpointError, InputError, ParityError
from llm2vec_core.modes import Attention
from llm2vec_core.pooling import pooling_position
from llm2vec_core.serving.gguf_file import require_llama, write_gguf
from llm2vec_core.serving.onnx_graph import encode_with_onnx, require_exporter, write_onnx
from llm2vec_core.serving.parity import LIMITS, PROBE_NAME, Agreement, Probe, build_probe, compare
from llm2vec_core.serving.portable import Precision, servable_model, write_portable
from llm2vec_core.serving.runtimes import SERVERS, ServedEncoder

logger = logging.getLogger(__name__)

Format = Literal["onnx", "gguf"]
FORMATS: tuple[Format, ...] = get_args(Format)
RECORD_NAME = "conversion.json"

_ONNX_DIR = "onnx"


class Proof(BaseModel):
    """What is known of a runtime's vectors.

    Attributes:
        runtime: Its name.
        version: Of the runtime that was asked; None for one that was not.
        status: ``proven``: the vectors are the same but for rounding; ``failed``: they are not; ``not proven here``:
            nobody asked it; ``cannot serve it``: it lacks something that the encoder needs.
        agreement: What was measured; None where nothing was.
        serve: Command that starts it in the directory; None where it is a library.
        prove: Command that holds it against the encoder; None where it cannot serve it, or was proven already.
        reason: Why it was not proven, or cannot be.
    """

    model_config = ConfigDict(frozen=True)

    runtime: str
    version: str | None = None
    status: Literal["proven", "failed", "not proven here", "cannot serve it"]
    agreement: Agreement | None = None
    serve: str | None = None
    prove: str | None = None
    reason: str = ""


class Conversion(BaseModel):
    """A converted encoder; stored in its directory as ``conversion.json``.

    Attributes:
        label: Readable name of the encoder.
        fingerprint: Identity of the encoder that was converted, and of the view it was read through.
        pooling: Mode of the pooling module, as sentence-transformers calls it.
        standardised: Whether means and deviations of the dimensions are taken out after pooling.
        max_tokens: Longer texts are to be cut here.
        precision: Of the weights; an ONNX graph always has float32.
        formats: What was written beside the safetensors.
        empty_text: What is to be sent for an empty text; None: the empty text.
        prompts: What stands before texts of a kind, by its name.
        proofs: One per runtime.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str
    fingerprint: str
    attention: Attention
    pooling: str
    standardised: bool
    embedding_dim: int
    max_tokens: int
    precision: Precision
    formats: tuple[Format, ...]
    empty_text: str | None
    prompts: dict[str, str]
    proofs: tuple[Proof, ...]


def convert(
    encoder: Encoder,
    target: Path,
    *,
    label: str,
    formats: Collection[Format] = ("onnx",),
    precision: Precision = "float32",
    prompts: Mapping[str, str] | None = None,
) -> Conversion:
    """Write an encoder for other runtimes, and prove each of those that are installed.

    Args:
        encoder: Freshly loaded; it must not be used any more afterwards.
        target: Directory to make.
        label: Readable name of the encoder.
        formats: What to write beside the safetensors.
        precision: Of the safetensors and of GGUF.
        prompts: What stands before texts of a kind, by its name; sentence-transformers and text-embeddings-inference
            put it there when they are asked for the name.

    Raises:
        InputError: The target exists, the encoder cannot be converted, or a package is missing.
        ParityError: A runtime gives other vectors; nothing is left at the target.
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
        # Last, because it rounds the weights of the model where float16 is asked for.
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


def read_conversion(directory: Path) -> Conversion:
    """Record of a converted encoder.

    Raises:
        CheckpointError: The directory holds none, or a damaged one.
    """
    path = directory / RECORD_NAME
    try:
        return Conversion.model_validate_json(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{directory} holds no {RECORD_NAME}, so it is no converted encoder.",
            hint="Give the directory that `l2v convert` wrote.",
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}", hint="Convert the encoder again.") from error


def write_conversion(directory: Path, conversion: Conversion) -> None:
    """Write the record and the ``README.md`` that says the same."""
    (directory / RECORD_NAME).write_text(conversion.model_dump_json(indent=2) + "\n")
    (directory / "README.md").write_text(render_readme(conversion))


def render_readme(conversion: Conversion) -> str:
    """What the directory is, how it is served, and what was proven of it, as Markdown."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("llm2vec_core.serving", package_path=""),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown
    )
    template = environment.get_template("readme.md.j2")
    return template.render(conversion=conversion, limits=LIMITS[conversion.precision])


def with_proof(conversion: Conversion, proof: Proof) -> Conversion:
    """The conversion with what is now known of one runtime."""
    others = tuple(known for known in conversion.proofs if known.runtime != proof.runtime)
    return conversion.model_copy(update={"proofs": (*others, proof)})


def prove(
    runtime: str,
    vectors: Float32[np.ndarray, "num_texts dim"],
    *,
    probe: Probe,
    precision: Precision,
    version: str | None = None,
) -> Proof:
    """What the vectors of a runtime prove.

    Args:
        runtime: Its name.
        vectors: What it gave to the texts of the probe.
        probe: Texts and expected vectors.
        precision: Of the weights that the runtime has read; the limits follow from it.
        version: Of the runtime, where it is known.
    """
    agreement = compare(probe, vectors)
    status: Literal["proven", "failed"] = "proven" if agreement.within(LIMITS[precision]) else "failed"
    return Proof(runtime=runtime, version=version, status=status, agreement=agreement)


def _prove_libraries(directory: Path, graph: Path | None, probe: Probe, precision: Precision) -> list[Proof]:
    """Hold the libraries that are installed here against the encoder, each as its users call it."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(directory), local_files_only=True, device="cpu")
    vectors = np.asarray(model.encode(list(probe.texts), show_progress_bar=False), dtype=np.float32)
    name = "sentence-transformers"
    proofs = [prove(name, vectors, probe=probe, precision=precision, version=importlib.metadata.version(name))]
    if graph is None:
        return proofs
    if importlib.util.find_spec("onnxruntime") is None:
        reason = "onnxruntime is not installed; install the group `serving` and convert again"
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


def _served_encoder(model: Any, precision: Precision) -> ServedEncoder:  # noqa: ANN401
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
            f"{conversion.label} has other vectors there: {'; '.join(map(describe, failed))}. Nothing was written.",
            hint="With float16, try float32. Otherwise please report the architecture as a bug.",
        )


def describe(proof: Proof) -> str:
    """A proof in a line."""
    name = f"{proof.runtime} {proof.version}" if proof.version else proof.runtime
    if proof.agreement is None:
        return f"{name}: {proof.status}: {proof.reason}"
    measured = f"cosine {proof.agreement.min_cosine:.7f}, difference {proof.agreement.max_abs_diff:.1e}"
    return f"{name}: {proof.status}: {measured} at worst of {proof.agreement.num_texts} texts"
