"""Labels before personal data, in several languages, read from ``labels.toml``.

A label is looked for backwards, from the value that it may belong to: a text has few of these, but many words.
"""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

LABELS_FILE = Path(__file__).parent / "labels.toml"
"""Its bytes are part of the redaction identity, like those of the name lists."""

_MAX_CHARS = 48
_MAX_WORDS = 6
_BEHIND = " \t\u00a0:：.=|\"'#(*–-_>,\u2022"
"""Characters between a label and its value."""
_START_CHARS = 3
_WORD_START = re.compile(r"(?<![^\W_])[^\W_]")
_NOTE = re.compile(r"\([^()\n]{1,20}\)[ \t]{0,2}$")
_MAX_GAP = 8
"""Characters between the line of a label and the line of its value: line ends, blanks, empty lines."""
_NO_KEY = re.compile(r"[\s._()/\u00a0–-]{1,8}")
_UNSPACED = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_FOREIGN = re.compile(
    r"\b(?:ip|mac|web|email|e-mail|host|server|url|memory|street name|company|file|user|domain|product)$", re.IGNORECASE
)


_NUMBERED = ("phone", "id_number")
_NUMBER = ("no", "nr", "number", "num", "nummer", "n")
"""Words behind a label of a number: "Passport No."."""


@dataclass(frozen=True)
class _Labels:
    """Labels of some types by their key: in lower case, without blanks and punctuation."""

    keys: frozenset[str]
    starts: frozenset[str]
    first_words: frozenset[str]
    last_words: frozenset[str]
    unspaced: tuple[str, ...]


def label_before(text: str, at: int, *types: str) -> int | None:
    """Start of the label of a value, if there is one.

    A label stands directly before the value, with at most punctuation and a note in brackets between them. Or it is
    the whole line before a value that begins its line; empty lines between them do not count, because forms and
    PDFs have them.

    Args:
        text: Text.
        at: Position of the value.
        types: Types of personal data whose labels count.
    """
    window = max(0, at - _MAX_CHARS)
    first = text.rfind("\n", window, at) + 1 or window
    start = _label_start(text, first, at, types)
    if start is None and first and text[first - 1] == "\n" and not text[first:at].strip(_BEHIND):
        gap = max(0, first - _MAX_GAP)
        end = gap + len(text[gap:first].rstrip())
        above = text.rfind("\n", max(0, end - 1 - _MAX_CHARS), end) + 1
        line = text[above:end]
        label = above + len(line) - len(line.lstrip(_BEHIND))
        if len(line) <= _MAX_CHARS and _label_start(text, above, end, types) == label:
            start = above
    return start


def _label_start(text: str, begin: int, end: int, types: tuple[str, ...]) -> int | None:
    core = text[begin:end].rstrip(_BEHIND)
    if core.endswith(")"):
        core = _NOTE.sub("", core).rstrip(_BEHIND) or core
    if not core:
        return None
    labels = _labels(types)
    if _UNSPACED.match(core[-1]):
        joined = core.replace(" ", "")
        found = max((len(label) for label in labels.unspaced if joined.endswith(label)), default=0)
        places = [place for place, char in enumerate(core) if char != " "]
        return begin + places[-found] if found else None
    words = [match.start() for match in _WORD_START.finditer(core)][-_MAX_WORDS:]
    if not words or _key(core[words[-1] :]) not in labels.last_words:
        return None
    start = next((word for word in words if _key(core[word:]) in labels.keys), None)
    return None if start is None or _FOREIGN.search(core[:start].rstrip()) else begin + start


def is_label(text: str, *types: str) -> bool:
    """Return whether a whole text is a label."""
    if len(text) > _MAX_CHARS:
        return False
    labels, start = _labels(types), text[:_START_CHARS].casefold()
    # A key begins as its label does, if that begins with letters: most texts need no key.
    return not (start.isalpha() and start[:_START_CHARS] not in labels.starts) and _key(text) in labels.keys


def may_begin_label(word: str, *types: str) -> bool:
    """Return whether a label begins with a word; a quick test."""
    return word.casefold() in _labels(types).first_words


@functools.cache
def _labels(types: tuple[str, ...]) -> _Labels:
    listed = [label for type_ in types for label in _read()[type_]["labels"]]
    listed += [
        f"{label} {number}"
        for type_ in types
        if type_ in _NUMBERED
        for label in _read()[type_]["labels"]
        for number in _NUMBER
    ]
    keys = frozenset(map(_key, listed))
    return _Labels(
        keys=keys,
        starts=frozenset(key[:_START_CHARS] for key in keys),
        first_words=frozenset(label.split(" ")[0].casefold() for label in listed),
        last_words=frozenset(_key(label[match.start() :]) for label in listed for match in _WORD_START.finditer(label)),
        unspaced=tuple(label for label in listed if _UNSPACED.match(label[-1])),
    )


def _key(label: str) -> str:
    return _NO_KEY.sub("", label.casefold().replace("’", "'"))


@functools.cache
def _read() -> dict[str, dict[str, list[str]]]:
    return tomllib.loads(LABELS_FILE.read_text(encoding="utf-8"))
