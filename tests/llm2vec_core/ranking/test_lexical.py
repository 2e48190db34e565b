from collections import Counter
from functools import partial

import bm25s
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi
from scipy import sparse

from llm2vec_core.ranking import lexical
from llm2vec_core.ranking.bm25_weights import LUCENE_K1, weigh
from llm2vec_core.ranking.lexical import LexicalIndex, ReferenceIndex, TokenLists, number_words
from llm2vec_core.ranking.words import tokenize

TEXTS = [
    "We need a nurse for the night shift in Leeds",
    "Senior nurse, day shift, surgery ward",
    "Python developer for cloud systems",
    "Java developer; Python is a plus",
    "Warehouse operative, night work",
    "Chef for a small restaurant kitchen",
    "Teacher of mathematics at a primary school",
    "Driver with a licence for heavy vehicles",
    "Accountant, part time, remote",
    "Gardener in a public park",
]


VARIANTS = ("okapi", "lucene")
SMALL_TEXTS = st.lists(
    st.sampled_from(["nurse", "nurse ward", "ward ward night", "", "chef", "T-SQL", "a a a a nurse"]), max_size=9
)


def index_of(texts: list[str], variant: str = "lucene") -> LexicalIndex:
    return LexicalIndex.of_texts(texts, variant=variant)


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_are_apart(variant: str) -> None:
    index = index_of(["C", "C++", "C#", "R&D", "C-level executive", "plain"], variant)
    assert np.flatnonzero(index.scores("C")).tolist() == [0]
    assert np.flatnonzero(index.scores("c++")).tolist() == [1]
    assert np.flatnonzero(index.scores("C#")).tolist() == [2]
    assert not index.scores("R").any()


@pytest.mark.parametrize(
    ("query", "text", "other"),
    [
        ("10+ years", "10+ years of nursing", "years of nursing"),
        ("10 years", "10+ years of nursing", "years of nursing"),
        ("B.Sc.", "B.Sc. in physics", "M.Sc. in physics"),
        ("m.sc.", "M.Sc. in physics", "B.Sc. in physics"),
        ("PhD", "PhD in history", "history"),
        ("Ph.D.", "Ph.D. in history", "history"),
        ("CI/CD", "owns CI/CD", "owns CI"),
        ("CI", "owns CI/CD", "owns"),
        ("T-SQL", "writes T-SQL", "writes SQL"),
        ("PL/SQL", "writes PL/SQL", "writes SQL"),
        (".NET", "builds .NET services", "builds net services"),
        ("Node.js", "Node.js services", "services"),
        ("front end", "front-end work", "end work"),
        ("frontend", "front-end work", "front work end"),
        ("front-end", "frontend work", "work"),
        ("BSc", "B.Sc. in physics", "physics"),
        ("B.Sc.", "BSc in physics", "physics"),
        ("NodeJS", "Node.js services", "services"),
        ("Go", "writes Go", "writes"),
        ("IT", "IT support", "support"),
        ("R", "R and statistics", "R&D statistics"),
    ],
)
def test_years_degrees_and_names_are_found_before_what_resembles_them(query: str, text: str, other: str) -> None:
    scores = index_of([other, text, "cooks"]).scores(query)
    assert scores.argmax() == 1
    assert scores[1] > 0


def test_a_part_finds_its_compound_and_the_other_way_round() -> None:
    index = index_of(["front-end work", "SQL queries", "T-SQL queries", "gardening"])
    assert index.scores("front end")[0] > 0
    assert index.scores("SQL")[2] > 0
    assert index.scores("T-SQL").argmax() == 2


def reference_scores(texts: list[str], query: str, variant: str) -> np.ndarray:
    """What rank-bm25 says, with Lucene's idf and k1 where they are asked for."""
    tokenized = [tokenize(text) for text in texts]
    if not any(tokenized):
        return np.zeros(len(texts))
    if variant == "okapi":
        return ReferenceIndex(texts).scores(query)
    bm25 = BM25Okapi(tokenized, k1=1.2)
    frequency = Counter(word for words in tokenized for word in set(words))
    bm25.idf = {word: np.log(1 + (len(texts) - df + 0.5) / (df + 0.5)) for word, df in frequency.items()}
    return bm25.get_scores(tokenize(query))


QUERIES = ["python developer", "night nurse nurse", "a", "no such words whatsoever", "surgery", ""]


@pytest.mark.parametrize("query", QUERIES)
def test_okapi_is_rank_bm25(query: str) -> None:
    """No floor is at work in these texts: the scores are those of the library as it is."""
    library = BM25Okapi([tokenize(text) for text in TEXTS]).get_scores(tokenize(query))
    scores = index_of(TEXTS, "okapi").scores(query)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, library, rtol=1e-6)
    np.testing.assert_allclose(ReferenceIndex(TEXTS).scores(query), library, rtol=1e-6)


