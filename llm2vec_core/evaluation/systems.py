"""What can be scored: an encoder, BM25, or both fused.

Belongs here: the names and identities of systems, and which tasks they can do. Does not belong here: how mteb talks to
them (``mteb_models``), where encoders come from (``llm2vec_core.encoder``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float32

from llm2vec_core.errors import InputError
from llm2vec_core.evaluation.eval_tasks import EvalTaskType

SystemMode = Literal["dense", "lexical", "hybrid"]

RANKING_TYPES: frozenset[EvalTaskType] = frozenset({"Retrieval", "Reranking"})
"""Types that a system without vectors can do: they ask for a ranking, the others for vectors."""

LEXICAL_FINGERPRINT = "bm25-okapi-k1.5-b0.75-words1"
"""Identity of lexical scoring; the last number counts the versions of ``lexical.tokenize``."""


class TextEncoder(Protocol):
    """Text to vectors. ``llm2vec_core.encoder.Encoder`` is one."""

    @property
    def fingerprint(self) -> str:
        """Identity of weights, tokenizer and settings: equal fingerprints give equal vectors."""

    @property
    def embedding_dim(self) -> int:
        """Length of a vector."""

    def encode(self, texts: Sequence[str], *, prompt: str | None = None) -> Float32[np.ndarray, "num_texts dim"]:
        """One vector a text, in the order of the texts."""


@dataclass(frozen=True)
class System:
    """Something that is scored and compared.

    Attributes:
        name: How reports call it.
        mode: ``dense`` ranks by cosine similarity, ``lexical`` by BM25, ``hybrid`` by reciprocal rank fusion of both.
        encoder: Of ``dense`` and ``hybrid``; none for ``lexical``.
    """

    name: str
    mode: SystemMode
    encoder: TextEncoder | None = None

    def __post_init__(self) -> None:
        """Refuse a mode without what it needs."""
        if (self.mode == "lexical") != (self.encoder is None):
            found = "no encoder" if self.encoder is None else "an encoder"
            raise InputError(
                f"The system {self.name!r} has the mode {self.mode} and {found}.",
                hint="dense and hybrid need an encoder, lexical takes none.",
            )

    @property
    def fingerprint(self) -> str:
        """Identity of what decides the scores; two systems share it only if their mode and vectors are the same."""
        if self.encoder is None:
            return LEXICAL_FINGERPRINT
        if self.mode == "dense":
            return self.encoder.fingerprint
        both = f"{self.mode}\n{LEXICAL_FINGERPRINT}\n{self.encoder.fingerprint}"
        return hashlib.sha256(both.encode()).hexdigest()

    def supports(self, task_type: EvalTaskType) -> bool:
        """Whether the system can do tasks of a type: without vectors of its own, only rankings."""
        return self.mode == "dense" or task_type in RANKING_TYPES
