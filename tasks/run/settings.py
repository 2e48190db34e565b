"""Settings of a run: the sections of a configuration, and the loader that merges its layers.

docs/reference/configuration.md says how the layers are merged. Sections of other rooms are defined there, beside the
code that they configure. The loader does not use pydantic-settings: its environment source parses JSON, not TOML, and
silently ignores a misspelled variable. Every other layer would need a source of our own, too.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from data.conditions.config import ConditionConfig
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
from data.store.base import Store
from data.store.credentials import has_credentials, mask_credentials
from data.store.open import open_store
from llm2vec_core.device.precision import machine_precision
from llm2vec_core.model.modes import PROMPT_WORDING, LongTexts, PoolingMode, Precision
from llm2vec_core.training.overlay import merge
from llm2vec_core.training.settings import Recipe, overlay_recipe
from tasks.errors import SettingsError

ENVIRONMENT_PREFIX = "L2V_"

# A user's own sources replace the profile's: the bundled sample must not mix with them.
_REPLACED_SECTIONS = {"sources"}

_TASK_PLACES = {"sample_tasks", "tasks_dirs", "benchmarks"}


class _Section(BaseModel):
    # Inputs are hidden, because logs show error causes and a value may contain credentials.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _without_credentials(url: str | None, *, expected: str) -> str | None:
    """Refuse a URL with credentials, because settings are stored with the run."""
    if url is not None and has_credentials(url):
        raise ValueError(
            f"'{mask_credentials(url)}' contains credentials, which would be stored with the run; expected {expected}"
        )
    return url


class EncodeSettings(_Section):
    """Encoding of documents."""

    token_budget: int | None = Field(
        None,
        ge=64,
        description="Maximum number of padded tokens in one forward pass (default: 4,096 on a CPU, on a GPU as many as "
        "half of its free memory holds).",
    )
    shard_size: int = Field(
        2000, ge=1, description="Documents of one shard, the unit of work; an interrupted run resumes by shard."
    )
    prompts: dict[DocumentKind, str] = Field(
        {}, description="Text put before every document, by kind. Its tokens are read but not pooled."
    )
    precision: Precision | None = Field(
        None,
        description="Precision of the transformer: fp32, or bf16, which halves the memory. Default: that of the served "
        "vectors, otherwise bf16 on CUDA from compute capability 8 and fp32 elsewhere. A model above a billion "
        "parameters runs in fp32 only if this says so.",
    )
    long_texts: LongTexts = Field(
        "parts",
        description="How texts longer than train.max_tokens are encoded. parts: as the mean of parts of at most so "
        "many tokens, weighted by their length; sections: as the mean of summary, skills, experience and education; "
        "cut: only the beginning is read.",
    )
    max_cut_share: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Share of the tokens of a kind of documents that may be cut before an alert is raised.",
    )
    engine: Literal["local", "ray"] = Field(
        "local", description="Where shards are encoded: in the process of the run, or on a Ray cluster."
    )
    devices: Literal["one", "all"] = Field(
        "one", description="GPUs of this host that encode in the process of the run: one, or all, each with a process."
    )
    backend: Literal["local", "http"] = Field(
        "local",
        description="What turns texts into vectors: the encoder in this process, or an embedding server (http) of the "
        "converted checkpoint, which is proven first.",
    )
    url: str | None = Field(
        None,
        description="Endpoint of the embedding server: .../v1/embeddings of vLLM, or .../embed of "
        "text-embeddings-inference.",
    )
    ray_gpus: float = Field(
        0, ge=0, description="GPUs for each encoder process on Ray; 1 gives each process its own GPU."
    )

    @field_validator("url")
    @classmethod
    def _no_credentials(cls, url: str | None) -> str | None:
        return _without_credentials(url, expected="a URL without them, and the token in LLM2VEC_ENCODE_TOKEN")

    @model_validator(mode="after")
    def _server_can_encode(self) -> EncodeSettings:
        if self.backend == "http":
            if self.url is None:
                raise ValueError('backend "http" needs encode.url')
            if any(self.prompts.values()):
                raise ValueError('backend "http" takes no encode.prompts: servers pool the tokens of a prompt')
            if self.long_texts == "cut":
                raise ValueError('backend "http" takes no long_texts "cut": servers cut long texts in other ways')
        return self

    def encode_key(self, kind: DocumentKind) -> str:
        """Hash of the settings that affect a vector. Batching does not, and the checkpoint has its own key."""
        decisive = {"prompt": self.prompts.get(kind, ""), "precision": self.dtype, "normalize": True}
        if self.prompts.get(kind):
            decisive["pool_prompt"] = False  # earlier versions pooled the prompt
        if self.backend != "local":
            decisive["backend"] = self.backend  # equal within a tolerance only
        return sha256_json(decisive if self.long_texts == "cut" else {**decisive, "long_texts": self.long_texts})

    @property
    def dtype(self) -> str:
        """Torch's name for the precision; part of the keys of vectors and outcomes."""
        return {"fp32": "float32", "bf16": "bfloat16"}[self.settled_precision]

    @property
    def settled_precision(self) -> Precision:
        """The precision that is asked for, otherwise that of this machine's device."""
        return self.precision or machine_precision()


