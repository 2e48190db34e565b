"""Overhead of Prefect in the embedding of a night: the same tasks as plain functions, and as a flow.

The beginning of the bundled sample is cut into 200 shards of two documents, far more and smaller ones than a night has,
and embedded in full with the untrained SmolLM2-135M at the tiny profile's 48 tokens: planning, encoding, tables, gate
and pointer. Both sides are run in turns in one process; the model is loaded and the embedded Prefect server is up
before the clock starts. On a busy machine, compare seconds of the processors (``cpu_overhead``, with the server's), not
of the clock (``overhead``). The last line of stdout is one JSON object.

    python -m benchmarks.orchestration_overhead [--quick]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from benchmarks.common import machine
from data.sample.read import read_sample_jobs, read_sample_resumes
from tasks.run.settings import Settings

SHARDS = 200
QUICK_SHARDS = 40
SHARD_SIZE = 2


def main() -> None:
    """Measure both sides in turns and print the share that Prefect adds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SHARDS} shards instead of {SHARDS}, one round")
    quick: bool = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "PREFECT_HOME": str(Path(folder) / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "TQDM_DISABLE": "1",
        }
        print(json.dumps(measure(Path(folder), shards=QUICK_SHARDS if quick else SHARDS, rounds=1 if quick else 3)))


def measure(folder: Path, *, shards: int, rounds: int) -> dict[str, object]:
    """Seconds of both sides, and the overhead of the flow."""
    from data.store.lease import hold_lease
    from flows.embed import embed
    from flows.ingest import ingest
    from flows.request import RunRequest
    from tasks.encoders.checkpoints import build_untrained
    from tasks.run.context import Run, new_run_id
    from tasks.stages.embed import latest_snapshots, plan_shards

    overrides = {
        "train.base_model": str(machine.base_model_dir()),
        "home": str(folder / "home"),
        "encode.shard_size": SHARD_SIZE,
        "sources.sample-jobs.path": write_documents(
            folder / "jobs.jsonl", read_sample_jobs(), shards * SHARD_SIZE // 2
        ),
        "sources.sample-resumes.path": write_documents(
            folder / "resumes.jsonl", read_sample_resumes(), shards * SHARD_SIZE // 2
        ),
    }
    request = RunRequest(profile="tiny", overrides=overrides)
    ingest(request)
    settings = request.settings()
    store = settings.store()
    fingerprint = build_untrained(store, settings, settings.train.base_model).fingerprint
    with hold_lease(store, owner=new_run_id()) as lease:
        planned = plan_shards.fn(Run(lease.owner, settings, store, lease), fingerprint, latest_snapshots(store))
    embed(fingerprint, request, full=True)  # loads the model, starts the server
    sides = {
        "plain": lambda: plain_embed(settings, fingerprint),
        "flow": lambda: embed(fingerprint, request, full=True),
    }
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    cpu_seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, work in sides.items():
            started, cpu_started = time.perf_counter(), _cpu_seconds()
            work()
            seconds[side].append(time.perf_counter() - started)
            cpu_seconds[side].append(_cpu_seconds() - cpu_started)
    return {
        "overhead": _overhead(seconds),
        "cpu_overhead": _overhead(cpu_seconds),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "shards": len(planned),
        "documents": sum(len(plan.rows) for plan in planned),
        "machine": machine.describe(),
    }


def _overhead(seconds: Mapping[str, list[float]]) -> float:
    """Overhead of the flow as a share of the plain side; the median over the rounds."""
    return statistics.median(flow / plain - 1 for plain, flow in zip(seconds["plain"], seconds["flow"], strict=True))


def _cpu_seconds() -> float:
    """CPU seconds of this process and its children, including Prefect's server."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def write_documents(path: Path, rows: Iterable[Mapping[str, object]], count: int) -> str:
    """Write the first documents of the sample as a source, and return its path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in itertools.islice(rows, count)))
    return str(path)


def plain_embed(settings: Settings, fingerprint: str) -> None:
    """The steps of the flow ``embed``, without Prefect."""
    from data.store.lease import hold_lease
    from tasks.run.context import Run, new_run_id
    from tasks.stages.embed import (
        build_indexes,
        encode_shards,
        latest_snapshots,
        plan_shards,
        promote_tables,
        update_table,
    )

    store = settings.store()
    with hold_lease(store, owner=new_run_id()) as lease:
        run = Run(lease.owner, settings, store, lease)
        snapshots = latest_snapshots(store)
        encode_shards.fn(run, fingerprint, plan_shards.fn(run, fingerprint, snapshots, full=True))
        tables = [
            update_table.fn(run, fingerprint, kind, snapshot, rewrite=True) for kind, snapshot in snapshots.items()
        ]
        tables = [build_indexes.fn(run, fingerprint, table) for table in tables]
        promote_tables.fn(run, fingerprint, snapshots, tables)


if __name__ == "__main__":
    main()
