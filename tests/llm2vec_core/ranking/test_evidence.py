import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from llm2vec_core.errors import InputError
from llm2vec_core.ranking.evidence import SkillFinder, near_threshold, nearest_pairs, split_sentences

cosines = npst.arrays(
    np.float64, st.tuples(st.integers(0, 6), st.integers(0, 6)), elements=st.sampled_from([-1.0, 0.0, 0.5, 0.75, 1.0])
)
NAMES = {
    "SQL": ("SQL", "structured query language"),
    "SQL Server": ("SQL Server", "SQL"),
    "Access": ("Access",),
    "C++": ("C++",),
    "Java (computer programming)": ("Java (computer programming)", "Java"),
    "front-end development": ("front-end development",),
}


def find(text: str) -> dict[str, str]:
    return SkillFinder(NAMES, everyday={"access"}).find(text)


def test_sentences_lines_and_bullets() -> None:
    text = "Runs AWS. Knows C++, e.g. on Linux!\nSkills\n\n- SQL\n\u2022 Java \u2022 .NET\n***\n"
    assert split_sentences(text) == ["Runs AWS.", "Knows C++, e.g.", "on Linux!", "Skills", "- SQL", "Java", ".NET"]


@given(st.text(alphabet="ab .\n-\u2022!"))
def test_no_letter_is_lost(text: str) -> None:
    kept = "".join(split_sentences(text))
    assert [c for c in kept if c.isalpha()] == [c for c in text if c.isalpha()]


@given(cosines, st.integers(0, 8))
def test_each_sentence_is_in_one_pair_and_no_nearer_pair_was_left(matrix: np.ndarray, limit: int) -> None:
    pairs = nearest_pairs(matrix, limit)
    assert len(pairs) == min(limit, *matrix.shape)
    for side in ("left", "right"):
        assert len({getattr(pair, side) for pair in pairs}) == len(pairs)
    left = matrix.copy()
    for pair in pairs:
        assert pair.cosine == matrix[pair.left, pair.right] == left.max()
        left[pair.left] = left[:, pair.right] = -np.inf


def test_a_sentence_is_near_when_it_is_nearer_than_to_other_skills() -> None:
    background = np.array([[0.90, 0.10], [0.20, 0.91], [0.92, 0.0], [0.3, 0.93]])
    assert near_threshold(background, 0.5) == 0.92  # a share of the skills, by their nearest sentence
    assert near_threshold(background, 1.0) == 0.93
    with pytest.raises(InputError, match="none"):
        near_threshold(background[:, :0], 0.5)


def test_the_longest_name_counts_and_its_words_are_used_up() -> None:
    assert find("Tuned SQL Server and JAVA") == {"SQL Server": "SQL Server", "Java (computer programming)": "Java"}
    assert find("SQL, then SQL Server") == {"SQL": "SQL", "SQL Server": "SQL Server"}
    assert find("structured query languages") == {}


def test_a_shared_name_stands_for_the_skill_whose_label_it_is() -> None:
    reversed_names = dict(reversed(NAMES.items()))
    assert SkillFinder(reversed_names).find("sql") == {"SQL": "SQL"}


def test_only_whole_words_are_names() -> None:
    assert find("JavaScript, MySQL, C, accessible") == {}
    assert list(find("C++/SQL; front-end development")) == ["C++", "SQL", "front-end development"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("machine learning-based ranking", ["machine learning"]),
        ("Machine-learning models", ["machine learning"]),
        ("AI/machine learning/SQL", ["machine learning", "SQL"]),
        ("non\u2011machine\u2010learning", ["machine learning"]),
        ("front end development", ["front-end development"]),
        ("frontend development", ["front-end development"]),
        ("SQL Server-to-cloud", ["SQL Server"]),
        ("machine tools, learning", []),
        ("pick up the phone and make up", []),
        ("machinelearning", []),
    ],
)
def test_names_are_found_in_compounds(text: str, names: list[str]) -> None:
    known = {**NAMES, "machine learning": [], "make-up": []}
    assert list(SkillFinder(known).find(text)) == names


def test_an_everyday_word_is_a_name_only_as_it_is_written() -> None:
    assert find("has access to SQL") == {"SQL": "SQL"}
    assert find("Reports in MS Access.") == {"Access": "Access"}


@given(st.lists(st.sampled_from(sorted(NAMES)), unique=True))
def test_every_label_is_found_by_itself(labels: list[str]) -> None:
    assert list(find(" ; ".join(labels))) == labels