class LeaseSettings(_Section):
    """Waiting for another run that is writing."""

    wait_s: float = Field(0.0, ge=0, description="Seconds to wait for another run before this one is refused.")


class MatchSettings(_Section):
    """Matching of jobs and resumes."""

    top_k: int = Field(20, ge=1, description="Matches kept for each job and for each resume.")
    candidates: int = Field(
        100, ge=1, description="Documents that dense and lexical search each contribute to the fusion."
    )
    fusion: Literal["rrf", "tuned"] = Field(
        "rrf",
        description="Fusion of both legs. rrf: by reciprocal ranks, of which the dense ones count four times; "
        "tuned: by scores, with a weight tuned on judged pairs.",
    )
    judged: str | None = Field(
        None,
        description="Retrieval task whose judgments tune the weight: a folder, or the name of a bundled task.",
    )
    engine: Literal["local", "ray"] = Field(
        "local", description="Where documents are matched: in the process of the run, or on a Ray cluster."
    )
    past_jobs: bool = Field(False, description="Match jobs past their valid_through, too, and find them by default.")
    where: dict[DocumentKind, str] = Field(
        {}, description="SQL filter of the documents to match, by kind; the others are left out of the matches."
    )
    exclude: str | None = Field(
        None,
        description="CSV or Parquet file with the columns job_id and resume_id: pairs that are never matched, or with "
        "one id a document that is never matched.",
    )
    conditions: ConditionConfig = ConditionConfig()
    reranker: str | None = Field(
        None,
        description="Cross-encoder that reranks the first hits of a hybrid search: a directory or a hub name.",
    )


class EvaluateSettings(_Section):
    """Evaluation of encoders, and the gate for a new one."""

    sample_tasks: list[str] = Field(
        [TEST_JOB_TASK], description="Tasks of the bundled sample: the 100-job table, skill pairs, occupation titles."
    )
    tasks_dirs: list[str] = Field(
        [],
        description="Folders that contain evaluation tasks; named ones replace a profile's tasks.",
    )
    skip_missing_tasks_dirs: bool = Field(False, description="Ignore folders of tasks_dirs that do not exist.")
    benchmarks: list[str] = Field([], description="Names of MTEB benchmarks, such as MTEB(eng, v2), or llm2vec-15.")
    tasks: list[str] | None = Field(None, description="Names of the tasks to run (default: all that are found).")
    max_items: int | None = Field(
        None, ge=10, description="Size of a seeded subset of each task of tasks_dirs (default: the whole task)."
    )
    base_pooling: PoolingMode = Field(
        "weighted_mean", description="Pooling of the causal base model that the trained encoder is compared with."
    )
    references: list[str] = Field(
        [], description="Reference encoders to include in the nightly report; they are never served."
    )
    candidates: list[str] = Field(
        [],
        description="Encoders that were not trained here, such as bundled:all-minilm-l6-v2 or a directory: a night "
        "serves the best of these and its own.",
    )
    trained_on: list[str] = Field(
        [],
        description="Further judgments that the base model or a candidate was trained on. The report says what of each "
        "task they contain, as it does for judgments.sources.",
    )
    wording: str = Field(
        PROMPT_WORDING,
        description="Sentence around every text of an encoder NAME+prompted, with {text} in its place; the state of "
        "its last token is the vector.",
    )
    reports_url: str | None = Field(
        None, description="Base URL of the home's reports/ folder (default: links name files)."
    )
    gate_margin: float = Field(
        1.0, ge=0, description="Points that a new encoder may lose in a category before it is refused."
    )

    @field_validator("wording")
    @classmethod
    def _has_a_place_for_the_text(cls, wording: str) -> str:
        if wording.count("{text}") != 1:
            raise ValueError(f"{wording!r} has no single place for the text; expected {{text}} once")
        return wording

    @field_validator("reports_url")
    @classmethod
    def _has_no_credentials(cls, url: str | None) -> str | None:
        return _without_credentials(url, expected="an address that a browser opens without them")


