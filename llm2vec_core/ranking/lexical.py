"""BM25: scores by words, and the contribution of each word.

Three engines score the words of one tokenizer (``words``). rank-bm25 is the reference and scores single texts. bm25s
scores whole corpora. LanceDB's full-text index answers interactive searches (the data room). There are two variants of
BM25: "okapi" is rank-bm25's own, which evaluations report; "lucene" is LanceDB's, which search and matching use.

Belongs here: scores by exact words. Does not belong here: fusing them with vectors (``fusion``), and full-text search
over stored tables (the data room). The libraries are imported when the first texts are indexed, because that takes a
second.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int, Int32

from llm2vec_core.ranking.words import tokenize

if TYPE_CHECKING:
    from scipy import sparse

Bm25Variant = Literal["okapi", "lucene"]

OKAPI_K1, LUCENE_K1, BM25_B = 1.5, 1.2, 0.75
"""BM25 parameters: k1 saturates the count of a word, b is the influence of the text length. Both defaults are the
libraries'."""

OKAPI_EPSILON = 0.25
"""BM25Okapi replaces a negative idf (a word in more than half of the texts) by this share of the mean idf."""

MINIMUM_IDF = 1e-6
"""Lowest idf of a word. BM25Okapi gives a word in half of the texts an idf of zero, and less in a tiny corpus. A match
would then lower a text's score; with this floor it raises it slightly."""

_WORDS_AT_ONCE = 1 << 22


class TokenLists(Sequence[list[int]]):
    """Texts as word numbers in one flat array: 4 bytes per word, in memory or mapped from a file."""

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
        """Replace all word numbers, in place.

        Args:
            numbers: New number of each old number.
        """
        for start in range(0, len(self._flat), _WORDS_AT_ONCE):
            part = self._flat[start : start + _WORDS_AT_ONCE]
            part[:] = numbers[part]


def number_words(words: Iterable[str], vocabulary: dict[str, int]) -> list[int]:
    """Numbers of words. New words are added to the vocabulary."""
    return [vocabulary.setdefault(word, len(vocabulary)) for word in words]


