"""Each text is encoded once per prompt, in bounded memory, without unnecessary loading."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm2vec_core.encoding.result import Encoding
from llm2vec_core.errors import CoreError
from llm2vec_core.evaluation.api import _cut_notes
from llm2vec_core.evaluation.protocols.encode_once import EncodeOnce, EncodingCost

VECTOR_BYTES = 32 * 4
"""Size of a vector of the tests' encoder."""


class Prompted:
    """Every text is the length of its prompt and its own; notes every call."""

    fingerprint = "prompted"
    embedding_dim = 2

    def __init__(self) -> None:
        self.calls: list[tuple[str | None, list[str]]] = []

    def encode_with_counts(self, texts: list[str], *, prompt: str | None = None, pool_prompt: bool = True) -> Encoding:
        assert pool_prompt == (not prompt), "a prompt is read, and the text alone pooled"
        self.calls.append((prompt, list(texts)))
        vectors = np.array([[len(prompt or ""), len(text)] for text in texts], dtype=np.float32)
        return Encoding(vectors, num_tokens=3 * len(texts), num_padded_tokens=0, num_truncated=0)


def _once(encoder: Any, **options: Any) -> EncodeOnce:
    return EncodeOnce(encoder.fingerprint, lambda: encoder, **options)


def test_distinct_texts_are_encoded_once_and_come_in_their_order(encoder: Any, make_encoder: Any) -> None:
    once, texts = _once(encoder), ["chef", "nurse", "chef", "driver", "nurse"]
    first, second = once.encode(texts), once.encode(texts[::-1])
    assert encoder.encoded == ["chef", "nurse", "driver"]
    expected = make_encoder().encode(texts)
    assert np.array_equal(first, expected) and np.array_equal(second, expected[::-1])
    assert first.dtype == np.float32


def test_known_and_new_texts_mix(encoder: Any, make_encoder: Any) -> None:
    once = _once(encoder)
    once.encode(["chef", "nurse"])
    mixed = ["driver", "chef", "teacher", "nurse"]
    assert np.array_equal(once.encode(mixed), make_encoder().encode(mixed))
    assert encoder.encoded == ["chef", "nurse", "driver", "teacher"]


def test_another_prompt_encodes_again() -> None:
    encoder = Prompted()
    once = _once(encoder)
    for prompt, width in ((None, 0), ("query: ", 7), ("", 0), ("query: ", 7), (None, 0)):
        assert once.encode(["ab"], prompt=prompt).tolist() == [[width, 2]]
    assert [prompt for prompt, _ in encoder.calls] == [None, "query: ", ""]


def test_nothing_is_loaded_without_new_texts(encoder: Any) -> None:
    loads = []

    def load() -> Any:
        loads.append(1)
        return encoder

    once = EncodeOnce("any", load)
    assert not loads
    once.encode(["chef", "nurse"])
    assert len(loads) == 1
    once.encode(["nurse", "chef"])
    once.encode(["nurse"])
    assert len(loads) == 1
    once.encode(["driver", "nurse"])
    assert len(loads) == 2


def test_no_texts_are_an_empty_matrix(encoder: Any) -> None:
    once = _once(encoder)
    empty = once.encode([])
    assert (empty.shape, empty.dtype) == ((0, 32), np.float32)
    assert (encoder.encoded, once.cost) == ([], EncodingCost())


