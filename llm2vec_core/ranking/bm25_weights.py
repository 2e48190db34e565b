"""BM25 weights of a corpus: what each word adds to the score of each text, in blocks of texts.

The formulas are those of bm25s, whose own index needs all texts in memory. Here a first pass counts words over all
texts, and a second one weighs the words of a block. So memory holds one block, and the weights lie in files if there is
a directory for them. They do not depend on the size of a block, and a test holds their bits against bm25s's index.

Source: Trotman, Puurula, Burgess, "Improvements to BM25 and Language Models Examined" (2014); Kamphuis, de Vries,
Boytsov, Lin, "Which BM25 Do You Mean?" (ECIR 2020), for the variants.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int, Int32

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

BLOCK_TEXTS = 65_536
"""Texts of a block: about 100 MB of weights while it is made, for texts of 250 words."""

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
        numbers: list[int] = self.array(index).tolist()
        return numbers

    def array(self, index: int) -> Int32[np.ndarray, " words"]:
        """Word numbers of one text, without a copy."""
        start = int(self._starts[index])
        return self._flat[start : start + int(self._lengths[index])]

    def renumber(self, numbers: Int32[np.ndarray, " vocabulary"]) -> None:
        """Replace all word numbers, in place.

        Args:
            numbers: New number of each old number.
        """
        for start in range(0, len(self._flat), _WORDS_AT_ONCE):
            part = self._flat[start : start + _WORDS_AT_ONCE]
            part[:] = numbers[part]


@dataclass(frozen=True)
class WeightBlock:
    """Weights of some texts that follow each other.

    Attributes:
        start: Position of the first text.
        by_word: Weights with a row for each word and a column for each text.
        by_text: The same with a row for each text.
    """

    start: int
    by_word: sparse.csr_matrix
    by_text: sparse.csr_matrix


def weigh(
    documents: Sequence[Sequence[int]],
    num_words: int,
    variant: Bm25Variant,
    *,
    num_ranked: int,
    directory: Path | None = None,
    block_texts: int = BLOCK_TEXTS,
) -> Iterator[WeightBlock]:
    """Weigh the words of texts, block by block; nothing if no text has a word.

    Args:
        documents: Word numbers of each text; read twice.
        num_words: Size of the vocabulary.
        variant: BM25 variant.
        num_ranked: Number of texts to weigh, the first ones. The others count for the statistics.
        directory: Empty or missing directory for the weights, which are then mapped (default: they are in memory).
        block_texts: Texts of a block.
    """
    dtype: np.dtype[np.floating] = np.dtype("float64" if variant == "okapi" else "float32")
    frequency, length = np.zeros(num_words, np.int64), 0
    for start in range(0, len(documents), block_texts):
        counts = _counts(documents, start, min(start + block_texts, len(documents)), num_words, dtype)
        frequency += np.bincount(counts.indices, minlength=num_words)
        length += int(counts.sum(dtype=np.float64))
    if not length:
        return
    mean_length = np.float64(length / len(documents))
    idf = _lucene_idf(frequency, len(documents)).astype(dtype)
    scale = (
        _okapi_idf(frequency, len(documents)) / _lucene_idf(frequency, len(documents)) if variant == "okapi" else None
    )
    k1 = OKAPI_K1 if variant == "okapi" else LUCENE_K1
    # LanceDB and BM25Okapi share this part of the formula, which depends on the text.
    saturate = _bm25s()._select_tfc_scorer("atire")
    for start in range(0, num_ranked, block_texts):
        counts = _counts(documents, start, min(start + block_texts, num_ranked), num_words, dtype)
        lengths = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
        of_text = np.repeat(lengths, np.diff(counts.indptr))
        saturated = saturate(counts.data, l_d=of_text, l_avg=mean_length, k1=k1, b=BM25_B, delta=None)
        counts.data = (idf[counts.indices] * saturated).astype(dtype)
        if scale is not None:
            counts.data *= scale[counts.indices]
        by_word = counts.T.tocsr()
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            counts = _mapped(counts, directory / f"{start}-by-text")
            by_word = _mapped(by_word, directory / f"{start}-by-word")
        yield WeightBlock(start, by_word=by_word, by_text=counts)


def _counts(
    documents: Sequence[Sequence[int]], start: int, stop: int, num_words: int, dtype: np.dtype[np.floating]
) -> sparse.csr_matrix:
    """How often each text has each word, a row for each text."""
    from scipy import sparse

    texts: list[np.ndarray] | list[Sequence[int]]
    if isinstance(documents, TokenLists):
        texts = [documents.array(index) for index in range(start, stop)]
        numbers = np.concatenate(texts) if texts else np.empty(0, np.int32)
    else:
        texts = [documents[index] for index in range(start, stop)]
        numbers = np.fromiter(chain.from_iterable(texts), np.int32)
    starts = np.cumsum([0, *map(len, texts)])
    counts = sparse.csr_matrix((np.ones(len(numbers), dtype), numbers, starts), (stop - start, num_words))
    counts.sum_duplicates()
    return counts


def _mapped(weights: sparse.csr_matrix, path: Path) -> sparse.csr_matrix:
    """The same weights, with their arrays mapped from files."""
    from scipy import sparse

    arrays = []
    for name in ("data", "indices", "indptr"):
        file = path.with_name(f"{path.name}-{name}.npy")
        np.save(file, getattr(weights, name))
        arrays.append(np.load(file, mmap_mode="r"))
    mapped = sparse.csr_matrix(tuple(arrays), weights.shape, copy=False)
    mapped.has_sorted_indices = mapped.has_canonical_format = True
    return mapped


def _lucene_idf(frequency: Int[np.ndarray, " words"], num_texts: int) -> Float64[np.ndarray, " words"]:
    """Lucene's idf, which is positive for every word, so it can be scaled to any other idf."""
    idf_of = _bm25s()._select_idf_scorer("lucene")
    of_frequency = {df: idf_of(df, N=num_texts) for df in np.unique(frequency).tolist()}
    idf: Float64[np.ndarray, " words"] = np.array([of_frequency[df] for df in frequency.tolist()])
    return idf