@given(texts=SMALL_TEXTS, query=st.sampled_from(["nurse", "nurse nurse ward", "night chef sql a", "gardener", ""]))
@pytest.mark.parametrize("variant", VARIANTS)
def test_sparse_products_score_as_rank_bm25_does(variant: str, texts: list[str], query: str) -> None:
    expected = reference_scores(texts, query, variant)
    np.testing.assert_allclose(index_of(texts, variant).scores(query), expected, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("texts", [[], [""], ["", "--"], ["--"] * 3])
def test_nothing_to_index_scores_zero(texts: list[str], variant: str) -> None:
    index = index_of(texts, variant)
    assert index.scores("nurse").tolist() == [0.0] * len(texts)
    assert ReferenceIndex(texts).scores("nurse").tolist() == [0.0] * len(texts)
    if texts:
        assert index.matched_terms("nurse", 0) == []
        assert ReferenceIndex(texts).score("nurse", 0) == 0


@pytest.mark.parametrize("variant", VARIANTS)
@given(st.lists(st.sampled_from(["nurse", "nurse ward", "ward", "", "chef"]), max_size=6))
def test_a_match_always_scores_above_no_match(variant: str, texts: list[str]) -> None:
    scores = index_of(texts, variant).scores("nurse")
    assert [score > 0 for score in scores.tolist()] == ["nurse" in text for text in texts]


@given(texts=SMALL_TEXTS, query=st.sampled_from(["nurse", "nurse nurse ward", "night chef sql", "gardener", ""]))
def test_the_score_of_one_text_is_its_score_among_all(texts: list[str], query: str) -> None:
    index = ReferenceIndex(texts)
    scores = [index.score(query, position) for position in range(len(texts))]
    assert scores == pytest.approx(index.scores(query).tolist(), rel=1e-6)


def test_matched_terms_are_ordered_by_contribution() -> None:
    index = index_of(TEXTS)
    assert index.matched_terms("a Python chef in Java", 3) == ["java", "python", "a"]  # rare before common
    assert index.matched_terms("surgery", 0) == []


@given(texts=SMALL_TEXTS, query=st.lists(st.sampled_from(["nurse", "ward", "night", "chef", "a", "sql"]), max_size=6))
def test_matched_words_are_the_shared_ones(texts: list[str], query: list[str]) -> None:
    index = index_of(texts)
    numbers = index.numbers(" ".join(query))
    word_of = {number: word for word, number in index.vocabulary.items()}
    found = index.matched_words(numbers, range(len(texts)))
    for text, words in zip(texts, found, strict=True):
        assert len(words) == len(set(words))
        assert {word_of[word] for word in words} == set(tokenize(" ".join(query))) & set(tokenize(text))
    assert index.matched_words(numbers, range(len(texts)), limit=1) == [words[:1] for words in found]


def test_texts_may_lie_in_one_flat_array_in_another_order() -> None:
    vocabulary: dict[str, int] = {}
    numbers = [number_words(tokenize(text), vocabulary) for text in TEXTS]
    lengths = np.array([len(each) for each in numbers])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    backwards = TokenLists(np.concatenate(numbers).astype(np.int32), starts[::-1], lengths[::-1])
    assert list(backwards) == numbers[::-1]
    index = LexicalIndex(backwards, vocabulary)
    np.testing.assert_array_equal(index.scores("night nurse"), index_of(TEXTS).scores("night nurse")[::-1])


@given(
    texts=SMALL_TEXTS,
    queries=st.lists(st.lists(st.sampled_from(["nurse", "ward", "night", "chef", "a"]), max_size=6), max_size=4),
)
def test_queries_are_scored_together_as_alone(texts: list[str], queries: list[list[str]]) -> None:
    index = index_of(texts)
    together = index.scores_of([index.numbers(" ".join(query)) for query in queries])
    assert together.shape == (len(queries), len(texts))
    for query, scores in zip(queries, together, strict=True):
        np.testing.assert_array_equal(scores, index.scores(" ".join(query)))
        by_word = [index.scores(word) for word in query]
        np.testing.assert_allclose(scores, np.sum(by_word, axis=0) if by_word else 0.0, rtol=1e-5)


def test_a_word_that_came_after_the_texts_were_weighed_is_refused() -> None:
    index = index_of(TEXTS)
    with pytest.raises(ValueError, match="indices"):
        index.scores_of([[len(index.vocabulary)]])


def long_texts(num_texts: int) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [np.minimum(rng.zipf(1.3, size=rng.integers(0, 60)) - 1, 499).tolist() for _ in range(num_texts)]


@pytest.mark.parametrize("block_texts", [1000, 70])
def test_weights_have_the_bits_of_bm25s_in_blocks_of_any_size(block_texts: int) -> None:
    texts = long_texts(200)
    engine = bm25s.BM25(method="atire", idf_method="lucene", k1=LUCENE_K1, b=0.75, backend="numpy", csc_backend="scipy")
    vocabulary = {str(number): number for number in range(500)}
    engine.index(bm25s.tokenization.Tokenized(texts, vocabulary), create_empty_token=False, show_progress=False)
    columns = [engine.scores[name] for name in ("data", "indices", "indptr")]
    blocks = list(weigh(texts, 500, "lucene", num_ranked=200, block_texts=block_texts))
    assert len(blocks) == -(-200 // block_texts)
    found = np.hstack([block.by_word.toarray() for block in blocks])
    np.testing.assert_array_equal(found, sparse.csr_matrix(tuple(columns), (500, 200)).toarray())


def test_weights_in_files_score_and_explain_as_weights_in_memory(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory holds no weights then; blocks of texts do not change a bit."""
    texts, vocabulary = long_texts(200), {str(number): number for number in range(500)}
    whole = LexicalIndex(texts, vocabulary, num_ranked=180)
    monkeypatch.setattr(lexical, "weigh", partial(weigh, block_texts=70))
    mapped = LexicalIndex(texts, vocabulary, num_ranked=180, directory=tmp_path / "weights")
    np.testing.assert_array_equal(mapped.scores_of(texts[:20]), whole.scores_of(texts[:20]))
    picked = [175, 3, 71, 139, 140, 3]
    assert mapped.matched_words(texts[5], picked, limit=4) == whole.matched_words(texts[5], picked, limit=4)
    arrays = [
        array
        for block in mapped._blocks
        for each in (block.by_word, block.by_text)
        for array in (each.data, each.indices)
    ]
    assert len(arrays) == 12
    assert not any(array.flags.owndata for array in arrays), "they are views of files"