class JudgmentSettings(_Section):
    """Judgments that the supervised stage trains on."""

    sources: list[str] = Field([], description="JSONL files of judgments, bundled:sample, or bundled:esco-titles.")
    max_per_source: int = Field(
        100_000, ge=1, description="Maximum number of judgments per source; larger sources are sampled with a seed."
    )
    leave_out: list[str] = Field(
        [],
        description="Folders of evaluation tasks. Judgments that share a scored text, or eight words in a row, with "
        "one of the tasks are not trained on.",
    )


class AuditSettings(_Section):
    """The nightly fairness audit. For a new served state it encodes about 30 versions of each sampled resume."""

    enabled: bool = Field(False, description="Run the audit at the end of a night.")
    resumes: int = Field(20, ge=2, description="Number of sampled resumes.")


class ExportSettings(_Section):
    """Parquet exports for analysts."""

    to: str | None = Field(None, description="Directory or URI (default: `exports/` of the home).")
    vectors: bool = Field(False, description="Also export the vectors, as lists of float16.")
    keep: int = Field(14, ge=1, description="Newest exports to keep; older ones are removed.")


class CostSettings(_Section):
    """Price and power of the machine, from which the cost of a run is estimated."""

    price_per_hour: float | None = Field(None, ge=0, description="Price of an hour of the machine, in dollars.")
    power_w: float | None = Field(None, ge=0, description="Power that the machine draws at work, in watts.")
    peak_tflops: float | None = Field(
        None, gt=0, description="Peak of the machine in 10^12 FLOP/s (default: measured once)."
    )


class FreshnessSettings(_Section):
    """Maximum age of the served state."""

    max_age_hours: float = Field(
        36, gt=0, description="Maximum age in hours of the served source data before an alert is raised."
    )


class LineageSettings(_Section):
    """OpenLineage events."""

    endpoint: str | None = Field(None, description="URL that receives OpenLineage events (default: none are sent).")

    @field_validator("endpoint")
    @classmethod
    def _has_no_credentials(cls, endpoint: str | None) -> str | None:
        return _without_credentials(endpoint, expected="a bearer token in the environment variable OPENLINEAGE_API_KEY")


class DeploymentSettings(_Section):
    """Use of a Prefect server in a night."""

    gpu_stages: bool = Field(
        False, description="Run train, evaluate and embed as deployments, on the workers of their pool."
    )
    encoders: int = Field(
        1, ge=1, description="Workers of the GPU pool that encode the shards of a night together; one for each GPU."
    )


