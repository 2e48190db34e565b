"""Run a training stage in several processes, one per device of this host, with ``accelerate launch``.

The processes share one update: its batch is divided among them, and the loss curve is that of a single process (a test
compares them). They read the job from a file, and report updates as lines of JSON on stdout. To train on several hosts,
start the processes yourself: ``accelerate launch -m llm2vec_core.training.launch JOB`` on each host.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from pathlib import Path

from llm2vec_core.errors import TrainingError
from llm2vec_core.training.job import StageJob
from llm2vec_core.training.loop import is_main_process
from llm2vec_core.training.settings import StageCurve, StepLog
from llm2vec_core.training.stages import train_stage

_JOB_NAME = "job.json"
_LAST_LINES = 20


def launch_stage(job: StageJob) -> tuple[Path, StageCurve]:
    """Train one stage in ``recipe.num_processes`` processes; a finished stage is not trained again.

    Returns:
        Directory of the trained transformer, and the curve.

    Raises:
        TrainingError: A process failed. The message has the last lines of the processes' output.
    """
    finished = job.finished()
    if finished is not None:
        return finished
    job.work_dir.mkdir(parents=True, exist_ok=True)
    path = job.work_dir / _JOB_NAME
    path.write_text(job.model_dump_json())
    num_processes = job.recipe.num_processes
    command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(num_processes)]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", *_device_options()]
    command += ["--module", "llm2vec_core.training.launch", str(path)]
    last_lines: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as processes:
        try:
            for line in processes.stdout or ():
                if not line.startswith("{"):
                    last_lines.append(line.rstrip())
                elif job.on_step is not None:
                    job.on_step(StepLog.model_validate_json(line))
        except BaseException:
            processes.terminate()
            raise
    path.unlink()
    finished = job.finished()
    if processes.returncode or finished is None:
        raise TrainingError(
            f"{job.stage} failed in one of its {num_processes} processes (exit code {processes.returncode}): "
            + " | ".join(last_lines),
            hint="Its last save is intact. Fix the cause and run it again.",
        )
    return finished


def main(path: Path) -> None:
    """Run as one of the processes of a stage."""
    job = StageJob.model_validate_json(path.read_text())
    train_stage(job.model_copy(update={"on_step": _report}))


def _report(step: StepLog) -> None:
    if is_main_process():
        print(step.model_dump_json(), flush=True)  # noqa: T201 - the parent process reads it


def _device_options() -> list[str]:
    import torch

    if torch.cuda.is_available():
        return ["--multi_gpu"]
    return ["--cpu", "--num_cpu_threads_per_process", os.environ.get("OMP_NUM_THREADS", "1")]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