def test_beyond_the_budget_texts_are_encoded_again_and_nothing_is_lost(encoder: Any, make_encoder: Any) -> None:
    once = _once(encoder, max_bytes=2 * VECTOR_BYTES)
    once.encode(["chef", "nurse"])
    once.encode(["driver"])  # no room is left
    everything = ["driver", "chef", "nurse"]
    assert np.array_equal(once.encode(everything), make_encoder().encode(everything))
    assert encoder.encoded == ["chef", "nurse", "driver", "driver"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    batches=st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6), min_size=1, max_size=6),
    room=st.integers(0, 8),
)
def test_any_budget_gives_the_same_vectors_and_is_kept(make_encoder: Any, batches: list[list[str]], room: int) -> None:
    encoder, reference = make_encoder(dim=4), make_encoder(dim=4)
    once = _once(encoder, max_bytes=room * 4 * 4)
    for batch in batches:
        assert np.array_equal(once.encode(batch), reference.encode(batch))
    asked = sorted({text for batch in batches for text in batch})
    before = len(encoder.encoded)
    assert np.array_equal(once.encode(asked), reference.encode(asked))
    num_remembered = len(asked) - (len(encoder.encoded) - before)
    assert 0 <= num_remembered <= room


def test_costs_add_up() -> None:
    encoder = Prompted()
    once = _once(encoder)
    once.encode(["a", "b", "a"])
    first = once.cost
    assert (first.num_texts, first.num_tokens) == (2, 6)
    assert first.seconds > 0
    once.encode(["b", "c"])
    assert (once.cost.num_texts, once.cost.num_tokens) == (3, 9)
    since = once.cost - first
    assert (since.num_texts, since.num_tokens) == (1, 3) and since.seconds > 0
    assert first + since == EncodingCost(3, 9, pytest.approx(once.cost.seconds))
    before = once.cost
    once.encode(["a", "b", "c"])
    assert once.cost == before


def test_sentences_of_words_count_as_texts_and_words(encoder: Any) -> None:
    once = _once(encoder)
    sentences = [["the", "chef", "works"], ["a", "nurse"]]
    assert once.encode_words(sentences).shape == (5, 32)
    assert (once.cost.num_texts, once.cost.num_tokens) == (2, 5)
    assert not np.array_equal(once.encode_words(sentences, label_shift=True), once.encode_words(sentences))


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused_every_time(wrong: float) -> None:
    class Diverged(Prompted):
        fingerprint = "diverged-7"

        def encode_with_counts(
            self, texts: list[str], *, prompt: str | None = None, pool_prompt: bool = True
        ) -> Encoding:
            return Encoding(np.full((len(texts), 2), wrong, dtype=np.float32), 0, 0, 0)

        def encode_words(self, sentences: list[list[str]], *, label_shift: bool = False) -> np.ndarray:
            return np.full((2, 2), wrong, dtype=np.float32)

    once = _once(Diverged())
    for _ in range(2):  # a refused vector is not remembered
        with pytest.raises(CoreError, match="diverged-7") as caught:
            once.encode(["a"])
    assert "training" in caught.value.hint
    with pytest.raises(CoreError, match="diverged-7"):
        once.encode_words([["a", "b"]])


def test_tokens_that_were_cut_are_part_of_the_cost_and_a_note_of_the_report() -> None:
    class Cutting(Prompted):
        def encode_with_counts(self, texts: list[str], **options: Any) -> Encoding:
            found = super().encode_with_counts(texts, **options)
            return replace(found, cut_tokens=np.array([len(text) for text in texts], dtype=np.int32))

    once = _once(Cutting())
    once.encode(["ab", "abcd", "ab"])
    assert (once.cost.num_tokens, once.cost.num_cut_tokens) == (6, 6)
    once.encode(["abc"])
    spent = once.cost - EncodingCost(2, 6, 0.0, 6)
    assert (spent.num_tokens, spent.num_cut_tokens) == (3, 3)

    def noted(num_cut: int) -> list[str]:
        score = SimpleNamespace(task="STS", num_tokens=990, num_cut_tokens=num_cut)
        return _cut_notes([SimpleNamespace(report=SimpleNamespace(name="MiniLM", scores=[score]))])

    assert noted(0) == noted(10) == []
    assert noted(11)[0].startswith(
        "MiniLM read 990 of 1,001 tokens of the texts that it encoded for STS; 1.1% were cut."
    )
