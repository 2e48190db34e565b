"""Settings and records of training: what a recipe says, and what a stage tells about itself.

Free of torch, so that a night with nothing to train never loads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from llm2vec_core.model.checkpoint import CURVES_NAME
from llm2vec_core.model.lora import LoraSettings
from llm2vec_core.model.modes import Attention, PoolingMode

Stage = Literal["mntp", "simcse", "supervised"]
STAGES: tuple[Stage, ...] = get_args(Stage)
UNSUPERVISED_STAGES: tuple[Stage, ...] = ("mntp", "simcse")

MaskPolicy = Literal["bert", "all_mask"]


class StageSettings(BaseModel):
    """Settings that every stage has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(ge=1, description="optimizer updates")
    batch_size: int = Field(ge=1, description="texts (or chunks) of one optimizer update")
    micro_batch_size: int = Field(ge=1, description="texts (or chunks) of one forward pass; bounds the memory")
    learning_rate: float = Field(gt=0, description="highest learning rate; falls linearly to zero")
    warmup_steps: int = Field(0, ge=0, description="updates until the highest learning rate is reached")
    save_steps: int = Field(50, ge=1, description="updates between two saves that a killed run continues from")
    seed: int = Field(42, description="seed of order, masks and dropout")
    bf16: bool = Field(False, description="mixed precision, frozen weights in bf16; for processors that have it")
    gradient_checkpointing: bool = Field(False, description="recompute activations instead of keeping them")
    compile_blocks: bool = Field(
        False, description="compile the model's blocks: a minute at the start, faster updates from then on"
    )
    lora: LoraSettings = LoraSettings()


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
    """What a stage did, from its first to its last step (over all runs that it took)."""

    model_config = ConfigDict(frozen=True)

    stage: Stage
    num_steps: int
    tokens: int
    seconds: float
    losses: list[float]
    learning_rates: list[float]

    @property
    def tokens_per_s(self) -> float:
        """Tokens trained on per second of the steps of this run."""
        return self.tokens / self.seconds if self.seconds else 0.0


def read_curves(checkpoint: Path) -> list[StageCurve]:
    """Loss curves that lie in a checkpoint; none for an untrained one."""
    path = checkpoint / CURVES_NAME
    return [StageCurve.model_validate(curve) for curve in json.loads(path.read_text())] if path.is_file() else []


OnStep = Callable[[StepLog], None]


class MntpSettings(StageSettings):
    """Settings of the MNTP stage; the defaults are the paper's, for models of one billion parameters and more."""

    steps: int = 1000
    batch_size: int = 32
    micro_batch_size: int = 8
    learning_rate: float = 5e-5
    chunk_tokens: int = Field(512, ge=8, description="texts are joined and cut into chunks of this many tokens")
    mask_probability: float = Field(0.2, gt=0, le=1, description="share of the tokens that are to be predicted")
    mask_policy: MaskPolicy = Field(
        "bert", description="bert: 80 % mask token, 10 % random, 10 % unchanged; all_mask: always the mask token"
    )


class SimcseSettings(StageSettings):
    """Settings of the SimCSE stage; the defaults are the paper's, for models of one billion parameters and more."""

    steps: int = 1000
    batch_size: int = 128
    micro_batch_size: int = 32
    learning_rate: float = 3e-5
    max_tokens: int = Field(128, ge=8, description="longer sentences are cut here")
    min_words: int = Field(4, ge=1, description="shorter sentences are left out")
    simcse_dropout: float = Field(0.3, gt=0, lt=1, description="dropout on attention weights, the noise of the views")
    temperature: float = Field(0.05, gt=0, description="cosines are divided by it")


@dataclass(frozen=True)
class TrainingTriple:
    """What the supervised stage learns from.

    Attributes:
        anchor: What is asked for; the instruction of the stage is put before it.
        positive: A text that fits.
        negatives: Texts that do not fit; may be empty.
        source: Name of where it is from; all examples of a batch are from one source.
    """

    anchor: str
    positive: str
    negatives: tuple[str, ...] = ()
    source: str = ""


class SupervisedSettings(StageSettings):
    """Settings of the supervised stage; the defaults are LLM2Vec's, for seven billion parameters and a million triples.

    The temperature is 0.02 and not SimCSE's 0.05, since LLM2Vec leaves its loss at a scale of 50 in this stage: where
    the negatives are chosen, they differ less from the positives than random sentences do.
    """

    steps: int = 1000
    batch_size: int = 512
    micro_batch_size: int = 32
    learning_rate: float = 2e-4
    warmup_steps: int = 300
    max_tokens: int = Field(512, ge=8, description="longer texts are cut here")
    temperature: float = Field(0.02, gt=0, description="cosines are divided by it")
    instruction: str = Field("", description="put before anchors as it is, never before positives and negatives")
    hard_negatives: int = Field(
        0,
        ge=0,
        description="negatives mined for each anchor with the encoder that the stage starts from; 0: given ones",
    )
    false_negative_margin: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="share by which a mined negative must be less similar to the anchor than the positive is, since "
        "what is about as similar may well fit (0.05: NV-Retriever)",
    )
    matryoshka_dims: tuple[PositiveInt, ...] = Field(
        (), description="train leading dimensions of the vectors, too, so that they can be cut to these lengths"
    )


