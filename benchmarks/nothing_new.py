"""Processor seconds of a night without changes, or with one: the command's, and those of the embedded Prefect server.

Runs nights on a small home of the tests: one that brings it up to date, and then nights without changes, the first of
which starts the server and the others find it. A home of any size takes as long, because such a night opens no table
and reads its sources only to hash them. With ``--documents``, the home gets as many documents, half of them jobs and
half resumes, made of sentences of the sample. At the end one of them is changed, and a night measured (``changed``).
The last line of stdout is one JSON object.

    python -m benchmarks.nothing_new [--nights 3] [--documents 10000]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.common.nights import WORDS
from data.sample.read import read_sample_jobs, read_sample_resumes

ROOT = Path(__file__).parents[1]
HOME = ROOT / "tests" / "integration" / "homes" / "november_2026.tar.xz"
_MIN_CHARS = 20
COMMAND_LINE = "import sys; from flows.cli import run; sys.exit(run(sys.argv[1:]))"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, default=3, help="nights without changes after the one that is cold")
    parser.add_argument("--documents", type=int, help="number of documents; one is changed at the end")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with tarfile.open(HOME) as archive:
            archive.extractall(folder, filter="data")
        if arguments.documents:
            write_sources(folder, arguments.documents, changed=False)
        night(folder, kept_seconds=0)
        wait_for_end(folder)
        cold = night(folder, kept_seconds=60)
        warm = [night(folder, kept_seconds=60) for _ in range(arguments.nights)]
        changed = None
        if arguments.documents:
            write_sources(folder, arguments.documents, changed=True)
            changed = night(folder, kept_seconds=60)
    print(
        json.dumps(
            {
                "cold": cold,
                "warm": min(warm, key=lambda found: found["command_cpu_s"] + found["server_cpu_s"]),
                "changed": changed,
                "machine": f"{platform.machine()}, {os.cpu_count()} cores",
                "load": round(os.getloadavg()[0], 1),
            }
        )
    )


def write_sources(folder: Path, num_documents: int, *, changed: bool) -> None:
    """Write documents of four sentences of the sample and 20 random words; ``changed`` gives the first another text."""
    for kind, sample in (("jobs", list(read_sample_jobs())), ("resumes", list(read_sample_resumes()))):
        whole = " ".join(str(row.get("description") or row.get("text")) for row in sample).replace("\n", " ")
        sentences = [sentence for sentence in whole.split(". ") if len(sentence) > _MIN_CHARS]
        with (folder / f"{kind}.jsonl").open("w", encoding="utf-8") as stream:
            for number in range(num_documents // 2):
                draw = random.Random(f"{kind} {number} {changed and number == 0 and kind == 'jobs'}")
                text = ". ".join([*draw.sample(sentences, 4), " ".join(draw.choices(WORDS, k=20))])
                title = str(sample[number % len(sample)].get("title", ""))
                stream.write(json.dumps({"id": f"{kind}-{number}", "title": title, "description": text}) + "\n")


def night(folder: Path, *, kept_seconds: int) -> dict[str, float]:
    """Processor and clock seconds of a night, and of the server meanwhile."""
    before, server_before, started = resource.getrusage(resource.RUSAGE_CHILDREN), server_seconds(folder), time.time()
    subprocess.run(
        [sys.executable, "-c", COMMAND_LINE, "nightly", "--profile", "tiny", "--json"],
        check=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LLM2VEC_SERVER_KEPT_S": str(kept_seconds), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "command_cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "server_cpu_s": round(server_seconds(folder) - server_before, 2),
        "seconds": round(time.time() - started, 1),
    }


def server_seconds(folder: Path) -> float:
    """Processor seconds of the embedded server of a home so far; 0 if none lives."""
    record = folder / "home" / "prefect" / "server.json"
    try:
        times = psutil.Process(int(json.loads(record.read_text())["process"].split()[0])).cpu_times()
    except (OSError, psutil.Error):
        return 0.0
    return float(times.user + times.system)


def wait_for_end(folder: Path) -> None:
    """Wait until the server has ended, so that the next night starts one."""
    while server_seconds(folder):
        time.sleep(0.2)


if __name__ == "__main__":
    main()