class LexicalIndex:
    """BM25 over a fixed list of texts. bm25s computes the weights once; a query is a sparse product with them.

    A word that occurs twice in a query counts twice. Scores of the variant "okapi" equal those of
    ``rank_bm25.BM25Okapi``, except for the floor ``MINIMUM_IDF``. Scores of "lucene" equal LanceDB's.

    Source: Trotman, Puurula, Burgess, "Improvements to BM25 and Language Models Examined" (2014); Kamphuis, de Vries,
    Boytsov, Lin, "Which BM25 Do You Mean?" (ECIR 2020), for the variants.
    """

    def __init__(
        self,
        documents: Sequence[Sequence[int]],
        vocabulary: Mapping[str, int],
        *,
        variant: Bm25Variant = "lucene",
        num_ranked: int | None = None,
    ) -> None:
        """Compute the weights of all words. Texts may be empty.

        Args:
            documents: Word numbers of each text, in the order of the scores; read several times.
            vocabulary: Word to number; may contain words that no text has.
            variant: BM25 variant.
            num_ranked: Score only the first texts (default: all of them). The others count for the statistics.
        """
        self.num_texts = len(documents) if num_ranked is None else num_ranked
        self.vocabulary = vocabulary
        self._weights = _weigh(documents, vocabulary, variant)
        if self._weights is not None and self.num_texts < len(documents):
            self._weights = self._weights[:, : self.num_texts]

    @classmethod
    def of_texts(cls, texts: Iterable[str], *, variant: Bm25Variant = "lucene") -> LexicalIndex:
        """Tokenize and index texts."""
        vocabulary: dict[str, int] = {}
        documents = [number_words(tokenize(text), vocabulary) for text in texts]
        return cls(documents, vocabulary, variant=variant)

    def numbers(self, query: str) -> list[int]:
        """Numbers of the query's words, in its order. Unknown words are left out."""
        return [self.vocabulary[word] for word in tokenize(query) if word in self.vocabulary]

    def scores(self, query: str | Sequence[int]) -> Float32[np.ndarray, " num_texts"]:
        """Score every text for a query. A score is above zero exactly if a text contains a word of the query.

        Args:
            query: Any text, or word numbers.

        Returns:
            One score for each text, in the order of the texts.
        """
        scores: Float32[np.ndarray, " num_texts"]
        (scores,) = self.scores_of([self.numbers(query) if isinstance(query, str) else query])
        return scores

    def scores_of(self, queries: Sequence[Sequence[int]]) -> Float32[np.ndarray, "num_queries num_texts"]:
        """Score every text for a block of queries, given as word numbers; each row equals :meth:`scores`.

        Raises:
            ValueError: A number is not in the vocabulary that the weights were computed for.
        """
        if self._weights is None:
            return np.zeros((len(queries), self.num_texts), np.float32)
        from scipy import sparse

        starts = np.cumsum([0, *(len(query) for query in queries)])
        numbers = np.fromiter(chain.from_iterable(queries), np.int32, starts[-1])
        ones = np.ones(len(numbers), self._weights.dtype)
        said = sparse.csr_matrix((ones, numbers, starts), (len(queries), self._weights.shape[0]))
        said.check_format()  # a number without a row would read beyond the weights
        said.sum_duplicates()
        scores: Float32[np.ndarray, "num_queries num_texts"] = (said @ self._weights).toarray()
        return scores.astype(np.float32, copy=False)

    def matched_words(
        self, query: Sequence[int], documents: Sequence[int] | Int[np.ndarray, " num"], *, limit: int | None = None
    ) -> list[list[int]]:
        """Words that a query shares with texts, largest contribution first.

        Args:
            query: Word numbers.
            documents: Positions of texts.
            limit: Maximum number of words for each text.

        Returns:
            Distinct word numbers for each text. Equal contributions are in the order of the query.
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
        """Words that the query shares with a text, largest contribution first."""
        words = {number: word for word in tokenize(query) if (number := self.vocabulary.get(word)) is not None}
        return [words[number] for number in self.matched_words(self.numbers(query), [index])[0]]

    @cached_property
    def _by_text(self) -> sparse.csr_matrix:
        """Weights with one row for each text."""
        assert self._weights is not None, "texts without words have no weights"
        return self._weights.T.tocsr()


class ReferenceIndex:
    """BM25 by rank-bm25, with the floor ``MINIMUM_IDF``, for single texts and as a reference for other engines.

    It reads all texts for each word of a query. On corpora it is hundreds of times slower than :class:`LexicalIndex`.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """Count the words of texts. Texts may be empty, and the list too."""
        from rank_bm25 import BM25Okapi

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
        """Score one text for a query; equals :meth:`scores` at its position."""
        return 0.0 if self._bm25 is None else float(self._bm25.get_batch_scores(tokenize(query), [index])[0])


def _weigh(
    documents: Sequence[Sequence[int]], vocabulary: Mapping[str, int], variant: Bm25Variant
) -> sparse.csr_matrix | None:
    """Contribution of each word to the score of each text, one row for each word; None without words."""
    if not any(len(document) for document in documents):
        return None
    import bm25s
    from bm25s.tokenization import Tokenized
    from scipy import sparse

    logging.getLogger("bm25s").setLevel(logging.WARNING)  # its import sets DEBUG
    # LanceDB and BM25Okapi share the part of the formula that depends on the text ("atire" in bm25s). Lucene's idf is
    # positive for every word, so it can be scaled to any other idf.
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
    """BM25Okapi's idf with the floor: a negative idf becomes a share of the mean idf."""
    idf = np.log(num_texts - frequency + 0.5) - np.log(frequency + 0.5)
    common = OKAPI_EPSILON * idf[frequency > 0].mean()
    floored: Float64[np.ndarray, " words"] = np.maximum(np.where(idf < 0, common, idf), MINIMUM_IDF)
    return floored
