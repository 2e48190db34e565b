"""Long texts in parts: where a text is cut so that every part fits an encoder, or is about one thing.

Does not belong here: tokens as a model reads them (``tokenizing``), and the mean over the parts (``encoder``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

SectionKind = Literal["summary", "skills", "experience", "education"]

_HEADINGS: dict[SectionKind, str] = {
    "summary": r"(?:(?:professional|career|executive) )?(?:summary|profile|overview)|(?:career )?objective"
    r"|about (?:me|you)|(?:job|role) (?:summary|purpose|overview)|about the (?:job|role)",
    "skills": r"(?:(?:core|key|technical|professional|other) )?(?:skills|competenc(?:ies|es))|skills (?:and|&) \w+"
    r"|highlights|(?:person|essential) (?:specification|criteria)|requirements|what you(?: will|'ll) need",
    "experience": r"(?:(?:work|professional|relevant|employment) )?(?:experience|history)|employment|career history"
    r"|(?:main |key )?(?:duties|responsibilities|tasks)(?: and responsibilities)?|what you(?: will|'ll) do",
    "education": r"education(?: (?:and|&) \w+)?|academic (?:background|qualifications)|(?:essential )?qualifications"
    r"|certifications?",
}
# A heading has a line of its own, or a colon behind it at the beginning of a line or sentence.
_HEADING = re.compile(
    rf"(?:^[ \t]*|(?<=[.!?;])[ \t]+)(?:{'|'.join(f'(?P<{kind}>{names})' for kind, names in _HEADINGS.items())})"
    r"[ \t]*(?::|$)",
    re.IGNORECASE | re.MULTILINE,
)


def split_sections(text: str) -> list[str]:
    """Split a resume or a posting at the headings that such documents have.

    Args:
        text: Any text.

    Returns:
        What stands before the first heading, then a section for each kind of heading (:data:`SectionKind`) in the order
        of their first mention, without the heading; sections of one kind are one. The text itself when it has none.
    """
    headings = list(_HEADING.finditer(text))
    if not headings:
        return [text]
    sections: dict[str, list[str]] = {"": [text[: headings[0].start()]]}
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    for heading, end in zip(headings, ends, strict=True):
        sections.setdefault(heading.lastgroup or "", []).append(text[heading.end() : end])
    joined = ("\n".join(part.strip() for part in parts).strip() for parts in sections.values())
    return [section for section in joined if section] or [text]


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
