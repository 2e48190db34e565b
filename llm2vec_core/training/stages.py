"""One stage of a recipe: which trainer it gets, and what it leaves when it is done.

Does not belong here: the chain of stages (``recipe``), and stages in several processes (``launch``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llm2vec_core.training.loop import MERGED_NAME, is_main_process
from llm2vec_core.training.settings import OnStep, Recipe, Stage, StageCurve, TrainingTriple

_DONE = "curve.json"


@dataclass(frozen=True)
class StageInput:
    """What a stage starts from and learns from.

    Attributes:
        base: Directory of a transformer with its tokenizer.
        texts: Training texts, of mntp and simcse.
        triples: What the supervised stage learns from.
    """

    base: Path
    texts: Sequence[str]
    triples: Sequence[TrainingTriple] = ()


def run_stage(
    stage: Stage, recipe: Recipe, given: StageInput, *, work_dir: Path, on_step: OnStep
) -> tuple[Path, StageCurve]:
    """Run one stage, or read what it left when it is done already.

    Args:
        stage: What to run.
        recipe: The recipe it belongs to.
        given: What it starts from and learns from.
        work_dir: Keeps its state between calls, and its result.
        on_step: Called after every update.

    Returns:
        Directory of the trained transformer, and the curve.

    Raises:
        BaseModelError: The base model is of no use for the stage.
        TrainingError: Too little to train on, or a loss that is not finite.
    """
    finished = read_finished(work_dir)
    if finished is not None:
        return finished
    work_dir.mkdir(parents=True, exist_ok=True)
    if stage == "mntp":
        from llm2vec_core.training.mntp import train_mntp

        merged, curve = train_mntp(
            given.base,
            given.texts,
            settings=recipe.mntp,
            attention=recipe.attention,
            work_dir=work_dir,
            name=recipe.base_model,
            on_step=on_step,
        )
    elif stage == "simcse":
        from llm2vec_core.training.simcse import train_simcse

        merged, curve = train_simcse(
            given.base,
            given.texts,
            settings=recipe.simcse,
            attention=recipe.attention,
            pooling_mode=recipe.pooling_mode,
            work_dir=work_dir,
            name=recipe.base_model,
            on_step=on_step,
        )
    else:
        from llm2vec_core.training.supervised import train_supervised

        merged, curve = train_supervised(
            given.base,
            given.triples,
            settings=recipe.supervised,
            attention=recipe.attention,
            pooling_mode=recipe.pooling_mode,
            work_dir=work_dir,
            name=recipe.base_model,
            on_step=on_step,
        )
    if is_main_process():
        temporary = work_dir / f"{_DONE}.tmp"
        temporary.write_text(curve.model_dump_json())
        temporary.rename(work_dir / _DONE)
    return merged, curve


def read_finished(work_dir: Path) -> tuple[Path, StageCurve] | None:
    """What a stage that is done left: its transformer and its curve."""
    done = work_dir / _DONE
    return (work_dir / MERGED_NAME, StageCurve.model_validate_json(done.read_text())) if done.is_file() else None