class Settings(_Section):
    """All settings of a run."""

    home: str = Field(
        "var", description="Where everything is stored: a directory, file:///directory, or s3://bucket/prefix."
    )
    work_dir: str = Field(
        "var", description="If home is a bucket: directory for files local to this machine, such as local copies."
    )
    sources: dict[str, SourceConfig] = Field({}, description="Sources of documents, by name.")
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
        """Home as an absolute directory, or a URI."""
        return self.home if "://" in self.home else str(Path(self.home).expanduser().resolve())

    @property
    def export_store(self) -> Store | None:
        """Store that exports are written to; None for the home."""
        if self.export.to is None:
            return None
        return open_store(self.export.to, work_dir=self.work_dir, is_private=False)

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
        profile: Profile file, the lowest layer. It may name another one that it ``extends``.
        config: The user's ``l2v.toml``.
        environment: Environment variables; ``L2V_TRAIN__MNTP__STEPS`` sets ``train.mntp.steps``.
        overrides: Key, such as ``train.mntp.steps``, to value; the highest layer. Strings are parsed as TOML values.

    Raises:
        SettingsError: A file that cannot be read, unknown keys, or invalid values. The message lists all of them.
    """
    return merge_layers(read_layers(profile, config=config, environment=environment, overrides=overrides))


LayerName = Literal["profile", "file", "environment", "command"]


@dataclass(frozen=True)
class Layer:
    """One layer of the settings.

    Attributes:
        name: ``profile``, ``file`` (the user's ``l2v.toml``), ``environment`` or ``command`` (options of the command).
        values: Its settings, as nested tables. Values of the profile that a higher layer replaces are left out.
        path: File that it was read from, if any.
    """

    name: LayerName
    values: dict[str, Any]
    path: Path | None = None


def read_layers(
    profile: Path,
    *,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> list[Layer]:
    """Read the layers that :func:`load_settings` merges, lowest first; see there for the arguments."""
    lowest = _read_profile(profile)
    own = {} if config is None else _read_toml(config)
    for section in own.keys() & _REPLACED_SECTIONS:
        lowest.pop(section, None)
    variables = {
        name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", "."): value
        for name, value in (environment or {}).items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }
    layers = [own, _as_tables(variables), _as_tables(overrides or {})]
    return [
        Layer("profile", _make_way(lowest, layers), profile),
        Layer("file", own, config),
        Layer("environment", layers[1]),
        Layer("command", layers[2]),
    ]


def merge_layers(layers: Sequence[Layer]) -> Settings:
    """Merge layers, lowest first, and validate the result.

    Raises:
        SettingsError: Unknown keys, or invalid values. The message lists all of them.
    """
    try:
        return Settings.model_validate(functools.reduce(_overlay, [layer.values for layer in layers]))
    except ValidationError as error:
        unknown = [fault["loc"] for fault in error.errors() if fault["type"] == "extra_forbidden"]
        raise SettingsError(
            f"These settings cannot be used: {_fault_messages(error)}.", hint=_known_keys(unknown)
        ) from error


def _make_way(profile: dict[str, Any], layers: list[dict[str, Any]]) -> dict[str, Any]:
    """The profile, without evaluation task settings that would hide the tasks that the user names.

    Named places (sample, folders, benchmarks) replace the profile's places and its selection. Named folders must exist,
    and their tasks are evaluated in full. Named tasks must be found; the profile's optional folders count if they
    exist.
    """
    evaluate = profile.get("evaluate")
    given = [layer["evaluate"] for layer in layers if isinstance(layer.get("evaluate"), Mapping)]
    named = {name for section in given for name in section}
    if not isinstance(evaluate, Mapping) or not named & {*_TASK_PLACES, "tasks"}:
        return profile
    kept = dict(evaluate)
    if kept.pop("skip_missing_tasks_dirs", False):
        kept["tasks_dirs"] = [folder for folder in kept.get("tasks_dirs", ()) if Path(folder).expanduser().is_dir()]
    hidden = {"max_items"} if "tasks_dirs" in named else set()
    if "tasks" not in named:
        hidden |= {*_TASK_PLACES, "tasks", "max_items"}
    return {**profile, "evaluate": {name: value for name, value in kept.items() if name not in hidden}}


def make_source(**fields: Any) -> SourceConfig:  # noqa: ANN401 - the fields of a source
    """Source given on the command line.

    Raises:
        SettingsError: Its fields are invalid.
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
    """A profile, merged over the one that it ``extends``, if any."""
    layer = _read_toml(path)
    extended = layer.pop("extends", None)
    return layer if extended is None else _overlay(_read_profile(path.with_name(f"{extended}.toml")), layer)


def _known_keys(unknown: list[tuple[int | str, ...]]) -> str:
    """Hint that lists the valid keys of each section with an unknown key."""
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
    if fault["type"] == "value_error":  # from our own validator: its message says what was found
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
        raise SettingsError(f"{path} cannot be read as TOML: {error}", hint="Fix the file.") from error


def _parse_value(value: Any) -> Any:  # noqa: ANN401 - a value of any setting
    """Parse a string as a TOML value (``3``, ``true``, ``["a"]``); return other values unchanged."""
    if not isinstance(value, str):
        return value
    try:
        return tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value


def _as_tables(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by key, such as ``train.mntp.steps``, as nested tables."""
    tables: dict[str, Any] = {}
    for key, value in values.items():
        table = _parse_value(value)
        for part in reversed(key.split(".")):
            table = {part: table}
        tables = merge(tables, table)
    return tables


def _overlay(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Merge a layer over a lower one."""
    merged = merge(lower, upper)
    below, given = lower.get("train"), upper.get("train")
    if isinstance(below, Mapping) and isinstance(given, Mapping):
        merged["train"] = overlay_recipe(below, given)
    return merged