def _bm25s() -> Any:  # noqa: ANN401 - an untyped module
    """The formulas of bm25s, which has no public name for them."""
    import bm25s.scoring

    logging.getLogger("bm25s").setLevel(logging.WARNING)  # its import sets DEBUG
    return bm25s.scoring


def _okapi_idf(frequency: Int[np.ndarray, " words"], num_texts: int) -> Float64[np.ndarray, " words"]:
    """BM25Okapi's idf with the floor: a negative idf becomes a share of the mean idf."""
    idf = np.log(num_texts - frequency + 0.5) - np.log(frequency + 0.5)
    common = OKAPI_EPSILON * idf[frequency > 0].mean()
    floored: Float64[np.ndarray, " words"] = np.maximum(np.where(idf < 0, common, idf), MINIMUM_IDF)
    return floored


def rows_of(blocks: Sequence[WeightBlock], texts: Int[np.ndarray, " num"]) -> sparse.csr_matrix:
    """Weights of some texts, a row for each in their order."""
    if len(blocks) == 1:
        return blocks[0].by_text[texts]
    from scipy import sparse

    starts = np.array([block.start for block in blocks])
    block_of = np.searchsorted(starts, texts, side="right") - 1
    order = np.argsort(block_of, kind="stable")
    parts = [blocks[number].by_text[texts[block_of == number] - starts[number]] for number in np.unique(block_of)]
    return sparse.vstack(parts, format="csr")[np.argsort(order)]


def scores_by(
    blocks: Sequence[WeightBlock], said: sparse.csr_matrix, num_texts: int
) -> Float32[np.ndarray, "queries num_texts"]:
    """Scores of all texts for queries, given as counts of words with a row for each query."""
    scores = np.empty((said.shape[0], num_texts), np.float32)
    for block in blocks:
        scores[:, block.start : block.start + block.by_word.shape[1]] = (said @ block.by_word).toarray()
    return scores
