"""Published figures for comparison with measured ones, and the rows of the paper's tables as configurations.

Belongs here: parsing ``published.toml`` strictly, finding a figure by model, row and scope, and the tasks behind the
averages. Does not belong here: the figures themselves (``published.toml``), their place on a page (``report``),
loading tasks (``benchmarks``).
"""

from __future__ import annotations

import functools
import importlib.resources
import re
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm2vec_core.errors import CoreError
from llm2vec_core.evaluation.results import ALL_SCOPE, PublishedScore
from llm2vec_core.evaluation.systems import SystemTraits
from llm2vec_core.evaluation.tasks.types import EvalTaskType

MTEB_56: dict[EvalTaskType, tuple[str, ...]] = {
    "Retrieval": (
        "ArguAna",
        "CQADupstackRetrieval",
        "ClimateFEVER",
        "DBPedia",
        "FEVER",
        "FiQA2018",
        "HotpotQA",
        "MSMARCO",
        "NFCorpus",
        "NQ",
        "QuoraRetrieval",
        "SCIDOCS",
        "SciFact",
        "TRECCOVID",
        "Touche2020",
    ),
    "Reranking": (
        "AskUbuntuDupQuestions",
        "MindSmallReranking",
        "SciDocsRR",
        "StackOverflowDupQuestions",
    ),
    "Clustering": (
        "ArxivClusteringP2P",
        "ArxivClusteringS2S",
        "BiorxivClusteringP2P",
        "BiorxivClusteringS2S",
        "MedrxivClusteringP2P",
        "MedrxivClusteringS2S",
        "RedditClustering",
        "RedditClusteringP2P",
        "StackExchangeClustering",
        "StackExchangeClusteringP2P",
        "TwentyNewsgroupsClustering",
    ),
    "PairClassification": (
        "SprintDuplicateQuestions",
        "TwitterSemEval2015",
        "TwitterURLCorpus",
    ),
    "Classification": (
        "AmazonCounterfactualClassification",
        "AmazonPolarityClassification",
        "AmazonReviewsClassification",
        "Banking77Classification",
        "EmotionClassification",
        "ImdbClassification",
        "MTOPDomainClassification",
        "MTOPIntentClassification",
        "MassiveIntentClassification",
        "MassiveScenarioClassification",
        "ToxicConversationsClassification",
        "TweetSentimentExtractionClassification",
    ),
    "STS": (
        "BIOSSES",
        "SICK-R",
        "STS12",
        "STS13",
        "STS14",
        "STS15",
        "STS16",
        "STS17",
        "STS22",
        "STSBenchmark",
    ),
    "Summarization": ("SummEval",),
}
"""Tasks of ``MTEB(eng, v1)`` by category. CQADupstackRetrieval counts as one task, the mean of its twelve forums.

Source: MTEB (Muennighoff et al. 2023, arXiv 2210.07316), Table 1 of the LLM2Vec paper.
"""

MTEB_15: tuple[str, ...] = (
    "ArguAna",
    "NFCorpus",
    "SciFact",
    "SciDocsRR",
    "StackOverflowDupQuestions",
    "BiorxivClusteringS2S",
    "MedrxivClusteringS2S",
    "TwentyNewsgroupsClustering",
    "SprintDuplicateQuestions",
    "Banking77Classification",
    "EmotionClassification",
    "MassiveIntentClassification",
    "SICK-R",
    "STS17",
    "STSBenchmark",
)
"""The tasks of the paper's ablations, in the order of :data:`MTEB_56`.

Source: LLM2Vec (arXiv 2404.05961), Table 3; averaged in its Table 5 and Figure 3.
"""

SUBSET_15 = "subset-15"
"""Scope of an average over the 15 tasks of :data:`MTEB_15`."""

JOB_TASKS = ("SkillExtractionHouseRetrieval", "SkillExtractionTechRetrieval")
"""Tasks of the job domain with published figures; their folders have these names."""

_SCOPES = frozenset(
    {ALL_SCOPE, SUBSET_15, *MTEB_56, *(task for tasks in MTEB_56.values() for task in tasks), *JOB_TASKS}
)

