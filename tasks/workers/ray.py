"""Shards on a Ray cluster: one Ray task per shard, in processes that keep their encoder loaded.

One task of the night starts Ray, or joins the cluster at ``RAY_ADDRESS``. Every node must reach the store: a bucket,
or a shared directory. Never imports prefect.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence

from data.errors import InputError
from tasks.run.precision import settled
from tasks.run.settings import Settings
from tasks.workers.shards import ShardPlan, ShardReport, encode_planned


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
    if importlib.util.find_spec("ray") is None:
        raise InputError(
            "Ray is not installed.", hint="Install the dependency group `scale`, or encode with --engine local."
        )
    if not plans:
        return []
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would send usage data to Ray's vendor
    import ray

    ray.init(include_dashboard=False, log_to_driver=False, ignore_reinit_error=True)
    encode = settings.encode
    shard_function = ray.remote(num_gpus=encode.ray_gpus)(encode_planned)
    settings = settled(settings)
    waiting = {shard_function.remote(settings, fingerprint, plan): number for number, plan in enumerate(plans)}
    reports: dict[int, ShardReport] = {}
    try:
        while waiting:
            (done, *_), _ = ray.wait(list(waiting), num_returns=1)
            number = waiting.pop(done)
            reports[number] = ray.get(done)
            if on_progress is not None:
                on_progress(reports[number].documents)
    finally:
        ray.shutdown()
    return [reports[number] for number in range(len(plans))]
