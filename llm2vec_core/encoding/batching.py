"""Batches of texts of similar length: little padding, bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

LENGTH_MULTIPLE = 8
"""Padded lengths above :data:`EXACT_LENGTH` are multiples of this. Shapes that vary freely fragment the allocator's
memory."""

EXACT_LENGTH = 32
"""Up to this, a batch is padded to its longest text only. Of names of 6 tokens, a multiple of 8 pads a third."""

ENOUGH_TOKENS = 512
"""Padded tokens that keep two cores busy. A batch of this size takes no shorter text, which would need padding. For 120
titles of 4 to 40 tokens, this is more than twice as fast as two batches with a budget of 4,096."""


def padded_length(length: int) -> int:
    """Tokens of each row of a batch whose longest text has ``length`` tokens."""
    return length if length <= EXACT_LENGTH else -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE


def plan_batches(lengths: Sequence[int], *, batch_tokens: int, enough_tokens: int = ENOUGH_TOKENS) -> list[list[int]]:
    """Group texts of similar length so that no batch holds more than ``batch_tokens`` padded tokens.

    Args:
        lengths: Tokens of each text.
        batch_tokens: Maximum of rows times padded length; a longer text gets its own batch.
        enough_tokens: A batch of this many padded tokens takes no shorter text. A device that drops padding, or is not
            busy before a batch is full, takes ``batch_tokens``.

    Returns:
        Batches of indices into ``lengths``, longest texts first, so that running out of memory shows at once.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        if batches and _takes(
            len(batches[-1]), padded_length(lengths[batches[-1][0]]), lengths[index], batch_tokens, enough_tokens
        ):
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _takes(num_rows: int, padded: int, length: int, batch_tokens: int, enough_tokens: int) -> bool:
    """Whether a batch padded to ``padded`` tokens takes one more text that is not longer."""
    needs_more = num_rows * padded < enough_tokens or padded_length(length) == padded
    return needs_more and (num_rows + 1) * padded <= batch_tokens
