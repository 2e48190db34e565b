import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from llm2vec_core.lexical import LexicalIndex, tokenize

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


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("C", "c"),
        ("C++", "c++"),
        ("C#", "c#"),
        ("F#", "f#"),
        (".NET", ".net"),
        ("Node.js", "node.js"),
        ("R", "r"),
        ("Go", "go"),
        ("IT", "it"),
        ("CI/CD", "ci/cd"),
        ("T-SQL", "t-sql"),
        ("PL/SQL", "pl/sql"),
        ("front-end", "front-end"),
    ],
)
def test_names_of_the_domain_survive_a_sentence(text: str, expected: str) -> None:
    for sentence in (f"We use {text}.", f"({text})", f"{text}, and more", f"Skills: {text};", f"'{text}'?", text):
        assert expected in tokenize(sentence), sentence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("C/C++/C#", ["c/c++/c#", "c", "c++", "c#"]),
        ("R/Python", ["r/python", "r", "python"]),
        ("R&D", ["r&d"]),
        ("C-level", ["c-level", "level"]),
        ("front-end", ["front-end", "front", "end"]),
        ("front\u2011end", ["front-end", "front", "end"]),
        ("ASP.NET", ["asp.net", "asp", ".net"]),
        ("version 3.11.", ["version", "3.11"]),
        ("17+ years", ["17", "years"]),
        ("issue #5", ["issue", "5"]),
        ("the driver's licence", ["the", "driver", "licence"]),
        ("Wait...and see", ["wait", "and", "see"]),
        ("cafe\u0301", ["café"]),
        ("  \n-- / ..", []),
    ],
)
def test_tokens(text: str, expected: list[str]) -> None:
    assert tokenize(text) == expected


def test_names_are_apart() -> None:
    index = LexicalIndex(["C", "C++", "C#", "R&D", "C-level executive", "plain"])
    assert np.flatnonzero(index.scores("C")).tolist() == [0]
    assert np.flatnonzero(index.scores("c++")).tolist() == [1]
    assert np.flatnonzero(index.scores("C#")).tolist() == [2]
    assert not index.scores("R").any()


def test_a_part_finds_its_compound_and_the_other_way_round() -> None:
    index = LexicalIndex(["front-end work", "SQL queries", "T-SQL queries", "gardening"])
    assert index.scores("front end")[0] > 0
    assert index.scores("SQL")[2] > 0
    assert index.scores("T-SQL").argmax() == 2


@pytest.mark.parametrize("query", ["python developer", "night nurse nurse", "a", "no such words whatsoever", ""])
def test_scores_equal_rank_bm25(query: str) -> None:
    reference = BM25Okapi([tokenize(text) for text in TEXTS]).get_scores(tokenize(query))
    scores = LexicalIndex(TEXTS).scores(query)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, reference, atol=1e-5)


@pytest.mark.parametrize("texts", [[], [""], ["", "--"], ["--"] * 3])
def test_nothing_to_index_scores_zero(texts: list[str]) -> None:
    index = LexicalIndex(texts)
    assert index.scores("nurse").tolist() == [0.0] * len(texts)
    if texts:
        assert index.matched_terms("nurse", 0) == []


@given(st.lists(st.sampled_from(["nurse", "nurse ward", "ward", "", "chef"]), max_size=6))
def test_a_match_always_scores_above_no_match(texts: list[str]) -> None:
    scores = LexicalIndex(texts).scores("nurse")
    assert [score > 0 for score in scores.tolist()] == ["nurse" in text for text in texts]


@given(
    texts=st.lists(
        st.sampled_from(["nurse", "nurse ward", "ward ward night", "", "chef", "T-SQL"]), min_size=1, max_size=8
    ),
    query=st.sampled_from(["nurse", "nurse nurse ward", "night chef sql", "gardener", ""]),
)
def test_the_score_of_one_text_is_its_score_among_all(texts: list[str], query: str) -> None:
    index = LexicalIndex(texts)
    scores = [index.score(query, position) for position in range(len(texts))]
    assert scores == pytest.approx(index.scores(query).tolist(), rel=1e-6)


@pytest.mark.parametrize("query", ["python developer", "night nurse nurse", "surgery", "no such words whatsoever"])
def test_the_score_of_one_text_equals_rank_bm25(query: str) -> None:
    reference = BM25Okapi([tokenize(text) for text in TEXTS]).get_scores(tokenize(query))
    index = LexicalIndex(TEXTS)
    assert [index.score(query, position) for position in range(len(TEXTS))] == pytest.approx(reference, abs=1e-5)


def test_matched_terms_are_ordered_by_contribution() -> None:
    index = LexicalIndex(TEXTS)
    assert index.matched_terms("a Python chef in Java", 3) == ["java", "python", "a"]  # rare before common
    assert index.matched_terms("surgery", 0) == []


@given(st.text())
def test_any_text_has_clean_tokens(text: str) -> None:
    for token in tokenize(text):
        assert token
        assert not any(character.isspace() for character in token)
