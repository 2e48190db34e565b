"""Systems that can be scored: an encoder, BM25, or both fused.

Belongs here: names, identities and supported tasks of systems. Does not belong here: their interface to mteb
(``mteb_models``), loading encoders (``llm2vec_core.encoding.encoder``).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from llm2vec_core.errors import InputError
from llm2vec_core.evaluation.protocols.encode_once import EncodeOnce
from llm2vec_core.evaluation.tasks.expansion import Expansion
from llm2vec_core.evaluation.tasks.types import EvalTaskType
from llm2vec_core.model.modes import Attention, LongTexts, PoolingMode, stage_title
from llm2vec_core.ranking.fusion import DENSE_VOTES, RRF_K

if TYPE_CHECKING:
    from llm2vec_core.ranking.reranking import Reranking

SystemMode = Literal["dense", "lexical", "overlap", "hybrid", "tuned", "reranked"]

RANKING_TYPES: frozenset[EvalTaskType] = frozenset({"Retrieval", "Reranking"})
"""Types that need a ranking, which every system supports."""

PAIR_TYPES: frozenset[EvalTaskType] = frozenset({"PairClassification", "STS"})
"""Types about the similarity of two texts; BM25 also supports them (``lexical_pairs``)."""

LEXICAL_NAME, OVERLAP_NAME = "bm25", "jaccard"
"""Names of BM25 and of word overlap among encoders."""

WITHOUT_ENCODER: tuple[SystemMode, ...] = ("lexical", "overlap")
"""Modes that compare words only."""

HOW_LONG_TEXTS_ARE_READ: dict[LongTexts, str] = {"parts": "in parts", "sections": "by sections"}

_ATTENTION_TITLES = {"causal": "Uni", "bidirectional": "Bi"}
_POOLING_TITLES = {"mean": "mean", "weighted_mean": "w. mean", "last": "last", "eos": "EOS"}

OVERLAP_FINGERPRINT = "jaccard-words4"
"""Identity of word overlap; the number is that of :data:`LEXICAL_FINGERPRINT`."""

LEXICAL_FINGERPRINT = "bm25-okapi-k1.5-b0.75-words4"
"""Identity of lexical scoring; the last number counts the versions of ``words.tokenize``."""


class SystemTraits(BaseModel):
    """Place of an encoder in the ablation of the paper (its tables 1 and 5).

    Attributes:
        base_model: Readable name of the model that it was made from, such as ``smollm2-135m``.
        attention: Causal or bidirectional.
        stages: Training stages behind it, in order: ``mntp``, ``simcse``, ...; empty for an untrained base.
        pooling_mode: Pooling of hidden states.
        echo: Whether the text is read twice and only the second copy pooled.
        standardised: Whether every dimension is standardised; in no table of the paper.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_model: str
    attention: Attention
    stages: tuple[str, ...] = ()
    pooling_mode: PoolingMode
    echo: bool = False
    standardised: bool = False

    @property
    def title(self) -> str:
        """The paper's name of the encoder, after its base model: ``smollm2-135m Bi + MNTP, mean``."""
        stages = (stage_title(stage).short for stage in self.stages)
        row = "Echo" if self.echo else " + ".join((_ATTENTION_TITLES[self.attention], *stages))
        standardised = ", standardised" if self.standardised else ""
        return f"{self.base_model} {row}, {_POOLING_TITLES[self.pooling_mode]}{standardised}"


CANDIDATES = 100
"""Default number of documents from each search to fuse."""


@dataclass(frozen=True)
class System:
    """A system to score and compare.

    Attributes:
        name: Its name in reports.
        mode: ``dense`` ranks by cosine similarity, ``lexical`` by BM25, ``overlap`` compares the words of two texts
            (Jaccard), ``hybrid`` ranks by reciprocal rank fusion of both,
            ``tuned`` by both with a weight tuned on judged queries, ``reranked`` like ``hybrid`` with the first
            documents reordered by a cross-encoder.
        encoder: The encoder; None for ``lexical`` and ``overlap``.
        reranking: The cross-encoder of ``reranked``, with the number of documents that it reads.
        traits: Place of the encoder in the paper's ablation, if it has one.
        candidates: Number of documents from each search to fuse.
        instructed: Whether the task's instruction is put before its texts (in rankings, only before queries). Its
            tokens are not pooled, as in LLM2Vec.
        expansion: Training texts of the documents. BM25 reads them behind a document; an encoder finds a document by
            them, too.
    """

    name: str
    mode: SystemMode
    encoder: EncodeOnce | None = None
    traits: SystemTraits | None = None
    instructed: bool = False
    reranking: Reranking | None = None
    candidates: int = CANDIDATES
    expansion: Expansion | None = None

    def __post_init__(self) -> None:
        """Refuse a mode whose encoder or cross-encoder is missing or superfluous."""
        if (self.mode in WITHOUT_ENCODER) != (self.encoder is None):
            found = "no encoder" if self.encoder is None else "an encoder"
            raise InputError(
                f"The system {self.name!r} has the mode {self.mode} and {found}.",
                hint="All modes except lexical and overlap need an encoder; these take none.",
            )
        if (self.mode == "reranked") != (self.reranking is not None):
            raise InputError(
                f"The system {self.name!r} has the mode {self.mode} and "
                f"{'no' if self.reranking is None else 'a'} cross-encoder.",
                hint="reranked needs one; other modes take none.",
            )

    @property
    def fingerprint(self) -> str:
        """Hash of everything that affects the scores; equal only for systems with the same mode and vectors."""
        if self.mode == "overlap":
            return OVERLAP_FINGERPRINT
        if self.encoder is None:
            added = "" if self.expansion is None else f"-expanded-{self.expansion.fingerprint}"
            return f"{LEXICAL_FINGERPRINT}{added}"
        parts = [self.encoder.fingerprint]
        if self.mode != "dense":
            parts = [self.mode, LEXICAL_FINGERPRINT, *parts]
            if self.mode != "tuned":
                parts = [f"legs {self.candidates} {RRF_K} {DENSE_VOTES}", *parts]
            elif self.candidates != CANDIDATES:  # stored outcomes have keys without the default
                parts = [f"legs {self.candidates} 60", *parts]
        if self.reranking is not None:
            parts = [self.reranking.reranker.fingerprint, str(self.reranking.num_read), *parts]
        if self.instructed:
            parts = ["instructed", *parts]
        if self.expansion is not None:
            parts = [f"expanded {self.expansion.fingerprint}", *parts]
        return parts[0] if len(parts) == 1 else hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def label_shift(self) -> bool:
        """Whether word labels are read from the previous token, where MNTP predicts a token."""
        return self.traits is not None and "mntp" in self.traits.stages

    def supports(self, task_type: EvalTaskType) -> bool:
        """Whether the system supports a task type: dense all, BM25 rankings and pairs, hybrid rankings, overlap pairs.

        A tuned system supports only retrieval, which has one corpus and many queries.
        """
        if self.mode == "tuned" or self.expansion is not None:
            return task_type == "Retrieval"
        if self.mode == "overlap":
            return task_type in PAIR_TYPES
        if self.mode == "dense" or task_type in RANKING_TYPES:
            return True
        return self.mode == "lexical" and task_type in PAIR_TYPES
