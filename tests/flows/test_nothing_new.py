"""A night without changes decides from manifests and digests: it opens no table, and loads no library for the work."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOR_WORK = {"torch", "transformers", "sentence_transformers", "peft", "mteb", "matplotlib", "sklearn", "scipy.stats"}
FOR_WORK |= {"statsmodels", "datasets", "datasketch", "onnx", "onnxruntime", "lancedb", "scipy"}
FOR_WORK |= {"sqlalchemy"}  # of Prefect's server, which is a process of its own
SCRIPT = """
import json, sys
from flows.cli import run
code = run(sys.argv[1:])
print(json.dumps([code, list(sys.modules)]))
"""


@pytest.mark.slow
@pytest.mark.ci
def test_a_night_without_changes_loads_no_library_for_work(served_night):
    arguments = ["nightly", "--config", str(served_night.config), "--profile", "tiny", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=served_night.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    *_, report, loaded = done.stdout.splitlines()
    assert json.loads(report)["encoded_documents"] == 0
    code, modules = json.loads(loaded)
    assert code == 0, done.stderr
    assert FOR_WORK & set(modules) == set()
