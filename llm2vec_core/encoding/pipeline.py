"""Encoding keeps a device busy: tokens and padding are made ahead of it, and vectors are fetched behind it.

Does not belong here: the forward pass (``forward``), tokens (``tokenizing``) and the choice of batches (``batching``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from llm2vec_core.device.memory import device_errors
from llm2vec_core.encoding.tokenizing import TextTokenizer, TokenizedTexts

MEMORY_HINT = "Lower encode.token_budget (batch_tokens), or train.max_tokens for single long texts."


@dataclass(frozen=True)
class InFlight:
    """Vectors of a batch on their way from the device.

    Attributes:
        rows: Number of each text.
        vectors: One tensor in host memory for each pass.
        arrived: Event of the device after the copies; None on a CPU.
    """

    rows: list[int]
    vectors: list[torch.Tensor]
    arrived: torch.cuda.Event | None

    @classmethod
    def start(cls, rows: list[int], vectors: list[torch.Tensor]) -> InFlight:
        """Start to copy vectors to the host, without waiting."""
        if not vectors[0].is_cuda:
            return cls(rows, [found.cpu() for found in vectors], None)
        copies = [torch.empty(found.shape, pin_memory=True).copy_(found, non_blocking=True) for found in vectors]
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        return cls(rows, copies, arrived)

    def wait(self) -> None:
        """Wait until the vectors are there."""
        if self.arrived is not None:
            with device_errors("encode a batch", hint=MEMORY_HINT):
                self.arrived.synchronize()


def tokenized_ahead(
    ahead: ThreadPoolExecutor,
    tokenizer: TextTokenizer,
    texts: Sequence[str],
    *,
    window: int,
    prompt: str,
    pool_prompt: bool,
) -> Iterator[tuple[list[int], TokenizedTexts]]:
    """Tokenize texts window by window in a thread, one window ahead of the device.

    The longest texts come first, so that a batch that does not fit shows at once. A single window keeps their order.

    Yields:
        Numbers of the texts of a window, and their tokens.
    """
    if len(texts) <= window:
        yield list(range(len(texts))), tokenizer.texts(texts, prompt=prompt, pool_prompt=pool_prompt)
        return
    order = sorted(range(len(texts)), key=lambda number: (-len(texts[number]), number))
    windows = [order[start : start + window] for start in range(0, len(order), window)]

    def start(numbers: list[int]) -> Future[TokenizedTexts]:
        return ahead.submit(
            tokenizer.texts, [texts[number] for number in numbers], prompt=prompt, pool_prompt=pool_prompt
        )

    upcoming = start(windows[0])
    for numbers, following in zip(windows, [*windows[1:], None], strict=True):
        tokenized = upcoming.result()
        if following is not None:
            upcoming = start(following)
        yield numbers, tokenized


def padded_ahead(
    ahead: ThreadPoolExecutor | None,
    pad: Callable[[list[list[int]]], dict[str, Any]],
    token_ids: Sequence[list[int]],
    batches: Sequence[list[int]],
) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """Pad batches, one batch ahead.

    Args:
        ahead: Threads that pad; None to pad when a batch is needed.
        pad: Pads the tokens of a batch.
        token_ids: Tokens of each text.
        batches: Numbers of the texts of each batch.
    """

    def padded(batch: list[int]) -> dict[str, Any]:
        return pad([token_ids[index] for index in batch])

    if ahead is None:
        yield from ((batch, padded(batch)) for batch in batches)
        return
    upcoming = deque(ahead.submit(padded, batch) for batch in batches[:1])
    for number, batch in enumerate(batches):
        ready = upcoming.popleft().result()
        upcoming.extend(ahead.submit(padded, following) for following in batches[number + 1 : number + 2])
        yield batch, ready
