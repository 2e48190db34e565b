"""The card of a checkpoint: its ``README.md``, which explains the directory without this project."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import date
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from llm2vec_core.errors import InputError
from llm2vec_core.evaluation.results import TaskScore
from llm2vec_core.model.checkpoint import CheckpointRecord
from llm2vec_core.model.modes import stage_title
from llm2vec_core.training.settings import StageCurve

UNKNOWN = "not known"

_HUB_NAMES = {
    "bundled:smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "bundled:all-minilm-l6-v2": "sentence-transformers/all-MiniLM-L6-v2",
}
"""Hub names of the bundled weights."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_LICENCE_NAME = re.compile(r"[A-Za-z0-9.+-]+")


class TrainingSource(BaseModel):
    """Texts that a checkpoint was trained on.

    Attributes:
        name: Name of the source, as in the settings.
        kind: Kind of its documents, such as ``job`` or ``resume``.
        snapshot: Id of the snapshot that pins the texts.
        num_documents: Number of its documents in the training texts.
        licence: Licence in the source's settings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: str | None = None
    snapshot: str | None = None
    num_documents: int | None = Field(None, ge=0)
    licence: str | None = None


def render_model_card(
    record: CheckpointRecord,
    *,
    curves: Sequence[StageCurve],
    training_data: Sequence[TrainingSource],
    scores: Sequence[TaskScore] = (),
    base_licence: str | None,
    created: date,
) -> str:
    """The card of a checkpoint: metadata for the hub, then information for users; unknown facts are marked as unknown.

    Args:
        record: Record of the checkpoint.
        curves: Curve of each training stage.
        training_data: Sources of its training texts.
        scores: Scores of this checkpoint only; without any, the card has no evaluation.
        base_licence: Licence of the base model, such as ``apache-2.0``.
        created: Day on which the checkpoint was made.

    Returns:
        Markdown with a YAML head; text from data is escaped.

    Raises:
        InputError: A score belongs to another encoder.
    """
    if foreign := [score.task for score in scores if score.system_fingerprint != record.fingerprint]:
        raise InputError(
            f"The scores on {', '.join(foreign)} do not belong to the checkpoint {record.fingerprint[:12]}.",
            hint="Pass only scores with the checkpoint's fingerprint as system_fingerprint.",
        )
    head = _metadata(record, scores=scores, base_licence=base_licence)
    body = _template().render(
        record=record,
        base=_base_name(record.base_model),
        stages=_stage_rows(record, curves),
        stage_names=[stage_title(stage).full for stage in record.stages],
        settings=_settings(record),
        sources=[_source_row(source) for source in training_data],
        snapshots=sorted((record.training_snapshots or {}).items()),
        scores=[_score_row(score) for score in scores],
        licence=base_licence,
        created=f"{created.day} {created:%B %Y}",
        size=f"{sum(record.files.values()) / 1e6:,.1f} MB",
        unknown=UNKNOWN,
    )
    return f"---\n{head}\n---\n\n" + re.sub(r"\n{3,}", "\n\n", body).strip() + "\n"


def _metadata(record: CheckpointRecord, *, scores: Sequence[TaskScore], base_licence: str | None) -> str:
    """The head of the card as YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type=score.type,
            dataset_type=score.task,
            dataset_name=f"MTEB {score.task}" if score.is_official else score.task,
            dataset_revision=score.content_sha256,
            metric_type=score.main_score_name,
            metric_value=round(score.main_score, 2),
        )
        for score in scores
    ]
    tags = ["sentence-transformers", "sentence-similarity", "feature-extraction", record.attention, *record.stages]
    licence, licence_name = _licence_metadata(base_licence)
    data = ModelCardData(
        library_name="sentence-transformers",
        pipeline_tag="sentence-similarity",
        tags=[*tags, "llm2vec"] if "mntp" in record.stages else tags,
        base_model=_hub_name(record.base_model),
        model_name=record.label if results else None,
        eval_results=results or None,
        license=licence,
        license_name=licence_name,
    )
    return str(data.to_yaml())


def _licence_metadata(licence: str | None) -> tuple[str | None, str | None]:
    """The licence id and name for the hub: short names are kept, all others become ``other``."""
    if licence is None or _LICENCE_NAME.fullmatch(licence):
        return licence and licence.lower(), None
    return "other", licence


def _hub_name(base_model: str) -> str | None:
    """The name of a base model on the hub; none for a directory."""
    name = _HUB_NAMES.get(base_model, base_model)
    return name if _HUB_NAME.fullmatch(name) else None


def _base_name(base_model: str) -> str:
    """Readable name of a base model; for a directory, its last part."""
    return _hub_name(base_model) or re.split(r"[/\\:]", base_model.rstrip("/\\"))[-1]


def _stage_rows(record: CheckpointRecord, curves: Sequence[StageCurve]) -> list[dict[str, str]]:
    """One line for each training stage of the checkpoint."""
    known = {str(curve.stage): curve for curve in curves}
    return [_stage_row(stage, known.get(stage)) for stage in record.stages]


def _stage_row(stage: str, curve: StageCurve | None) -> dict[str, str]:
    losses = curve.losses if curve else []
    return {
        "name": stage_title(stage).full,
        "steps": f"{curve.num_steps:,}" if curve else UNKNOWN,
        "tokens": f"{curve.tokens:,}" if curve else UNKNOWN,
        "seconds": f"{curve.seconds:,.0f}" if curve else UNKNOWN,
        "first_loss": f"{losses[0]:.3f}" if losses else UNKNOWN,
        "last_loss": f"{losses[-1]:.3f}" if losses else UNKNOWN,
    }


def _settings(record: CheckpointRecord) -> str | None:
    """The recipe as JSON, without the name of the base model, which may be a local directory."""
    if record.recipe is None:
        return None
    return json.dumps({key: value for key, value in record.recipe.items() if key != "base_model"}, indent=2)


def _source_row(source: TrainingSource) -> dict[str, str]:
    return {
        "name": source.name,
        "kind": source.kind or UNKNOWN,
        "documents": UNKNOWN if source.num_documents is None else f"{source.num_documents:,}",
        "snapshot": source.snapshot or UNKNOWN,
        "licence": source.licence or UNKNOWN,
    }


def _score_row(score: TaskScore) -> dict[str, str]:
    is_interval_known = score.ci_low is not None and score.ci_high is not None
    return {
        "task": score.task,
        "type": score.type,
        "metric": score.main_score_name,
        "score": f"{score.main_score:.2f}",
        "interval": f"{score.ci_low:.2f} to {score.ci_high:.2f}" if is_interval_known else UNKNOWN,
        "num_items": f"{score.num_items:,}",
        "official": "yes" if score.is_official else "no",
    }


_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]|~$])")


def _plain(value: Any) -> str:  # noqa: ANN401 (any value of a template)
    """A value on one line that Markdown prints literally, without markup or HTML."""
    line = " ".join(str(value).split())
    return _MARKDOWN_SPECIAL.sub(r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;"))


def _template() -> Any:  # noqa: ANN401 (jinja2.Template, imported here)
    from llm2vec_core.pages.rendering import template_environment

    environment = template_environment("llm2vec_core.serving")
    environment.filters["plain"] = _plain
    return environment.get_template("model_card.md.j2")
