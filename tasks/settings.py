"""Settings of a run, composed of the sections that each room defines beside what it configures.

The order is: profile < ``l2v.toml`` < ``L2V_*`` environment < ``--set``; nothing else. The same object is validated
once, passed to every task, and stored with the run.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from data.clean import CleanConfig
from data.sample_tasks import TEST_JOB_TASK
from data.schema import DocumentKind, sha256_json
from data.sources import SourceConfig
from data.store import LocalStore, Store
from llm2vec_core.modes import PoolingMode
from llm2vec_core.training.settings import Recipe

ENVIRONMENT_PREFIX = "L2V_"

# A user's own sources take the place of the profile's: the bundled sample must not mix with them.
_REPLACED_SECTIONS = ("sources",)


class SettingsError(Exception):
    """Settings that cannot be used; the message lists every fault.

    Attributes:
        hint: What to do about it.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the hint beside the message."""
        super().__init__(message)
        self.hint = hint


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EncodeSettings(_Section):
    """How documents are encoded."""

    token_budget: int = Field(4096, ge=64, description="padded tokens of one forward pass, at most")
    shard_size: int = Field(2000, ge=1, description="documents of one shard: the unit of work and of resuming")
    prompts: dict[DocumentKind, str] = Field({}, description="text put before every document of a kind")

    def encode_key(self, kind: DocumentKind) -> str:
        """Hash of what decides the vector of a content besides the checkpoint; batching does not."""
        return sha256_json({"prompt": self.prompts.get(kind, ""), "precision": "float32", "normalize": True})


class MatchSettings(_Section):
    """How jobs and resumes are matched."""

    top_k: int = Field(20, ge=1, description="matches kept for each job and for each resume")
    candidates: int = Field(100, ge=1, description="documents that each leg brings to the fusion")
    rrf_k: int = Field(60, ge=1, description="constant of reciprocal rank fusion")
    block_rows: int = Field(2048, ge=1, description="documents of a block on either side; bounds the memory")


class EvaluateSettings(_Section):
    """What encoders are judged on."""

    sample_tasks: list[str] = Field(
        [TEST_JOB_TASK], description="tasks of the bundled sample: the 100-job table, skill pairs, occupation titles"
    )
    tasks_dirs: list[str] = Field([], description="folders of evaluation task folders, sentence- or word-level")
    skip_missing_tasks_dirs: bool = Field(False, description="do without those of tasks_dirs that are not there")
    benchmarks: list[str] = Field([], description="benchmarks of mteb by name, such as MTEB(eng, v2), or llm2vec-15")
    tasks: list[str] | None = Field(None, description="names of the tasks to run; all that are found when not given")
    max_items: int | None = Field(None, ge=10, description="seeded subset of each task of tasks_dirs")
    base_pooling: PoolingMode = Field(
        "weighted_mean", description="pooling of the untrained causal base that the trained encoder is set beside"
    )
    min_gain: float = Field(0.0, description="points by which a trained encoder must beat its base to be served")
    gate_margin: float = Field(1.0, ge=0, description="points that a category may lose before a new encoder is refused")


class JudgmentSettings(_Section):
    """What supervised training learns from."""

    sources: list[str] = Field(
        [], description="JSONL files of judgments, bundled:sample, or bundled:esco-titles; for the supervised stage"
    )
    max_per_source: int = Field(100_000, ge=1, description="a seeded sample of each source of so many at most")


class ExportSettings(_Section):
    """Where analysts' Parquet goes."""

    to: str | None = Field(None, description="directory; `exports/` of the home directory when not given")


class Settings(_Section):
    """All settings of a run."""

    home: str = Field("var", description="directory of everything at rest")
    sources: dict[str, SourceConfig] = Field({}, description="named places of documents")
    clean: CleanConfig = CleanConfig()
    train: Recipe = Recipe()
    judgments: JudgmentSettings = JudgmentSettings()
    encode: EncodeSettings = EncodeSettings()
    match: MatchSettings = MatchSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    export: ExportSettings = ExportSettings()

    @property
    def home_dir(self) -> Path:
        """Home directory, absolute."""
        return Path(self.home).expanduser().resolve()

    def store(self) -> Store:
        """The store of the home directory."""
        return LocalStore(self.home_dir)

    def sources_of(self, kind: DocumentKind) -> dict[str, SourceConfig]:
        """Sources of one kind."""
        return {name: source for name, source in self.sources.items() if source.kind == kind}


def load_settings(
    profile: Path,
    *,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge the layers and validate the result.

    Args:
        profile: Profile file, the lowest layer.
        config: The user's ``l2v.toml``.
        environment: Variables; those named ``L2V_…`` count: ``L2V_TRAIN__MNTP__STEPS`` is ``train.mntp.steps``.
        overrides: ``train.mntp.steps`` to value; the highest layer. Values given as strings are read as TOML.

    Raises:
        SettingsError: A file that cannot be read, an unknown key, a value of the wrong type: all faults at once.
    """
    merged = _read_toml(profile)
    if config is not None:
        layer = _read_toml(config)
        for section in _REPLACED_SECTIONS:
            if section in layer:
                merged.pop(section, None)
        merged = _merge(merged, layer)
    for name, value in (environment or {}).items():
        if name.startswith(ENVIRONMENT_PREFIX):
            path = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
            merged = _merge(merged, _nested(path, _parse_value(value)))
    for key, value in (overrides or {}).items():
        merged = _merge(merged, _nested(key.split("."), _parse_value(value)))
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {_fault_message(fault)}" for fault in error.errors()
        )
        unknown = [fault["loc"] for fault in error.errors() if fault["type"] == "extra_forbidden"]
        raise SettingsError(f"These settings cannot be used: {faults}.", hint=_known_keys(unknown)) from error


def _known_keys(unknown: list[tuple[int | str, ...]]) -> str:
    """The keys that there are where an unknown one was found."""
    hints = []
    for *path, _ in unknown:
        section: Any = Settings
        for part in path:
            field = getattr(section, "model_fields", {}).get(part)
            section = field.annotation if field is not None else None
        fields = getattr(section, "model_fields", None)
        if fields:
            hints.append(f"Keys of {'.'.join(map(str, path)) or 'the settings'}: {', '.join(fields)}.")
    return " ".join(dict.fromkeys(hints)) or "README.md shows an l2v.toml."


def _fault_message(fault: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    return "unknown key" if fault["type"] == "extra_forbidden" else f"{fault['msg']} (found {fault['input']!r})"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(
            f"There is no file {path}.", hint="Pass --config with the path of your l2v.toml."
        ) from error
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read as TOML: {error}", hint="Mend the file.") from error


def _parse_value(value: Any) -> Any:  # noqa: ANN401 - a value of any setting
    """A string in TOML's form as its value (``3``, ``true``, ``["a"]``), any other as itself."""
    if not isinstance(value, str):
        return value
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def _nested(path: list[str], value: Any) -> dict[str, Any]:  # noqa: ANN401
    for part in reversed(path):
        value = {part: value}
    return dict(value)


def _merge(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        both_tables = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both_tables else value
    return merged
