"""Words instead of vectors: the tokenizer of this domain, BM25 over texts, and which words made a match.

Three engines score the words that one tokenizer gives: rank-bm25 is the reference and scores single texts, bm25s
scores whole corpora, and LanceDB's full-text index answers interactive searches (the data room). Two variants of BM25
are in use: "okapi" is rank-bm25's own, which evaluations report; "lucene" is LanceDB's, which search and matching use.

Belongs here: everything that scores by exact words. Does not belong here: fusing word scores with vectors (``fusion``)
and full-text search over tables at rest (the data room).
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, pairwise
from typing import Literal

import bm25s
import numpy as np
from bm25s.tokenization import Tokenized
from jaxtyping import Float32, Float64, Int, Int32
from rank_bm25 import BM25Okapi
from scipy import sparse

logging.getLogger("bm25s").setLevel(logging.WARNING)  # importing it asks for DEBUG

Bm25Variant = Literal["okapi", "lucene"]

OKAPI_K1, LUCENE_K1, BM25_B = 1.5, 1.2, 0.75
"""What saturates the count of a word, and how much the length of a text matters: the defaults of both origins."""

OKAPI_EPSILON = 0.25
"""BM25Okapi weighs a word that more than half of the texts hold as this share of the mean idf."""

MINIMUM_IDF = 1e-6
"""Weight of a word that half of the texts or more hold. BM25Okapi gives such words an idf of zero, or below zero when
the corpus is tiny, so that a match would count against a text; with this floor it counts for it, just barely."""

_ABBREVIATED = 2  # letters of a part of an abbreviation: "b.sc", "ph.d"
_WORDS_AT_ONCE = 1 << 22
_HYPHENS = str.maketrans({"\u2010": "-", "\u2011": "-"})  # hyphen and non-breaking hyphen, as PDFs write them
_POSSESSIVE = re.compile(r"['\u2019]s\b")
_MARKS = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)) in {"Mn", "Mc"})
_MARK = re.compile(f"[{_MARKS}]")
_MOSTLY_UNWRITTEN = {
    code: None
    for code in (0x307, *range(0x591, 0x5C8), *range(0x610, 0x61B), *range(0x64B, 0x660), 0x670)
    if chr(code) in _MARKS
}
"""The point that lowering leaves of the Turkish capital I, and the vowels of Hebrew and Arabic."""


def _compounds(letters: str) -> re.Pattern[str]:
    word = rf"{letters}+(?:\+\+)?(?:(?<![^\W_][^\W_])\#(?![^\W_]))?"  # a word, "c++", or one letter with a sharp: "c#"
    return re.compile(rf"(?:(?<![\w.])\.(?=net\b))?{word}(?:[-./&]{word})*")


_COMPOUND = _compounds(r"[^\W_]")
_MARKED_COMPOUND = _compounds(rf"(?:[^\W_][{_MARKS}]*)")  # slower, and seldom needed
_INNER = re.compile(r"[-&]|(?<!\d)\.|\.(?!\d)")  # separators inside a compound; the point of "3.11" is none


def tokenize(text: str) -> list[str]:
    """Split a text into lower-cased words, keeping the names of this domain whole.

    "C", "C++", "C#", "F#", ".NET", "Node.js", "R", "Go" and "IT" are words of their own. A compound is kept whole and
    followed by its parts, so that both spellings of a query find it: "CI/CD" gives "ci/cd", "ci", "cd", and "front-end"
    gives "front-end", "front", "end" and, as it is also written, "frontend"; "B.Sc." gives "bsc", too. Parts of one
    character count only beside a slash: "R/Python" is about R, "R&D" and "C-level" are not about a language. Vowel
    signs belong to their word; those that are mostly left out, as in Arabic and Hebrew, are. No word is dropped as a
    stop word ("IT" and "Go" would be), and nothing is stemmed. Case is lost: "IT" and "it" are the same
    word.

    Args:
        text: Any text.

    Returns:
        Words in the order of the text; none when the text has none.
    """
    lowered = _POSSESSIVE.sub("", unicodedata.normalize("NFKC", text).translate(_HYPHENS).lower())
    compound = _COMPOUND
    if _MARK.search(lowered):
        lowered, compound = lowered.translate(_MOSTLY_UNWRITTEN), _MARKED_COMPOUND
    return [token for match in compound.finditer(lowered) for token in _with_parts(match.group())]


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
            if _is_also_one_word(alternative, parts):
                yield "".join(parts)


def _is_also_one_word(compound: str, parts: Sequence[str]) -> bool:
    """Whether people write a compound as one word, too: two words, or an abbreviation with points or hyphens."""
    is_short = len(parts) == 2 or all(len(part) <= _ABBREVIATED for part in parts)
    return is_short and "&" not in compound and all(part.isalpha() for part in parts)


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

    def renumber(self, numbers: Int32[np.ndarray, " vocabulary"]) -> None:
        """Give every word another number, in place.

        Args:
            numbers: The new number of each old one.
        """
        for start in range(0, len(self._flat), _WORDS_AT_ONCE):
            part = self._flat[start : start + _WORDS_AT_ONCE]
            part[:] = numbers[part]


def number_words(words: Iterable[str], vocabulary: dict[str, int]) -> list[int]:
    """Numbers of words; words that the vocabulary lacks are added to it."""
    return [vocabulary.setdefault(word, len(vocabulary)) for word in words]


class LexicalIndex:
    """BM25 over a fixed list of texts: bm25s computes the weights once, queries are sparse products with them.

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
        numbers = self.numbers(query) if isinstance(query, str) else query
        scores: Float32[np.ndarray, " num_texts"] = self.scores_of([numbers])[0]
        return scores

    def scores_of(self, queries: Sequence[Sequence[int]]) -> Float32[np.ndarray, "num_queries num_texts"]:
        """Score every text for each of some queries, given as word numbers: what :meth:`scores` gives for each.

        Raises:
            ValueError: If a number is not one of the vocabulary's when the texts were weighed.
        """
        if self._weights is None:
            return np.zeros((len(queries), self.num_texts), np.float32)
        starts = np.cumsum([0, *(len(query) for query in queries)])
        numbers = np.fromiter(chain.from_iterable(queries), np.int32, starts[-1])
        ones = np.ones(len(numbers), self._weights.dtype)
        said = sparse.csr_matrix((ones, numbers, starts), (len(queries), self._weights.shape[0]))
        said.check_format()  # a number without a row would be read from beyond the weights
        said.sum_duplicates()
        scores: Float32[np.ndarray, "num_queries num_texts"] = (said @ self._weights).toarray()
        return scores.astype(np.float32, copy=False)

    def matched_words(
        self, query: Sequence[int], documents: Sequence[int] | Int[np.ndarray, " num"], *, limit: int | None = None
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
        texts = self._by_text[np.asarray(documents, np.int64)]
        counts = Counter(query)
        distinct = list(counts)
        place, count_of = np.zeros(texts.shape[1], np.int32), np.zeros(texts.shape[1], texts.dtype)
        place[distinct], count_of[distinct] = np.arange(len(counts)), list(counts.values())
        contributions = texts.data * count_of[texts.indices]
        shared = np.flatnonzero(contributions)
        words, text = texts.indices[shared], np.searchsorted(texts.indptr, shared, side="right")
        order = np.lexsort((place[words], -contributions[shared], text))
        ends = np.cumsum(np.bincount(text, minlength=texts.shape[0] + 1)).tolist()
        ranked: list[int] = words[order].tolist()
        return [ranked[start:end][:limit] for start, end in pairwise(ends)]

    def matched_terms(self, query: str, index: int) -> list[str]:
        """The words of the query that a text holds, the one that contributes most first."""
        words = {number: word for word in tokenize(query) if (number := self.vocabulary.get(word)) is not None}
        return [words[number] for number in self.matched_words(self.numbers(query), [index])[0]]

    @cached_property
    def _by_text(self) -> sparse.csr_matrix:
        """The weights with a row a text, made when they are first asked for."""
        assert self._weights is not None, "texts without words have no weights"
        return self._weights.T.tocsr()


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
) -> sparse.csr_matrix | None:
    """What each word adds to the score of each text, a row a word; None when there is no word."""
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
    columns = index.scores
    return sparse.csr_matrix(
        (columns["data"], columns["indices"], columns["indptr"]), (len(columns["indptr"]) - 1, len(documents))
    )


def _lucene_idf(frequency: Int[np.ndarray, " words"], num_texts: int) -> Float64[np.ndarray, " words"]:
    idf: Float64[np.ndarray, " words"] = np.log(1 + (num_texts - frequency + 0.5) / (frequency + 0.5))
    return idf


def _okapi_idf(frequency: Int[np.ndarray, " words"], num_texts: int) -> Float64[np.ndarray, " words"]:
    """The idf of BM25Okapi with the floor: words of more than half of the texts get a share of the mean idf."""
    idf = np.log(num_texts - frequency + 0.5) - np.log(frequency + 0.5)
    common = OKAPI_EPSILON * idf[frequency > 0].mean()
    floored: Float64[np.ndarray, " words"] = np.maximum(np.where(idf < 0, common, idf), MINIMUM_IDF)
    return floored
