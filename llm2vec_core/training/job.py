"""One training stage to run: its base, its training data, and its directory."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from llm2vec_core.model.modes import Stage
from llm2vec_core.training.settings import OnStep, Recipe, StageCurve, StageSettings, TrainingTriple

_CURVE_NAME = "curve.json"


class StageJob(BaseModel):
    """A stage with all inputs of its trainer. The processes of a launch get it as JSON.

    Attributes:
        stage: Stage to train.
        recipe: Recipe that the stage belongs to.
        base: Directory of a transformer with its tokenizer.
        work_dir: Directory of saves and result, from which a second call resumes.
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
        """Directory of the trainer's saved state."""
        return self.work_dir / "saves"

    @property
    def merged_dir(self) -> Path:
        """Directory of the trained transformer, with the adapter merged into it."""
        return self.work_dir / "merged"

    def finished(self) -> tuple[Path, StageCurve] | None:
        """Transformer and curve of a finished stage; None before."""
        curve = self.work_dir / _CURVE_NAME
        return (self.merged_dir, StageCurve.model_validate_json(curve.read_text())) if curve.is_file() else None

    def finish(self, curve: StageCurve) -> None:
        """Record that the stage is finished, and remove its saves."""
        temporary = self.work_dir / f"{_CURVE_NAME}.tmp"
        temporary.write_text(curve.model_dump_json())
        temporary.rename(self.work_dir / _CURVE_NAME)
        shutil.rmtree(self.saves_dir, ignore_errors=True)
