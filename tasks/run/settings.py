"""Settings of a run, composed of the sections that each room defines beside what it configures.

The order is: profile < ``l2v.toml`` < ``L2V_*`` environment < ``--set``; nothing else. The same object is validated
once, passed to every task, and stored with the run.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from data.config import (
    CleanConfig,
    GateConfig,
    RedactConfig,
    RetentionConfig,
    ShrinkConfig,
    SourceConfig,
    VectorIndexConfig,
)
from data.sample.eval_tasks import TEST_JOB_TASK
from data.schema import DocumentKind, sha256_json
from data.store.base import Store, open_store
from data.store.credentials import has_credentials, mask_credentials
from llm2vec_core.model.modes import LongTexts, PoolingMode, Precision
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
    # Hidden, because a traceback in a log shows an error with its causes, and a value may hold credentials.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _without_credentials(url: str | None, *, expected: str) -> str | None:
    """Refuse a URL that holds credentials: runs keep their settings."""
    if url is not None and has_credentials(url):
        raise ValueError(f"'{mask_credentials(url)}' holds credentials, which runs would keep; expected {expected}")
    return url


class EncodeSettings(_Section):
    """How documents are encoded."""

    token_budget: int = Field(4096, ge=64, description="padded tokens of one forward pass, at most")
    shard_size: int = Field(2000, ge=1, description="documents of one shard: the unit of work and of resuming")
    prompts: dict[DocumentKind, str] = Field({}, description="text put before every document of a kind")

    precision: Precision = Field(
        "fp32", description="of the transformer; bf16 takes half the memory, and is faster where the processor has it"
    )
    long_texts: LongTexts = Field(
        "cut",
        description="cut: texts beyond max_tokens lose their end; parts: the mean of the vectors of their parts; "
        "sections: the mean of the vectors of summary, skills, experience, education",
    )
    engine: Literal["local", "ray"] = Field(
        "local", description="where shards are encoded: in the process of the run, or on a Ray cluster"
    )
    ray_cpus: float = Field(1, ge=0, description="CPUs of one encoder process on Ray, and its threads")
    ray_gpus: float = Field(0, ge=0, description="GPUs of one encoder process on Ray: 1 gives each a GPU of its own")

    def encode_key(self, kind: DocumentKind) -> str:
        """Hash of what decides the vector of a content besides the checkpoint; batching does not."""
        decisive = {"prompt": self.prompts.get(kind, ""), "precision": self.dtype, "normalize": True}
        return sha256_json(decisive if self.long_texts == "cut" else {**decisive, "long_texts": self.long_texts})

    @property
    def dtype(self) -> str:
        """What torch calls the precision; keys of vectors and outcomes hold it."""
        return {"fp32": "float32", "bf16": "bfloat16"}[self.precision]


class LeaseSettings(_Section):
    """What a run does while another one is writing."""

    wait_s: float = Field(0.0, ge=0, description="seconds to wait for it; then this run is refused")


class MatchSettings(_Section):
    """How jobs and resumes are matched."""

    top_k: int = Field(20, ge=1, description="matches kept for each job and for each resume")
    candidates: int = Field(100, ge=1, description="documents that each leg brings to the fusion")
    fusion: Literal["rrf", "tuned"] = Field(
        "rrf", description="rrf: by reciprocal ranks; tuned: by scores, with a weight tuned on judged pairs"
    )
    judged: str | None = Field(
        None, description="retrieval task whose judgments tune the weight: a folder, or the name of one of the sample"
    )
    reranker: str | None = Field(
        None, description="cross-encoder that reads the first hits of a hybrid search: a directory, or a hub name"
    )
    reranked: int = Field(50, ge=1, description="hits that it reads")


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
        "weighted_mean", description="pooling of the causal base that the trained encoder is set beside"
    )
    references: list[str] = Field(
        [], description="encoders by name that a night's report shows beside its own; they are never served"
    )
    reports_url: str | None = Field(
        None, description="address at which reports/ of the home is served to browsers; links name files when not given"
    )
    min_gain: float = Field(0.0, description="points by which a trained encoder must beat its base to be served")
    gate_margin: float = Field(1.0, ge=0, description="points that a category may lose before a new encoder is refused")

    @field_validator("reports_url")
    @classmethod
    def _has_no_credentials(cls, url: str | None) -> str | None:
        return _without_credentials(url, expected="an address that a browser opens without them")


class JudgmentSettings(_Section):
    """What supervised training learns from."""

    sources: list[str] = Field(
        [], description="JSONL files of judgments, bundled:sample, or bundled:esco-titles; for the supervised stage"
    )
    max_per_source: int = Field(100_000, ge=1, description="a seeded sample of each source of so many at most")


class AuditSettings(_Section):
    """The nightly fairness audit: some 30 versions of each sampled resume are encoded when the served state is new."""

    enabled: bool = Field(False, description="whether a night ends with it")
    resumes: int = Field(20, ge=2, description="resumes that are written in versions")


class ExportSettings(_Section):
    """Where analysts' Parquet goes."""

    to: str | None = Field(None, description="directory or URI; `exports/` of the home when not given")
    vectors: bool = Field(False, description="export the vectors, too, as lists of float16")
    keep: int = Field(14, ge=1, description="exports to keep; older ones are removed")


