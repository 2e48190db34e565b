"""The run ledger: what every run did, kept under ``runs/<run_id>/summary.json``. Never imports prefect."""

from __future__ import annotations

import json
import resource
import sys

from data.store import Store


def keep_summary(store: Store, run_id: str, summary: dict[str, object]) -> None:
    """Keep what a run did; a run has one summary."""
    store.put_if_absent(f"runs/{run_id}/summary.json", (json.dumps(summary, indent=2, default=str) + "\n").encode())


def latest_summary(store: Store) -> dict[str, object] | None:
    """Summary of the newest run; run ids begin with the time."""
    keys = [key for key in store.list("runs") if key.endswith("/summary.json")]
    raw = store.read(max(keys)) if keys else None
    return None if raw is None else json.loads(raw)


def peak_rss_bytes() -> int:
    """Highest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
