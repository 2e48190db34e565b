"""Several processes on the shards of one night: each takes the plans that no other one took.

Plans, claims and reports lie under ``claims/<run_id>/`` in the store, which decides who was first. They stay until the
next night that shares its shards: whoever comes late finds every plan taken. Never imports prefect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pydantic import TypeAdapter

from data.store.base import Store
from tasks.workers.shards import ShardPlan, ShardReport

_CLAIMS = "claims"
_PLANS = TypeAdapter(list[ShardPlan])


def offer_plans(store: Store, run_id: str, plans: Sequence[ShardPlan]) -> None:
    """Let others encode the shards of a run, too; the caller holds the lease, so that no other run shares any now."""
    store.delete(_CLAIMS)
    store.put_if_absent(f"{_CLAIMS}/{run_id}/plans.json", _PLANS.dump_json(list(plans)))


def take_plans(store: Store, run_id: str, *, worker: str, fence: Callable[[], None]) -> Iterator[tuple[int, ShardPlan]]:
    """Plans of a run with their numbers, claimed one after another, until there is none that nobody took.

    Args:
        store: Where the claims are.
        run_id: Run that offered the plans; nothing comes of one that offered none.
        worker: Who takes them.
        fence: Called before each claim; raises when the run lost its lease.
    """
    raw = store.read(f"{_CLAIMS}/{run_id}/plans.json")
    for number, plan in enumerate(_PLANS.validate_json(raw or b"[]")):
        fence()
        if store.put_if_absent(f"{_CLAIMS}/{run_id}/{number:06d}.claim", worker.encode()):
            yield number, plan


def keep_report(store: Store, run_id: str, number: int, report: ShardReport) -> None:
    """Tell that the shard of a plan is written."""
    store.put_if_absent(f"{_CLAIMS}/{run_id}/{number:06d}.json", report.model_dump_json().encode())


def kept_reports(store: Store, run_id: str) -> dict[int, ShardReport]:
    """Reports of the shards that are written, by number of the plan."""
    keys = [
        key for key in store.list(f"{_CLAIMS}/{run_id}") if key.endswith(".json") and not key.endswith("plans.json")
    ]
    return {
        int(key.rsplit("/", 1)[1].removesuffix(".json")): ShardReport.model_validate_json(store.read(key) or b"")
        for key in keys
    }
