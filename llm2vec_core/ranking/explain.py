"""Why two documents match: sentences that are near each other, and skills that one names and the other may lack.

Belongs here: arithmetic and matching over texts and vectors that the caller brings. Does not belong here: reading
documents and tables (``tasks.queries.explain``), BM25 (``lexical``), where the names of skills come from (``data``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from llm2vec_core.errors import InputError
from llm2vec_core.ranking.lexical import tokenize

_BORDER = re.compile(r"(?<=[.!?;])\s+|[\r\n\u2022\u25cf]+|\s[-*]\s")  # a full stop, a line, or a bullet
_WORD = re.compile(r"\w")


@dataclass(frozen=True)
class NearPair:
    """A sentence of each side.

    Attributes:
        left: Position of the one.
        right: Position of the other.
        cosine: How near they are, -1 to 1.
    """

    left: int
    right: int
    cosine: float


def split_sentences(text: str) -> list[str]:
    """Sentences, lines and bullets of a text, in order; what holds no letter or digit is left out."""
    parts = (part.strip() for part in _BORDER.split(text))
    return [part for part in parts if _WORD.search(part)]


def nearest_pairs(cosines: Float[np.ndarray, "left right"], limit: int) -> list[NearPair]:
    """The nearest pairs, best first, each side of a pair used once: one catch-all sentence cannot fill the list.

    Args:
        cosines: Of every left sentence with every right one.
        limit: Number of pairs, at most.

    Returns:
        Pairs; equal cosines in the order of the positions.
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
    """The cosine from which on a sentence counts as near: few skills that nobody asked for come so near to any.

    What a cosine means differs from encoder to encoder, so that no fixed one would do: an untrained decoder gives 0.9
    to most pairs of texts.

    Args:
        background: Cosines of skills drawn at random with every sentence.
        share: So many of these skills stay below, 0 to 1.

    Raises:
        InputError: There is nothing to compare with.
    """
    if not background.size:
        raise InputError("A threshold needs cosines of some skills with some sentences; there were none.")
    return float(np.quantile(background.max(axis=1), share, method="higher"))


class SkillFinder:
    """Finds skills by their names in texts: whole words, the longest name first."""

    def __init__(self, names: Mapping[str, Sequence[str]], *, everyday: Collection[str] = ()) -> None:
        """Prepare the names.

        Args:
            names: Label of a skill to all its names. A name of several skills stands for the one whose label it is,
                else for the first.
            everyday: Words in lower case that mean something else, too ("access", "less", "rest"): a name that is one
                counts only where it is written as here.
        """
        phrases: dict[tuple[str, ...], tuple[str, str]] = {}
        own_labels = [(label, label) for label in names]
        for label, name in [*own_labels, *((label, name) for label, known in names.items() for name in known)]:
            words = tuple(tokenize(name))
            if words:
                phrases.setdefault(words, (label, name))
        self._by_first: dict[str, list[tuple[tuple[str, ...], str, str]]] = {}
        for words, (label, name) in sorted(phrases.items(), key=lambda item: -len(item[0])):
            self._by_first.setdefault(words[0], []).append((words, label, name))
        self._everyday = frozenset(everyday)

    def find(self, text: str) -> dict[str, str]:
        """Labels of the skills that a text names, in its order, and the name that each was first found by."""
        words = tokenize(text)
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
