"""The base install in a fresh environment: encoding and training work, and a missing extra is a one-sentence error."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNREACHABLE = ("Failed to fetch", "error sending request", "dns error", "Connection", "Could not find a version")

FIVE_LINES = """
import importlib.util, sys
from llm2vec_core import Encoder, Recipe, evaluate, train
base, save_to = sys.argv[1:]
encoder = Encoder.from_base(base, attention="bidirectional", max_tokens=64)
small = {"steps": 2, "batch_size": 4, "micro_batch_size": 4}
recipe = Recipe(base_model=base, max_tokens=64, mntp=small | {"chunk_tokens": 16}, simcse=small | {"max_tokens": 16})
encoder = train(recipe, [f"text number {n} about nursing" for n in range(64)], save_to=save_to)
print(encoder.encode(["AWS and GCP", "cloud-based systems"], long_texts="sections").shape)
print([name for name in ("prefect", "lancedb", "mteb", "ray", "onnx") if importlib.util.find_spec(name)])
try:
    evaluate([encoder, "bm25"], tasks=["nothing"])
except Exception as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)  # torch is copied or downloaded
def test_the_base_install_encodes_and_trains(tiny_base, tmp_path):
    copy, environment = tmp_path / "source", tmp_path / "env"
    copy.mkdir()
    kept = ("flows", "tasks", "llm2vec_core", "data", "README.md", "pyproject.toml", "hatch_build.py")
    for name in kept:  # building in place would leave files in the checkout
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy / name)
    install(copy, environment)
    done = subprocess.run(
        [environment / "bin" / "python", "-c", FIVE_LINES, tiny_base, tmp_path / "mine"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "(2, 32)",
        "[]",
        "`evaluate` needs the extra 'evaluation': pip install 'llm2vec-pipelines[evaluation]'",
    ]


def install(source: Path, environment: Path) -> None:
    """Install a source tree without extras into a new environment, in the versions of the lock."""
    uv = shutil.which("uv") or next((str(path) for path in [ROOT / ".uv" / "bin" / "uv"] if path.exists()), None)
    python = str(environment / "bin" / "python")
    if uv is not None:
        commands = [[uv, "venv", "--quiet", "--python", sys.executable, str(environment)]]
        commands += [[uv, "pip", "install", "--quiet", "--python", python]]
    else:
        commands = [[sys.executable, "-m", "venv", str(environment)], [python, "-m", "pip", "install", "--quiet"]]
    pins = environment.with_suffix(".txt")
    locked = (ROOT / "requirements.lock").read_text().splitlines()
    pins.write_text("\n".join(line.rstrip(" \\") for line in locked if not line.startswith(" ")))
    commands[-1] += ["--constraint", str(pins), str(source)]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and any(sign in done.stderr for sign in UNREACHABLE):
            pytest.skip(f"packages cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