_MODELS: dict[str, tuple[str, ...]] = {
    "S-LLaMA-1.3B": ("sheared-llama-1.3b",),
    "LLaMA-2-7B": ("llama-2-7b-chat-hf", "llama-2-7b-chat"),
    "Mistral-7B": ("mistral-7b-instruct-v0.2",),
    "Meta-LLaMA-3-8B": ("meta-llama-3-8b-instruct",),
    "BERT": ("bert-base-uncased",),
    "all-MiniLM-L6-v2": ("all-minilm-l6-v2",),
    "CurriculumMatch": (),
    "ConTeXT-match": (),
}
"""Models with published figures, and the last parts of the names of their weights, in lower case. The paper used the
chat and instruct weights of the larger models; other weights of the same family are other models."""

_STAGE_ROWS = {
    "Uni": "+causal",
    "Bi": "+bidirectional",
    "Bi + MNTP": "+bidirectional+mntp",
    "Uni + SimCSE": "+causal+simcse",
    "Bi + SimCSE": "+bidirectional+simcse",
    "Bi + MNTP + SimCSE": "+bidirectional+mntp+simcse",
}
"""Rows of Table 5; its columns are the poolings."""

_POOLINGS = ("eos", "mean", "weighted_mean")

PAPER_ROWS: dict[str, str] = {
    "Uni + w. Mean": "+causal+weighted_mean",
    "Bi + Mean": "+bidirectional+mean",
    "LLM2Vec (w/o SimCSE)": "+bidirectional+mntp+mean",
    "LLM2Vec": "+bidirectional+mntp+simcse+mean",
    "Echo": "+causal+echo+mean",
} | {f"{row}, {pooling}": f"{modes}+{pooling}" for row, modes in _STAGE_ROWS.items() for pooling in _POOLINGS}
"""Rows of Table 1 and cells of Table 5 of the paper, with the suffix that the name of such an encoder has."""

_ENCODER_ONLY_ROWS: dict[str, dict[str, str]] = {
    "BERT": {"BERT": "+bidirectional+mean", "BERT + SimCSE": "+bidirectional+simcse+mean"},
    "all-MiniLM-L6-v2": {"all-MiniLM-L6-v2": "+bidirectional+mean"},
}
"""Rows of encoder-only models, in the same form."""

_Cell = Annotated[float, Field(strict=True, ge=-100, le=100, allow_inf_nan=False)] | Literal["-"]
_Column = TypeVar("_Column")
_Figure = tuple[str, str, str, _Cell]
"""Model, row, scope, and the figure if the source has one."""


@functools.cache
def published_scores() -> tuple[PublishedScore, ...]:
    """Every published figure, in the order of ``published.toml``; read once."""
    path = importlib.resources.files("llm2vec_core.evaluation") / "published.toml"
    return parse_published(path.read_text(encoding="utf-8"))


def find_published(model: str, scope: str, system: str | None = None) -> tuple[PublishedScore, ...]:
    """Published figures of a model for a scope.

    Args:
        model: Name as in the tables, such as ``LLaMA-2-7B``, or any name that :func:`canonical_model` accepts.
        scope: Name of a task, a category, ``all`` (56 tasks) or ``subset-15``.
        system: Only this row. Default: every row.

    Returns:
        The figures; empty if none was published.
    """
    canonical = canonical_model(model)
    return tuple(
        score
        for score in published_scores()
        if score.model == canonical and score.scope == scope and system in (None, score.system)
    )


def canonical_model(name: str) -> str | None:
    """Return the name that the published tables use for a model.

    Args:
        name: Name as in the tables, or of the same weights on a hub, bundled, or as a directory:
            ``princeton-nlp/Sheared-LLaMA-1.3B``, ``bundled:all-minilm-l6-v2``. Only the last part counts then, so that
            copies of the weights are found too.

    Returns:
        A name such as ``S-LLaMA-1.3B``; None for a model without published figures.
    """
    if name in _MODELS:
        return name
    last = re.split(r"[/\\:]", name.rstrip("/\\"))[-1].lower()
    return next((model for model, aliases in _MODELS.items() if last in aliases), None)


