"""Peak memory of a night with ten times the corpus, against a night with the corpus.

    python -m benchmarks.memory_bound [--quick]

Each side is a separate process with a first night, and a second one with 1 % changes. Vectors of 384 numbers come from
a hash: an encoder's memory depends on its token budget, not on the corpus.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common.nights import hashed_vectors, run_night, write_corpus

_EMBEDDING_DIM = 384


def measure(num_documents: int) -> int:
    """Peak resident memory of this process over two nights, in bytes."""
    from tasks.ledger.runs import peak_rss_bytes

    with tempfile.TemporaryDirectory() as folder:
        for changed in (0.0, 0.01):
            corpus = Path(folder) / "corpus.jsonl"
            write_corpus(corpus, num_documents, changed=changed)
            run_night(Path(folder) / "home", corpus, hashed_vectors(_EMBEDDING_DIM), embedding_dim=_EMBEDDING_DIM)
    return peak_rss_bytes()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--quick", action="store_true", help="10,000 and 100,000 documents instead of 100,000 and 1,000,000"
    )
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(measure(arguments.measure))
        return
    sizes = (10_000, 100_000) if arguments.quick else (100_000, 1_000_000)
    peaks = []
    for size in sizes:
        command = [sys.executable, "-m", "benchmarks.memory_bound", "--measure", str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout.splitlines()[-1]))
        print(f"{size:,} documents: {peaks[-1] / 1e6:,.0f} MB", flush=True)
    result = {
        "documents": sizes,
        "peak_bytes": peaks,
        "bytes_per_document": (peaks[1] - peaks[0]) / (sizes[1] - sizes[0]),
        "memory_ratio": peaks[1] / peaks[0],
        "machine": f"{platform.machine()}, {platform.system()}",
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
