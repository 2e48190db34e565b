"""BM25: scores by words, and the contribution of each word.

Three engines score the words of one tokenizer (``words``). rank-bm25 is the reference and scores single texts. Sparse
products with the weights of bm25s (``bm25_weights``) score whole corpora. LanceDB's full-text index answers interactive
searches (the data room). There are two variants of BM25: "okapi" is rank-bm25's own, which evaluations report; "lucene"
is LanceDB's, which search and matching use.

Belongs here: scores by exact words. Does not belong here: fusing them with vectors (``fusion``), and full-text search
over stored tables (the data room). The libraries are imported when the first texts are indexed, because that takes a
second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from llm2vec_core.ranking.bm25_weights import MINIMUM_IDF, Bm25Variant, TokenLists, rows_of, scores_by, weigh
from llm2vec_core.ranking.words import tokenize

__all__ = ["MINIMUM_IDF", "Bm25Variant", "LexicalIndex", "ReferenceIndex", "TokenLists", "number_words"]


def number_words(words: Iterable[str], vocabulary: dict[str, int]) -> list[int]:
    """Numbers of words. New words are added to the vocabulary."""
    return [vocabulary.setdefault(word, len(vocabulary)) for word in words]


class LexicalIndex:
    """BM25 over a fixed list of texts. The weights are computed once; a query is a sparse product with them.

    A word that occurs twice in a query counts twice. Scores of the variant "okapi" equal those of
    ``rank_bm25.BM25Okapi``, except for the floor ``MINIMUM_IDF``. Scores of "lucene" equal LanceDB's.
    """

    def __init__(
        self,
        documents: Sequence[Sequence[int]],
        vocabulary: Mapping[str, int],
        *,
        variant: Bm25Variant = "lucene",
        num_ranked: int | None = None,
        directory: Path | None = None,
    ) -> None:
        """Compute the weights of all words. Texts may be empty.

        Args:
            documents: Word numbers of each text, in the order of the scores; read several times.
            vocabulary: Word to number; may contain words that no text has.
            variant: BM25 variant.
            num_ranked: Score only the first texts (default: all of them). The others count for the statistics.
            directory: Directory for the weights, which are then mapped, so that memory is bounded (default: they are in
                memory).
        """
        self.num_texts = len(documents) if num_ranked is None else num_ranked
        self.vocabulary = vocabulary
        self._blocks = list(weigh(documents, len(vocabulary), variant, num_ranked=self.num_texts, directory=directory))

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
        if not self._blocks:
            return np.zeros((len(queries), self.num_texts), np.float32)
        from scipy import sparse

        starts = np.cumsum([0, *(len(query) for query in queries)])
        numbers = np.fromiter(chain.from_iterable(queries), np.int32, starts[-1])
        weights = self._blocks[0].by_word
        ones = np.ones(len(numbers), weights.dtype)
        said = sparse.csr_matrix((ones, numbers, starts), (len(queries), weights.shape[0]))
        said.check_format()  # a number without a row would read beyond the weights
        said.sum_duplicates()
        return scores_by(self._blocks, said, self.num_texts)

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
        if not self._blocks:
            return [[] for _ in documents]
        texts = rows_of(self._blocks, np.asarray(documents, np.int64))
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
