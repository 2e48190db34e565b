"""The precision that a model runs in: as asked for, otherwise by the device.

Does not belong here: memory (``memory``) and the precision of stored vectors (the encode keys of the pipeline).
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llm2vec_core.errors import DeviceError, InputError
from llm2vec_core.model.layered import weights_directory
from llm2vec_core.model.modes import Precision

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

LARGE_PARAMETERS = 1_000_000_000
"""A model with more parameters runs in fp32 only if fp32 is asked for: it takes twice the memory and much longer."""

_BF16_CAPABILITY = (8, 0)
"""CUDA compute capability from which tensor cores compute in bf16 and TF32 (Ampere)."""

_DRIVER_FILES = (Path("/proc/driver/nvidia/version"), Path("/dev/kfd"))
"""Files of a loaded GPU driver. Without one of them torch need not be imported to know that there is no CUDA device."""

_HIDDEN = ("", "-1")


def default_device() -> torch.device:
    """The best device of this process.

    Raises:
        DeviceError: There is a GPU driver that this build of torch cannot use.
    """
    import torch
    from sentence_transformers.util import get_device_name

    require_usable_driver()
    return torch.device(get_device_name())


def require_usable_driver() -> None:
    """Refuse a machine whose GPU driver is too old for torch; torch itself would silently use the CPU.

    Raises:
        DeviceError: As above. Hiding the GPUs (``CUDA_VISIBLE_DEVICES=""``) is not an error.
    """
    import torch

    driver = _DRIVER_FILES[0]
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in _HIDDEN
    if torch.version.cuda is None or is_hidden or not driver.is_file() or torch.cuda.is_available():
        return
    found = driver.read_text(errors="replace").splitlines()[0] if driver.stat().st_size else "unknown"
    raise DeviceError(
        f"This machine has an NVIDIA driver ({found}), but torch {torch.__version__} for CUDA {torch.version.cuda} "
        "finds no usable GPU; the driver is probably too old.",
        hint='Update the driver, or set CUDA_VISIBLE_DEVICES="" to use the CPU.',
    )


def device_precision(device: torch.device) -> Precision:
    """Precision that a device computes in best: bf16 on CUDA from compute capability 8, fp32 elsewhere."""
    import torch

    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= _BF16_CAPABILITY:
        return "bf16"
    return "fp32"


@functools.cache
def machine_precision() -> Precision:
    """:func:`device_precision` of this process's best device. Without a GPU driver, torch is not imported."""
    return device_precision(default_device()) if has_gpu_driver() else "fp32"


def has_gpu_driver() -> bool:
    """Whether a GPU driver is loaded. Does not import torch."""
    return any(path.exists() for path in _DRIVER_FILES)


def settle_precision(asked: Precision | None, device: torch.device, *, num_parameters: int, name: str) -> Precision:
    """The precision to load a model in; it is logged where the device decided.

    Args:
        asked: Precision that was asked for; None lets the device decide.
        device: Device of the model.
        num_parameters: Size of the model.
        name: Model's name, for messages.

    Raises:
        InputError: The device would run a model above :data:`LARGE_PARAMETERS` in fp32, which nobody asked for.
    """
    if asked is not None:
        return asked
    settled = device_precision(device)
    if settled == "fp32" and num_parameters > LARGE_PARAMETERS:
        raise InputError(
            f"{name} has {num_parameters / 1e9:.1f} billion parameters, and {device} would run it in fp32: twice the "
            "memory of bf16 and many times as slow as a GPU.",
            hint='Use a GPU of compute capability 8, or ask for the precision by name: precision="fp32" or "bf16" '
            "(encode.precision, and bf16 of a training stage).",
        )
    if device.type != "cpu":  # on a CPU there was nothing to decide
        logger.info("%s runs in %s on %s", name, settled, described_device(device))
    return settled


def stored_precision(trained_in: Sequence[Precision], num_parameters: int) -> Precision:
    """Precision of a finished checkpoint: bf16 for a large model of which every stage was trained in bf16."""
    is_large = num_parameters > LARGE_PARAMETERS
    return "bf16" if is_large and trained_in and set(trained_in) == {"bf16"} else "fp32"


@contextlib.contextmanager
def products_in(precision: Literal["tf32", "fp32"]) -> Iterator[None]:
    """Compute products of fp32 numbers in TF32, as beside bf16, or exactly, as where ranks must be those of a CPU."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def described_device(device: torch.device) -> str:
    """Name of a device for logs and records: ``cpu``, or the index with the name and capability of a GPU."""
    import torch

    if device.type != "cuda":
        return device.type
    major, minor = torch.cuda.get_device_capability(device)
    return f"{device} ({torch.cuda.get_device_name(device)}, compute capability {major}.{minor})"


def stored_parameters(directory: Path) -> int:
    """Number of parameters in the safetensors files of a directory and its folders, from their headers alone.

    Those of a transformer that is stored as layers are its base model's.
    """
    total = 0
    for path in weights_directory(directory).rglob("*.safetensors"):
        with path.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in header.items():
            if name == "__metadata__":
                continue
            size = 1
            for length in tensor["shape"]:
                size *= length
            total += size
    return total
