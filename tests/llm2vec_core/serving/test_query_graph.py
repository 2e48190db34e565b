"""Query encoders: the vectors of the encoder without torch, for Llama's family and BERT; others get a reason."""

import importlib.util
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    MistralConfig,
    MistralModel,
    Qwen2Config,
    Qwen2Model,
    Qwen3Config,
    Qwen3Model,
)

from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import CheckpointError, InputError, ParityError
from llm2vec_core.model.modes import EncoderView
from llm2vec_core.serving import query_nodes
from llm2vec_core.serving.parity import PROBE_TEXTS
from llm2vec_core.serving.query_encoder import QUERY_GRAPH_NAME, OnnxEncoder
from llm2vec_core.serving.query_graph import write_query_graph
from tests.llm2vec_core.serving.test_conversion import build

SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL = {**SIZE, "num_key_value_heads": 2, "vocab_size": 258, "max_position_embeddings": 128, "initializer_range": 0.2}
TEXTS = [*PROBE_TEXTS, "SKILLS\nSQL and C++\nEXPERIENCE\n" + "Rebuilt the platform. " * 20]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("onnx") is None or importlib.util.find_spec("onnxruntime") is None,
    reason="the extra `serving` is not installed",
)


def base_of(model, tiny_base, directory) -> Path:
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(tiny_base, local_files_only=True).save_pretrained(directory)
    return directory


def require_equal(directory: Path) -> None:
    encoder = Encoder.load(directory, device="cpu")
    described = write_query_graph(lambda: encoder, directory, directory)
    assert described.max_abs_diff <= 1e-5
    found = OnnxEncoder.load(directory)
    assert found.described == described
    for mode in ("cut", "parts", "sections"):
        expected = encoder.encode(TEXTS, long_texts=mode, normalize=True)
        np.testing.assert_allclose(found.encode(TEXTS, long_texts=mode), expected, atol=1e-5, err_msg=mode)
    np.testing.assert_allclose(found.encode(TEXTS[0]), encoder.encode(TEXTS[0], normalize=True), atol=1e-5)
    assert (directory / QUERY_GRAPH_NAME).stat().st_size < 100_000, "the weights are not copied"


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("pooling_mode", ["mean", "weighted_mean", "last"])
def test_a_llama_of_any_reading_is_equal(tiny_base, tmp_path, attention, pooling_mode):
    require_equal(build(tiny_base, tmp_path / "c", attention=attention, pooling_mode=pooling_mode))


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (MistralConfig(**SMALL, sliding_window=None), MistralModel),
        (Qwen2Config(**SMALL), Qwen2Model),
        (Qwen3Config(**SMALL, head_dim=16), Qwen3Model),
        (BertConfig(**SIZE, vocab_size=258), BertModel),
    ],
    ids=["mistral", "qwen2", "qwen3", "bert"],
)
def test_other_architectures_are_equal(tiny_base, tmp_path, config, model):
    torch.manual_seed(0)
    made = model(config)
    for name, parameter in made.named_parameters():
        if name.endswith("bias") or "norm" in name:  # they begin as zeros and ones, which would hide a mistake
            torch.nn.init.normal_(parameter)
    require_equal(build(base_of(made, tiny_base, tmp_path / "base"), tmp_path / "c"))


def test_a_standardised_encoder_is_equal(tiny_base, tmp_path):
    texts = [f"text {number} {'word ' * (number % 7)}" for number in range(60)]
    require_equal(build(tiny_base, tmp_path / "c", calibration=texts))


@pytest.fixture(scope="module")
def checkpoint(tiny_base, tmp_path_factory) -> Path:
    return build(tiny_base, tmp_path_factory.mktemp("checkpoint") / "c")


def test_a_graph_with_other_vectors_is_removed(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(query_nodes.DecoderGraph, "_rotated", lambda self, states, norm, num_heads: states)
    with pytest.raises(ParityError, match="differs from the encoder"):
        write_query_graph(lambda: Encoder.load(checkpoint, device="cpu"), checkpoint, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_encoders_without_a_graph_are_named(checkpoint, tiny_base, tmp_path):
    def reason(encoder, directory):
        with pytest.raises(InputError) as caught:
            write_query_graph(lambda: encoder, directory, tmp_path)
        assert not (tmp_path / QUERY_GRAPH_NAME).exists()
        return str(caught.value)

    for view in (EncoderView(echo=True), EncoderView(pooling_mode="eos")):
        assert "way to read" in reason(Encoder.load(checkpoint, view=view, device="cpu"), checkpoint)
    gpt = base_of(GPT2Model(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=258)), tiny_base, tmp_path / "gpt")
    directory = build(gpt, tmp_path / "made", attention="causal")
    assert "the architecture gpt2" in reason(Encoder.load(directory, device="cpu"), directory)
    config = json.loads((checkpoint / "config.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    config["rope_parameters"]["rope_type"] = "yarn"
    (other / "config.json").write_text(json.dumps(config))
    assert "the positions yarn" in reason(Encoder.load(checkpoint, device="cpu"), other)


def test_a_damaged_graph_is_named(checkpoint, tmp_path):
    (tmp_path / QUERY_GRAPH_NAME).write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match="cannot be used"):
        OnnxEncoder.load(checkpoint, graph=tmp_path / QUERY_GRAPH_NAME)


def test_threads_get_what_one_gets(checkpoint):
    write_query_graph(lambda: Encoder.load(checkpoint, device="cpu"), checkpoint, checkpoint)
    found = OnnxEncoder.load(checkpoint)
    alone = [found.encode(text, long_texts=mode) for text in TEXTS for mode in ("cut", "parts")]
    with ThreadPoolExecutor(8) as pool:
        asked = [(text, mode) for text in TEXTS for mode in ("cut", "parts")] * 3
        together = list(pool.map(lambda each: found.encode(each[0], long_texts=each[1]), asked))
    np.testing.assert_allclose(np.concatenate(together), np.concatenate(alone * 3), atol=1e-6)


def test_a_query_is_encoded_without_torch(checkpoint):
    write_query_graph(lambda: Encoder.load(checkpoint, device="cpu"), checkpoint, checkpoint)
    script = (
        "import sys; from pathlib import Path; from llm2vec_core.serving.query_encoder import OnnxEncoder; "
        f"print(OnnxEncoder.load(Path({str(checkpoint)!r})).encode('a', long_texts='parts').shape); "
        "assert not {'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "(1, 32)\n"
