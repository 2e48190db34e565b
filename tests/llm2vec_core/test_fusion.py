import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from llm2vec_core.errors import InputError
from llm2vec_core.fusion import reciprocal_rank_fusion, top_k

rankings = st.lists(st.lists(st.integers(0, 30), unique=True, max_size=15), max_size=4)
scores = npst.arrays(np.float32, st.integers(0, 40), elements=st.sampled_from([-1.0, 0.0, 0.5, 2.0, 7.25]))


def test_the_formula_of_the_paper() -> None:
    fused = dict(reciprocal_rank_fusion([[7, 3], np.array([3, 9])]))
    assert fused == {3: pytest.approx(1 / 62 + 1 / 61), 7: pytest.approx(1 / 61), 9: pytest.approx(1 / 62)}


def test_ties_go_to_the_smaller_number() -> None:
    assert [document for document, _ in reciprocal_rank_fusion([[5, 2], [2, 5]])] == [2, 5]


def test_a_repeated_document_counts_at_its_better_rank() -> None:
    assert reciprocal_rank_fusion([[4, 4, 8]], k=0) == [(4, 1.0), (8, 0.5)]


@given(rankings, st.randoms(use_true_random=False))
def test_the_order_of_the_legs_is_of_no_matter(legs: list[list[int]], random: object) -> None:
    shuffled = legs.copy()
    random.shuffle(shuffled)
    assert reciprocal_rank_fusion(shuffled) == reciprocal_rank_fusion(legs)


@given(rankings)
def test_every_document_appears_once_best_first(legs: list[list[int]]) -> None:
    fused = reciprocal_rank_fusion(legs)
    assert sorted(document for document, _ in fused) == sorted({document for leg in legs for document in leg})
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)


@given(st.lists(st.integers(), unique=True, min_size=1))
def test_one_ranking_stays_as_it_is(ranking: list[int]) -> None:
    assert [document for document, _ in reciprocal_rank_fusion([ranking, ranking])] == ranking


@given(scores, st.integers(0, 50))
def test_top_k_is_a_full_sort_cut_short(row: np.ndarray, k: int) -> None:
    expected = sorted(range(len(row)), key=lambda index: (-row[index], index))[:k]
    assert top_k(row, k).tolist() == expected


def test_top_k_of_rows() -> None:
    matrix = np.array([[1.0, 3.0, 3.0, 0.0], [0.0, 0.0, 0.0, 9.0]])
    assert top_k(matrix, 2).tolist() == [[1, 2], [3, 0]]
    assert top_k(np.empty((3, 0)), 2).shape == (3, 0)


def test_nan_comes_last() -> None:
    assert top_k(np.array([np.nan, 1.0, np.nan, -5.0]), 2).tolist() == [1, 3]


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="-1"):
        reciprocal_rank_fusion([[1]], k=-1)
    with pytest.raises(InputError, match="-2"):
        top_k(np.zeros(3), -2)
