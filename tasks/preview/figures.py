"""Past figures of this home's runs, and the time and cost that they let expect."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from data.store.base import Store
from llm2vec_core.model.checkpoint import CURVES_NAME
from llm2vec_core.training.settings import StageCurve
from tasks.encoders.checkpoints import stored_checkpoints
from tasks.ledger.runs import read_settings, summaries
from tasks.preview.records import CountRange, StageEstimate
from tasks.run.settings import Settings

_WHOLE = ("ingest", "match", "export")
"""Stages whose last time is expected again."""


@dataclass(frozen=True)
class PastFigures:
    """Rates that this home's runs reached with the same base model and precision; None or absent before the first.

    Attributes:
        tokens_per_document: Mean tokens of an encoded document.
        tokens_per_s: Tokens encoded per second.
        seconds_per_score: Seconds for one score.
        step: Tokens and seconds of an optimizer update, by training stage.
        stages: Seconds of the last run that did the work of a stage.
    """

    tokens_per_document: float | None = None
    tokens_per_s: float | None = None
    seconds_per_score: float | None = None
    step: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)


def past_figures(store: Store, settings: Settings) -> PastFigures:
    """Read the figures from the ledger and from the checkpoints."""
    encoding: tuple[float, float] | None = None
    per_score: float | None = None
    stages: dict[str, float] = {}
    for summary in _comparable(store, settings):
        reports = _reports_of(summary)
        embed, usage = reports.get("embed", {}), summary.get("usage", {}).get("embed")
        if encoding is None and usage and embed.get("encoded_documents") and usage["tokens"] and usage["seconds"]:
            encoding = usage["tokens"] / embed["encoded_documents"], usage["tokens"] / usage["seconds"]
        evaluated = reports.get("evaluate", {})
        if per_score is None and evaluated.get("computed"):
            per_score = evaluated["seconds"] / evaluated["computed"]
        for stage in _WHOLE:
            if stage in reports and not reports[stage].get("reused"):
                stages.setdefault(stage, reports[stage]["seconds"])
        if encoding is not None and per_score is not None and len(stages) == len(_WHOLE):
            break
    return PastFigures(
        tokens_per_document=None if encoding is None else encoding[0],
        tokens_per_s=None if encoding is None else encoding[1],
        seconds_per_score=per_score,
        step=_steps(store, settings),
        stages=stages,
    )


def _comparable(store: Store, settings: Settings) -> Iterator[dict[str, Any]]:
    """Completed runs with the same base model and precision, newest first."""
    for summary in summaries(store):
        if summary["state"] != "completed":
            continue
        kept = read_settings(store, summary["run_id"]) or {}
        found = kept.get("train", {}).get("base_model"), kept.get("encode", {}).get("precision")
        if found == (settings.train.base_model, settings.encode.precision):
            yield summary


def _reports_of(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Reports of a run by stage."""
    reports = summary.get("reports") or [{}]
    found: dict[str, dict[str, Any]] = summary.get("stages", {summary["flow"]: reports[-1]})
    return found


def _steps(store: Store, settings: Settings) -> dict[str, tuple[float, float]]:
    """Tokens and seconds of an update by stage, from the newest checkpoint of the base model."""
    found: dict[str, tuple[float, float]] = {}
    for record in stored_checkpoints(store):
        raw = store.read(f"checkpoints/{record.fingerprint}/{CURVES_NAME}")
        if record.base_model != settings.train.base_model or raw is None:
            continue
        for curve in map(StageCurve.model_validate, json.loads(raw)):
            found[curve.stage] = curve.tokens / curve.num_steps, curve.seconds / curve.num_steps
    return found


def estimate_training(figures: PastFigures, steps: Mapping[str, int]) -> StageEstimate:
    """Tokens and time of some optimizer updates."""
    work = ", ".join(f"{count:,} steps of {stage}" for stage, count in steps.items())
    if any(stage not in figures.step for stage in steps):
        return StageEstimate(stage="train", work=work)
    tokens, seconds = (sum(figures.step[stage][at] * count for stage, count in steps.items()) for at in (0, 1))
    return StageEstimate(
        stage="train", work=work, tokens=CountRange.of(round(tokens)), seconds_low=seconds, seconds_high=seconds
    )


def estimate_scores(figures: PastFigures, scores: CountRange) -> StageEstimate:
    """Time of some scores."""
    return _scaled("evaluate", f"{scores} scores", scores, figures.seconds_per_score)


def estimate_encoding(figures: PastFigures, documents: CountRange) -> StageEstimate:
    """Tokens and time of encoding some documents."""
    work = f"{documents} documents"
    if figures.tokens_per_document is None or not figures.tokens_per_s:
        return _scaled("embed", work, documents, None)
    low, high = (round(count * figures.tokens_per_document) for count in (documents.low, documents.high))
    return _scaled("embed", work, documents, figures.tokens_per_document / figures.tokens_per_s).model_copy(
        update={"tokens": CountRange(low=low, high=high)}
    )


def estimate_stage(figures: PastFigures, stage: str, work: str, *, is_done: bool | None) -> StageEstimate:
    """Time of a stage that takes as long as the last time.

    Args:
        figures: The past figures.
        stage: Name of the stage.
        work: For people.
        is_done: Whether its result is reused; None if that is not known.
    """
    seconds = figures.stages.get(stage)
    if is_done:
        return StageEstimate(stage=stage, work=work, seconds_low=0.0, seconds_high=0.0)
    return StageEstimate(
        stage=stage, work=work, seconds_low=0.0 if is_done is None and seconds else seconds, seconds_high=seconds
    )


def _scaled(stage: str, work: str, count: CountRange, seconds: float | None) -> StageEstimate:
    if not count.high:
        return StageEstimate(stage=stage, work=work, seconds_low=0.0, seconds_high=0.0)
    if seconds is None:
        return StageEstimate(stage=stage, work=work)
    return StageEstimate(stage=stage, work=work, seconds_low=count.low * seconds, seconds_high=count.high * seconds)
