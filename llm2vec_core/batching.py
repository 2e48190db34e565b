"""Batches of nearly equal length under a token budget: little padding, bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

LENGTH_MULTIPLE = 8
"""Padded lengths are multiples of this: freely varying shapes fragment the allocator's memory."""


def padded_length(length: int) -> int:
    """``length`` rounded up to a multiple of :data:`LENGTH_MULTIPLE`."""
    return -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE


def plan_batches(lengths: Sequence[int], *, token_budget: int) -> list[list[int]]:
    """Group texts of similar length so that no batch holds more than ``token_budget`` padded tokens.

    Args:
        lengths: Tokens of each text.
        token_budget: Rows times padded length of a batch, at most; a longer text gets a batch of its own.

    Returns:
        Batches of indices into ``lengths``, longest texts first, so that a lack of memory shows at once.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        # The first text of a batch is its longest, so it sets the padded length of all.
        if batches and (len(batches[-1]) + 1) * padded_length(lengths[batches[-1][0]]) <= token_budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
