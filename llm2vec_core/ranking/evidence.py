"""Evidence for a match of two documents: their nearest sentences, and the skills that they name."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from llm2vec_core.errors import InputError
from llm2vec_core.ranking.words import split_words

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
            words = tuple(split_words(name))
            if words:
                phrases.setdefault(words, (label, name))
        self._by_first: dict[str, list[tuple[tuple[str, ...], str, str]]] = {}
        for words, (label, name) in sorted(phrases.items(), key=lambda item: -len(item[0])):
            self._by_first.setdefault(words[0], []).append((words, label, name))
        self._everyday = frozenset(everyday)

    def find(self, text: str) -> dict[str, str]:
        """Labels of the skills that a text names, in order, with the name that was found first."""
        words = split_words(text)
        found: dict[str, str] = {}
        start = 0
        while start < len(words):
            hit = self._longest_at(words, start, text)
            if hit is None:
                start += 1
                continue
            phrase, label, name = hit
            found.setdefault(label, name)
            start += len(phrase)
        return found

    def _longest_at(self, words: Sequence[str], start: int, text: str) -> tuple[tuple[str, ...], str, str] | None:
        for phrase, label, name in self._by_first.get(words[start], ()):
            if tuple(words[start : start + len(phrase)]) == phrase and self._is_meant(name, text):
                return phrase, label, name
        return None

    def _is_meant(self, name: str, text: str) -> bool:
        if name.lower() not in self._everyday:
            return True
        return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None
