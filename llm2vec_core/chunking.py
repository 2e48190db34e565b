"""Long texts in parts: where a text is cut so that every part fits an encoder.

Does not belong here: tokens as a model reads them (``tokenizing``), and the mean over the parts (``encoder``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise


def part_borders(text: str, token_spans: Sequence[tuple[int, int]], *, max_tokens: int) -> Iterator[tuple[int, int]]:
    """Cut a text into parts of at most ``max_tokens`` tokens, between words where that loses less than half a part.

    Args:
        text: Any text.
        token_spans: For each of its tokens the first character it covers and the one behind its last, in order.
        max_tokens: Tokens of a part.

    Yields:
        First character of each part and the one behind its last; together they are the text.
    """
    starts = [0]
    first = 0
    while first + max_tokens < len(token_spans):
        cut = first + max_tokens
        spaced = (
            index
            for index in range(cut, first + max_tokens // 2, -1)
            if text[token_spans[index][0]].isspace() or text[token_spans[index][0] - 1].isspace()
        )
        first = next(spaced, cut)
        starts.append(token_spans[first][0])
    yield from pairwise([*starts, len(text)])
