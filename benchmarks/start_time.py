"""Processor seconds of a cold start: ``l2v --help``, ``l2v status``, ``l2v search``, and ``import llm2vec_core``.

A tiny night makes the home that ``status`` and ``search`` read. Each command runs in a fresh interpreter; the least of
the rounds counts, since other work on the machine only adds to it. The last line of stdout is one JSON object.

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
import tempfile

COMMAND_LINE = "import sys; from flows.cli import run; sys.exit(run(sys.argv[1:]))"
ROUNDS = 5
QUICK_ROUNDS = 2


def main() -> None:
    """Measure every command and print its processor seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="an empty home, no search, fewer rounds")
    quick: bool = parser.parse_args().quick
    rounds = QUICK_ROUNDS if quick else ROUNDS
    with tempfile.TemporaryDirectory() as home:
        settings = ["--profile", "tiny", "--set", f"home={home}"]
        commands = {
            "import llm2vec_core": ["import llm2vec_core"],
            "l2v --help": [COMMAND_LINE, "--help"],
            "l2v status": [COMMAND_LINE, "status", *settings],
        }
        if not quick:
            cpu_seconds([COMMAND_LINE, "nightly", *settings])
            commands["l2v search"] = [COMMAND_LINE, "search", "nurse", *settings]
        found = {name: min(cpu_seconds(words) for _ in range(rounds)) for name, words in commands.items()}
    figures = {name: round(seconds, 2) for name, seconds in found.items()}
    print(json.dumps({"cpu_seconds": figures, "machine": platform.machine(), "load": round(os.getloadavg()[0], 1)}))


def cpu_seconds(words: list[str]) -> float:
    """Processor seconds of ``python -c WORDS`` and of the processes that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
