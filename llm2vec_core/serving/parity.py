"""Parity of two runtimes: a set of probe texts, and limits for the difference of their vectors.

The texts are those on which runtimes differ: short, longer than any limit, in several scripts, with control characters,
with what looks like markup, and empty. Their vectors are stored with a converted encoder, so that any
server can be compared with them later, with or without this project.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict

from llm2vec_core.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from llm2vec_core.encoding.encoder import Encoder

ServedPrecision = Literal["float32", "float16"]

_Model = TypeVar("_Model", bound=BaseModel)

PROBE_NAME = "probe.json"
"""File with the texts and vectors, in the directory of a converted encoder."""

PROBE_TEXTS = (
    "AWS and GCP",
    "cloud-based systems",
    "a",
    "",
    "Registered nurse, night shifts, intensive care; ACLS and PALS required.",
    "C++, C#, F# and .NET; 5+ years' experience (2019\u20132024) @ 80 %",
    "Kranführer für Türöffner – größer, schöner, 12,5 t",
    "数据工程师,负责数据仓库和ETL流程",
    "مهندس بيانات",
    "Разработчик 🚀 👩‍💻 naïve café ﬁn",
    "line one\nline two\r\n\ttabbed  and   spaced ",
    '<b>markup</b> & "quotes" \\ backslash \x07 bell',
    "1234567890 +49 170 0000000 0x1F 3.14159 1e-9",
    "The candidate led a team of twelve engineers who rebuilt the payment platform. " * 120,
)
"""Texts of the probe. The last one is truncated to the encoder's length, because runtimes differ on longer texts."""


class Limits(BaseModel):
    """Maximum difference of vectors of length one.

    Attributes:
        min_cosine: Minimum cosine of the two vectors of a text.
        max_abs_diff: Maximum difference in any dimension.
    """

    model_config = ConfigDict(frozen=True)

    min_cosine: float
    max_abs_diff: float


LIMITS: dict[ServedPrecision, Limits] = {
    "float32": Limits(min_cosine=0.99999, max_abs_diff=1e-4),
    "float16": Limits(min_cosine=0.999, max_abs_diff=1e-2),
}
"""Limits by precision of the weights. Rounding stays within them; a wrong attention or pooling does not (tested)."""


class ParityProbe(BaseModel):
    """Texts with the expected vectors of a converted encoder; stored as :data:`PROBE_NAME`.

    Attributes:
        texts: Texts to send to a runtime.
        vectors: One vector of length one for each text.
        empty_text: Replacement of an empty text, if the tokenizer has no token for one; None if an empty text is sent
            unchanged.
    """

    model_config = ConfigDict(frozen=True)

    texts: tuple[str, ...]
    vectors: tuple[tuple[float, ...], ...]
    empty_text: str | None


class Agreement(BaseModel):
    """Agreement of the vectors of a runtime with those of the encoder.

    Attributes:
        num_texts: Number of compared texts.
        min_cosine: The smallest cosine of the two vectors of a text.
        max_abs_diff: The largest difference of a dimension, vectors having length one.
        worst_text: Beginning of the text with the smallest cosine.
    """

    model_config = ConfigDict(frozen=True)

    num_texts: int
    min_cosine: float
    max_abs_diff: float
    worst_text: str

    def within(self, limits: Limits) -> bool:
        """Whether the vectors are equal up to rounding."""
        return self.min_cosine >= limits.min_cosine and self.max_abs_diff <= limits.max_abs_diff


def build_probe(encoder: Encoder) -> ParityProbe:
    """Encode the probe texts.

    Unlike other runtimes, this project replaces a text without tokens by one special token. So the text of that token
    is sent instead.
    """
    token_id = encoder.empty_token_id
    empty_text = None if token_id is None else str(encoder.model.tokenizer.convert_ids_to_tokens(token_id))
    texts = [encoder.split(text)[0] for text in PROBE_TEXTS]
    vectors = encoder.encode(texts, normalize=True)
    return ParityProbe(
        texts=tuple(text or (empty_text or "") for text in texts),
        vectors=tuple(map(tuple, vectors.tolist())),
        empty_text=empty_text,
    )


def compare(probe: ParityProbe, vectors: Float32[np.ndarray, "num_texts dim"]) -> Agreement:
    """Compare the vectors of a runtime with those of the probe; vectors are normalised first.

    Raises:
        InputError: The number of vectors or of dimensions is wrong.
    """
    expected = np.array(probe.vectors, dtype=np.float64)
    if vectors.shape != expected.shape:
        raise InputError(
            f"The runtime returned vectors of shape {list(vectors.shape)}; expected {list(expected.shape)}.",
            hint="Serve the converted directory itself, with the pooling that its README names.",
        )
    found = vectors.astype(np.float64)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    # A vector of zeros, or with a NaN, agrees with nothing.
    usable = np.isfinite(lengths) & (lengths > 0)
    found = np.divide(found, lengths, out=np.zeros_like(found), where=usable)
    cosines = (found * expected).sum(axis=1)
    worst = int(cosines.argmin())
    return Agreement(
        num_texts=len(expected),
        min_cosine=float(cosines[worst]),
        max_abs_diff=float(np.abs(found - expected).max()),
        worst_text=probe.texts[worst][:60],
    )


def read_probe(directory: Path) -> ParityProbe:
    """The probe of a converted encoder.

    Raises:
        CheckpointError: The directory contains no probe, or a damaged one.
    """
    return read_beside(directory, PROBE_NAME, ParityProbe)


def read_beside(directory: Path, name: str, model: type[_Model]) -> _Model:
    """Read a JSON file of a converted encoder.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    path = directory / name
    try:
        return model.model_validate_json(path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{directory} has no {name}, so it is not a converted encoder.",
            hint="Give the directory that `l2v convert` wrote.",
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}", hint="Convert the encoder again.") from error
