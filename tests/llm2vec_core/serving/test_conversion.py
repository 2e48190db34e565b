"""Converted encoders: other runtimes return the same vectors in any batching, and errors are detected."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Qwen3Config, Qwen3Model

from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import CheckpointError, InputError, ParityError
from llm2vec_core.model.checkpoint import EncoderSpec
from llm2vec_core.model.modes import EncoderView
from llm2vec_core.serving import conversion as converting
from llm2vec_core.serving.conversion import convert
from llm2vec_core.serving.gguf_file import write_gguf
from llm2vec_core.serving.onnx_graph import encode_with_onnx, require_exporter, write_onnx
from llm2vec_core.serving.parity import LIMITS, PROBE_TEXTS, build_probe, compare, read_probe
from llm2vec_core.serving.portable import servable_model, write_portable
from llm2vec_core.serving.record import read_conversion
from llm2vec_core.serving.runtimes import SERVERS, ServedEncoder

MAX_TOKENS = 64
TEXTS = ["AWS and GCP", "a", "Nurse on the night shift of ward seven", "C++ und Türöffner ✓ 数据", "x" * 60, "AWS"]
needs_onnx = pytest.mark.skipif(
    importlib.util.find_spec("onnxscript") is None or importlib.util.find_spec("onnxruntime") is None,
    reason="the group `serving` is not installed",
)


def build(base: Path, directory: Path, *, attention="bidirectional", pooling_mode="mean", calibration=()) -> Path:
    write_checkpoint(
        directory,
        backbone=base,
        spec=EncoderSpec(base_model="tiny", attention=attention, pooling_mode=pooling_mode, max_tokens=MAX_TOKENS),
        calibration=calibration,
    )
    return directory


@pytest.fixture(scope="module")
def checkpoint(tiny_base, tmp_path_factory) -> Path:
    return build(tiny_base, tmp_path_factory.mktemp("checkpoint") / "c")


@pytest.fixture(scope="module")
def standardised(tiny_base, tmp_path_factory) -> Path:
    texts = [f"text {number} {'word ' * (number % 7)}" for number in range(60)]
    return build(tiny_base, tmp_path_factory.mktemp("standardised") / "c", calibration=texts)


@pytest.fixture(scope="module")
def qwen3(tiny_base, tmp_path_factory) -> Path:
    """Another architecture: norms on queries and keys, head width of its own."""
    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen3Config(
        **size, num_key_value_heads=2, head_dim=16, vocab_size=258, max_position_embeddings=128, initializer_range=0.2
    )
    directory = tmp_path_factory.mktemp("qwen3")
    Qwen3Model(config).save_pretrained(directory)
    AutoTokenizer.from_pretrained(tiny_base, local_files_only=True).save_pretrained(directory)
    return directory


def read_json(path: Path):
    return json.loads(path.read_text())


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
@pytest.mark.parametrize("pooling_mode", ["mean", "weighted_mean", "last", "eos"])
def test_every_view_becomes_a_directory_that_sentence_transformers_loads(checkpoint, tmp_path, attention, pooling_mode):
    from sentence_transformers import SentenceTransformer

    view = EncoderView(attention, pooling_mode)
    expected = Encoder.load(checkpoint, view=view).encode([*TEXTS, "y" * 500], normalize=True)
    found = convert(Encoder.load(checkpoint, view=view), tmp_path / "to", label="tiny", formats=[])
    assert [proof.status for proof in found.proofs if proof.runtime == "sentence-transformers"] == ["proven"]
    model = SentenceTransformer(str(tmp_path / "to"), local_files_only=True)
    # One text is longer than the encoder reads: it is cut where the encoder cuts it, an EOS token behind it included.
    np.testing.assert_allclose(model.encode([*TEXTS, "y" * 500]), expected, atol=1e-5)


def test_the_directory_is_spelled_as_other_readers_know_it(standardised, tmp_path):
    convert(Encoder.load(standardised), tmp_path / "to", label="tiny", formats=[])
    config = read_json(tmp_path / "to" / "config.json")
    assert (config["is_causal"], config["use_bidirectional_attention"]) == (False, True)
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    modules = read_json(tmp_path / "to" / "modules.json")
    names = ["Transformer", "Pooling", "Dense", "Normalize"]
    assert [module["type"] for module in modules] == [f"sentence_transformers.models.{name}" for name in names]
    pooling = read_json(tmp_path / "to" / "1_Pooling" / "config.json")
    assert [name for name, value in pooling.items() if value is True] == ["pooling_mode_mean_tokens", "include_prompt"]
    assert pooling["word_embedding_dimension"] == 32
    assert read_json(tmp_path / "to" / "sentence_bert_config.json")["max_seq_length"] == MAX_TOKENS


def test_half_precision_is_rounding_and_no_more(checkpoint, tmp_path):
    from safetensors import safe_open

    convert(Encoder.load(checkpoint), tmp_path / "to", label="tiny", formats=[], precision="float16")
    with safe_open(tmp_path / "to" / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.float16}  # noqa: SIM118
    proof = read_conversion(tmp_path / "to").proofs[0]
    assert proof.agreement.within(LIMITS["float16"])
    assert not proof.agreement.within(LIMITS["float32"])


def pad(texts: list[str], tokenizer, *, side: str, to: int) -> dict[str, np.ndarray]:
    tokenizer.padding_side = side
    return dict(tokenizer(texts, padding="max_length", max_length=to, return_tensors="np"))


@needs_onnx
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter's own code
@pytest.mark.parametrize(
    ("attention", "pooling_mode", "base"),
    [
        ("bidirectional", "mean", "standardised"),
        ("causal", "weighted_mean", "tiny_base"),
        ("bidirectional", "eos", "checkpoint"),
        ("bidirectional", "weighted_mean", "qwen3"),
        ("causal", "last", "qwen3"),
    ],
)
def test_the_graph_gives_a_text_its_vector_in_any_batch(request, tmp_path, attention, pooling_mode, base):
    """Alone or not, of any length, padded on either side, far or not at all."""
    import onnxruntime

    directory = request.getfixturevalue(base)
    if not (directory / "modules.json").is_file():
        directory = build(directory, tmp_path / "c", attention=attention, pooling_mode=pooling_mode)
    view = EncoderView(attention, pooling_mode) if base == "checkpoint" else None
    expected = Encoder.load(directory, view=view).encode(TEXTS, normalize=True)
    model = servable_model(Encoder.load(directory, view=view), prompts={})
    graph = write_onnx(model, tmp_path / "onnx")
    tokenizer = model.tokenizer
    np.testing.assert_allclose(
        encode_with_onnx(graph, TEXTS, tokenizer=tokenizer, max_tokens=MAX_TOKENS), expected, atol=1e-5
    )
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    for side in ("left", "right"):
        for chosen, to in ((range(6), 64), (range(6), 100), ([1], 1 + (pooling_mode == "eos")), ([0, 2], 70)):
            batch = pad([TEXTS[index] for index in chosen], tokenizer, side=side, to=to)
            (found,) = session.run(None, {name: batch[name] for name in ("input_ids", "attention_mask")})
            np.testing.assert_allclose(found, expected[list(chosen)], atol=1e-5, err_msg=f"{side} {to}")


def test_another_attention_or_pooling_would_be_noticed(checkpoint):
    """The proof tells a bidirectional encoder from its causal twin, and mean from last pooling."""
    probe = build_probe(Encoder.load(checkpoint))
    for view in (EncoderView("causal"), EncoderView(pooling_mode="last"), EncoderView(pooling_mode="weighted_mean")):
        agreement = compare(probe, Encoder.load(checkpoint, view=view).encode(list(probe.texts)))
        assert not agreement.within(LIMITS["float16"]), view
        assert agreement.min_cosine < 0.99
    assert compare(probe, Encoder.load(checkpoint).encode(list(probe.texts))).within(LIMITS["float32"])


def test_a_conversion_that_is_wrong_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    honest = converting.write_portable

    def forgetful(model, directory, **settings):
        honest(model, directory, **settings | {"attention": "causal"})

    monkeypatch.setattr(converting, "write_portable", forgetful)
    with pytest.raises(ParityError, match=r"sentence-transformers .*failed: cosine 0\."):
        convert(Encoder.load(checkpoint), tmp_path / "to", label="tiny", formats=[])
    assert list(tmp_path.iterdir()) == []


def test_an_empty_text_has_a_stand_in_where_no_token_is_left_of_it(checkpoint, tmp_path):
    convert(Encoder.load(checkpoint), tmp_path / "to", label="tiny", formats=[])
    probe = read_probe(tmp_path / "to")
    assert probe.empty_text == "<eos>"
    assert probe.texts[PROBE_TEXTS.index("")] == "<eos>"
    np.testing.assert_allclose(
        probe.vectors[PROBE_TEXTS.index("")], Encoder.load(checkpoint).encode("", normalize=True)[0], atol=1e-6
    )
    assert "send `<eos>`" in (tmp_path / "to" / "README.md").read_text()


@pytest.mark.parametrize("broken", [np.nan, np.inf, 0.0])
def test_vectors_that_are_none_agree_with_nothing(checkpoint, broken):
    probe = build_probe(Encoder.load(checkpoint))
    vectors = np.array(probe.vectors, dtype=np.float32)
    vectors[3] = broken
    agreement = compare(probe, vectors)
    assert not agreement.within(LIMITS["float16"])
    assert agreement.min_cosine == 0
    with pytest.raises(InputError, match=r"shape \[14, 31\]"):
        compare(probe, vectors[:, 1:])


def test_what_no_runtime_does_is_refused(checkpoint, tmp_path):
    with pytest.raises(InputError, match="twice"):
        convert(Encoder.load(checkpoint, view=EncoderView(echo=True)), tmp_path / "to", label="tiny")
    (tmp_path / "to").mkdir()
    with pytest.raises(InputError, match="exists already"):
        convert(Encoder.load(checkpoint), tmp_path / "to", label="tiny")
    with pytest.raises(CheckpointError, match="not a converted encoder"):
        read_conversion(tmp_path / "to")


def test_missing_packages_are_named_with_how_to_get_them(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="onnx and onnxscript") as caught:
        require_exporter()
    assert "'llm2vec-pipelines[serving]'" in caught.value.hint


def test_servers_are_told_what_they_cannot_do():
    encoder = ServedEncoder("weightedmean", has_dense=False, max_tokens=512, dtype="float32")
    assert all("no pooling `weightedmean`" in server.obstacle(encoder) for server in SERVERS)
    dense = ServedEncoder("mean", has_dense=True, max_tokens=512, dtype="float32")
    assert [server.name for server in SERVERS if server.obstacle(dense)] == ["llama.cpp"]


@pytest.fixture(scope="module")
def with_merges(tiny_base, tmp_path_factory) -> Path:
    """A base model whose tokenizer splits digits and merges some letters, as SmolLM2's does."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<eos>", *alphabet[:-3], "he", "th", "the"])}
    merges = [("h", "e"), ("t", "h"), ("t", "he")]
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<sep>", special=True)]})
    directory = tmp_path_factory.mktemp("with_merges")
    model = AutoModelForCausalLM.from_pretrained(tiny_base, local_files_only=True)
    model.resize_token_embeddings(264)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.mark.parametrize(
    ("attention", "pooling_mode"), [("bidirectional", "mean"), ("causal", "last"), ("bidirectional", "eos")]
)
def test_a_gguf_file_holds_the_weights_the_tokens_and_what_decides_the_vectors(
    with_merges, tmp_path, attention, pooling_mode
):
    """Read back by gguf and, for the order of the rotary dimensions, by transformers."""
    import gguf
    from transformers import AutoModel

    directory = build(with_merges, tmp_path / "c", attention=attention)
    encoder = Encoder.load(directory, view=EncoderView(pooling_mode=pooling_mode))
    convert(encoder, tmp_path / "to", label="tiny", formats=["gguf"])
    reader = gguf.GGUFReader(tmp_path / "to" / "encoder.gguf")
    held = {name: field.contents() for name, field in reader.fields.items()}
    assert held["llama.attention.causal"] is (attention == "causal")
    assert held["llama.pooling_type"] == (gguf.PoolingType.MEAN if pooling_mode == "mean" else gguf.PoolingType.LAST)
    assert held.get("tokenizer.ggml.add_eos_token", False) is (pooling_mode == "eos")
    assert held["tokenizer.ggml.pre"] == "smollm"
    assert held["tokenizer.ggml.merges"] == ["h e", "t h", "t he"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "to", local_files_only=True)
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert held["tokenizer.ggml.tokens"][: len(tokens)] == tokens
    assert len(held["tokenizer.ggml.tokens"]) == 264
    special = [tokens[index] for index, kind in enumerate(held["tokenizer.ggml.token_type"]) if kind == 3]
    assert special == ["<pad>", "<eos>", "<sep>"]

    written = AutoModel.from_pretrained(tmp_path / "to", local_files_only=True).state_dict()
    read_back = AutoModel.from_pretrained(tmp_path / "to", gguf_file="encoder.gguf", local_files_only=True).state_dict()
    for name, weights in written.items():
        torch.testing.assert_close(read_back[name], weights, rtol=0, atol=0)


