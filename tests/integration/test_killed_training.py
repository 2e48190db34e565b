"""A training process is killed in the middle of each stage; resumed processes end with the same weights."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llm2vec_core.model.checkpoint import read_record

ROOT = Path(__file__).parents[2]

TRAIN = """
import os, signal, sys
from pathlib import Path
from llm2vec_core.training.recipe import train_encoder
from llm2vec_core.training.settings import MntpSettings, Recipe, SimcseSettings

base, work_dir, stage, step = sys.argv[1:]
texts = [f"Nurse number {n} cares for the patients of ward {n}. She writes records every night." for n in range(20)]
recipe = Recipe(
    base_model=base,
    max_tokens=64,
    mntp=MntpSettings(steps=6, batch_size=4, micro_batch_size=2, chunk_tokens=32, save_steps=2),
    simcse=SimcseSettings(steps=6, batch_size=4, micro_batch_size=2, max_tokens=48, save_steps=2),
)

def on_step(log):
    if (log.stage, log.step) == (stage, int(step)):
        os.kill(os.getpid(), signal.SIGKILL)

done = train_encoder(
    recipe, texts, recipe_key="k", work_dir=Path(work_dir), cache_dir=Path(work_dir), on_step=on_step
)
print(done.steps_run)
"""


def train(base: Path, work_dir: Path, stage: str = "never", step: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", TRAIN, str(base), str(work_dir), stage, str(step)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.timeout(900)  # several processes load torch, one after the other
def test_killed_twice_training_ends_with_the_weights_of_one_run(tiny_base, tmp_path):
    for stage, step in (("mntp", 3), ("simcse", 5)):
        assert train(tiny_base, tmp_path / "killed", stage, step).returncode == -signal.SIGKILL
    resumed = train(tiny_base, tmp_path / "killed")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.strip().splitlines()[-1] == "2", "of twelve steps only the two after the last save are run"
    whole = train(tiny_base, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    fingerprints = [read_record(tmp_path / name / "checkpoint").fingerprint for name in ("killed", "whole")]
    assert fingerprints[0] == fingerprints[1]
