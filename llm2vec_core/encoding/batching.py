"""Batches of nearly equal length under a token budget: little padding, bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

LENGTH_MULTIPLE = 8
"""Padded lengths are multiples of this: freely varying shapes fragment the allocator's memory."""

ENOUGH_TOKENS = 512
"""Padded tokens that keep two cores busy: a batch that has them takes no text that it would have to pad further. With
120 titles of 4 to 40 tokens, which a budget of 4,096 puts into two batches, that is more than twice as fast."""


def padded_length(length: int) -> int:
    """``length`` rounded up to a multiple of :data:`LENGTH_MULTIPLE`."""
    return -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE


def plan_batches(lengths: Sequence[int], *, batch_tokens: int) -> list[list[int]]:
    """Group texts of similar length so that no batch holds more than ``batch_tokens`` padded tokens.

    Args:
        lengths: Tokens of each text.
        batch_tokens: Rows times padded length of a batch, at most; a longer text gets a batch of its own.

    Returns:
        Batches of indices into ``lengths``, longest texts first, so that a lack of memory shows at once.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if batches and _takes(len(batches[-1]), padded_length(lengths[batches[-1][0]]), lengths[index], batch_tokens):
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _takes(num_rows: int, padded: int, length: int, batch_tokens: int) -> bool:
    """Whether a batch of some rows of one padded length, that of its first text, takes a text that is no longer."""
    needs_more = num_rows * padded < ENOUGH_TOKENS or padded_length(length) == padded
    return needs_more and (num_rows + 1) * padded <= batch_tokens
