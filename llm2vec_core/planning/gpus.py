"""The known GPUs, from ``gpus.toml``."""

from __future__ import annotations

import functools
import importlib.resources
import tomllib

from pydantic import Field

from llm2vec_core.errors import InputError
from llm2vec_core.model.modes import Precision
from llm2vec_core.planning.architecture import Frozen

_USABLE_SHARE = 0.9


class Gpu(Frozen):
    """Published memory and speed of a GPU; see ``gpus.toml`` for units."""

    memory_gb: float = Field(gt=0)
    half_tflops: float = Field(gt=0)
    fp32_tflops: float = Field(gt=0)
    native_bf16: bool = True
    source: str

    def flops_per_s(self, precision: Precision) -> float:
        """Peak of dense matrix products."""
        return 1e12 * (self.half_tflops if precision == "bf16" else self.fp32_tflops)

    @property
    def usable_bytes(self) -> float:
        """Memory that a plan may use: 90 %. The CUDA context and fragmentation need the rest."""
        return _USABLE_SHARE * 1e9 * self.memory_gb


@functools.cache
def known_gpus() -> dict[str, Gpu]:
    """GPUs by name."""
    table = tomllib.loads(importlib.resources.files("llm2vec_core.planning").joinpath("gpus.toml").read_text("utf-8"))
    return {name: Gpu.model_validate(entry) for name, entry in table.items()}


def find_gpu(name: str) -> tuple[str, Gpu]:
    """Name and figures of a GPU; case does not matter.

    Raises:
        InputError: The GPU is unknown.
    """
    for known, gpu in known_gpus().items():
        if known.lower() == name.lower():
            return known, gpu
    raise InputError(f"'{name}' is not a known GPU.", hint=f"Known GPUs: {', '.join(known_gpus())}.")
