"""Packed rows: nothing overlaps, nothing is lost, and texts in the same row do not affect each other."""

import contextlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoTokenizer

from llm2vec_core.training import contrastive, packing
from llm2vec_core.training.contrastive import add_adapter, contrastive_encoder
from llm2vec_core.training.packing import pack_rows
from llm2vec_core.training.settings import SimcseSettings

SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
DECODERS = {
    "llama": SIZE,
    "mistral": SIZE | {"num_key_value_heads": 2, "sliding_window": 128},
    "gemma2": SIZE | {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 128},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "gpt_neox": SIZE,
    "opt": {
        **{"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"word_embed_proj_dim": 32, "max_position_embeddings": 128},
    },
}
TEXTS = ["nurse", "head of the surgical ward at night", "cook", "a driver of trams", "judge, retired"] * 3


@pytest.fixture
def padded_only(monkeypatch):
    """A way to have the same batch padded."""

    def run(function):
        with monkeypatch.context() as patch:
            patch.setattr(packing, "_can_pack", lambda model, longest: False)
            return function()

    return run


def save_decoder(model_type, directory, tokenizer_of, **changes):
    tokens = {"vocab_size": 258, "pad_token_id": None, "bos_token_id": None, "eos_token_id": 1}
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model(model_type, **tokens | DECODERS[model_type] | changes)).save_pretrained(
        directory
    )
    AutoTokenizer.from_pretrained(tokenizer_of, local_files_only=True).save_pretrained(directory)
    return directory


def encoder(directory, *, attention, implementation=None, padding_side="right"):
    model = contrastive_encoder(directory, attention=attention, pooling_mode="mean", max_tokens=48, name="tiny")
    if implementation:
        model[0].model.set_attn_implementation(implementation)
    model.tokenizer.padding_side = padding_side
    return model.eval()


def vectors_and_gradient(model):
    """Vectors of the texts, and what a loss over them asks of the first linear weight."""
    model.zero_grad()
    vectors = model(model.preprocess(TEXTS))["sentence_embedding"]
    functional.cross_entropy(vectors @ vectors.T, torch.arange(len(TEXTS)).flip(0)).backward()
    weight = next(weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embed" not in name)
    return vectors.detach(), weight.grad.clone()


def rows_seen(model):
    """Shapes of what enters the transformer in one forward pass."""
    shapes = []
    hook = (
        model[0]
        .model.get_input_embeddings()
        .register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
    )
    with torch.no_grad():
        model(model.preprocess(TEXTS))
    hook.remove()
    return shapes


@given(lengths=st.lists(st.integers(1, 64), min_size=1, max_size=60))
def test_texts_do_not_overlap_and_no_row_has_room_for_a_whole_other_row(lengths):
    starts, num_rows = pack_rows(lengths, row_length=64)
    taken = [slot for start, length in zip(starts, lengths, strict=True) for slot in range(start, start + length)]
    assert len(set(taken)) == len(taken)
    assert all(start // 64 == (start + length - 1) // 64 for start, length in zip(starts, lengths, strict=True))
    assert {slot // 64 for slot in taken} == set(range(num_rows))
    used = [sum(slot // 64 == row for slot in taken) for row in range(num_rows)]
    assert all(one + other > 64 for index, one in enumerate(used) for other in used[:index])


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("model_type", DECODERS)
def test_packed_vectors_and_gradients_are_those_of_a_padded_batch(
    model_type, attention, tiny_base, tmp_path, padded_only
):
    directory = save_decoder(model_type, tmp_path, tiny_base)
    model = encoder(directory, attention=attention)
    assert rows_seen(model) != padded_only(lambda: rows_seen(model))
    expected = padded_only(lambda: vectors_and_gradient(model))
    torch.testing.assert_close(vectors_and_gradient(model), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_any_padding_side_and_kind_of_mask_will_do(implementation, padding_side, tiny_base, padded_only):
    model = encoder(tiny_base, attention="bidirectional", implementation=implementation, padding_side=padding_side)
    expected = padded_only(lambda: vectors_and_gradient(model))
    torch.testing.assert_close(vectors_and_gradient(model), expected, atol=1e-5, rtol=1e-4)


def test_a_window_that_cuts_a_text_is_left_to_the_model(tiny_base, tmp_path, padded_only):
    directory = save_decoder("mistral", tmp_path, tiny_base, sliding_window=8)
    model = encoder(directory, attention="bidirectional")
    assert rows_seen(model) == padded_only(lambda: rows_seen(model))


def test_texts_of_one_length_stay_as_they_are(tiny_base, padded_only):
    model = encoder(tiny_base, attention="bidirectional")
    features = model.preprocess(["x" * 40] * 3)
    with torch.no_grad():
        packed = model(dict(features))["sentence_embedding"]
        padded = padded_only(lambda: model(dict(features))["sentence_embedding"])
    assert torch.equal(packed, padded)


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("model_type", DECODERS)
def test_vectors_and_gradients_by_borders_are_those_of_a_padded_batch(
    model_type, attention, tiny_base, tmp_path, padded_only, monkeypatch
):
    """The way of a GPU: all texts in one row, with their borders instead of a mask."""
    model = encoder(save_decoder(model_type, tmp_path, tiny_base), attention=attention)
    expected = padded_only(lambda: vectors_and_gradient(model))
    monkeypatch.setattr(packing.PackedTransformer, "borders", True)
    total = int(model.preprocess(TEXTS)["attention_mask"].sum())
    has_capped_scores = model_type == "gemma2"
    assert (rows_seen(model) == [(1, total)]) is not has_capped_scores
    torch.testing.assert_close(vectors_and_gradient(model), expected, atol=1e-5, rtol=1e-4)


def test_weights_stay_in_host_memory_until_they_are_cast(tiny_base, monkeypatch):
    """A device never holds the frozen weights in fp32: the trainer moves them after the cast."""
    monkeypatch.setattr("sentence_transformers.base.model.get_device_name", lambda: "meta", raising=False)
    monkeypatch.setattr("sentence_transformers.util.get_device_name", lambda: "meta")
    model = encoder(tiny_base, attention="bidirectional")
    add_adapter(model, SimcseSettings(bf16=True))
    assert model.device.type == "cpu"
    linear = model[0].model.layers[0].self_attn.q_proj
    assert linear.base_layer.weight.dtype == torch.bfloat16
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}


def test_the_encoder_of_a_mixed_training_encodes_in_its_precision(tiny_base, monkeypatch):
    """Hard negatives and an own teacher are encoded with the weights that are trained, cast once."""
    model = encoder(tiny_base, attention="bidirectional")
    moved = []
    monkeypatch.setattr(contrastive, "default_device", lambda: torch.device("meta"))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
    monkeypatch.setattr(
        type(model), "to", lambda self, device: moved.append((device, self[0].model.layers[0].mlp.up_proj.weight.dtype))
    )
    with contrastive.encoding_on_device(model, SimcseSettings(bf16=True)):
        pass
    assert moved == [(torch.device("meta"), torch.bfloat16)]
