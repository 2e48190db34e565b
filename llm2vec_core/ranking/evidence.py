"""Evidence for a match of two documents: their nearest sentences, and the skills that they name."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float

from llm2vec_core.errors import InputError
from llm2vec_core.ranking.words import places_of_words

_BORDER = re.compile(r"(?<=[.!?;])\s+|(?<=[。！？；])|[\r\n\u2022\u25cf]+|\s[-*]\s")  # a full stop, a line, or a bullet
_WORD = re.compile(r"\w")


@dataclass(frozen=True)
class NearPair:
    """One sentence of each document.

    Attributes:
        left: Position of the left document's sentence.
        right: Position of the right document's sentence.
        cosine: Cosine of both, -1 to 1.
    """

    left: int
    right: int
    cosine: float


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences, lines and bullets. Parts without a letter or digit are left out."""
    parts = (part.strip() for part in _BORDER.split(text))
    return [part for part in parts if _WORD.search(part)]


def nearest_pairs(cosines: Float[np.ndarray, "left right"], limit: int) -> list[NearPair]:
    """Find the nearest pairs, best first. Each sentence is used once, so one vague sentence cannot fill the list.

    Args:
        cosines: Cosine of every left sentence with every right one.
        limit: Maximum number of pairs.

    Returns:
        Pairs. Equal cosines are in the order of the positions.
    """
    used_left, used_right = set[int](), set[int]()
    found: list[NearPair] = []
    for at in np.argsort(-cosines, axis=None, kind="stable"):
        left, right = divmod(int(at), cosines.shape[1])
        if len(found) >= limit:
            break
        if left not in used_left and right not in used_right:
            found.append(NearPair(left, right, float(cosines[left, right])))
            used_left.add(left)
            used_right.add(right)
    return found


def near_threshold(background: Float[np.ndarray, "skills sentences"], share: float) -> float:
    """The cosine above which a sentence counts as near: few random skills are that close to any sentence.

    A fixed cosine would not work, because encoders differ: an untrained decoder gives 0.9 to most pairs of texts.

    Args:
        background: Cosines of random skills with every sentence.
        share: Share of the random skills that stay at or below the threshold, 0 to 1.

    Raises:
        InputError: There are no cosines.
    """
    if not background.size:
        raise InputError(
            "A threshold needs at least one skill and one sentence; found none.",
            hint="Pass at least one skill and one sentence.",
        )
    return float(np.quantile(background.max(axis=1), share, method="higher"))


_Hit = tuple[str, str, int]
"""Label of a skill, its name, and the place behind it."""


class SkillFinder:
    """Finds skills by their names in texts: whole words, the longest name first."""

    def __init__(self, names: Mapping[str, Sequence[str]], *, everyday: Collection[str] = ()) -> None:
        """Prepare the names.

        Args:
            names: Label of a skill to all its names. A name of several skills belongs to the skill with that label,
                otherwise to the first of them.
            everyday: Names in lower case that are also everyday words ("access", "less", "rest"). Such a name counts
                only with the spelling in ``names``.
        """
        phrases: dict[tuple[str, ...], tuple[str, str]] = {}
        own_labels = [(label, label) for label in names]
        for label, name in [*own_labels, *((label, name) for label, known in names.items() for name in known)]:
            for words in _ways_to_write(name):
                phrases.setdefault(words, (label, name))
        self._by_first: dict[str, list[tuple[tuple[str, ...], str, str]]] = {}
        for words, (label, name) in sorted(phrases.items(), key=lambda item: -len(item[0])):
            self._by_first.setdefault(words[0], []).append((words, label, name))
        self._everyday = frozenset(everyday)

    def find(self, text: str) -> dict[str, str]:
        """Labels of the skills that a text names, in order, with the name that was found first.

        A name may end or begin inside a compound: "machine learning-based" names machine learning.
        """
        places = places_of_words(text)
        found: dict[str, str] = {}
        start = 0
        while start < len(places):
            hit = self._longest_at(places, start, text)
            if hit is None:
                start += 1
                continue
            label, name, start = hit
            found.setdefault(label, name)
        return found

    def _longest_at(self, places: Sequence[Sequence[tuple[str, int]]], start: int, text: str) -> _Hit | None:
        """The longest name that begins at a place, with the place behind it."""
        found: tuple[int, _Hit] | None = None
        for first, _ in places[start]:
            for phrase, label, name in self._by_first.get(first, ()):
                if found is not None and len(phrase) <= found[0]:
                    break
                end = _end_of_phrase(places, start, phrase)
                if end is not None and self._is_meant(name, text):
                    found = (len(phrase), (label, name, end))
                    break
        return None if found is None else found[1]

    def _is_meant(self, name: str, text: str) -> bool:
        if name.lower() not in self._everyday:
            return True
        return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def _ways_to_write(name: str) -> Iterator[tuple[str, ...]]:
    """Words of a name, with each compound whole; in a name of several words also apart and as one word.

    A name that is one compound is only itself: "make up" is no "make-up".
    """
    places = places_of_words(name)
    whole: list[list[tuple[str, ...]]] = []
    start = 0
    while start < len(places):
        word, end = places[start][0]
        parts = tuple(each for at in range(start, end) for each, behind in places[at] if behind == at + 1)
        ways: list[tuple[str, ...]] = [(word,)]
        if "-" in word and len(parts) == end - start:
            ways += [parts, *((each,) for each, behind in places[start][1:] if behind == end)]
        whole.append(ways)
        start = end
    if len(whole) == 1:
        whole[0] = whole[0][:1]
    for chosen in product(*whole):
        if chosen:
            yield tuple(word for words in chosen for word in words)


def _end_of_phrase(places: Sequence[Sequence[tuple[str, int]]], start: int, phrase: Sequence[str]) -> int | None:
    """The place behind a phrase that begins at a place; None if it does not stand there."""
    at: int | None = start
    for word in phrase:
        if at is None or at >= len(places):
            return None
        at = next((end for each, end in places[at] if each == word), None)
    return at
