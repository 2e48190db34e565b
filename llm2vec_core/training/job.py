"""One training stage to run: what it starts from, what it learns from, and where it works."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from llm2vec_core.model.modes import Stage
from llm2vec_core.training.settings import OnStep, Recipe, StageCurve, StageSettings, TrainingTriple

_CURVE_NAME = "curve.json"


class StageJob(BaseModel):
    """A stage with all that its trainer needs. As JSON it is handed to the processes of a launch.

    Attributes:
        stage: Stage to train.
        recipe: Recipe that the stage belongs to.
        base: Directory of a transformer with its tokenizer.
        work_dir: Holds saves and result, so that a second call resumes.
        texts: Training texts of mntp and simcse.
        triples: Examples of the supervised stage.
        on_step: Called after every update.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: Stage
    recipe: Recipe
    base: Path
    work_dir: Path
    texts: Sequence[str] = ()
    triples: Sequence[TrainingTriple] = ()
    on_step: OnStep | None = Field(None, exclude=True)

    @property
    def settings(self) -> StageSettings:
        """Settings of the stage."""
        settings: StageSettings = getattr(self.recipe, self.stage)
        return settings

    @property
    def saves_dir(self) -> Path:
        """Where the trainer saves its state."""
        return self.work_dir / "saves"

    @property
    def merged_dir(self) -> Path:
        """Where the trained transformer goes, with the adapter merged into it."""
        return self.work_dir / "merged"

    def finished(self) -> tuple[Path, StageCurve] | None:
        """Transformer and curve of a stage that ran to its end; None before that."""
        curve = self.work_dir / _CURVE_NAME
        return (self.merged_dir, StageCurve.model_validate_json(curve.read_text())) if curve.is_file() else None

    def finish(self, curve: StageCurve) -> None:
        """Record that the stage ran to its end."""
        temporary = self.work_dir / f"{_CURVE_NAME}.tmp"
        temporary.write_text(curve.model_dump_json())
        temporary.rename(self.work_dir / _CURVE_NAME)
