"""Shards on all GPUs of this host: one process for each device, which keeps its encoder loaded. Never imports prefect.

A device that is lost takes its process with it. The shard that it was encoding was not written, and another device
encodes it.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from llm2vec_core.errors import DeviceError
from tasks.run.precision import settled
from tasks.run.settings import Settings
from tasks.workers.shards import ShardPlan, ShardReport, encode_planned

logger = logging.getLogger(__name__)

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_devices() -> list[str]:
    """Names of the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` takes them."""
    import torch

    listed = [name for name in os.environ.get(_VISIBLE, "").split(",") if name]
    return listed or [str(number) for number in range(torch.cuda.device_count())]


def encode_on_devices(
    settings: Settings,
    fingerprint: str,
    plans: Sequence[ShardPlan],
    devices: Sequence[str],
    *,
    on_progress: Callable[[int], None] | None = None,
    start: Callable[[str], Executor] | None = None,
) -> list[ShardReport]:
    """Encode planned shards, one process per device.

    Args:
        settings: Settings of the run.
        fingerprint: Checkpoint to encode with.
        plans: Documents of each shard.
        devices: Names of the devices.
        on_progress: Called with the number of documents of each shard that is done.
        start: Starts the process of a device (default: a process that sees only this device).

    Returns:
        Work of each shard, in the order of the plans.

    Raises:
        DeviceError: All devices were lost; finished shards stay.
        StoreError: A shard cannot be written; finished shards stay.
    """
    settings, waiting, lock = settled(settings), deque(range(len(plans))), threading.Lock()
    reports: dict[int, ShardReport] = {}
    stopped = threading.Event()

    def work(device: str) -> None:
        with (start or _start_process)(device) as process:
            while not stopped.is_set():
                with lock:
                    if not waiting:
                        return
                    number = waiting.popleft()
                try:
                    report = process.submit(encode_planned, settings, fingerprint, plans[number]).result()
                except (BrokenProcessPool, DeviceError) as loss:
                    logger.warning("device %s is lost (%s); another one encodes its shard", device, loss)
                    with lock:
                        waiting.appendleft(number)
                    return
                except BaseException:
                    stopped.set()
                    raise
                with lock:
                    reports[number] = report
                    if on_progress is not None:
                        on_progress(report.documents)

    for _ in range(2):  # a device may be lost after the others had nothing left to do
        if len(reports) < len(plans):
            with ThreadPoolExecutor(len(devices)) as threads:
                for done in as_completed([threads.submit(work, device) for device in devices]):
                    done.result()
    if len(reports) < len(plans):
        raise DeviceError(
            f"All devices ({', '.join(devices)}) were lost; {len(plans) - len(reports)} of {len(plans)} shards are not "
            "encoded.",
            hint="Run it again: finished shards stay. See the kernel's log (dmesg, Xid) for the cause.",
        )
    return [reports[number] for number in range(len(plans))]


def _start_process(device: str) -> Executor:
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, mp_context=spawn, initializer=_see_only, initargs=(device,))


def _see_only(device: str) -> None:
    """Make a process see one GPU, before it uses CUDA."""
    os.environ[_VISIBLE] = device
