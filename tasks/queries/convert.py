"""Convert encoders for other runtimes, and check that a running server returns the same vectors.

Never imports prefect.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.errors import InputError
from data.sample.esco import read_calibration_texts
from llm2vec_core.model.modes import parse_encoder_name
from tasks.encoders.names import resolve_encoder
from tasks.errors import ServerError
from tasks.queries.served import served
from tasks.run.settings import Settings
from tasks.workers.embedding_server import ask_embeddings

if TYPE_CHECKING:
    from llm2vec_core.serving.parity import ServedPrecision
    from llm2vec_core.serving.record import Conversion, Proof, ServedFormat


def convert_encoder(
    settings: Settings, name: str | None, *, to: Path, formats: Sequence[ServedFormat], precision: ServedPrecision
) -> Conversion:
    """Write an encoder in the formats of other runtimes.

    Args:
        settings: Settings with the store and the document prompts, which are exported too.
        name: Name of the encoder, as in evaluations (default: the served encoder).
        to: Directory to create.
        formats: Formats to write besides safetensors.
        precision: Precision of the safetensors.

    Raises:
        InputError: There is no such encoder, or nothing is served.
        llm2vec_core.errors.InputError: The encoder cannot be converted, or the directory exists.
        llm2vec_core.errors.ParityError: A runtime returns different vectors.
    """
    from llm2vec_core.encoding.encoder import Encoder
    from llm2vec_core.serving.conversion import convert

    store = settings.store()
    named = parse_encoder_name(name or served(store).checkpoint)
    long_texts = () if named.long_texts == "cut" else (named.long_texts,)
    for mode in (*long_texts, *named.modes_of_evaluation):
        raise InputError(f"'+{mode}' is a mode of evaluation; it cannot be converted.", hint=f"Leave out '+{mode}'.")
    found = resolve_encoder(store, settings, named)
    calibration = read_calibration_texts() if found.view.standardised else ()
    # The CPU computes in full float32; the exported weights must not depend on a GPU's reduced precision.
    encoder = Encoder.load(found.directory, view=found.view, calibration=calibration, precision="fp32", device="cpu")
    prompts: dict[str, str] = {kind: prompt for kind, prompt in settings.encode.prompts.items() if prompt}
    return convert(encoder, to, label=found.label, formats=formats, precision=precision, prompts=prompts)


def prove_server(directory: Path, *, url: str, runtime: str) -> Proof:
    """Compare a running server with the encoder that it serves, and store the result in the directory.

    The limits are those of float16 even for float32 weights, because servers compute or cache in half precision.

    Args:
        directory: Directory of the converted encoder.
        url: Endpoint of OpenAI's interface, such as ``http://localhost:8000/v1/embeddings``, or ``…/embed`` of
            text-embeddings-inference.
        runtime: Name of the server software.

    Raises:
        InputError: The server does not answer with embeddings.
        CheckpointError: The directory contains no converted encoder.
    """
    from llm2vec_core.serving.parity import read_probe
    from llm2vec_core.serving.record import prove, read_conversion, with_proof, write_conversion

    conversion, probe = read_conversion(directory), read_probe(directory)
    try:
        vectors = ask_embeddings(url, probe.texts)
    except ServerError as error:
        raise InputError(str(error), hint=error.hint) from error
    known = next((proof for proof in conversion.proofs if proof.runtime == runtime), None)
    proof = prove(runtime, vectors, probe=probe, precision="float16")
    if known is not None:
        proof = proof.model_copy(update={"serve": known.serve, "prove": known.prove})
    write_conversion(directory, with_proof(conversion, proof))
    return proof
