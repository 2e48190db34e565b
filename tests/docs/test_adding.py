"""The recipes of CONTRIBUTING.md, "Adding": each is followed in a copy of the source, and the addition works."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llm2vec_core.training.settings import Recipe

ROOT = Path(__file__).parents[2]
ROOMS = ("llm2vec_core", "data", "tasks", "flows")
CLI = "from flows.cli import main; main()"

Change = Callable[[str, str, str], None]


@pytest.fixture
def copied(tmp_path) -> Path:
    """A copy of the source without the bundled adapters."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    return tmp_path


@pytest.fixture
def change(copied) -> Change:
    """Replaces a text, which must occur exactly once in a file of the copy."""

    def replace(file: str, old: str, new: str) -> None:
        source = (copied / file).read_text(encoding="utf-8")
        assert source.count(old) == 1, f"{file}: {old}"
        (copied / file).write_text(source.replace(old, new), encoding="utf-8")

    return replace


def run_in(copied: Path, *command: str) -> str:
    """Standard output of Python in the copy."""
    environment = os.environ | {"PYTHONPATH": str(copied), "COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=copied,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_source_format(copied, change):
    change("data/documents/readers/formats.py", '    XML = "xml"\n', '    XML = "xml"\n    LIST = "list"\n')
    change("data/documents/readers/formats.py", "Format.SHEET, Format.XML})", "Format.SHEET, Format.XML, Format.LIST})")
    change("data/documents/readers/formats.py", '    ".rss": ', '    ".list": Format.LIST,\n    ".rss": ')
    (copied / "data/documents/readers/lists.py").write_text(
        '"""Lists: a document a line."""\n'
        "from data.documents.rows import RawRow\n"
        "def read(path, file, config, log):\n"
        "    for number, line in enumerate(path.read_text().splitlines(), start=1):\n"
        "        yield RawRow(file, number, {config.id_field: f'{number}', 'text': line})\n"
    )
    change(
        "data/documents/sources.py",
        "import csv, documents, json_values, jsonl, linkedin,",
        "import csv, documents, json_values, jsonl, linkedin, lists,",
    )
    change(
        "data/documents/sources.py",
        "    Format.XML: xml.read,\n",
        "    Format.XML: xml.read,\n    Format.LIST: lists.read,\n",
    )
    (copied / "jobs.list").write_text("Welder for a shipyard in the north.\nNurse for a night shift in a hospital.\n")
    shown = json.loads(
        run_in(copied, "-c", CLI, "ingest", "--dry-run", "--json", "--kind", "job", "--source", "jobs.list")
    )
    assert shown["formats"] == {"list": 1}
    assert (shown["rows_in"], shown["rows_kept"]) == (2, 2)
    assert "shipyard" in shown["documents"][0]["text"]


@pytest.mark.slow
@pytest.mark.ci
def test_a_training_stage(copied, change):
    change(
        "llm2vec_core/model/modes.py",
        'Stage = Literal["mntp", "simcse", "distil", "supervised"]',
        'Stage = Literal["mntp", "simcse", "distil", "supervised", "denoise"]',
    )
    change(
        "llm2vec_core/model/modes.py",
        '    "mntp": StageTitle(',
        '    "denoise": StageTitle("TSDAE", "TSDAE (denoising)"),\n    "mntp": StageTitle(',
    )
    change(
        "llm2vec_core/training/settings.py",
        "class Recipe(SharedSettings):",
        'class DenoiseSettings(StageSettings):\n    """Settings of the dummy."""\n\n    '
        "batch_size: PositiveInt = 2\n    learning_rate: PositiveFloat = 1e-4\n"
        "    sequence_tokens: ClassVar[int] = 64\n\n\n"
        "class Recipe(SharedSettings):",
    )
    change(
        "llm2vec_core/training/settings.py",
        "    simcse: SimcseSettings = SimcseSettings()\n",
        "    simcse: SimcseSettings = SimcseSettings()\n    denoise: DenoiseSettings = DenoiseSettings()\n",
    )
    (copied / "llm2vec_core/training/denoise.py").write_text(
        '"""A stage that leaves the model as it is."""\n'
        "from llm2vec_core.training.settings import StageCurve\n"
        "def train_denoise(job):\n"
        "    job.merged_dir.mkdir()\n"
        "    return job.merged_dir, StageCurve(stage=job.stage, num_steps=1, tokens=len(job.texts), seconds=1,\n"
        "                                      losses=[job.settings.learning_rate], learning_rates=[0])\n"
    )
    change(
        "llm2vec_core/training/stages.py",
        '    "mntp": train_mntp,',
        '    "denoise": train_denoise,\n    "mntp": train_mntp,',
    )
    change(
        "llm2vec_core/training/stages.py",
        "from llm2vec_core.training.job import StageJob\n",
        "from llm2vec_core.training.denoise import train_denoise\nfrom llm2vec_core.training.job import StageJob\n",
    )
    assert "denoise" in run_in(copied, "-c", CLI, "train", "--help")
    script = """
import json, pathlib
from llm2vec_core.evaluation.systems import SystemTraits
from llm2vec_core.model.modes import parse_encoder_name, stage_title
from llm2vec_core.training.job import StageJob
from llm2vec_core.training.settings import Recipe
from llm2vec_core.training.stages import train_stage
recipe = Recipe.model_validate({"stages": ["mntp", "denoise"], "denoise": {"learning_rate": 0.5}})
job = StageJob(stage="denoise", recipe=recipe, base=pathlib.Path(), work_dir=pathlib.Path("work"), texts=["a", "b"])
_, curve = train_stage(job)
traits = SystemTraits(base_model="tiny", attention="bidirectional", stages=recipe.stages, pooling_mode="mean")
print(json.dumps({
    "losses": curve.losses, "resumed": train_stage(job)[1] == curve, "reads": recipe.reads_documents,
    "title": traits.title, "full": stage_title("denoise").full, "key": Recipe().settings_key(),
    "name": str(parse_encoder_name("tiny+mntp+denoise")),
}))
"""
    assert json.loads(run_in(copied, "-c", script)) == {
        "losses": [0.5],
        "resumed": True,
        "reads": True,
        "title": "tiny Bi + MNTP + TSDAE, mean",
        "full": "TSDAE (denoising)",
        "key": Recipe().settings_key(),  # encoders that were trained before keep their keys
        "name": "tiny+mntp+denoise",
    }


@pytest.mark.slow
@pytest.mark.ci
def test_an_evaluation_protocol_for_a_new_type_of_task(copied, change):
    change(
        "llm2vec_core/evaluation/tasks/types.py",
        "_TextTaskType = Literal[_MtebTaskType]",
        '_TextTaskType = Literal[_MtebTaskType, "Echoes"]',
    )
    change(
        "llm2vec_core/evaluation/tasks/layouts.py",
        '    "Clustering": Layout(',
        '    "Echoes": Layout(files={"items": _jsonl("items.jsonl", text=_TEXT)}, items="items"),\n'
        '    "Clustering": Layout(',
    )
    change(
        "llm2vec_core/evaluation/metrics.py",
        '    "v_measure": ',
        '    "loudness": "Share of texts in capitals.",\n    "v_measure": ',
    )
    (copied / "llm2vec_core/evaluation/protocols/echoes.py").write_text(
        '"""Counts texts in capitals, whatever the system does."""\n'
        "def score_echoes(eval_task):\n"
        "    return 100 * sum(row['text'].isupper() for row in eval_task.tables['items']) / eval_task.num_items\n"
    )
    change(
        "llm2vec_core/evaluation/protocols/registry.py",
        "PROTOCOLS: tuple[ScoringProtocol, ...] = (\n",
        "from llm2vec_core.evaluation.protocols.echoes import score_echoes\n\n"
        "PROTOCOLS: tuple[ScoringProtocol, ...] = (\n"
        '    ScoringProtocol("echoes", frozenset({"Echoes"}), lambda system, task: True,\n'
        '                    lambda system, task: Measured({"loudness": score_echoes(task)}, [])),\n',
    )
    for name, first in (("Loud", "HEY"), ("Quiet", "hey")):
        folder = copied / "eval" / name
        folder.mkdir(parents=True)
        (folder / "task.json").write_text(json.dumps({"name": name, "type": "Echoes", "main_score": "loudness"}))
        (folder / "items.jsonl").write_text(f'{{"text": "{first}"}}\n{{"text": "still"}}\n')
    script = """
import json, pathlib
from llm2vec_core import evaluate
report = evaluate("bm25", pathlib.Path("eval"))
report.save(pathlib.Path("report"))
print(json.dumps({score.task: [score.type, score.main_score] for score in report.systems[0].scores}))
"""
    assert json.loads(run_in(copied, "-c", script)) == {"Loud": ["Echoes", 50.0], "Quiet": ["Echoes", 0.0]}
    page = next((copied / "report").glob("*.md")).read_text()
    assert "Echoes" in page
    assert "| Loud" in page
    assert "Share of texts in capitals." in page
