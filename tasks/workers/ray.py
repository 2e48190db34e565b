"""Shards and matches on a Ray cluster: one Ray task per shard or unit, in processes that keep what they loaded.

One task of the night starts Ray, or joins the cluster at ``RAY_ADDRESS``. Every node must reach the store: a bucket,
or a shared directory. Never imports prefect.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from data.errors import InputError
from tasks.run.precision import settled
from tasks.run.settings import Settings
from tasks.workers.matching import MatchUnit, MatchWork
from tasks.workers.shards import ShardPlan, ShardReport, encode_planned

Result = TypeVar("Result")


def encode_on_ray(
    settings: Settings,
    fingerprint: str,
    plans: Sequence[ShardPlan],
    *,
    on_progress: Callable[[int], None] | None = None,
) -> list[ShardReport]:
    """Encode planned shards on a Ray cluster, or in processes of this machine if there is none.

    Args:
        settings: Settings of the run.
        fingerprint: Checkpoint to encode with.
        plans: Documents of each shard.
        on_progress: Called with the number of documents of each shard that is done.

    Returns:
        Work of each shard, in the order of the plans.

    Raises:
        InputError: Ray is not installed.
        StoreError: A shard cannot be written; finished shards stay.
    """
    settings = settled(settings)
    reports: dict[int, ShardReport] = {}
    shards = [(settings, fingerprint, plan) for plan in plans]
    for number, report in _on_ray(encode_planned, shards, num_gpus=settings.encode.ray_gpus, doing="encode"):
        reports[number] = report
        if on_progress is not None:
            on_progress(report.documents)
    return [reports[number] for number in range(len(plans))]


def match_on_ray(
    function: Callable[[MatchWork, MatchUnit], int], work: MatchWork, units: Sequence[MatchUnit]
) -> Iterator[int]:
    """Run units of a match on a Ray cluster, or in processes of this machine if there is none.

    Args:
        function: Does one unit.
        work: The match.
        units: Its units, which do not depend on each other.

    Yields:
        What the function returned, in the order in which units are done.

    Raises:
        InputError: Ray is not installed.
    """
    for _, finished in _on_ray(function, [(work, unit) for unit in units], num_gpus=0, doing="match"):
        yield finished


def _on_ray(
    function: Callable[..., Result], calls: Sequence[tuple[object, ...]], *, num_gpus: float, doing: str
) -> Iterator[tuple[int, Result]]:
    """Call a function on a cluster, and yield the number and the result of each call that is done.

    A call whose process was killed is repeated by Ray.
    """
    if importlib.util.find_spec("ray") is None:
        raise InputError(
            "Ray is not installed.", hint=f"Install the dependency group `scale`, or {doing} with --engine local."
        )
    if not calls:
        return
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would send usage data to Ray's vendor
    import ray

    ray.init(include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    remote = ray.remote(num_gpus=num_gpus)(function)
    waiting = {remote.remote(*arguments): number for number, arguments in enumerate(calls)}
    try:
        while waiting:
            (done, *_), _ = ray.wait(list(waiting), num_returns=1)
            yield waiting.pop(done), ray.get(done)
    finally:
        ray.shutdown()
