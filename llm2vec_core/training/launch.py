"""A training stage in several processes, one for each device of this host, started by ``accelerate launch``.

The processes share one update: its batch is divided among them, and the loss curve is that of a single process (a test
compares them). What a stage needs goes to them as a file; they tell about updates in lines of JSON. Several hosts are
the business of whoever starts the processes: ``accelerate launch -m llm2vec_core.training.launch JOB`` on each of them.

Does not belong here: what a stage does (``stages``).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from pathlib import Path

from pydantic import BaseModel

from llm2vec_core.errors import TrainingError
from llm2vec_core.training.loop import is_main_process
from llm2vec_core.training.settings import OnStep, Recipe, Stage, StageCurve, StepLog, TrainingTriple
from llm2vec_core.training.stages import StageInput, read_finished, run_stage

_JOB_NAME = "job.json"
_LAST_LINES = 20


class Job(BaseModel):
    """What the processes of a stage read."""

    stage: Stage
    recipe: Recipe
    base: Path
    texts: list[str]
    triples: list[TrainingTriple]
    work_dir: Path


def launch_stage(
    stage: Stage, recipe: Recipe, given: StageInput, *, work_dir: Path, on_step: OnStep
) -> tuple[Path, StageCurve]:
    """Run a stage in ``recipe.num_processes`` processes and wait for them.

    Args:
        stage: What to run.
        recipe: The recipe it belongs to.
        given: What it starts from and learns from.
        work_dir: Where it leaves its result, as :func:`~llm2vec_core.training.stages.run_stage` does.
        on_step: Called after every update.

    Returns:
        Directory of the trained transformer, and the curve.

    Raises:
        TrainingError: A process failed; the last lines that the processes wrote are in the message.
    """
    finished = read_finished(work_dir)
    if finished is not None:
        return finished
    work_dir.mkdir(parents=True, exist_ok=True)
    job = Job(
        stage=stage,
        recipe=recipe,
        base=given.base,
        texts=list(given.texts),
        triples=list(given.triples),
        work_dir=work_dir,
    )
    path = work_dir / _JOB_NAME
    path.write_text(job.model_dump_json())
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(recipe.num_processes)]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", *_device_options()]
    command += ["--module", "llm2vec_core.training.launch", str(path)]
    last_lines: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as processes:
        try:
            for line in processes.stdout or ():
                if line.startswith("{"):
                    on_step(StepLog.model_validate_json(line))
                else:
                    last_lines.append(line.rstrip())
        except BaseException:
            processes.terminate()
            raise
    path.unlink()
    finished = read_finished(work_dir)
    if processes.returncode or finished is None:
        raise TrainingError(
            f"{stage} failed in one of its {recipe.num_processes} processes (exit code {processes.returncode}): "
            + " | ".join(last_lines),
            hint="Its last save is intact; mend the cause and run it again.",
        )
    return finished


def main(path: Path) -> None:
    """Be one of the processes of a stage."""
    job = Job.model_validate_json(path.read_text())
    given = StageInput(base=job.base, texts=job.texts, triples=job.triples)
    run_stage(job.stage, job.recipe, given, work_dir=job.work_dir, on_step=_tell)


def _tell(step: StepLog) -> None:
    if is_main_process():
        print(step.model_dump_json(), flush=True)  # noqa: T201 - how the processes tell whoever started them


def _device_options() -> list[str]:
    import torch

    if torch.cuda.is_available():
        return ["--multi_gpu"]
    return ["--cpu", "--num_cpu_threads_per_process", os.environ.get("OMP_NUM_THREADS", "1")]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
