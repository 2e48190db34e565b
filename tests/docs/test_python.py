"""The Python code in README and docs/python.md, and the example, run unchanged on a tiny base model."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import llm2vec_core

ROOT = Path(__file__).parents[2]
HOW_TO = (ROOT / "docs" / "how-to.md").read_text()
ELSEWHERE = {"exports.md": "tests/data/outputs/test_export_readers.py", "serving.md": "tests/flows/test_serving.py"}
BASES = ("bundled:smollm2-135m", "HuggingFaceTB/SmolLM2-135M")
SMALL = {"steps": 1, "batch_size": 4, "micro_batch_size": 4, "warmup_steps": 0, "save_steps": 1}


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)


def write_files(directory: Path) -> None:
    """Texts to train on, and the evaluation task of the how-to, as it is printed there."""
    lines = (f"Registered nurse number {number}, surgical ward {number * 7}, night shifts." for number in range(200))
    (directory / "texts.txt").write_text("\n".join(lines))
    folder = directory / "my-tasks" / "NursingSearch"
    folder.mkdir(parents=True)
    (folder / "task.json").write_text(blocks("docs/how-to.md", "json")[0])
    corpus, queries, *_ = blocks("docs/how-to.md", "jsonl")
    (folder / "corpus.jsonl").write_text(corpus)
    (folder / "queries.jsonl").write_text(queries)
    (folder / "qrels.tsv").write_text(blocks("docs/how-to.md", "tsv")[0])


@pytest.fixture
def small(tiny_base, tmp_path, monkeypatch):
    """Run in an empty directory; recipes train one step, and shown base models mean the tiny one."""
    monkeypatch.chdir(tmp_path)
    write_files(tmp_path)
    train = llm2vec_core.train

    def train_briefly(recipe, *args, **kwargs):
        stages = {stage: getattr(recipe, stage).model_dump() | SMALL for stage in ("mntp", "simcse", "supervised")}
        shorter = type(recipe).model_validate(recipe.model_dump() | stages | {"max_tokens": 64})
        return train(shorter, *args, **kwargs)

    monkeypatch.setattr(llm2vec_core, "train", train_briefly)

    def run(page: str) -> dict[str, object]:
        names: dict[str, object] = {}
        for block in blocks(page):
            for base in BASES:
                block = block.replace(base, str(tiny_base))
            if "stages=" in block:  # a recipe without a base model means the bundled one
                block = block.replace("Recipe(stages=", f"Recipe(base_model={str(tiny_base)!r}, stages=")
            exec(compile(block, page, "exec"), names)
        return names

    return run


def test_the_lines_of_the_readme_run(small, tmp_path):
    assert small("README.md")["vectors"].shape == (2, 32)
    assert (tmp_path / "report" / "report.html").is_file()


def test_every_block_of_the_python_page_runs(small, tmp_path, capsys):
    names = small("docs/python.md")
    assert [system.name.split()[-1] for system in names["report"].systems][-1] == "BM25"
    assert names["recipe"].mntp.steps == 1000
    assert names["smaller"].mntp.steps == 100
    assert {"mntp", "simcse"} <= set(capsys.readouterr().out.split())
    assert (tmp_path / "my-supervised-encoder" / "checkpoint.json").is_file()


def test_every_page_with_python_has_a_test_that_runs_it():
    shown = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    pages = {path.name for path in shown if "```python" in path.read_text()}
    assert pages == {"README.md", "python.md", *ELSEWHERE}
    for page, test in ELSEWHERE.items():
        assert page in (ROOT / test).read_text()


def test_the_example_ranks_texts(tiny_base, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for steps in ("0", "1"):
        monkeypatch.setattr(sys, "argv", ["rank_texts.py", "cloud", "--base", str(tiny_base), "--steps", steps])
        names = runpy.run_path(str(ROOT / "examples" / "rank_texts.py"), run_name="__main__")
        ranked = capsys.readouterr().out.splitlines()
        assert sorted(line.split("  ", 1)[1] for line in ranked) == sorted(names["TEXTS"])
        scores = [float(line.split()[0]) for line in ranked]
        assert scores == sorted(scores, reverse=True)
    assert (tmp_path / "my-encoder").is_dir()


@pytest.mark.slow
@pytest.mark.bundled
@pytest.mark.timeout(1200)
def test_the_lines_of_the_readme_run_on_the_bundled_model(tmp_path):
    """In a fresh interpreter, with two updates a stage instead of the default."""
    write_files(tmp_path)
    (lines,) = blocks("README.md")
    few = '{"steps": 2, "batch_size": 4, "micro_batch_size": 4}'
    lines = lines.replace("Recipe(", f"Recipe(mntp={few} | {{'chunk_tokens': 64}}, simcse={few}, ")
    before, evaluation = lines.rsplit("\nevaluate(", 1)
    check = "import sys; print(sorted({'prefect', 'lancedb', 'mteb'} & set(sys.modules)), vectors.shape)"
    script = f"{before}\n{check}\nevaluate({evaluation}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[] (2, 576)"
    assert (tmp_path / "report" / "report.html").is_file()
