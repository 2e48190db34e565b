"""Words instead of vectors: the tokenizer of this domain, BM25 over texts, and which words made a match.

Three engines score the words that one tokenizer gives: rank-bm25 is the reference and scores single texts, bm25s
scores whole corpora, and LanceDB's full-text index answers interactive searches (the data room). Two variants of BM25
are in use: "okapi" is rank-bm25's own, which evaluations report; "lucene" is LanceDB's, which search and matching use.

Belongs here: everything that scores by exact words. Does not belong here: fusing word scores with vectors (``fusion``)
and full-text search over tables at rest (the data room).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import bm25s
import numpy as np
from bm25s.tokenization import Tokenized
from jaxtyping import Float32, Float64, Int, Int32
from rank_bm25 import BM25Okapi
from scipy import sparse

Bm25Variant = Literal["okapi", "lucene"]

OKAPI_K1, LUCENE_K1, BM25_B = 1.5, 1.2, 0.75
"""What saturates the count of a word, and how much the length of a text matters: the defaults of both origins."""

OKAPI_EPSILON = 0.25
"""BM25Okapi weighs a word that more than half of the texts hold as this share of the mean idf."""

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


class TokenLists(Sequence[list[int]]):
    """Texts as numbers of words in one flat array: 4 bytes a word, in memory or mapped from a file."""

    def __init__(
        self,
        flat: Int32[np.ndarray, " num_words"],
        starts: Int[np.ndarray, " num_texts"],
        lengths: Int[np.ndarray, " num_texts"],
    ) -> None:
        """Text ``i`` is ``flat[starts[i] : starts[i] + lengths[i]]``."""
        self._flat, self._starts, self._lengths = flat, starts, lengths

    def __len__(self) -> int:
        """Number of texts."""
        return len(self._starts)

    def __getitem__(self, index: int) -> list[int]:  # type: ignore[override]  # nobody slices
        """Word numbers of one text."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = int(self._starts[index])
        numbers: list[int] = self._flat[start : start + int(self._lengths[index])].tolist()
        return numbers


def number_words(words: Iterable[str], vocabulary: dict[str, int]) -> list[int]:
    """Numbers of words; words that the vocabulary lacks are added to it."""
    return [vocabulary.setdefault(word, len(vocabulary)) for word in words]


class LexicalIndex:
    """BM25 over a fixed list of texts, by bm25s: weights are computed once, and a query adds up columns of them.

    A word that occurs twice in a query counts twice. Scores of the variant "okapi" equal ``rank_bm25.BM25Okapi``'s, but
    for the floor ``MINIMUM_IDF``; those of "lucene" equal LanceDB's.

    Source: Trotman, Puurula, Burgess, "Improvements to BM25 and Language Models Examined" (2014); Kamphuis, de Vries,
    Boytsov, Lin, "Which BM25 Do You Mean?" (ECIR 2020), for the variants.
    """

    def __init__(
        self, documents: Sequence[Sequence[int]], vocabulary: Mapping[str, int], *, variant: Bm25Variant = "lucene"
    ) -> None:
        """Weigh the words of texts that were numbered already; texts without words are fine.

        Args:
            documents: Word numbers of each text, in the order of the scores; gone through several times.
            vocabulary: Word to number; may hold words that no text has.
            variant: Which BM25.
        """
        self.num_texts = len(documents)
        self.vocabulary = vocabulary
        self._weights = _weigh(documents, vocabulary, variant)
        self._rows: sparse.csr_matrix | None = None

    @classmethod
    def of_texts(cls, texts: Iterable[str], *, variant: Bm25Variant = "lucene") -> LexicalIndex:
        """Tokenize and index texts."""
        vocabulary: dict[str, int] = {}
        documents = [number_words(tokenize(text), vocabulary) for text in texts]
        return cls(documents, vocabulary, variant=variant)

    def numbers(self, query: str) -> list[int]:
        """Numbers of the words of a query that the vocabulary has, in the order of the query."""
        return [self.vocabulary[word] for word in tokenize(query) if word in self.vocabulary]

    def scores(self, query: str | Sequence[int]) -> Float32[np.ndarray, " num_texts"]:
        """Score every text for a query; above zero exactly where a text holds a word of the query.

        Args:
            query: Any text, or word numbers.

        Returns:
            One score a text, in the order of the texts.
        """
        if self._weights is None:
            return np.zeros(self.num_texts, np.float32)
        numbers = self.numbers(query) if isinstance(query, str) else query
        scores: Float32[np.ndarray, " num_texts"] = self._weights.get_scores_from_ids(numbers).astype(np.float32)
        return scores

    def matched_words(
        self, query: Sequence[int], documents: Iterable[int], *, limit: int | None = None
    ) -> list[list[int]]:
        """The words of a query that texts hold, those that contribute most first.

        Args:
            query: Word numbers.
            documents: Positions of texts.
            limit: So many words of a text at most.

        Returns:
            Distinct word numbers for each text; equal contributions are in the order of the query.
        """
        if self._weights is None:
            return [[] for _ in documents]
        rows = self._by_text()
        counts = Counter(query)
        place = {number: at for at, number in enumerate(counts)}
        count_of = np.zeros(rows.shape[1], rows.dtype)
        count_of[list(counts)] = list(counts.values())
        found = []
        for document in documents:
            span = slice(rows.indptr[document], rows.indptr[document + 1])
            words = rows.indices[span]
            contributions = rows.data[span] * count_of[words]
            shared = np.flatnonzero(contributions)
            chosen = sorted(shared.tolist(), key=lambda at: (-contributions[at], place[int(words[at])]))[:limit]
            found.append([int(words[at]) for at in chosen])
        return found

    def matched_terms(self, query: str, index: int) -> list[str]:
        """The words of the query that a text holds, the one that contributes most first."""
        words = {number: word for word in tokenize(query) if (number := self.vocabulary.get(word)) is not None}
        return [words[number] for number in self.matched_words(self.numbers(query), [index])[0]]

    def _by_text(self) -> sparse.csr_matrix:
        """The weights with a row a text, made when they are first asked for."""
        if self._rows is None:
            assert self._weights is not None, "texts without words have no weights"
            columns = self._weights.scores
            shape = (self.num_texts, len(columns["indptr"]) - 1)
            self._rows = sparse.csc_matrix((columns["data"], columns["indices"], columns["indptr"]), shape).tocsr()
        return self._rows


