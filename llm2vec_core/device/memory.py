"""Memory of a device: how many tokens fit into a batch, and errors that say what to set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llm2vec_core.errors import DeviceError, DeviceMemoryError

if TYPE_CHECKING:
    import torch

CPU_TOKENS = 4096
"""Padded tokens of a batch on a CPU: they keep two cores busy at under 1 GB for a model of 135M parameters."""

MOST_TOKENS = 65_536
"""Tokens of the largest batch on a GPU; a larger one is no faster."""

_FREE_SHARE = 0.5
"""Share of the free memory that a batch may use: attention, fragmentation and other processes need the rest."""


def batch_tokens_for(config: Any, device: torch.device, *, itemsize: int) -> int:  # noqa: ANN401 - PretrainedConfig
    """Padded tokens of a batch that the free memory of a device holds, a power of two.

    Args:
        config: Configuration of the transformer.
        device: Device on which its weights already are.
        itemsize: Bytes of a number in the model's precision.
    """
    import torch

    if device.type != "cuda":
        return CPU_TOKENS
    free, _ = torch.cuda.mem_get_info(device)
    return tokens_that_fit(config, free, itemsize=itemsize)


def tokens_that_fit(config: Any, free_bytes: int, *, itemsize: int) -> int:  # noqa: ANN401
    """Tokens whose activations fit into some bytes, a power of two from 512 to :data:`MOST_TOKENS`.

    A token needs the inner tensors of an MLP, the residual stream, and its final state in fp32.
    """
    hidden = int(config.hidden_size)
    inner = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    per_token = itemsize * 3 * (inner + hidden) + 2 * 4 * hidden
    fitting = max(1, int(_FREE_SHARE * free_bytes / per_token))
    return int(min(MOST_TOKENS, max(512, 1 << (fitting.bit_length() - 1))))


@contextlib.contextmanager
def device_errors(doing: str, *, hint: str) -> Iterator[None]:
    """Turn errors of a device into errors that say what to do.

    Args:
        doing: What was tried, for the message, such as ``encode a batch of 1 text``.
        hint: Settings that need less memory.

    Raises:
        DeviceMemoryError: The memory is full.
        DeviceError: The device was lost, such as by a crash of its driver. The process cannot use it again.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"The device has not enough memory to {doing}: {_first_line(error)}", hint=hint
        ) from error
    except torch.AcceleratorError as error:
        raise DeviceError(
            f"The device failed while trying to {doing}: {_first_line(error)}",
            hint="Run it again: what was written stays. If it fails again, see the kernel's log (dmesg, Xid).",
        ) from error


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
