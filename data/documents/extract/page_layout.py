"""Convert the characters of a page to text: words, lines, columns, and words divided at line ends."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

_GAP = 1.5  # of the size of the letters: a wider gap in a line separates two columns, or a date from its line
_WORD_GAP = 0.6  # pdfium decides about narrower gaps: it knows the letter widths
_SAME_LINE = 0.5
_PARAGRAPH_GAP = 1.9
_MIN_ROWS = 3
_MIN_WORDS = 3  # of a line of running text; the cells of a table have fewer
_ALIGNED_SHARE = 0.75
_DATE = re.compile(r"\b(?:19|20)\d\d\b|\d{1,2}[./]\d{2,4}\b")
_MAX_PART = 60  # letters of the first part of a divided word
_LETTER_END = re.compile(r"([^\W\d_]+)[-\u2010\u2011]$")
_LETTER_START = re.compile(r"[^\W\d_]+")
# First parts of words that keep their hyphen: "well-known", "self-employed".
_KEEPS_HYPHEN_NAMES = (
    "all anti co cross cutting decision e ever ex fast first front full half hard high hands in inter "
    "long low mid multi near never next non off on one open over part peer post pre problem real second "
    "self semi short single small so sub team three time top two un up user well work world x year"
)
_KEEPS_HYPHEN = frozenset(_KEEPS_HYPHEN_NAMES.split())
# No second part of a compound begins with these: "short-ened", and "co-ordinated", which is spelled either way.
_ENDING = re.compile(r"(?:en)?(?:ed|ing|ings|er|ers|est|s)\b|(?:ly|ness|ment|ments|ages?)\b")
# Combining marks by accent. "^" and "~" stand alone in texts about programs.
_ACCENTS = dict(
    zip(
        "`´ˆ˜¨¯˘˙˚˝ˇ¸˛",
        map(chr, (0x300, 0x301, 0x302, 0x303, 0x308, 0x304, 0x306, 0x307, 0x30A, 0x30B, 0x30C, 0x327, 0x328)),
        strict=True,
    )
)
_MAX_ACCENTS = 500
_MAX_SEARCHED = 20_000
_DOTLESS = {"ı": "i", "ȷ": "j"}


class Glyph(NamedTuple):
    """One character of a page.

    Attributes:
        char: The character. A space that pdfium inferred has no box.
        box: Left, bottom, right, top, in points.
        points: Size of its font as drawn.
        quarter: Direction of its line in quarter turns, counter-clockwise.
    """

    char: str
    box: tuple[float, float, float, float] | None
    points: float
    quarter: int


@dataclass(slots=True)
class Segment:
    """Characters of one line without a wide gap. The box is rotated: the line runs to the right."""

    text: str
    left: float
    bottom: float
    right: float
    top: float
    points: float
    quarter: int

    @property
    def middle(self) -> float:
        """Height of its vertical centre."""
        return (self.bottom + self.top) / 2


_Row = list[Segment]


def page_text(glyphs: list[Glyph], values: list[Segment]) -> str:
    """Text of a page in reading order.

    Args:
        glyphs: Characters in the order of the page content.
        values: Values of form fields, placed after their labels.
    """
    rows = _rows(_segments(_composed(glyphs)))
    for value in values:
        _place(rows, value)
    return join_hyphens(_lines(rows))


def join_hyphens(lines: list[str]) -> str:
    """Join lines to text. Words divided at a line end are rejoined; the hyphen of "well-known" stays."""
    known = set(re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", " ".join(lines).lower()))
    joined: list[str] = []
    for line in lines:
        end = _LETTER_END.search(joined[-1], max(0, len(joined[-1]) - _MAX_PART)) if joined else None
        start = _LETTER_START.match(line)
        if end is None or start is None or joined[-1][end.start() - 1 : end.start()] == "-":
            joined.append(line)
            continue
        first, second = end.group(1).lower(), start.group()
        keeps = first in _KEEPS_HYPHEN and not _ENDING.match(second) and (first, second[0]) != ("co", "o")
        is_divided = second[0].islower() and f"{first}-{second.lower()}" not in known and not keeps
        before = joined.pop()
        joined.append((before[:-1] if is_divided or first + second.lower() in known else before) + line)
    return "\n".join(joined).strip()


# --- lines ------------------------------------------------------------------------------------------------------------


def _turned(box: tuple[float, float, float, float], quarter: int) -> tuple[float, float, float, float]:
    left, bottom, right, top = box
    if quarter == 1:
        return bottom, -right, top, -left
    if quarter == 2:
        return -right, -top, -left, -bottom
    if quarter == 3:
        return -top, left, -bottom, right
    return box


def _composed(glyphs: list[Glyph]) -> list[Glyph]:
    """Glyphs with letters instead of an accent above or below a letter, as old TeX fonts draw them."""
    accents = [at for at, glyph in enumerate(glyphs) if glyph.char in _ACCENTS]
    found: list[Glyph | None] = list(glyphs)
    for count, at in enumerate(accents):
        near = [number for number in (at + 1, at - 1) if 0 <= number < len(glyphs)]
        # A raised accent may be anywhere in the content. A page with more glyphs was made to be slow.
        is_searched = count < _MAX_ACCENTS and len(glyphs) < _MAX_SEARCHED
        for number in (*near, *(range(len(glyphs)) if is_searched else ())):
            letter = found[number]
            if letter is not None and _carries(letter, glyphs[at]):
                char = _DOTLESS.get(letter.char, letter.char) + _ACCENTS[glyphs[at].char]
                found[number], found[at] = letter._replace(char=unicodedata.normalize("NFC", char)), None
                break
    return [glyph for glyph in found if glyph is not None] if accents else glyphs


def _carries(letter: Glyph, accent: Glyph) -> bool:
    """Return whether an accent is drawn above or below a letter."""
    if not letter.char.isalpha() or letter.box is None or accent.box is None or letter.quarter != accent.quarter:
        return False
    left, bottom, right, top = _turned(letter.box, letter.quarter)
    other_left, other_bottom, other_right, other_top = _turned(accent.box, accent.quarter)
    overlap = min(right, other_right) - max(left, other_left)
    is_same_line = abs(bottom + top - other_bottom - other_top) / 2 < _SAME_LINE * max(letter.points, accent.points)
    return is_same_line and overlap > 0.6 * min(right - left, other_right - other_left)


def _segments(glyphs: list[Glyph]) -> list[Segment]:
    segments: list[Segment] = []
    chars: list[str] = []
    now: Segment | None = None
    is_spaced = was_backward = False
    last_box = None
    for glyph in glyphs:
        if glyph.char.isspace():
            is_spaced = True
            continue
        if glyph.box is None:
            continue
        if glyph.box == last_box and chars:  # a further letter of a ligature
            chars.append(glyph.char)
            continue
        last_box = glyph.box
        left, bottom, right, top = _turned(glyph.box, glyph.quarter)
        points = max(min(glyph.points, top - bottom), 0.1) if top > bottom else max(glyph.points, 0.1)
        if now is not None:
            size = max(min(now.points, points), 0.1)
            is_same_line = glyph.quarter == now.quarter and abs((bottom + top) / 2 - now.middle) < _SAME_LINE * max(
                now.points, points
            )
            gap = left - now.right
            is_backward = unicodedata.bidirectional(glyph.char[0]) in ("R", "AL")
            is_near = -size < gap < _GAP * max(now.points, points)
            if is_same_line and (is_near or is_backward or was_backward):
                if is_spaced or (is_near and gap > _WORD_GAP * size):
                    chars.append(" ")
                chars.append(glyph.char)
                now.left, now.right = min(now.left, left), max(now.right, right)
                was_backward = is_backward
                if points > now.points:  # a small superscript does not shrink the line
                    now.bottom, now.top, now.points = bottom, top, points
                is_spaced = False
                continue
            now.text = "".join(chars)
            segments.append(now)
        now, chars, is_spaced = Segment("", left, bottom, right, top, points, glyph.quarter), [glyph.char], False
        was_backward = unicodedata.bidirectional(glyph.char[0]) in ("R", "AL")
    if now is not None:
        now.text = "".join(chars)
        segments.append(now)
    return segments


def _rows(segments: list[Segment]) -> list[_Row]:
    """Consecutive segments on one line."""
    rows: list[_Row] = []
    for segment in segments:
        if rows and _is_beside(rows[-1][-1], segment):
            rows[-1].append(segment)
        else:
            rows.append([segment])
    return rows


def _is_beside(before: Segment, segment: Segment) -> bool:
    size = max(before.points, segment.points)
    return (
        before.quarter == segment.quarter
        and abs(before.middle - segment.middle) < _SAME_LINE * size
        and segment.left >= before.right - size
    )


def _place(rows: list[_Row], value: Segment) -> None:
    """Put the value of a form field after its label, otherwise below the last line above it."""
    for row in rows:
        if row[-1].quarter == 0 and row[0].left < value.left and value.bottom <= row[0].middle <= value.top:
            row.append(value)
            row.sort(key=lambda segment: segment.left)
            return
    above = [number for number, row in enumerate(rows) if row[0].quarter == 0 and row[0].middle > value.top]
    rows.insert(above[-1] + 1 if above else 0, [value])


# --- columns ----------------------------------------------------------------------------------------------------------


def _lines(rows: list[_Row]) -> list[str]:
    """Lines of text, an empty one between paragraphs; columns one after the other."""
    lines: list[str] = []
    last: Segment | None = None
    start = 0
    while start < len(rows):
        block = _column_block(rows, start)
        if block is not None:
            stop, left, right = block
            lines += ["", *_lines(left), "", *_lines(right), ""]
            start, last = stop, None
            continue
        row = rows[start]
        if last is not None and last.middle - row[0].middle > _PARAGRAPH_GAP * max(last.points, row[0].points):
            lines.append("")
        lines.append(" ".join(segment.text for segment in row))
        last, start = row[0], start + 1
    return lines


def _column_block(rows: list[_Row], start: int) -> tuple[int, list[_Row], list[_Row]] | None:
    """Longest run of rows from ``start`` with two columns: its end, and the rows of each column."""
    if len(rows[start]) < 2:
        return None
    for split in range(1, len(rows[start])):
        low, high = rows[start][split - 1].right, rows[start][split].left
        left, right = [rows[start][:split]], [rows[start][split:]]
        sides = [(rows[start][:split], rows[start][split:])]
        stop = start + 1
        while stop < len(rows) and _follows(rows[stop - 1][0], rows[stop][0]):
            row = rows[stop]
            before = [segment for segment in row if segment.right < high and segment.left < low]
            behind = row[len(before) :]
            new_low = max([low, *(segment.right for segment in before)])
            new_high = min([high, *(segment.left for segment in behind)])
            if new_high - new_low < _GAP * 0.8 * row[0].points:
                break
            low, high = new_low, new_high
            sides.append((before, behind))
            left += [before] if before else []
            right += [behind] if behind else []
            stop += 1
        if _are_columns(sides):
            return stop, left, right
    return None


def _follows(above: Segment, below: Segment) -> bool:
    size = max(above.points, below.points)
    return above.quarter == below.quarter and -_SAME_LINE * size < above.middle - below.middle < 4 * size


def _are_columns(sides: list[tuple[_Row, _Row]]) -> bool:
    """Return whether the text of each side continues by itself, which it does not in a table."""
    both = [(left, right) for left, right in sides if left and right]
    if len(both) < _MIN_ROWS or len(both) < 0.5 * len(sides):
        return False
    for number in (0, 1):
        texts = [pair[number][0].text for pair in both]
        # Dates beside positions, and bullets or numbers before items, belong to their lines.
        if sum(bool(_DATE.search(text)) and len(text) < 25 for text in texts) >= 0.5 * len(texts):
            return False
        if sum(sum(map(str.isalpha, text)) < 2 for text in texts) >= 0.5 * len(texts):
            return False
    if sum(left[-1].text.rstrip().endswith((":", "：")) for left, _ in both) >= 0.5 * len(both):
        return False  # labels before their values
    edges = Counter(round(right[0].left / 3) for _, right in both)
    near = max(edges[edge] + edges[edge + 1] for edge in edges)
    if near < _ALIGNED_SHARE * len(both):
        return False
    return any(_runs_on(above[side], below[side]) for above, below in pairwise(both) for side in (0, 1))


def _runs_on(above: _Row, below: _Row) -> bool:
    before, after = above[-1].text.rstrip(), below[0].text.lstrip()
    return len(before.split()) >= _MIN_WORDS and before[-1] not in ".:;!?" and after[:1].islower()