class Recipe(BaseModel):
    """How an encoder is made.

    Its key names everything that decides the result: base model, stages, their settings, the pinned training
    snapshots, and the judgments of the supervised stage. Equal keys mean equal encoders, so a night trains only when
    there is no checkpoint of its key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_model: str = Field(
        "bundled:smollm2-135m",
        description="bundled name, directory, or hub name of a decoder; without mntp also of an encoder such as BERT",
    )
    stages: tuple[Stage, ...] = Field(
        UNSUPERVISED_STAGES, description="training stages, in order; supervised needs judgments"
    )
    attention: Attention = Field(
        "bidirectional", description="attention of the trained encoder; causal leaves a decoder's as it is"
    )
    pooling_mode: PoolingMode = Field("mean", description="pooling of the trained encoder")
    standardised: bool = Field(
        False,
        description="take mean and deviation of each dimension out of the vectors, as the training texts show them",
    )
    max_tokens: int = Field(512, ge=8, description="the encoder cuts longer texts here")
    num_processes: int = Field(
        1,
        ge=1,
        description="processes that share every update, one for each device of the host; decides no result",
    )
    max_documents: int = Field(100_000, ge=1, description="train on a seeded sample of so many documents at most")
    mntp: MntpSettings = MntpSettings()
    simcse: SimcseSettings = SimcseSettings()
    supervised: SupervisedSettings = SupervisedSettings()

    @model_validator(mode="after")
    def _modes_can_be_trained(self) -> Self:
        if self.pooling_mode == "eos":
            raise ValueError(
                "pooling_mode 'eos' cannot be saved with an encoder, since nothing in it says that an EOS token is "
                "added; train with 'last' or 'mean', and read the checkpoint as NAME+eos"
            )
        return self

    @model_validator(mode="after")
    def _stages_are_in_order(self) -> Self:
        if self.stages != tuple(stage for stage in STAGES if stage in self.stages):
            raise ValueError(
                f"stages were {', '.join(self.stages)}; each of {', '.join(STAGES)} once, in this order, was expected: "
                "what contrastive training saves has no output layer for mntp, and a stage is one run"
            )
        return self

    @property
    def sampling_seed(self) -> int:
        """Seed of the sample of documents: that of the first stage, which counts in the recipe's key."""
        settings: StageSettings = getattr(self, self.stages[0] if self.stages else "mntp")
        return settings.seed

    @property
    def reads_documents(self) -> bool:
        """Whether a stage learns from the documents themselves; the supervised stage learns from judgments."""
        return any(stage in UNSUPERVISED_STAGES for stage in self.stages)

    def decisive_settings(self) -> dict[str, Any]:
        """The settings as JSON values, without those of stages that do not run and those that decide nothing."""
        skipped: dict[str, Any] = {"num_processes": True}
        skipped |= {stage: {"compile_blocks"} if stage in self.stages else True for stage in STAGES}
        return self.model_dump(mode="json", exclude=skipped)

    def settings_key(self) -> str:
        """Hash of everything but the training texts; settings of stages that do not run do not count."""
        decisive = self.decisive_settings()
        # Recipes did not always have these settings: where they say what was done before, the keys stay what they were.
        if self.attention == "bidirectional":
            del decisive["attention"]
        if not self.standardised:
            del decisive["standardised"]
        return _hash(decisive)

    def key(
        self,
        training_snapshots: dict[str, str],
        judgments_sha256: str | None = None,
        base_sha256: str | None = None,
    ) -> str:
        """``recipe_key``: hash of the recipe and of what it is trained on.

        Args:
            training_snapshots: Ids of the snapshots, by kind.
            judgments_sha256: Identity of the judgments; counts where the recipe has the supervised stage.
            base_sha256: Content of the base model, where that is an adapter or a directory.
        """
        decisive: dict[str, Any] = {"recipe": self.settings_key(), "snapshots": training_snapshots}
        if judgments_sha256 is not None and "supervised" in self.stages:
            decisive["judgments"] = judgments_sha256
        if base_sha256 is not None:
            decisive["adapter"] = base_sha256  # as keys of adapters were made
        return _hash(decisive)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
