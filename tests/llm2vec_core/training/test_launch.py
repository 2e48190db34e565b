"""Two processes learn the same as one: ``accelerate launch`` on the CPU, with the same global batch."""

import json

import numpy as np
import pytest

from llm2vec_core.errors import TrainingError
from llm2vec_core.model.lora import LoraSettings
from llm2vec_core.model.modes import STAGES
from llm2vec_core.training.job import StageJob
from llm2vec_core.training.launch import launch_stage
from llm2vec_core.training.loop import micro_batches
from llm2vec_core.training.settings import (
    MntpSettings,
    Recipe,
    SharedSettings,
    SimcseSettings,
    SupervisedSettings,
    TrainingTriple,
)
from llm2vec_core.training.stages import TRAINERS, train_stage

WORDS = [
    "nurses",
    "care",
    "for",
    "patients",
    "in",
    "wards",
    "while",
    "developers",
    "write",
    "software",
    "and",
    "deploy",
    "cloud",
    "systems",
]
TEXTS = [f"{' '.join(np.roll(WORDS, k)[: 6 + k % 7])}. {' '.join(np.roll(WORDS, -k)[:8])}." for k in range(40)]
TRIPLES = [
    TrainingTriple(f"anchor {k}", f"positive {word} {k}", (), source)
    for source in ("one", "two")
    for k, word in enumerate(WORDS)
]


@pytest.fixture
def recipe(tiny_base) -> Recipe:
    """Without LoRA dropout, whose noise is a process's own; SimCSE's noise cannot be done without, so it is tiny."""
    shared = {"steps": 3, "batch_size": 8, "save_steps": 2, "learning_rate": 2e-3, "micro_batch_size": 4}
    shared["lora"] = LoraSettings(rank=4, dropout=0.0)
    return Recipe(
        base_model=str(tiny_base),
        stages=("mntp", "simcse", "supervised"),
        max_tokens=64,
        num_processes=2,
        mntp=MntpSettings(chunk_tokens=32, **shared),
        simcse=SimcseSettings(max_tokens=48, simcse_dropout=1e-6, **shared),
        supervised=SupervisedSettings(max_tokens=32, warmup_steps=0, **shared | {"micro_batch_size": 2}),
    )


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["mntp", "simcse", "supervised"])
def test_two_processes_have_the_loss_curve_of_one(recipe, tiny_base, tmp_path, stage):
    job = StageJob(stage=stage, recipe=recipe, base=tiny_base, work_dir=tmp_path / "one", texts=TEXTS, triples=TRIPLES)
    steps = []
    _, one = train_stage(job)
    merged, two = launch_stage(job.model_copy(update={"work_dir": tmp_path / "two", "on_step": steps.append}))
    np.testing.assert_allclose(two.losses, one.losses, rtol=2e-3)
    assert [step.step for step in steps] == [1, 2, 3]
    assert (merged / "layers.json").is_file()


@pytest.mark.slow
def test_what_goes_wrong_in_a_process_is_told(recipe, tiny_base, tmp_path):
    with pytest.raises(TrainingError, match="needs 8"):
        launch_stage(StageJob(stage="mntp", recipe=recipe, base=tiny_base, work_dir=tmp_path, texts=TEXTS[:1]))


def test_a_job_is_the_same_after_a_round_trip_through_json(recipe, tiny_base, tmp_path):
    job = StageJob(stage="supervised", recipe=recipe, base=tiny_base, work_dir=tmp_path, texts=TEXTS, triples=TRIPLES)
    read = StageJob.model_validate_json(job.model_copy(update={"on_step": print}).model_dump_json())
    assert read == job


def test_a_job_file_of_before_is_read(recipe, tmp_path):
    written = json.loads(recipe.model_dump_json())
    old = {name: value for name, value in written.items() if name not in SharedSettings.model_fields}
    content = {"stage": "mntp", "recipe": old, "base": "b", "texts": ["t"], "triples": [], "work_dir": str(tmp_path)}
    job = StageJob.model_validate_json(json.dumps(content))
    assert (job.settings, job.texts) == (recipe.mntp, ["t"])


def test_every_stage_has_a_trainer():
    assert tuple(TRAINERS) == STAGES


def test_a_batch_is_divided_among_processes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert micro_batches(MntpSettings(batch_size=16, micro_batch_size=4)) == (8, 2)
    assert micro_batches(MntpSettings(batch_size=4, micro_batch_size=4)) == (4, 1)
    with pytest.raises(TrainingError, match="cannot be divided among 2 processes"):
        micro_batches(MntpSettings(batch_size=9, micro_batch_size=3))


def test_the_number_of_processes_is_in_the_key_because_it_changes_the_dropout(recipe):
    alone = recipe.model_copy(update={"num_processes": 1})
    assert recipe.key({}) != alone.key({})
