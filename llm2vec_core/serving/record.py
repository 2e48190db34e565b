"""The record of a converted encoder, and the README with the same content.

Does not import torch, so that `l2v prove` starts fast.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict

from llm2vec_core.model.modes import Attention
from llm2vec_core.serving.parity import LIMITS, Agreement, ParityProbe, ServedPrecision, compare, read_beside

ServedFormat = Literal["onnx", "gguf"]
FORMATS: tuple[ServedFormat, ...] = get_args(ServedFormat)
CONVERSION_FILE = "conversion.json"


class Proof(BaseModel):
    """Result of comparing the vectors of a runtime.

    Attributes:
        runtime: Name of the runtime.
        version: Version of the runtime; None if it was not run.
        status: ``proven``: the vectors are equal up to rounding; ``failed``: they are not; ``not proven here``: it was
            not run; ``cannot serve it``: it lacks a feature that the encoder needs.
        agreement: Measured agreement; None if nothing was measured.
        serve: Command that starts it in the directory; None for a library.
        prove: Command that compares it with the encoder; None if it cannot serve it, or was proven already.
        reason: Reason why it was not or cannot be proven.
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
        fingerprint: Fingerprint of the converted encoder and its view.
        pooling: Mode of the pooling module, as sentence-transformers calls it.
        standardised: Whether each dimension is standardised after pooling.
        max_tokens: Longer texts must be truncated to this.
        precision: Precision of the weights; an ONNX graph always has float32.
        formats: Formats that were written in addition to safetensors.
        empty_text: Text to send in place of an empty text; None: the empty text.
        prompts: Prompts before texts, by name.
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
    precision: ServedPrecision
    formats: tuple[ServedFormat, ...]
    empty_text: str | None
    prompts: dict[str, str]
    proofs: tuple[Proof, ...]


def read_conversion(directory: Path) -> Conversion:
    """Record of a converted encoder.

    Raises:
        CheckpointError: The directory contains no record, or a damaged one.
    """
    return read_beside(directory, CONVERSION_FILE, Conversion)


def write_conversion(directory: Path, conversion: Conversion) -> None:
    """Write the record, and a ``README.md`` with the same content."""
    (directory / CONVERSION_FILE).write_text(conversion.model_dump_json(indent=2) + "\n")
    (directory / "README.md").write_text(render_readme(conversion))


def render_readme(conversion: Conversion) -> str:
    """The README of the directory as Markdown: its content, how to serve it, and the proofs."""
    from llm2vec_core.pages.rendering import template_environment

    template = template_environment("llm2vec_core.serving").get_template("readme.md.j2")
    limits = {"limits": LIMITS[conversion.precision], "server_limits": LIMITS["float16"]}
    return str(template.render(conversion=conversion, **limits))


def with_proof(conversion: Conversion, proof: Proof) -> Conversion:
    """The conversion with a new proof of one runtime."""
    others = tuple(known for known in conversion.proofs if known.runtime != proof.runtime)
    return conversion.model_copy(update={"proofs": (*others, proof)})


def prove(
    runtime: str,
    vectors: Float32[np.ndarray, "num_texts dim"],
    *,
    probe: ParityProbe,
    precision: ServedPrecision,
    version: str | None = None,
) -> Proof:
    """Compare the vectors of a runtime with the expected ones.

    Args:
        runtime: Name of the runtime.
        vectors: Its vectors of the probe texts.
        probe: Texts and expected vectors.
        precision: ServedPrecision of the runtime; decides the limits.
        version: Version of the runtime, if known.
    """
    agreement = compare(probe, vectors)
    status: Literal["proven", "failed"] = "proven" if agreement.within(LIMITS[precision]) else "failed"
    return Proof(runtime=runtime, version=version, status=status, agreement=agreement)


def describe(proof: Proof) -> str:
    """A proof as one line of text."""
    name = f"{proof.runtime} {proof.version}" if proof.version else proof.runtime
    if proof.agreement is None:
        return f"{name}: {proof.status}: {proof.reason}"
    measured = f"cosine {proof.agreement.min_cosine:.7f}, difference {proof.agreement.max_abs_diff:.1e}"
    return f"{name}: {proof.status}: {measured} at worst of {proof.agreement.num_texts} texts"
