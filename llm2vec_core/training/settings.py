"""Training recipes: their settings and keys, and the record of a stage.

Does not import torch, so that a night with nothing to train never loads it.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from llm2vec_core.device.precision import machine_precision
from llm2vec_core.errors import InputError
from llm2vec_core.model.checkpoint import CURVES_NAME
from llm2vec_core.model.lora import LoraSettings
from llm2vec_core.model.modes import STAGES, Attention, PoolingMode, Precision, Stage
from llm2vec_core.training.overlay import merge, without
from llm2vec_core.training.paper import PAPER_MODELS, PaperModel, paper_settings

JUDGMENT_STAGES: tuple[Stage, ...] = ("supervised",)
"""Stages that learn from judgments. The others learn from the documents themselves."""

UNSUPERVISED_STAGES: tuple[Stage, ...] = tuple(stage for stage in STAGES if stage not in JUDGMENT_STAGES)

PAPER_STAGES: tuple[Stage, ...] = ("mntp", "simcse")
"""The unsupervised recipe of the paper, which is the default."""

METHOD_VERSIONS: Mapping[Stage, int] = {"mntp": 2, "supervised": 2}
"""Versions of the methods of the stages, which are part of a recipe's key. A correction of a method raises its number.

mntp, 2: the bare ``_`` is the mask token of every tokenizer, special tokens are neither masked nor scored, and random
tokens come from the regular vocabulary. supervised, 2 (recipes with an instruction only): instructions are not pooled.
"""

_YOUNGER_SETTINGS: Mapping[str, object] = {
    "chat_template": False,
    "compile_blocks": False,
    "keep_layers": None,
    "merge": {},
    "num_processes": 1,
    "schedule_epochs": None,
    "source_temperature": 1.0,
    "teacher": "",
    "teacher_weight": 25.0,
}
"""Settings that older keys do not contain, with their defaults."""

MaskPolicy = Literal["bert", "all_mask"]

Distance = Literal["cosine", "mse"]
"""Distance of distillation: one minus the cosine, or the mean squared difference."""

BASE = "base"
"""Name of the starting weights among the weights to average."""

START = "start"
"""Name of the encoder that a stage starts from, as its own teacher."""

_LOAD_HINT = "docs/reference lists the settings of [train]."

_PRUNED_BEFORE: tuple[Stage, ...] = ("distil", "supervised")
"""Stages before which layers may be removed. The earlier ones need every layer."""

_Model = TypeVar("_Model", bound=BaseModel)


class SharedSettings(BaseModel):
    """Settings of all training stages. A recipe sets them once; each stage can override them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(1000, ge=1, description="Optimizer updates of a stage.")
    micro_batch_size: int = Field(
        32, ge=1, description="Texts (or chunks) in one forward pass; bounds the memory (default of mntp: 8)."
    )
    warmup_steps: int = Field(0, ge=0, description="Warm-up updates (default of supervised: 300).")
    save_steps: int = Field(50, ge=1, description="Updates between two saves; a killed run resumes from the last one.")
    seed: int = Field(42, description="Seed of the order of texts, the masks and the dropout.")
    bf16: bool | None = Field(
        None,
        description="Mixed precision with frozen weights in bf16. Default: on CUDA from compute capability 8, not "
        "elsewhere. A model above a billion parameters is trained in fp32 only if this is false.",
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations instead of storing them.")
    compile_blocks: bool = Field(
        False,
        description="Compile the model's blocks: takes a minute at the start, then speeds up updates. Compiled code "
        "draws other dropout, so it is part of the recipe's key.",
    )
    schedule_epochs: PositiveInt | None = Field(
        None,
        description="The learning rate falls linearly over this many passes through the examples, and the stage still "
        "stops after its steps (LLM2Vec's code: 3). Default: it reaches zero at the last step.",
    )
    lora: LoraSettings = LoraSettings()

    @property
    def precision(self) -> Precision:
        """Precision of a forward pass in training: as asked for, otherwise that of this machine's device."""
        if self.bf16 is None:
            return machine_precision()
        return "bf16" if self.bf16 else "fp32"


class StageSettings(SharedSettings):
    """Settings that every stage has, each with the stage's own default.

    Attributes:
        views: Texts that go through the model for each row of a batch.
    """

    views: ClassVar[int] = 1

    batch_size: PositiveInt = Field(description="Texts (or chunks) of one optimizer update.")
    learning_rate: PositiveFloat = Field(description="Highest learning rate; it falls linearly (schedule_epochs).")

    @property
    def sequence_tokens(self) -> int:
        """Length to which the stage cuts texts, in tokens."""
        raise NotImplementedError

    @property
    def scored_share(self) -> float:
        """Share of the tokens that go through the output layer."""
        return 0.0


class StepLog(BaseModel):
    """One optimizer update."""

    model_config = ConfigDict(frozen=True)

    stage: Stage
    step: int
    num_steps: int
    loss: float
    learning_rate: float
    tokens: int
    seconds: float


class StageCurve(BaseModel):
    """Record of a stage from its first to its last step, across all runs that it took."""

    model_config = ConfigDict(frozen=True)

    stage: Stage
    num_steps: int
    tokens: int
    seconds: float
    losses: list[float]
    learning_rates: list[float]

    @property
    def tokens_per_s(self) -> float:
        """Training tokens per second."""
        return self.tokens / self.seconds if self.seconds else 0.0


def read_curves(checkpoint: Path) -> list[StageCurve]:
    """Loss curves stored in a checkpoint; none if it is untrained."""
    path = checkpoint / CURVES_NAME
    return [StageCurve.model_validate(curve) for curve in json.loads(path.read_text())] if path.is_file() else []


OnStep = Callable[[StepLog], None]


class MntpSettings(StageSettings):
    """Settings of the MNTP stage. The defaults are the paper's, for models of one billion parameters and more."""

    batch_size: PositiveInt = 32
    micro_batch_size: PositiveInt = 8
    learning_rate: PositiveFloat = 5e-5
    chunk_tokens: int = Field(512, ge=8, description="Texts are joined and cut into chunks of this many tokens.")
    mask_probability: float = Field(0.2, gt=0, le=1, description="Share of the tokens that the model must predict.")
    mask_policy: MaskPolicy = Field(
        "bert",
        description="Replacement of masked tokens. bert: 80 % mask token, 10 % random, 10 % unchanged; all_mask: "
        "always the mask token.",
    )

    @property
    def sequence_tokens(self) -> int:
        """Length of a chunk."""
        return self.chunk_tokens

    @property
    def scored_share(self) -> float:
        """Only masked tokens are scored."""
        return self.mask_probability


class SimcseSettings(StageSettings):
    """Settings of the SimCSE stage. The defaults are the paper's, for models of one billion parameters and more."""

    views: ClassVar[int] = 2  # each text, twice
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 3e-5
    max_tokens: int = Field(128, ge=8, description="Longer sentences are cut here.")
    min_words: int = Field(4, ge=1, description="Shorter sentences are left out.")
    simcse_dropout: float = Field(
        0.3, gt=0, lt=1, description="Dropout on attention weights, which makes the two views differ."
    )
    temperature: float = Field(0.05, gt=0, description="Temperature that divides the cosine similarities.")

    @property
    def sequence_tokens(self) -> int:
        """Longest sentence."""
        return self.max_tokens


class DistilSettings(StageSettings):
    """Settings of the distillation stage, which teaches the encoder the vectors of a smaller or larger one.

    The defaults suit models of a hundred million parameters and a million tokens of short texts.
    """

    batch_size: PositiveInt = 128
    micro_batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 1e-3
    max_tokens: int = Field(64, ge=8, description="Longer texts are cut here, for the teacher too.")
    min_words: int = Field(4, ge=1, description="Shorter sentences of documents are left out.")
    teacher: str = Field(
        "bundled:all-minilm-l6-v2",
        description="Encoder to learn from: a bundled name or a sentence-transformers directory.",
    )
    distance: Distance = Field(
        "cosine", description="Distance between a vector, projected to the teacher's dimensions, and the teacher's."
    )
    similarity_weight: float = Field(
        25.0,
        ge=0,
        description="Weight of the squared differences between the cosines of a batch and those of the teacher.",
    )

    @property
    def sequence_tokens(self) -> int:
        """Longest text."""
        return self.max_tokens


@dataclass(frozen=True)
class TrainingTriple:
    """One example of the supervised stage.

    Attributes:
        anchor: The query; the stage puts its instruction before it.
        positive: A text that fits.
        negatives: Texts that do not fit; may be empty.
        source: Name of its source; all examples in a batch share one source.
    """

    anchor: str
    positive: str
    negatives: tuple[str, ...] = ()
    source: str = ""


class SupervisedSettings(StageSettings):
    """Settings of the supervised stage. The defaults are LLM2Vec's, for seven billion parameters and a million triples.

    The temperature is 0.02, not SimCSE's 0.05, because LLM2Vec keeps its loss at a scale of 50 in this stage. Chosen
    negatives differ less from the positives than random sentences do.
    """

    views: ClassVar[int] = 3  # anchor, positive and one negative
    batch_size: PositiveInt = 512
    learning_rate: PositiveFloat = 2e-4
    warmup_steps: int = Field(300, ge=0)
    max_tokens: int = Field(512, ge=8, description="Longer texts are cut here.")
    temperature: float = Field(0.02, gt=0, description="Temperature that divides the cosine similarities.")
    instruction: str = Field(
        "",
        description="Text put before every anchor, never before positives and negatives. Its tokens are read but not "
        "pooled, in training and afterwards.",
    )
    source_temperature: PositiveFloat = Field(
        1.0,
        description="Sources of judgments are drawn in proportion to their size, to the power of one over this. 1: in "
        "proportion; 1000: about equally often.",
    )
    hard_negatives: int = Field(
        0,
        ge=0,
        description="Negatives to mine per anchor, with the encoder that the stage starts from; 0: none.",
    )
    false_negative_margin: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Share by which a mined negative must be less similar to the anchor than the positive; closer "
        "texts may be relevant (0.05: NV-Retriever).",
    )
    teacher: str = Field(
        "",
        description="Encoder whose similarities the stage learns beside the judgments, so that it forgets less: a "
        "bundled name, a directory, or `start`, the encoder that the stage starts from. Needs the whole batch in one "
        "pass (micro_batch_size). Default: none.",
    )
    teacher_weight: float = Field(
        25.0,
        ge=0,
        description="Weight of the squared differences between the cosines of a batch and those of the teacher.",
    )
    matryoshka_dims: tuple[PositiveInt, ...] = Field(
        (), description="Vector lengths to which vectors may later be truncated; the loss also trains these prefixes."
    )

    @property
    def sequence_tokens(self) -> int:
        """Longest text."""
        return self.max_tokens