def row_of(traits: SystemTraits) -> tuple[str, ...]:
    """Rows of the published tables that have the attention, training and pooling of a system.

    To look up figures for its base model, use :func:`find_published`.

    Args:
        traits: Traits of the system. No row has the pooling ``last``, because the paper's EOS pooling appends a token.

    Returns:
        Keys of :data:`PAPER_ROWS`, such as ``("Uni + w. Mean", "Uni, weighted_mean")``, or the rows of BERT and MiniLM;
        empty for a configuration without a row, such as a standardised one.
    """
    if traits.standardised:
        return ()
    modes = [traits.attention, *traits.stages, *(["echo"] if traits.echo else []), traits.pooling_mode]
    suffix = "".join(f"+{mode}" for mode in modes)
    rows = _ENCODER_ONLY_ROWS.get(canonical_model(traits.base_model) or "", PAPER_ROWS)
    return tuple(row for row, row_suffix in rows.items() if row_suffix == suffix)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Block(_Strict, ABC):
    """Figures of one source, in one of the layouts."""

    source: str

    @abstractmethod
    def figures(self) -> Iterator[_Figure]:
        """Every cell."""


class _BySystem(_Block):
    """One row per system, one column per scope."""

    scopes: tuple[str, ...]
    rows: dict[str, dict[str, tuple[_Cell, ...]]]

    def figures(self) -> Iterator[_Figure]:
        for model, systems in self.rows.items():
            for system, cells in systems.items():
                for scope, cell in _columns(self.scopes, cells, row=f"{model}, {system}"):
                    yield model, system, scope, cell


class _ByPooling(_Block):
    """One row per system without its pooling, one column per pooling."""

    poolings: tuple[str, ...]
    rows: dict[str, dict[str, tuple[_Cell, ...]]]

    def figures(self) -> Iterator[_Figure]:
        for model, systems in self.rows.items():
            for system, cells in systems.items():
                for pooling, cell in _columns(self.poolings, cells, row=f"{model}, {system}"):
                    yield model, f"{system}, {pooling}", SUBSET_15, cell


class _ByTask(_Block):
    """One row per task, one column per system."""

    systems: tuple[tuple[str, str], ...]
    rows: dict[str, tuple[_Cell, ...]]

    def figures(self) -> Iterator[_Figure]:
        for task, cells in self.rows.items():
            for (model, system), cell in _columns(self.systems, cells, row=task):
                yield model, system, task, cell


class _Other(_Strict):
    """Figure of another source for a cell of the blocks above."""

    model: str
    system: str
    scope: str
    score: Annotated[float, Field(strict=True, ge=-100, le=100)]
    source: str


class _File(_Strict):
    by_system: tuple[_BySystem, ...] = ()
    by_pooling: tuple[_ByPooling, ...] = ()
    by_task: tuple[_ByTask, ...] = ()
    other: tuple[_Other, ...] = ()


def _columns(columns: tuple[_Column, ...], cells: tuple[_Cell, ...], *, row: str) -> Iterator[tuple[_Column, _Cell]]:
    """Each column with its cell."""
    if len(columns) != len(cells):
        raise CoreError(f"The row {row!r} of the published figures has {len(cells)} cells for {len(columns)} columns.")
    return zip(columns, cells, strict=True)


def parse_published(text: str) -> tuple[PublishedScore, ...]:
    """Read published figures in the layout that the head of ``published.toml`` describes.

    Args:
        text: TOML.

    Raises:
        CoreError: The text is not TOML of this layout, a model or scope is unknown, a figure appears twice, or a second
            source's figure has no first one.
    """
    try:
        content = _File.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise CoreError(f"The published figures cannot be read: {error}") from None
    others = {(other.model, other.system, other.scope): other for other in content.other}
    scores: dict[tuple[str, str, str], PublishedScore] = {}
    blocks: tuple[_Block, ...] = (*content.by_system, *content.by_pooling, *content.by_task)
    for block in blocks:
        for model, system, scope, cell in block.figures():
            key = (model, system, scope)
            where = f"The published figure of {', '.join(key)}"
            if model not in _MODELS or scope not in _SCOPES:
                raise CoreError(f"{where} is of an unknown {'scope' if model in _MODELS else 'model'}.")
            if cell == "-":
                continue
            if key in scores:
                raise CoreError(
                    f"{where} appears twice.", hint="Move the second source's figure to an [[other]] block."
                )
            other = others.pop(key, None)
            scores[key] = PublishedScore(
                model=model,
                system=system,
                scope=scope,
                score=cell,
                source=block.source,
                other_score=other.score if other else None,
                other_source=other.source if other else None,
            )
    if others:
        raise CoreError(f"Figures in [[other]] blocks have no first figure: {sorted(others)}.")
    return tuple(scores.values())