class CostSettings(_Section):
    """What an hour of the machine costs; runs are priced with it."""

    price_per_hour: float | None = Field(None, ge=0, description="price of an hour of the machine")
    power_w: float | None = Field(None, ge=0, description="watts that the machine draws at work")
    peak_tflops: float | None = Field(
        None, gt=0, description="10^12 FLOP/s that the machine can reach; measured once when not given"
    )


class FreshnessSettings(_Section):
    """How old what is served may become."""

    max_age_hours: float = Field(36, gt=0, description="hours since the last good night; more is an alert")


class LineageSettings(_Section):
    """Where OpenLineage events go."""

    endpoint: str | None = Field(None, description="URL that takes OpenLineage events; none are sent when not given")
    namespace: str = Field("llm2vec-pipelines", description="OpenLineage namespace of jobs and of what lies at rest")

    @field_validator("endpoint")
    @classmethod
    def _has_no_credentials(cls, endpoint: str | None) -> str | None:
        return _without_credentials(endpoint, expected="a bearer token in the environment variable OPENLINEAGE_API_KEY")


class DeploymentSettings(_Section):
    """How a night uses a Prefect server."""

    gpu_stages: bool = Field(
        False, description="a night starts train, evaluate and embed as deployments, on the workers of their pool"
    )
    encoders: int = Field(
        1, ge=1, description="workers of the GPU pool that encode the shards of a night together; one each for a GPU"
    )


class Settings(_Section):
    """All settings of a run."""

    home: str = Field("var", description="everything at rest: a directory, file:///directory, or s3://bucket/prefix")
    work_dir: str = Field(
        "var", description="where home is a bucket: directory for what belongs to this machine alone, such as copies"
    )
    sources: dict[str, SourceConfig] = Field({}, description="named places of documents")
    ingest: ShrinkConfig = ShrinkConfig()
    clean: CleanConfig = CleanConfig()
    lease: LeaseSettings = LeaseSettings()
    redact: RedactConfig = RedactConfig()
    train: Recipe = Recipe()
    judgments: JudgmentSettings = JudgmentSettings()
    encode: EncodeSettings = EncodeSettings()
    gate: GateConfig = GateConfig()
    index: VectorIndexConfig = VectorIndexConfig()
    retention: RetentionConfig = RetentionConfig()
    match: MatchSettings = MatchSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    audit: AuditSettings = AuditSettings()
    export: ExportSettings = ExportSettings()
    cost: CostSettings = CostSettings()
    freshness: FreshnessSettings = FreshnessSettings()
    lineage: LineageSettings = LineageSettings()
    deployments: DeploymentSettings = DeploymentSettings()

    def store(self) -> Store:
        """The store of the home directory or bucket."""
        return open_store(self.home, work_dir=self.work_dir)

    @property
    def home_location(self) -> str:
        """Where everything at rest lies: an absolute directory, or a URI."""
        return self.home if "://" in self.home else str(Path(self.home).expanduser().resolve())

    @property
    def export_store(self) -> Store | None:
        """The store that exports go to, where that is not the home."""
        return None if self.export.to is None else open_store(self.export.to, work_dir=self.work_dir)

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
    merged = _read_profile(profile)
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
        unknown = [fault["loc"] for fault in error.errors() if fault["type"] == "extra_forbidden"]
        raise SettingsError(
            f"These settings cannot be used: {_fault_messages(error)}.", hint=_known_keys(unknown)
        ) from error


def make_source(**fields: Any) -> SourceConfig:  # noqa: ANN401 - the fields of a source
    """A source that is named on the command line.

    Raises:
        SettingsError: It cannot be one.
    """
    try:
        return SourceConfig(**fields)
    except ValidationError as error:
        raise SettingsError(f"This source cannot be read: {_fault_messages(error)}.") from error


def _fault_messages(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc'])}: {_fault_message(fault)}" for fault in error.errors()
    )


def _read_profile(path: Path) -> dict[str, Any]:
    """A profile, laid over the one that it ``extends``, if it does."""
    layer = _read_toml(path)
    extended = layer.pop("extends", None)
    return layer if extended is None else _merge(_read_profile(path.with_name(f"{extended}.toml")), layer)


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
    if fault["type"] == "extra_forbidden":
        return "unknown key"
    if fault["type"] == "value_error":  # of a validator of ours, which says what was found
        return str(fault["ctx"]["error"])
    return mask_credentials(f"{fault['msg']} (found {fault['input']!r})")


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