@pytest.mark.parametrize("fault", ["changed", "left over", "missing", "cut"])
def test_a_gguf_file_that_does_not_hold_the_weights_is_refused(with_merges, tmp_path, monkeypatch, fault):
    """The file is read back after it was written, as from a disk that lost something."""
    import gguf

    def write(self):
        write_tensors(self)
        if fault == "cut":
            path.write_bytes(path.read_bytes()[:-200])

    def add(self, name, weights):
        if fault == "changed" and name == "output_norm.weight":
            weights = weights + 1
        if fault != "missing" or name != "output_norm.weight":
            add_tensor(self, name, weights)
        if fault == "left over" and name == "output_norm.weight":
            add_tensor(self, "blk.0.attn_norm.bias", weights)

    path = tmp_path / "encoder.gguf"
    add_tensor, write_tensors = gguf.GGUFWriter.add_tensor, gguf.GGUFWriter.write_tensors_to_file
    encoder = Encoder.load(build(with_merges, tmp_path / "c"))
    model = servable_model(encoder, prompts={})
    write_portable(model, tmp_path, attention=encoder.attention, precision="float32")
    monkeypatch.setattr(gguf.GGUFWriter, "add_tensor", add)
    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", write)
    with pytest.raises(ParityError, match="cannot be read back" if fault == "cut" else f"{fault}: "):
        write_gguf(model, tmp_path, attention="bidirectional", pooling="mean", precision="float32")


def test_what_is_no_plain_llama_is_left_to_llama_cpp_s_converter(qwen3, checkpoint, standardised, tmp_path):
    other = Encoder.load(build(qwen3, tmp_path / "c"))
    with pytest.raises(InputError, match="qwen3") as caught:
        convert(other, tmp_path / "to", label="tiny", formats=["gguf"])
    assert "convert_hf_to_gguf.py" in caught.value.hint
    with pytest.raises(InputError, match="weightedmean"):
        convert(
            Encoder.load(checkpoint, view=EncoderView(pooling_mode="weighted_mean")),
            tmp_path / "to",
            label="tiny",
            formats=["gguf"],
        )
    with pytest.raises(InputError, match="linear layer"):
        convert(Encoder.load(standardised), tmp_path / "to", label="tiny", formats=["gguf"])
    assert not (tmp_path / "to").exists()
