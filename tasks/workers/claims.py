"""Share the shards of one night among processes: each plan is claimed by one process.

Plans, claims and reports are under ``claims/<run_id>/`` in the store, whose atomic writes decide who was first. They
stay until the next night that shares its shards, so a late process finds every plan taken. Never imports prefect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import TypeAdapter

from tasks.run.context import Run
from tasks.workers.shards import ShardPlan, ShardReport

_CLAIMS = "claims"
_PLANS = TypeAdapter(list[ShardPlan])


def offer_plans(run: Run, plans: Sequence[ShardPlan]) -> None:
    """Offer shards to other workers. The caller holds the lease, so no other run offers shards now."""
    run.store.delete(_CLAIMS)
    run.store.put_if_absent(f"{_CLAIMS}/{run.id}/plans.json", _PLANS.dump_json(list(plans)))


def take_plans(run: Run, *, worker: str) -> Iterator[tuple[int, ShardPlan]]:
    """Claim plans of a run one after another, until every plan is taken; yields number and plan.

    Args:
        run: Run that offered the plans. Nothing is yielded if it offered none.
        worker: Name of the process that takes them.

    Raises:
        FencedError: The run lost its lease.
    """
    raw = run.store.read(f"{_CLAIMS}/{run.id}/plans.json")
    for number, plan in enumerate(_PLANS.validate_json(raw or b"[]")):
        run.lease.check()
        if run.store.put_if_absent(f"{_CLAIMS}/{run.id}/{number:06d}.claim", worker.encode()):
            yield number, plan


def keep_shard_report(run: Run, number: int, report: ShardReport) -> None:
    """Record that the shard of a plan is written."""
    run.store.put_if_absent(f"{_CLAIMS}/{run.id}/{number:06d}.json", report.model_dump_json().encode())


def kept_reports(run: Run) -> dict[int, ShardReport]:
    """Reports of the shards that are written, by number of the plan."""
    keys = [
        key for key in run.store.list(f"{_CLAIMS}/{run.id}") if key.endswith(".json") and not key.endswith("plans.json")
    ]
    return {
        int(key.rsplit("/", 1)[1].removesuffix(".json")): ShardReport.model_validate_json(run.store.read(key) or b"")
        for key in keys
    }
