"""What a change of each setting makes stale.

Every setting that decides a result is in the result's key, so a changed setting does again what it decides. This table
says which; a test changes every setting and compares. Never imports prefect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel

from data.config import SourceConfig
from llm2vec_core.model.modes import STAGES
from llm2vec_core.training.settings import SharedSettings
from tasks.run.settings import Settings

Effect = Literal["read", "train", "score", "encode", "match", "audit", "export"]
EFFECTS: tuple[Effect, ...] = get_args(Effect)

MEANINGS: Mapping[Effect, str] = {
    "read": "the sources are read and cleaned again; documents whose text changes are encoded again",
    "train": "the recipe is trained again, on the newest data; the new encoder is scored, and if it is served, every "
    "document is encoded",
    "score": "encoders are scored again; if another one is served then, every document is encoded",
    "encode": "every document is encoded again",
    "match": "jobs and resumes are matched again",
    "audit": "the served encoder is audited again",
    "export": "the export is written again",
}
"""Effects in the order of a night; what is read, trained or encoded again is also matched and exported again."""

_SECTIONS: dict[str, tuple[Effect, ...]] = {
    "sources": ("read",),
    "clean": ("read",),
    "redact": ("read",),
    "train": ("train",),
    "judgments": ("train",),
}
"""Effect of the settings of a section that :data:`_SETTINGS` does not name."""

_SETTINGS: dict[str, tuple[Effect, ...]] = {
    "ingest.ocr": ("read",),
    "sources.NAME.required": (),
    "redact.key_file": (),  # every row is cleaned again, to the same documents
    "train.base_model": ("train", "score"),
    "train.max_tokens": ("train", "score"),
    "encode.prompts": ("encode",),
    "encode.precision": ("score", "encode"),
    "encode.long_texts": ("encode",),
    "encode.backend": ("encode",),
    "match.top_k": ("match",),
    "match.candidates": ("score", "match"),
    "match.fusion": ("match",),
    "match.judged": ("match",),
    "match.past_jobs": ("match",),
    "match.where": ("match",),
    "match.conditions": ("match",),
    "match.exclude": ("match",),
    "match.reranker": ("score",),
    "evaluate.sample_tasks": ("score",),
    "evaluate.tasks_dirs": ("score",),
    "evaluate.benchmarks": ("score",),
    "evaluate.tasks": ("score",),
    "evaluate.max_items": ("score",),
    "evaluate.base_pooling": ("score",),
    "evaluate.references": ("score",),
    "evaluate.candidates": ("score",),
    "evaluate.wording": ("score",),
    "audit.enabled": ("audit",),
    "audit.resumes": ("audit",),
    "export.to": ("export",),
    "export.vectors": ("export",),
}
"""Effect of single settings. A setting that neither table names makes nothing stale."""


def effects_of(key: str) -> tuple[Effect, ...]:
    """What a change of a setting makes stale, if the setting is in effect.

    Args:
        key: Key of the setting, such as ``train.mntp.steps`` or ``sources.jobs.path``.
    """
    parts = key.split(".")
    if parts[0] == "sources" and len(parts) > 2:
        parts[1] = "NAME"
    if parts[0] == "train" and len(parts) > 2 and parts[1] in STAGES:  # a stage shares settings with the others
        parts = ["train", *parts[2:]] if parts[2] in SharedSettings.model_fields else parts
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in _SETTINGS:
            return _SETTINGS[name]
    return _SECTIONS.get(parts[0], ())


def setting_keys() -> list[str]:
    """Every key of ``l2v.toml``; ``NAME`` stands for the name of a source."""
    return list(_keys(Settings, ""))


def _keys(section: type[BaseModel], prefix: str) -> Iterable[str]:
    for name, field in section.model_fields.items():
        annotation: Any = field.annotation
        if not prefix and name == "sources":
            yield from _keys(SourceConfig, f"{prefix}sources.NAME.")
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _keys(annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
