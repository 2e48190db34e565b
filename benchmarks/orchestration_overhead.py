"""What Prefect adds to the embedding of a night: the same tasks as plain functions, and as a flow.

The bundled sample is cut into about 200 shards, far more and smaller ones than a night has, and embedded in full with
the untrained SmolLM2-135M at the tiny profile's 48 tokens: planning, encoding, tables, gate and pointer. Both sides are
run in turns in one process; the model is loaded and the embedded Prefect server is up before the clock starts. The last
line of stdout is one JSON object.

    python -m benchmarks.orchestration_overhead [--quick]
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tasks.settings import Settings

SHARDS = 200
QUICK_SHARDS = 40


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
        }
        print(json.dumps(measure(Path(folder), shards=QUICK_SHARDS if quick else SHARDS, rounds=1 if quick else 3)))


def measure(folder: Path, *, shards: int, rounds: int) -> dict[str, object]:
    """Seconds of both sides, and what the flow adds."""
    from flows.embed import embed
    from flows.ingest import ingest
    from flows.request import RunRequest
    from tasks.checkpoints import build_untrained
    from tasks.embed import latest_snapshots, plan_shards

    request = RunRequest(profile="tiny", overrides={"home": str(folder / "home")})
    ingest(request)
    settings = request.settings()
    fingerprint = build_untrained(settings, settings.train.base_model).fingerprint
    contents = [len(plan.rows) for plan in plan_shards.fn(settings, fingerprint, latest_snapshots(settings.store()))]
    size = max(1, sum(contents) // shards)
    num_shards = sum(math.ceil(count / size) for count in contents)
    request = request.model_copy(update={"overrides": {**request.overrides, "encode.shard_size": size}})
    plain_seconds: list[float] = []
    flow_seconds: list[float] = []
    embed(fingerprint, request, full=True)  # loads the model, starts the server
    for _ in range(rounds):
        plain_seconds.append(_seconds(lambda: plain_embed(request.settings(), fingerprint)))
        flow_seconds.append(_seconds(lambda: embed(fingerprint, request, full=True)))
    plain_s, flow_s = statistics.median(plain_seconds), statistics.median(flow_seconds)
    return {
        "overhead": flow_s / plain_s - 1,
        "plain_seconds": plain_seconds,
        "flow_seconds": flow_seconds,
        "shards": num_shards,
        "documents": sum(contents),
        "overhead_seconds_per_shard": (flow_s - plain_s) / num_shards,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def plain_embed(settings: Settings, fingerprint: str) -> None:
    """What the flow ``embed`` does, without Prefect."""
    from data.lease import hold_lease
    from tasks.embed import build_indexes, encode_shard, latest_snapshots, plan_shards, promote_tables, update_table
    from tasks.writing import new_run_id

    store = settings.store()
    run_id = new_run_id()
    with hold_lease(store, owner=run_id):
        snapshots = latest_snapshots(store)
        for plan in plan_shards.fn(settings, fingerprint, snapshots, full=True):
            encode_shard.fn(settings, fingerprint, plan)
        tables = [
            update_table.fn(settings, fingerprint, kind, snapshot, run_id=run_id, rewrite=True)
            for kind, snapshot in snapshots.items()
        ]
        tables = [build_indexes.fn(settings, fingerprint, table, run_id=run_id) for table in tables]
        promote_tables.fn(settings, fingerprint, snapshots, tables, run_id=run_id)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
