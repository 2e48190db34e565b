"""Words instead of vectors: the tokenizer of this domain, BM25 over texts, and which words made a match.

Belongs here: everything that scores by exact words. Does not belong here: fusing word scores with vectors (``fusion``)
and full-text search over tables at rest (the data room).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32
from rank_bm25 import BM25Okapi

MINIMUM_IDF = 1e-6
"""Weight of a word that half of the texts or more hold. BM25Okapi gives such words an idf of zero, or below zero when
the corpus is tiny, so that a match would count against a text; with this floor it counts for it, just barely."""

_HYPHENS = str.maketrans({"\u2010": "-", "\u2011": "-"})  # hyphen and non-breaking hyphen, as PDFs write them
_POSSESSIVE = re.compile(r"['\u2019]s\b")
_WORD = r"[^\W_]+(?:\+\+)?(?:(?<![^\W_][^\W_])\#(?![^\W_]))?"  # a word, "c++", or one letter with a sharp: "c#"
_COMPOUND = re.compile(rf"(?:(?<![\w.])\.(?=net\b))?{_WORD}(?:[-./&]{_WORD})*")
_INNER = re.compile(r"[-&]|(?<!\d)\.|\.(?!\d)")  # separators inside a compound; the point of "3.11" is none


def tokenize(text: str) -> list[str]:
    """Split a text into lower-cased words, keeping the names of this domain whole.

    "C", "C++", "C#", "F#", ".NET", "Node.js", "R", "Go" and "IT" are words of their own. A compound is kept whole and
    followed by its parts, so that both spellings of a query find it: "CI/CD" gives "ci/cd", "ci", "cd", and "front-end"
    gives "front-end", "front", "end". Parts of one character count only beside a slash: "R/Python" is about R,
    "R&D" and "C-level" are not about a language. No word is dropped as a stop word ("IT" and "Go" would be), and
    nothing is stemmed. Case is lost: "IT" and "it" are the same word.

    Args:
        text: Any text.

    Returns:
        Words in the order of the text; none when the text has none.
    """
    lowered = _POSSESSIVE.sub("", unicodedata.normalize("NFKC", text).translate(_HYPHENS).lower())
    return [token for match in _COMPOUND.finditer(lowered) for token in _with_parts(match.group())]


def _with_parts(compound: str) -> Iterator[str]:
    """A compound, its alternatives around slashes, and their parts of two characters or more."""
    yield compound
    alternatives = compound.split("/")
    for alternative in alternatives:
        if len(alternatives) > 1:
            yield alternative
        if alternative == ".net":
            continue
        parts = _INNER.split(alternative)
        if len(parts) > 1:
            # "ASP.NET" is a kind of .NET
            named = (".net" if part == "net" and f".{part}" in alternative else part for part in parts)
            yield from (part for part in named if len(part) > 1)


class LexicalIndex:
    """BM25 over a fixed list of texts.

    The statistics are those of ``rank_bm25.BM25Okapi`` (k1 1.5, b 0.75, epsilon 0.25); the sums run over posting lists
    instead of over all texts. Scores equal BM25Okapi's, but for the floor ``MINIMUM_IDF``.

    Source: Trotman, Puurula, Burgess, "Improvements to BM25 and Language Models Examined" (2014), through rank-bm25.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """Tokenize and count the texts; texts without words, and no texts at all, are fine.

        Args:
            texts: The texts to score, in the order of the scores.
        """
        self.num_texts = len(texts)
        self._postings = _build_postings([tokenize(text) for text in texts])

    def scores(self, query: str) -> Float32[np.ndarray, " num_texts"]:
        """Score every text for a query; above zero exactly where a text holds a word of the query.

        Args:
            query: Any text; a word that occurs twice counts twice.

        Returns:
            One score a text, in the order of the texts.
        """
        total = np.zeros(self.num_texts, dtype=np.float64)
        for token, count in Counter(tokenize(query)).items():
            if posting := self._postings.get(token):
                indices, weights = posting
                total[indices] += count * weights
        return total.astype(np.float32)

    def score(self, query: str, index: int) -> float:
        """Score one text for a query: what :meth:`scores` gives at its position."""
        return sum(self._contributions(query, index).values())

    def matched_terms(self, query: str, index: int) -> list[str]:
        """The words of the query that a text holds, the one that contributes most first.

        Args:
            query: Any text.
            index: Position of the text.

        Returns:
            Distinct words; equal contributions are in the order of the query.
        """
        contributions = self._contributions(query, index)
        return sorted(contributions, key=lambda token: -contributions[token])

    def _contributions(self, query: str, index: int) -> dict[str, float]:
        """What each word of the query that the text holds adds to its score."""
        contributions = {}
        for token, count in Counter(tokenize(query)).items():
            if posting := self._postings.get(token):
                indices, weights = posting
                at = int(np.searchsorted(indices, index))
                if at < len(indices) and indices[at] == index:
                    contributions[token] = count * float(weights[at])
        return contributions


_Posting = tuple[np.ndarray, np.ndarray]  # ascending positions of texts, and the weight of the word in each


def _build_postings(tokenized: list[list[str]]) -> dict[str, _Posting]:
    """For each word: which texts hold it, and what it adds to their score."""
    if not any(tokenized):
        return {}  # BM25Okapi divides by the number of texts and of distinct words
    bm25 = BM25Okapi(tokenized)
    lengths = np.asarray(bm25.doc_len, dtype=np.float64)
    normaliser = bm25.k1 * (1 - bm25.b + bm25.b * lengths / bm25.avgdl)
    positions: dict[str, list[int]] = {}
    counts: dict[str, list[int]] = {}
    for index, frequencies in enumerate(bm25.doc_freqs):
        for token, count in frequencies.items():
            positions.setdefault(token, []).append(index)
            counts.setdefault(token, []).append(count)
    postings = {}
    for token, indices in positions.items():
        at = np.asarray(indices, dtype=np.int64)
        frequency = np.asarray(counts[token], dtype=np.float64)
        idf = max(bm25.idf[token], MINIMUM_IDF)
        postings[token] = (at, idf * frequency * (bm25.k1 + 1) / (frequency + normaliser[at]))
    return postings
