from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.encoding.tokenizing import FIRST_COPY, SECOND_COPY, echo_text
from llm2vec_core.errors import InputError
from llm2vec_core.model.checkpoint import EncoderSpec
from llm2vec_core.model.modes import EncoderView

NUM_TEMPLATE_TOKENS = len(FIRST_COPY) + len(SECOND_COPY)


@pytest.fixture(scope="module")
def build(tiny_base, tmp_path_factory):
    def build(max_tokens: int, pooling_mode: str = "mean") -> Path:
        directory = tmp_path_factory.mktemp("echo") / "c"
        write_checkpoint(
            directory,
            backbone=tiny_base,
            spec=EncoderSpec(base_model="tiny", attention="causal", pooling_mode=pooling_mode, max_tokens=max_tokens),
        )
        return directory

    return build


@pytest.fixture(scope="module")
def checkpoint(build) -> Path:
    return build(256)


@pytest.fixture(scope="module")
def echo(checkpoint) -> Encoder:
    return Encoder.load(checkpoint, view=EncoderView(echo=True))


@torch.inference_mode()
def second_copy_states(base: Path, text: str, *, prompt: str = "", eos: bool = False) -> np.ndarray:
    """States of the second copy, in an echo that is written out here (every byte is a token)."""
    whole = f"{prompt}Rewrite the sentence: {text}\nRewritten sentence: {text}"
    ids = AutoTokenizer.from_pretrained(base, local_files_only=True)(whole)["input_ids"] + [1] * eos
    states = AutoModel.from_pretrained(base, local_files_only=True).eval()(input_ids=torch.tensor([ids]))
    return states.last_hidden_state[0, -(len(text.encode()) + eos) :].numpy()


def test_only_the_second_copy_is_pooled(echo, tiny_base):
    vectors = echo.encode(["nurse", "Türöffner ✓", "a much longer text than the others"])
    for vector, text in zip(vectors, ["nurse", "Türöffner ✓"], strict=False):
        np.testing.assert_allclose(vector, second_copy_states(tiny_base, text).mean(axis=0), atol=1e-5)


def test_the_pooling_is_that_of_the_view(checkpoint, tiny_base):
    states = second_copy_states(tiny_base, "nurse", eos=True)
    weights = np.arange(1, 6)[:, None]
    by_hand = {
        "last": states[-2],
        "eos": states[-1],
        "weighted_mean": (states[:-1] * weights).sum(axis=0) / weights.sum(),
    }
    for pooling_mode, expected in by_hand.items():
        encoder = Encoder.load(checkpoint, view=EncoderView(pooling_mode=pooling_mode, echo=True))
        np.testing.assert_allclose(encoder.encode("nurse")[0], expected, atol=1e-5)


def test_the_first_token_of_the_second_copy_has_seen_the_end_of_the_text(tiny_base):
    """What echo is for: under causal attention a first token sees nothing of a text."""
    one, other = (second_copy_states(tiny_base, text)[0] for text in ("nurse a", "nurse b"))
    assert np.abs(one - other).max() > 1e-4


def test_the_prompt_stands_in_front_once_and_is_not_pooled(echo, tiny_base):
    found = echo.encode("nurse", prompt="Job: ")[0]
    np.testing.assert_allclose(found, second_copy_states(tiny_base, "nurse", prompt="Job: ").mean(axis=0), atol=1e-5)
    np.testing.assert_array_equal(found, echo.encode("nurse", prompt="Job: ", pool_prompt=False)[0])


def test_braces_in_a_text_are_text():
    assert echo_text("{text}{0}") == f"{FIRST_COPY}{{text}}{{0}}{SECOND_COPY}{{text}}{{0}}"


def test_both_copies_of_a_long_text_are_cut_alike(build):
    encoder = Encoder.load(build(NUM_TEMPLATE_TOKENS + 21), view=EncoderView(echo=True))
    encoding = encoder.encode_with_counts(["abcdefghij", "abcdefghijk", "abcdefghij" * 9, "✓✓✓✓✓✓✓✓✓"])
    assert encoding.num_truncated == 3
    assert encoding.num_tokens <= 4 * encoder.max_tokens
    np.testing.assert_allclose(encoding.vectors[1:3], encoding.vectors[[0, 0]], atol=1e-5)
    np.testing.assert_allclose(encoding.vectors[3], encoder.encode("✓✓✓")[0], atol=1e-5)


def test_a_cut_echo_has_room_for_its_eos_token(build, tiny_base):
    directory = build(NUM_TEMPLATE_TOKENS + 11)
    encoding = Encoder.load(directory, view=EncoderView(pooling_mode="eos", echo=True)).encode_with_counts(["abcdefgh"])
    assert (encoding.num_truncated, encoding.num_tokens) == (1, NUM_TEMPLATE_TOKENS + 11)
    np.testing.assert_allclose(encoding.vectors[0], second_copy_states(tiny_base, "abcde", eos=True)[-1], atol=1e-5)


def test_an_encoder_that_is_too_short_for_an_echo_says_so(build):
    encoder = Encoder.load(build(NUM_TEMPLATE_TOKENS + 1), view=EncoderView(echo=True))
    with pytest.raises(InputError, match=f"needs {NUM_TEMPLATE_TOKENS} tokens"):
        encoder.encode("nurse")
