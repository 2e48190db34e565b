"""Processor seconds of a cold start: ``l2v --help``, ``l2v status``, ``l2v search``, and ``import llm2vec_core``.

Each command runs in a fresh interpreter, on a small home of the tests. The minimum over the rounds counts, because
other work on the machine only adds time. The last line of stdout is one JSON object.

    python -m benchmarks.start_time [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOME = ROOT / "tests" / "integration" / "homes" / "before_house.tar.xz"
COMMAND_LINE = "import sys; from flows.cli import run; sys.exit(run(sys.argv[1:]))"
COMMANDS = {
    "import llm2vec_core": ["import llm2vec_core"],
    "l2v --help": [COMMAND_LINE, "--help"],
    "l2v status": [COMMAND_LINE, "status", "--profile", "tiny"],
    "l2v search --mode lexical": [COMMAND_LINE, "search", "nurse", "--mode", "lexical", "--profile", "tiny"],
    "l2v search": [COMMAND_LINE, "search", "nurse", "--profile", "tiny"],
}
ROUNDS = 5
QUICK_ROUNDS = 2
SLOW = "l2v search"
"""Skipped by ``--quick``, because it loads an encoder."""


def main() -> None:
    """Measure every command and print its processor seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROUNDS} rounds, without '{SLOW}'")
    quick: bool = parser.parse_args().quick
    rounds = QUICK_ROUNDS if quick else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(HOME) as archive:
            archive.extractall(folder, filter="data")
        figures = {
            name: round(min(cpu_seconds(words, folder) for _ in range(rounds)), 2)
            for name, words in COMMANDS.items()
            if not (quick and name == SLOW)
        }
    print(json.dumps({"cpu_seconds": figures, "machine": platform.machine(), "load": round(os.getloadavg()[0], 1)}))


def cpu_seconds(words: list[str], folder: str) -> float:
    """Processor seconds of ``python -c WORDS`` in a folder, and of the processes that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", *words],
        check=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
