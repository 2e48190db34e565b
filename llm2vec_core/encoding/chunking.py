"""Cut long texts into pieces, and combine the vectors of the pieces.

A piece either fits an encoder (a part) or is about one thing (a section).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from llm2vec_core.encoding.result import Encoding, scaled
from llm2vec_core.model.modes import LongTexts

_ANY_HEADING = re.compile(
    r"^[ \t]*#{1,6}[ \t]+\S.*$"  # Markdown
    r"|^[ \t]*[A-ZÀ-ÖØ-Þ][A-ZÀ-ÖØ-Þ &,/'-]{3,59}:?[ \t]*$",  # a line in upper case
    re.MULTILINE,
)


def heading_pattern(headings: Mapping[str, str] | None) -> re.Pattern[str]:
    """Build one pattern for all headings of a kind of document.

    Args:
        headings: By kind of section, a regular expression for the names of its heading, such as
            ``{"skills": "(?:key )?skills"}``. A heading stands alone on a line, or starts a line or sentence and ends
            with a colon; case is ignored. Default: Markdown headings and lines in upper case.
    """
    if headings is None:
        return _ANY_HEADING
    names = "|".join(f"(?P<{kind}>{pattern})" for kind, pattern in headings.items())
    return re.compile(rf"(?:^[ \t]*|(?<=[.!?;])[ \t]+)(?:{names})[ \t]*(?::|$)", re.IGNORECASE | re.MULTILINE)


def split_sections(text: str, headings: re.Pattern[str] = _ANY_HEADING) -> list[str]:
    """Split a text at its headings.

    Args:
        text: Any text.
        headings: Pattern from :func:`heading_pattern`.

    Returns:
        The text before the first heading, then one section per kind of heading, without the headings and in the order
        of their first occurrence. Sections of one kind are joined; if headings have no kinds, sections of one heading
        are. A text without headings is one section.
    """
    found = list(headings.finditer(text))
    if not found:
        return [text]
    sections: dict[str, list[str]] = {"": [text[: found[0].start()]]}
    ends = [heading.start() for heading in found[1:]] + [len(text)]
    for heading, end in zip(found, ends, strict=True):
        sections.setdefault(heading.lastgroup or heading[0].strip(" \t#:"), []).append(text[heading.end() : end])
    joined = ("\n".join(part.strip() for part in parts).strip() for parts in sections.values())
    return [section for section in joined if section] or [text]


def part_borders(text: str, token_spans: Sequence[tuple[int, int]], *, max_tokens: int) -> Iterator[tuple[int, int]]:
    """Cut a text into parts of at most ``max_tokens`` tokens; between words if the part stays at least half full.

    Args:
        text: Any text.
        token_spans: For each token, in order, its character span (start, end), end exclusive.
        max_tokens: Maximum number of tokens in a part.

    Yields:
        Character span of each part, end exclusive. The parts cover the whole text.
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


def encode_pieces(
    texts: Sequence[str],
    *,
    split: Callable[[str], list[str]],
    weigh: Callable[[str], int],
    encode: Callable[[list[str]], Encoding],
) -> Encoding:
    """Encode texts piece by piece: a text's vector is the weighted mean of its pieces' vectors.

    Args:
        texts: Any number of texts, in any order; equal texts are encoded once.
        split: Splits a text into one or more pieces.
        weigh: Returns the weight of a piece, above zero.
        encode: Encodes all pieces.

    Returns:
        Vectors of the texts, with token counts of their pieces. The vector of a single piece is unchanged.
    """
    pieces = {text: split(text) for text in dict.fromkeys(texts)}
    encoding = encode([piece for listed in pieces.values() for piece in listed])
    borders = dict(zip(pieces, pairwise(np.cumsum([0, *map(len, pieces.values())])), strict=True))
    means = {
        text: np.average(encoding.vectors[slice(*borders[text])], axis=0, weights=[weigh(piece) for piece in listed])
        if len(listed) > 1
        else encoding.vectors[borders[text][0]]
        for text, listed in pieces.items()
    }
    vectors = np.array([means[text] for text in texts], dtype=np.float32)
    read, cut = (
        None if counts is None else np.array([counts[slice(*borders[text])].sum() for text in texts], dtype=np.int32)
        for counts in (encoding.read_tokens, encoding.cut_tokens)
    )
    return replace(
        encoding,
        vectors=vectors.reshape(len(texts), encoding.vectors.shape[1]),
        read_tokens=read,
        cut_tokens=cut,
    )


def read_long_texts(
    texts: Sequence[str],
    long_texts: LongTexts,
    *,
    cut: Callable[[Sequence[str]], Encoding],
    split: Callable[[str], list[str]],
    headings: re.Pattern[str],
) -> Encoding:
    """Encode texts that may be longer than an encoder reads at once.

    Args:
        texts: Any number of texts.
        long_texts: ``cut``, ``parts`` or ``sections``; see :meth:`llm2vec_core.encoding.encoder.Encoder.encode`.
        cut: Encodes texts, each truncated to what fits.
        split: Splits a text into parts that fit.
        headings: Headings of sections.
    """

    def parts(listed: Sequence[str]) -> Encoding:
        return encode_pieces(listed, split=split, weigh=lambda part: max(len(part), 1), encode=cut)

    def sections(listed: Sequence[str]) -> Encoding:
        return encode_pieces(
            listed,
            split=lambda text: split_sections(text, headings),
            weigh=lambda _: 1,
            encode=lambda pieces: scaled(parts(pieces)),
        )

    readers: dict[LongTexts, Callable[[Sequence[str]], Encoding]] = {
        "cut": cut,
        "parts": parts,
        "sections": sections,
    }
    return readers[long_texts](texts)
