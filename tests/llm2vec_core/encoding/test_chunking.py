"""Long texts in parts: nothing is lost, every part fits, and short texts are unchanged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.documents.headings import SECTION_HEADINGS
from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.chunking import heading_pattern, part_borders, split_sections
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import InputError
from llm2vec_core.model.checkpoint import EncoderSpec

MAX_TOKENS = 24
HEADINGS = heading_pattern(SECTION_HEADINGS)


@pytest.fixture(scope="module")
def encoder(tiny_base, tmp_path_factory):
    directory = tmp_path_factory.mktemp("chunking") / "c"
    write_checkpoint(
        directory,
        backbone=tiny_base,
        spec=EncoderSpec(base_model="tiny", attention="causal", pooling_mode="mean", max_tokens=MAX_TOKENS),
    )
    return Encoder.load(directory, headings=SECTION_HEADINGS)


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
    cut = encoder.encode_with_counts([long, other])
    assert cut.num_truncated == 2
    np.testing.assert_array_equal(cut.vectors[0], cut.vectors[1])
    whole = encoder.encode_with_counts([long, other], long_texts="parts")
    assert whole.num_truncated == 0
    assert np.abs(whole.vectors[0] - whole.vectors[1]).max() > 1e-3


def test_tokens_are_counted_for_each_text(encoder):
    long, short = "nurse on a ward " * 6, "cook"
    cut = encoder.encode_with_counts([short, long, short])
    assert cut.read_tokens.tolist() == [4, MAX_TOKENS, 4]
    assert cut.cut_tokens.tolist() == [0, len(long) - MAX_TOKENS, 0]
    for whole in (encoder.encode_with_counts([short, long, short], long_texts=how) for how in ("parts", "sections")):
        read = whole.read_tokens.tolist()
        assert whole.cut_tokens.tolist() == [0, 0, 0]
        assert read[0] == read[2] == 4
        assert len(long.replace(" ", "")) <= read[1] <= len(long)  # blanks around a part are left out


def test_progress_counts_texts_and_not_their_parts(encoder):
    done = []
    long = " ".join(f"ward {number}" for number in range(40))
    encoder.encode([long, "nurse", "cook"], long_texts="parts", on_progress=done.append, batch_tokens=32)
    assert len(done) > 3
    assert sum(done) == 3


def test_parts_are_averaged_by_their_length(encoder):
    first, second = "a" * 18, "b" * 10
    vectors = encoder.encode([first, second])
    found = encoder.encode(f"{first} {second}", long_texts="parts")[0]
    np.testing.assert_allclose(found, (18 * vectors[0] + 10 * vectors[1]) / 28, atol=1e-5)


def test_texts_that_fit_and_no_texts_stay_as_they_are(encoder):
    texts = ["nurse", "", "cook", "nurse"]
    np.testing.assert_array_equal(encoder.encode(texts, long_texts="parts"), encoder.encode(texts))
    assert encoder.encode([], long_texts="parts").shape == (0, 32)


def test_a_prompt_that_leaves_no_room_is_refused(encoder):
    with pytest.raises(InputError, match="so no text fits"):
        encoder.encode(["x" * 50], prompt="y" * MAX_TOKENS, long_texts="parts")


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
    assert split_sections(RESUME, HEADINGS) == [
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
    assert split_sections(text, HEADINGS) == [text]


@given(st.lists(st.sampled_from(["a", " ", "\n", ".", "Skills:", "Education", "b"]), max_size=12).map("".join))
def test_sections_lose_nothing_but_headings_and_space(text):
    def letters(said):
        return sorted(said.replace("Skills:", "").replace("Education", "").split())

    found = split_sections(text, HEADINGS)
    assert all(section.strip() or section == text for section in found)
    assert len("".join(letters("\n".join(found)))) == len("".join(letters(text)))


def test_each_section_counts_the_same(encoder):
    sections = ["Cook", "Ten years in kitchens.", "Chef at a hotel.\nWaiter.", "I read a lot there.", "Knives."]
    vectors = encoder.encode(sections, long_texts="parts", normalize=True)
    found = encoder.encode([RESUME, "plain", RESUME], long_texts="sections", normalize=True)
    mean = vectors.mean(axis=0)
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_allclose(found[1], encoder.encode("plain", normalize=True)[0], atol=1e-5)


NOTES = """# Setup

Install it.

USAGE
Call it.
## Setup ##
As root."""


def test_any_text_is_split_at_markdown_and_upper_case_headings():
    assert split_sections(NOTES) == ["Install it.\nAs root.", "Call it."]


@pytest.mark.parametrize("text", ["#hashtag first", "AWS", "AWS and GCP", "Skills:\nC", "4 GB RAM", "A\nB"])
def test_what_only_looks_like_a_heading_splits_nothing(text):
    assert split_sections(text) == [text]


def test_an_encoder_without_headings_of_its_own_reads_by_general_ones(tiny_base):
    encoder = Encoder.from_base(tiny_base, max_tokens=MAX_TOKENS)
    parts = encoder.encode(["Install it.\nAs root.", "Call it."], long_texts="parts", normalize=True)
    np.testing.assert_allclose(encoder.encode(NOTES, long_texts="sections")[0], parts.mean(axis=0), atol=1e-6)
    cut = encoder.encode(NOTES, long_texts="sections", dim=8, normalize=True)[0]
    np.testing.assert_allclose(cut, (mean := parts.mean(axis=0)[:8]) / np.linalg.norm(mean), atol=1e-6)
