"""Latency of searches through ``l2v serve``, one after another and at once.

Starts the server on a free port of this machine, for a home that serves something, and sends short queries and the
texts of served jobs. Times are in ms, processor seconds are the server's. The last line of stdout is one JSON object.

    python -m benchmarks.serve_latency [--home var] [--requests 200]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from data.vectors.lance import open_table
from tasks.queries.served import served
from tasks.run.settings import Settings

ROOT = Path(__file__).parents[1]
COMMAND_LINE = "import sys; from flows.cli import run; sys.exit(run(sys.argv[1:]))"
SHORT = ("nurse", "cloud engineer", "keeps cloud platforms running", "C++ developer with Linux", "chef de partie")
AT_ONCE = 4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--home", default="var", help="a home that serves something")
    parser.add_argument("--requests", type=int, default=200, help="requests of each kind")
    options = parser.parse_args()
    settings = Settings(home=options.home)
    pointer = served(settings.store())
    table = open_table(settings.store(), generation=pointer.generation, kind="job", version=pointer.jobs)
    texts = [row["text"] for row in table.read(["text"]).slice(0, 50).to_pylist()]
    arguments = ["serve", "--port", "0", "--json", "--set", f"home={options.home}"]
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND_LINE, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        first = milliseconds(url, SHORT[0])
        result: dict[str, object] = {"first_ms": round(first)}
        for name, queries in {"short": SHORT, "posting": tuple(texts)}.items():
            asked = [queries[at % len(queries)] for at in range(options.requests)]
            result |= percentiles(name, [milliseconds(url, query) for query in asked])
            with ThreadPoolExecutor(AT_ONCE) as pool:
                taken = list(pool.map(lambda query: milliseconds(url, query), asked))
            result |= percentiles(f"{name}_{AT_ONCE}_at_once", taken)
        process.terminate()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    result |= {
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_rss_mb": usage.ru_maxrss // 1024,
        "documents": table.count(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
    }
    print(json.dumps(result))


def milliseconds(url: str, query: str) -> float:
    """Time of one search for people."""
    request = urllib.request.Request(
        f"{url}search", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    started = time.perf_counter()
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["hits"]
    return (time.perf_counter() - started) * 1e3


def percentiles(name: str, taken: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    return {f"{name}_p{share}_ms": round(float(np.percentile(taken, share)), 1) for share in (50, 95)}


if __name__ == "__main__":
    main()