class ReferenceIndex:
    """BM25 by rank-bm25 itself, with the floor ``MINIMUM_IDF``: for single texts, and to check other engines against.

    It goes through all texts for each word of a query, hundreds of times slower than :class:`LexicalIndex` on corpora.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """Count the words of texts; texts without words, and no texts at all, are fine."""
        self.num_texts = len(texts)
        tokenized = [tokenize(text) for text in texts]
        self._bm25 = BM25Okapi(tokenized) if any(tokenized) else None  # it divides by the number of words
        if self._bm25 is not None:
            self._bm25.idf = {word: max(idf, MINIMUM_IDF) for word, idf in self._bm25.idf.items()}

    def scores(self, query: str) -> Float32[np.ndarray, " num_texts"]:
        """Score every text for a query."""
        if self._bm25 is None:
            return np.zeros(self.num_texts, np.float32)
        scores: Float32[np.ndarray, " num_texts"] = np.asarray(self._bm25.get_scores(tokenize(query)), np.float32)
        return scores

    def score(self, query: str, index: int) -> float:
        """Score one text for a query: what :meth:`scores` gives at its position."""
        return 0.0 if self._bm25 is None else float(self._bm25.get_batch_scores(tokenize(query), [index])[0])


def _weigh(
    documents: Sequence[Sequence[int]], vocabulary: Mapping[str, int], variant: Bm25Variant
) -> bm25s.BM25 | None:
    """What each word adds to the score of each text; None when there is no word."""
    if not any(len(document) for document in documents):
        return None
    # LanceDB's and BM25Okapi's formulas share the part that depends on the text ("atire" in bm25s); Lucene's idf is
    # above zero for every word, so that it can be scaled to any other.
    k1, dtype = (OKAPI_K1, "float64") if variant == "okapi" else (LUCENE_K1, "float32")
    index = bm25s.BM25(
        method="atire", idf_method="lucene", k1=k1, b=BM25_B, dtype=dtype, backend="numpy", csc_backend="scipy"
    )
    index.index(Tokenized(ids=documents, vocab=vocabulary), create_empty_token=False, show_progress=False)
    if variant == "okapi":
        frequency = np.diff(index.scores["indptr"])
        scale = _okapi_idf(frequency, len(documents)) / _lucene_idf(frequency, len(documents))
        index.scores["data"] *= np.repeat(scale, frequency)
    return index


def _lucene_idf(frequency: Int[np.ndarray, " words"], num_texts: int) -> Float64[np.ndarray, " words"]:
    idf: Float64[np.ndarray, " words"] = np.log(1 + (num_texts - frequency + 0.5) / (frequency + 0.5))
    return idf


def _okapi_idf(frequency: Int[np.ndarray, " words"], num_texts: int) -> Float64[np.ndarray, " words"]:
    """The idf of BM25Okapi with the floor: words of more than half of the texts get a share of the mean idf."""
    idf = np.log(num_texts - frequency + 0.5) - np.log(frequency + 0.5)
    common = OKAPI_EPSILON * idf[frequency > 0].mean()
    floored: Float64[np.ndarray, " words"] = np.maximum(np.where(idf < 0, common, idf), MINIMUM_IDF)
    return floored
