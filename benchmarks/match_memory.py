"""Memory of matching two large tables: all products, the BM25 weights of both sides, and the first parts of rankings.

``anonymous_gb`` is the peak of memory that is not a mapped file, after each step; ``resident_gb`` also counts pages of
mapped files, which the kernel takes back when it needs them. Documents are synthetic, of 250 words. Rankings of all
documents would take hours, and each part frees its memory, so only ``--parts`` of each direction are ranked.

    python -m benchmarks.match_memory [--rows 200000] [--parts 2] [--part-rows 256]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.bulk_match import document_rows, unit_vectors
from data.schema import DocumentKind
from data.store.base import LocalStore
from data.vectors.lance import create_table

KINDS: tuple[DocumentKind, ...] = ("job", "resume")
_BATCH = 5_000


def make_tables(folder: Path, rows: int) -> dict[DocumentKind, int]:
    """Write both tables, and return their versions."""
    vocabulary = np.array([f"w{number}" for number in range(200_000)])
    versions: dict[DocumentKind, int] = {}
    for seed, kind in enumerate(KINDS):
        rng = np.random.default_rng(seed)

        def batches(kind: DocumentKind = kind, rng: np.random.Generator = rng) -> Iterator[pa.Table]:
            for start in range(0, rows, _BATCH):
                count = min(_BATCH, rows - start)
                ranks = np.minimum(rng.zipf(1.3, size=(count, 250)) - 1, len(vocabulary) - 1)
                words = [" ".join(vocabulary[row]) for row in ranks]
                for table in document_rows(kind, words, unit_vectors(count, seed=start + 7)):
                    ids = pa.array([f"{start + number:032x}" for number in range(count)])
                    yield table.set_column(table.schema.get_field_index("doc_id"), table.schema.field("doc_id"), ids)

        table = create_table(LocalStore(folder), generation="g", kind=kind, embedding_dim=384)
        table.upsert(batches())
        versions[kind] = table.version
    return versions


class Watched:
    """Peaks of this process's memory, by a thread that reads them ten times a second."""

    def __init__(self) -> None:
        """Start to watch."""
        self.anonymous = self.resident = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Rss")}
            self.anonymous = max(self.anonymous, sizes["RssAnon"])
            self.resident = max(self.resident, sum(sizes.values()))
            time.sleep(0.1)


def measure(folder: Path, versions: dict[DocumentKind, int], arguments: argparse.Namespace) -> dict[str, object]:
    """Match, and report the peaks after each step."""
    from datetime import UTC, datetime

    from data.outputs.matches import DIRECTIONS
    from data.vectors.pointer import Pointer
    from tasks.run.settings import MatchSettings
    from tasks.stages import match_blocks

    match_blocks.BLOCK_ROWS = arguments.part_rows
    watched, steps, started = Watched(), {}, time.monotonic()

    def step(name: str) -> None:
        time.sleep(0.2)
        steps[name] = {
            "anonymous_gb": round(watched.anonymous / 1e9, 2),
            "resident_gb": round(watched.resident / 1e9, 2),
            "seconds": round(time.monotonic() - started),
        }
        print(name, steps[name], flush=True)

    pointer = Pointer(
        sequence=1,
        generation="g",
        checkpoint="given",
        jobs=versions["job"],
        resumes=versions["resume"],
        snapshots={},
        fencing_epoch=1,
        run_id="benchmark",
        promoted_at=datetime.now(UTC),
    )
    step("imports")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        sides = match_blocks.read_sides(LocalStore(folder), pointer, Path(scratch))
        step("tables read")
        parts = match_blocks.plan_parts(
            sides, MatchSettings(), checkpoint="given", run_id="benchmark", advance=lambda count: None
        )
        for part in parts:
            if not part.number:
                step("products" if part.direction == DIRECTIONS[0] else "rankings of one direction")
            if part.number < arguments.parts:
                part.build()
        step("rankings of both directions")
    return {"rows": arguments.rows, "part_rows": arguments.part_rows, "steps": steps}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="documents of each side")
    parser.add_argument("--parts", type=int, default=2, help="parts of each direction to rank")
    parser.add_argument("--part-rows", type=int, default=256, help="documents of a part")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            versions = pool.apply(make_tables, (Path(name), arguments.rows))
        print(json.dumps(measure(Path(name), versions, arguments)))


if __name__ == "__main__":
    main()
