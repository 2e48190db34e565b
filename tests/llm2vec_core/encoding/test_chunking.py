"""Long texts in parts: nothing is lost, everything fits, and what fits anyway stays as it was."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm2vec_core.encoding.chunking import part_borders, split_sections
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import InputError
from llm2vec_core.model.checkpoint import write_checkpoint

MAX_TOKENS = 24


@pytest.fixture(scope="module")
def encoder(tiny_base, tmp_path_factory):
    directory = tmp_path_factory.mktemp("chunking") / "c"
    write_checkpoint(
        directory,
        backbone=tiny_base,
        base_model="tiny",
        attention="causal",
        pooling_mode="mean",
        max_tokens=MAX_TOKENS,
    )
    return Encoder.load(directory)


@given(st.text(alphabet="ab \n", min_size=1, max_size=60), st.integers(1, 9))
def test_parts_make_the_text_and_none_has_too_many_tokens(text, max_tokens):
    spans = [(place, place + 1) for place in range(len(text))]
    borders = list(part_borders(text, spans, max_tokens=max_tokens))
    assert "".join(text[start:end] for start, end in borders) == text
    assert all(0 < end - start <= max_tokens for start, end in borders)


def test_a_text_is_cut_between_words():
    text = "one two three four"
    spans = [(place, place + 1) for place in range(len(text))]
    parts = [text[start:end].strip() for start, end in part_borders(text, spans, max_tokens=8)]
    assert parts == ["one two", "three", "four"]


def test_the_end_of_a_long_text_counts(encoder):
    long, other = "nurse on a ward " * 6, "nurse on a ward " * 5 + "cook in a canteen "
    cut = encoder.encode_counted([long, other])
    assert cut.num_truncated == 2
    np.testing.assert_array_equal(cut.vectors[0], cut.vectors[1])
    whole = encoder.encode_in_parts([long, other])
    assert whole.num_truncated == 0
    assert np.abs(whole.vectors[0] - whole.vectors[1]).max() > 1e-3


def test_parts_are_averaged_by_their_length(encoder):
    first, second = "a" * 18, "b" * 10
    vectors = encoder.encode([first, second])
    found = encoder.encode_in_parts([f"{first} {second}"]).vectors[0]
    np.testing.assert_allclose(found, (18 * vectors[0] + 10 * vectors[1]) / 28, atol=1e-5)


def test_texts_that_fit_and_no_texts_stay_as_they_are(encoder):
    texts = ["nurse", "", "cook", "nurse"]
    np.testing.assert_array_equal(encoder.encode_in_parts(texts).vectors, encoder.encode(texts))
    assert encoder.encode_in_parts([]).vectors.shape == (0, 32)


def test_a_prompt_that_leaves_no_room_is_refused(encoder):
    with pytest.raises(InputError, match="no part of a text fits"):
        encoder.encode_in_parts(["x" * 50], prompt="y" * MAX_TOKENS)


RESUME = """Cook
Summary
Ten years in kitchens.
EXPERIENCE:
Chef at a hotel. Education: I read a lot there.
Skills & Tools
Knives.
Work History
Waiter."""


def test_a_resume_is_split_at_its_headings():
    assert split_sections(RESUME) == [
        "Cook",
        "Ten years in kitchens.",
        "Chef at a hotel.\nWaiter.",
        "I read a lot there.",
        "Knives.",
    ]


@pytest.mark.parametrize(
    "text", ["", "No heading at all.", "My experience with education: good", "Skills matter", "Skills:\n", "summary"]
)
def test_a_text_without_sections_is_one(text):
    assert split_sections(text) == [text]


@given(st.lists(st.sampled_from(["a", " ", "\n", ".", "Skills:", "Education", "b"]), max_size=12).map("".join))
def test_sections_lose_nothing_but_headings_and_space(text):
    def letters(said):
        return sorted(said.replace("Skills:", "").replace("Education", "").split())

    found = split_sections(text)
    assert all(section.strip() or section == text for section in found)
    assert len("".join(letters("\n".join(found)))) == len("".join(letters(text)))


def test_each_section_counts_the_same(encoder):
    sections = ["Cook", "Ten years in kitchens.", "Chef at a hotel.\nWaiter.", "I read a lot there.", "Knives."]
    vectors = encoder.encode_in_parts(sections, normalize=True).vectors
    found = encoder.encode_in_sections([RESUME, "plain", RESUME], normalize=True).vectors
    mean = vectors.mean(axis=0)
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_allclose(found[1], encoder.encode("plain", normalize=True)[0], atol=1e-5)
