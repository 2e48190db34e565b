"""Speed of reading documents: 1,000 PDFs in worker processes, and an ingest of tables against an earlier commit.

    python -m benchmarks.ingest_speed [--quick] [--corpora FOLDER] [--base COMMIT]

The PDFs are the printed resumes of the tests, copied. The ingest reads every ``*.jsonl`` of a folder whose names begin
with ``jobs`` or ``resumes`` (default: the bundled sample, repeated), once by this checkout and once by a checkout of
the commit, in turns and in fresh processes; processor seconds count, and the smaller of the rounds.
The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data.config import SourceConfig
from data.documents.rows import RawRow
from data.documents.sources import read_rows
from data.sample.read import read_sample_jobs, read_sample_resumes

ROOT = Path(__file__).parents[1]
PRINTED = ROOT / "tests" / "data" / "documents" / "extract" / "printed"
BASE = "003c9b4"
"""Last commit before documents had second readers, text layout and workers."""
ROUNDS = 3
SAMPLE_REPEATS = 20
INGEST = """
import sys
from datetime import UTC, datetime
from pathlib import Path
try:
    from data.config import CleanConfig, SourceConfig
    from data.snapshots.build import build_snapshot
    from data.store.base import LocalStore
except ImportError:
    from data.clean import CleanConfig
    from data.snapshot import build_snapshot
    from data.sources import SourceConfig
    from data.store import LocalStore
folder, home = map(Path, sys.argv[1:])
rows = 0
for kind in ("job", "resume"):
    sources = {path.stem: SourceConfig(kind=kind, path=str(path)) for path in folder.glob(f"{kind}s*.jsonl")}
    made = build_snapshot(
        LocalStore(home), kind=kind, sources=sources, clean=CleanConfig(), run_id="r", fence=lambda: None,
        now=datetime.now(UTC),
    )
    rows += made.manifest.totals.rows_in
print(rows)
"""


def main() -> None:
    """Measure both figures and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="100 PDFs and one round")
    parser.add_argument("--corpora", type=Path, help="folder with jobs*.jsonl and resumes*.jsonl")
    parser.add_argument("--base", default=BASE, help="commit to compare with")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        figures = {
            **pdf_figures(scratch / "pdfs", num_files=100 if chosen.quick else 1000),
            **ingest_figures(scratch, chosen.corpora, base=chosen.base, rounds=1 if chosen.quick else ROUNDS),
        }
    cores = len(os.sched_getaffinity(0))
    print(json.dumps({**figures, "cores": cores, "machine": platform.machine(), "load": round(os.getloadavg()[0], 1)}))


def pdf_figures(folder: Path, *, num_files: int) -> dict[str, float]:
    """Seconds, and processor seconds of all processes, for reading PDFs."""
    folder.mkdir()
    printed = sorted(PRINTED.glob("*.pdf"))
    for number in range(num_files):
        shutil.copy(printed[number % len(printed)], folder / f"{number:04}.pdf")
    started, before = time.monotonic(), _cpu_seconds()
    rows = list(read_rows(SourceConfig(kind="resume", path=str(folder))))
    seconds, cpu_seconds = time.monotonic() - started, _cpu_seconds() - before
    if not all(isinstance(row, RawRow) for row in rows):
        raise SystemExit("not every PDF was read")
    return {"pdfs": len(rows), "pdf_seconds": round(seconds, 1), "pdf_cpu_seconds": round(cpu_seconds, 1)}


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def ingest_figures(scratch: Path, corpora: Path | None, *, base: str, rounds: int) -> dict[str, float]:
    """Processor seconds of an ingest of tables, by this checkout and by an earlier one."""
    if corpora is None:
        corpora = scratch / "sample"
        corpora.mkdir()
        for name, rows in (("jobs", read_sample_jobs()), ("resumes", read_sample_resumes())):
            lines = [
                json.dumps({**row, "id": f"{row['id']}-{number}"}) for row in rows for number in range(SAMPLE_REPEATS)
            ]
            (corpora / f"{name}.jsonl").write_text("\n".join(lines))
    former = scratch / "former"
    former.mkdir()
    archive = subprocess.run(["git", "archive", base], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(former)], input=archive, check=True)
    seconds: dict[Path, list[float]] = {ROOT: [], former: []}
    num_rows = 0
    for number in range(rounds):
        for tree, found in seconds.items():
            home = scratch / f"home-{number}-{tree.name}"
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(
                [sys.executable, "-c", INGEST, str(corpora.resolve()), str(home)],
                cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, check=True, capture_output=True, text=True,
            )  # fmt: skip
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            num_rows = int(done.stdout)
    now, then = min(seconds[ROOT]), min(seconds[former])
    return {
        "rows": num_rows,
        "ingest_cpu_seconds": round(now, 2),
        "base_cpu_seconds": round(then, 2),
        "ratio": round(now / then, 2),
    }


if __name__ == "__main__":
    main()
