"""Measure the machine's peak in matrix products, as a reference for the speed of encoding and training."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from llm2vec_core.model.modes import Precision

if TYPE_CHECKING:
    import torch

_WIDTH = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the matrices, large enough to make the start of a product negligible."""


def device_name() -> str:
    """Device of this process: ``cuda``, or for example ``cpu-16``, with the number of threads."""
    import torch

    return "cuda" if torch.cuda.is_available() else f"cpu-{torch.get_num_threads()}"


def measure_peak_flops(precision: Precision = "fp32", *, duration_s: float = 0.5) -> float:
    """Highest FLOP/s of a square matrix product on this process's device and threads.

    Args:
        precision: Type of the matrices.
        duration_s: How long to measure. The fastest product is used, because other processes can only slow it down.
    """
    import torch

    device = device_name().split("-")[0]
    width = _WIDTH[device]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left = torch.ones(width, width, dtype=dtype, device=device)
    out = torch.empty_like(left)
    _seconds_of_product(left, out)  # the first call chooses a kernel
    best = float("inf")
    until = time.perf_counter() + duration_s
    while time.perf_counter() < until:
        best = min(best, _seconds_of_product(left, out))
    return 2 * width**3 / best


def _seconds_of_product(left: torch.Tensor, out: torch.Tensor) -> float:
    import torch

    started = time.perf_counter()
    torch.mm(left, left, out=out)
    if left.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