class Recipe(SharedSettings):
    """A training recipe of an encoder.

    Its key covers everything that affects the result: base model, stages, their settings, the pinned training
    snapshots, and the judgments of the supervised stage. Equal keys mean equal encoders, so a night trains only when
    no checkpoint has its key.
    """

    base_model: str = Field(
        "bundled:smollm2-135m",
        description="Bundled name, directory, or hub name of a decoder; an encoder such as BERT works too if mntp is "
        "not among the stages.",
    )
    stages: tuple[Stage, ...] = Field(
        PAPER_STAGES, description="Training stages, in order; supervised needs judgments."
    )
    attention: Attention = Field(
        "bidirectional", description="Attention of the trained encoder: bidirectional, or causal as in the decoder."
    )
    pooling_mode: PoolingMode = Field("mean", description="Pooling of the trained encoder.")
    standardised: bool = Field(
        False,
        description="Standardise each vector dimension by its mean and standard deviation over the training texts.",
    )
    max_tokens: int = Field(512, ge=8, description="The encoder cuts longer texts here.")
    chat_template: bool = Field(
        False,
        description="Put every text into the chat template of the base model as a user's message, in supervised "
        "training and in the encoder. The paper does so for chat models.",
    )
    num_processes: int = Field(
        1,
        ge=1,
        description="Processes that share each update, one per device of the host. Each draws its own dropout, so "
        "more than one is part of the recipe's key.",
    )
    max_documents: int = Field(
        100_000, ge=1, description="Maximum number of training documents; a larger corpus is sampled with a seed."
    )
    mntp: MntpSettings = MntpSettings()
    keep_layers: int | None = Field(
        None,
        ge=1,
        description="Keep this many of the first layers, from the first of the stages distil and supervised on; "
        "default: all.",
    )
    merge: dict[str, PositiveFloat] = Field(
        {},
        description="Average the weights after several stages at the end: a share for each stage, or for `base`; "
        "for example {distil = 0.4, supervised = 0.6}. Default: the weights after the last stage.",
    )
    simcse: SimcseSettings = SimcseSettings()
    distil: DistilSettings = DistilSettings()
    supervised: SupervisedSettings = SupervisedSettings()

    def __hash__(self) -> int:
        """Equal recipes have equal hashes. The table of ``merge`` has no hash of its own."""
        return hash(self.model_dump_json())

    @model_validator(mode="after")
    def _stages_inherit_shared_settings(self) -> Self:
        for stage in STAGES:
            settings = _inherit(getattr(self, stage), self, SharedSettings.model_fields)
            object.__setattr__(self, stage, settings)  # the model is frozen for all other code
        return self

    @model_validator(mode="after")
    def _modes_can_be_trained(self) -> Self:
        if self.pooling_mode == "eos":
            raise ValueError(
                "pooling_mode 'eos' cannot be saved with an encoder, because the saved directory cannot record "
                "that an EOS token is appended; train with 'last' or 'mean', and read the checkpoint as NAME+eos"
            )
        return self

    @model_validator(mode="after")
    def _stages_are_in_order(self) -> Self:
        if self.stages != tuple(stage for stage in STAGES if stage in self.stages):
            raise ValueError(
                f"stages were {', '.join(self.stages)}; "
                f"expected each of {', '.join(STAGES)} at most once, in this order: "
                "a contrastive stage saves no output layer, which mntp needs"
            )
        return self

    @model_validator(mode="after")
    def _layers_can_be_pruned(self) -> Self:
        if self.keep_layers is not None and self.pruned_before is None:
            raise ValueError(
                f"keep_layers is {self.keep_layers}, but no stage would repair the damage; "
                f"expected {' or '.join(_PRUNED_BEFORE)} among the stages"
            )
        return self

    @model_validator(mode="after")
    def _merged_weights_exist(self) -> Self:
        usable = (BASE, *self.stages) if self.keep_layers is None else self.stages[self._first_pruned() :]
        unknown = [name for name in self.merge if name not in usable]
        if unknown:
            raise ValueError(f"merge names {', '.join(unknown)}; expected some of {', '.join(usable)}")
        return self

    def _first_pruned(self) -> int:
        """Position of the first stage with the kept layers only."""
        return next((place for place, stage in enumerate(self.stages) if stage == self.pruned_before), 0)

    @property
    def pruned_before(self) -> Stage | None:
        """The stage before which layers are removed; None if the recipe has no such stage."""
        return next((stage for stage in self.stages if stage in _PRUNED_BEFORE), None)

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names of the teachers of all stages. An encoder that teaches itself is none of them."""
        named = {"distil": self.distil.teacher, "supervised": self.supervised.teacher}
        taught = (named[stage] for stage in self.stages if stage in named)
        return tuple(dict.fromkeys(name for name in taught if name and name != START))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """The recipe in the table ``[train]`` of a TOML file, such as those in ``recipes/``.

        Raises:
            InputError: There is no such file, it is not TOML or has no such table, or a setting is wrong.
        """
        try:
            table = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8")).get("train")
        except OSError as error:
            raise InputError(f"There is no recipe file {path}.", hint="Give the path of a TOML file.") from error
        except ValueError as error:
            raise InputError(f"{path} is not a TOML file: {error}.", hint="Mend that line.") from error
        if not isinstance(table, dict):
            raise InputError(f"{path} has no table [train]; expected the settings of a recipe in it.", hint=_LOAD_HINT)
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            found = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            raise InputError(f"{path} has settings that no recipe has: {found}.", hint=_LOAD_HINT) from error

    @classmethod
    def paper(cls, name: PaperModel, **changes: object) -> Self:
        """The recipe of the LLM2Vec paper for one of its models.

        Args:
            name: ``s-llama-1.3b``, ``llama-2-7b``, ``mistral-7b`` or ``llama-3-8b``.
            changes: Settings that replace the paper's, such as ``base_model="..."``, ``steps=100``, or for one stage
                ``mntp={"steps": 100}``. Other settings of the stage keep their paper values.

        Raises:
            InputError: The paper has no such model.

        Source: BehnamGhader et al. 2024, LLM2Vec, appendix D.
        """
        if name not in PAPER_MODELS:
            raise InputError(f"The paper has no model '{name}'.", hint=f"Its models: {', '.join(PAPER_MODELS)}.")
        return cls.model_validate(overlay_recipe(paper_settings(name), changes))

    def sample_documents(self, texts: list[str]) -> list[str]:
        """The training texts: all of them, or an ordered seeded sample if there are more than ``max_documents``."""
        if len(texts) <= self.max_documents:
            return texts
        chosen = np.random.default_rng(self.sampling_seed).choice(len(texts), self.max_documents, replace=False)
        return [texts[index] for index in sorted(chosen)]

    @property
    def sampling_seed(self) -> int:
        """Seed of the sample of documents: the first stage's seed, which is part of the recipe's key."""
        settings: StageSettings = getattr(self, self.stages[0] if self.stages else "mntp")
        return settings.seed

    @property
    def reads_documents(self) -> bool:
        """Whether a stage learns from the documents themselves."""
        return any(stage in UNSUPERVISED_STAGES for stage in self.stages)

    @property
    def reads_judgments(self) -> bool:
        """Whether a stage learns from judgments."""
        return any(stage in JUDGMENT_STAGES for stage in self.stages)

    def decisive_settings(self) -> dict[str, Any]:
        """The settings that affect the result, as JSON values, without stages that do not run.

        Shared settings appear in every stage, with that stage's values. Settings that are younger than the first
        recipes appear only with a value other than the default.
        """
        skipped: dict[str, Any] = dict.fromkeys(SharedSettings.model_fields, True)
        skipped |= {stage: True for stage in STAGES if stage not in self.stages}
        settings = self.model_dump(mode="json", exclude=skipped)
        for section in (settings, *(settings[stage] for stage in self.stages)):
            for name, default in _YOUNGER_SETTINGS.items():
                if name in section and section[name] == default:
                    del section[name]
            if "bf16" in section:
                section["bf16"] = bool(section["bf16"])  # the device's choice has the key of fp32, as it always had
        return settings

    def settings_key(self, *, former: bool = False) -> str:
        """Hash of the settings that affect the result, without the training texts.

        Args:
            former: The key from before the methods of the stages were corrected (:data:`METHOD_VERSIONS`). It finds
                checkpoints that were trained then.
        """
        decisive = self.decisive_settings()
        # Older recipes did not have these settings: their defaults must not change the keys.
        if self.attention == "bidirectional":
            del decisive["attention"]
        if not self.standardised:
            del decisive["standardised"]
        corrected = {} if former else {stage: METHOD_VERSIONS[stage] for stage in self.stages if self._corrected(stage)}
        return _hash({**decisive, "methods": corrected} if corrected else decisive)

    def _corrected(self, stage: Stage) -> bool:
        """Whether a correction changed the result of a stage: that of supervised concerns only instructions."""
        return stage in METHOD_VERSIONS and (stage != "supervised" or bool(self.supervised.instruction))

    def key(
        self,
        training_snapshots: dict[str, str],
        judgments_sha256: str | None = None,
        base_sha256: str | None = None,
        teacher_sha256: str | None = None,
        *,
        num_sources: int = 1,
        former: bool = False,
    ) -> str:
        """``recipe_key``: hash of the recipe and of its training data.

        Args:
            training_snapshots: Ids of the snapshots, by kind.
            judgments_sha256: Identity of the judgments; counts only with the supervised stage.
            base_sha256: Content of the base model, if that is an adapter or a directory.
            teacher_sha256: Content of the teachers, if they are adapters or directories.
            num_sources: Sources of the judgments. Several ones are drawn in proportion to their size; they used to
                take turns.
            former: As for :meth:`settings_key`.
        """
        decisive: dict[str, Any] = {"recipe": self.settings_key(former=former), "snapshots": training_snapshots}
        if judgments_sha256 is not None and self.reads_judgments:
            decisive["judgments"] = judgments_sha256
            if num_sources > 1 and not former:
                decisive["sources"] = "in proportion"
        if base_sha256 is not None:
            decisive["adapter"] = base_sha256  # the name in older keys
        if teacher_sha256 is not None:
            decisive["teacher"] = teacher_sha256
        return _hash(decisive)


def overlay_recipe(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Merge recipe settings over others, as tables. Shared settings also replace those of single stages."""
    shared = {name: value for name, value in upper.items() if name in SharedSettings.model_fields}
    stages: dict[str, Any] = {stage: without(lower[stage], shared) for stage in STAGES if stage in lower}
    return merge({**lower, **stages}, upper)


def _inherit(own: _Model, shared: BaseModel, names: Iterable[str]) -> _Model:
    """Fields of ``own`` that are not given take the values given in ``shared``."""
    inherited: dict[str, Any] = {}
    for name in shared.model_fields_set.intersection(names):
        value = getattr(shared, name)
        if isinstance(value, BaseModel):
            inherited[name] = _inherit(getattr(own, name), value, type(value).model_fields)
        elif name not in own.model_fields_set:
            inherited[name] = value
    return own.model_copy(update=inherited)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
