"""The path of a GPU, on the CPU: windows, batches in flight, packed rows, full memory."""

import logging
import threading

import numpy as np
import pytest
import torch

from llm2vec_core.encoding import forward
from llm2vec_core.encoding.batching import plan_batches
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.encoding.pipeline import padded_ahead, tokenized_ahead
from llm2vec_core.errors import DeviceError, DeviceMemoryError
from llm2vec_core.model.modes import ATTENTIONS

TEXTS = [f"nurse {'night shift ' * (number % 7)}{number}" for number in range(23)]


@pytest.fixture(scope="module", params=ATTENTIONS)
def encoder(request, tiny_base):
    return Encoder.from_base(tiny_base, attention=request.param, max_tokens=128, device="cpu")


def as_on_a_device(monkeypatch, *, packs):
    """Take the way of a device, with its tensors on the CPU."""

    monkeypatch.setattr(forward, "WINDOW_TEXTS", 5)
    monkeypatch.setattr(forward, "is_cpu", lambda model: False)
    monkeypatch.setattr(forward.ForwardPass, "packs", property(lambda self: packs))


@pytest.mark.parametrize("packs", [False, True])
def test_vectors_of_the_device_path_equal_those_of_a_padded_batch(encoder, monkeypatch, packs):
    expected = encoder.encode_with_counts(TEXTS)
    as_on_a_device(monkeypatch, packs=packs)
    done = []
    found = encoder.encode_with_counts(TEXTS, batch_tokens=256, on_progress=done.append)
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=2e-6)
    np.testing.assert_array_equal(found.read_tokens, expected.read_tokens)
    assert sum(done) == len(set(TEXTS))


def test_packed_states_have_gradients_of_padded_ones(tiny_base):
    """Dropout aside, training may use either way."""
    from transformers import AutoModel

    from llm2vec_core.device.varlen import packed_states

    model = AutoModel.from_pretrained(tiny_base).eval()
    model.config.is_causal = False
    ids, lengths = torch.arange(2, 14), [3, 7, 2]
    packed = packed_states(model, ids, lengths, causal=False)
    alone = torch.cat([model(input_ids=part[None]).last_hidden_state[0] for part in ids.split(lengths)])
    torch.testing.assert_close(packed, alone, atol=2e-6, rtol=1e-5)
    weight = model.layers[0].self_attn.k_proj.weight
    (of_packed,), (of_alone,) = (torch.autograd.grad(states.square().sum(), weight) for states in (packed, alone))
    torch.testing.assert_close(of_packed, of_alone, atol=1e-4, rtol=1e-4)
    assert model.config._attn_implementation == "sdpa"


def test_windows_are_tokenized_one_ahead():
    """The tokens of the second window are made while the first one is used."""
    from concurrent.futures import ThreadPoolExecutor

    made = {text: threading.Event() for text in "abc"}

    class Tokenizer:
        def texts(self, texts, *, prompt, pool_prompt):
            made[texts[0]].set()
            return texts

    with ThreadPoolExecutor(1) as ahead:
        windows = tokenized_ahead(ahead, Tokenizer(), ["a", "b", "c"], window=1, prompt="", pool_prompt=True)
        numbers, tokens = next(windows)
        assert (numbers, tokens) == ([0], ["a"])
        assert made["b"].wait(10)
        assert not made["c"].is_set()
        assert [numbers for numbers, _ in windows] == [[1], [2]]


def test_batches_are_padded_one_ahead():
    from concurrent.futures import ThreadPoolExecutor

    padded = []
    with ThreadPoolExecutor(1) as ahead:
        batches = padded_ahead(ahead, lambda ids: padded.append(ids) or {"ids": ids}, [[1], [2], [3]], [[2], [0, 1]])
        assert list(batches) == [([2], {"ids": [[3]]}), ([0, 1], {"ids": [[1], [2]]})]
    assert padded == [[[3]], [[1], [2]]]


def test_a_device_fills_its_batches():
    lengths = list(range(4, 300))
    assert len(plan_batches(lengths, batch_tokens=65_536)) > 20
    assert len(plan_batches(lengths, batch_tokens=65_536, enough_tokens=65_536)) == 2


def test_a_batch_beyond_the_memory_is_halved_and_nothing_is_lost(encoder, monkeypatch, caplog):
    expected = encoder.encode(TEXTS)
    states_of = forward.ForwardPass.states_of

    def small(self, padded, *, packs=False):
        if len(padded["input_ids"]) > 3:
            raise torch.OutOfMemoryError("out of memory. Tried to allocate 1 GiB")
        return states_of(self, padded, packs=packs)

    monkeypatch.setattr(forward.ForwardPass, "states_of", small)
    with caplog.at_level(logging.WARNING):
        found = encoder.encode(TEXTS)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert "it is halved" in caplog.text


@pytest.mark.parametrize(
    ("fault", "expected", "hint"),
    [
        (torch.OutOfMemoryError("out of memory"), DeviceMemoryError, "encode.token_budget"),
        (torch.AcceleratorError("CUDA error: device lost"), DeviceError, "what was written stays"),
    ],
)
def test_a_text_beyond_the_memory_and_a_lost_device_are_errors(encoder, monkeypatch, fault, expected, hint):
    def fail(self, padded, *, packs=False):
        raise fault

    monkeypatch.setattr(forward.ForwardPass, "states_of", fail)
    with pytest.raises(expected) as failed:
        encoder.encode(TEXTS[:4])
    assert hint in failed.value.hint


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_vectors_of_the_cpu(tiny_base):
    on_cpu = Encoder.from_base(tiny_base, max_tokens=128, precision="fp32", device="cpu").encode(TEXTS, normalize=True)
    exact = Encoder.from_base(tiny_base, max_tokens=128, precision="fp32", device="cuda").encode(TEXTS, normalize=True)
    np.testing.assert_allclose(exact, on_cpu, atol=1e-4)
    packed = Encoder.from_base(tiny_base, max_tokens=128, device="cuda")
    assert packed.forward.packs
    assert (packed.encode(TEXTS, normalize=True) * on_cpu).sum(axis=1).min() > 0.999
