"""Base models: adapter directories are accepted, and chat templates do not change texts."""

import importlib.metadata
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import BaseModelError, CheckpointError
from llm2vec_core.model.architectures import base_attention
from llm2vec_core.model.base_models import _BUNDLED, _BUNDLED_ADAPTERS, _join_mpnet, base_content, fetch_base_model
from llm2vec_core.model.bidirectional import attention_overrides, measured_attention
from llm2vec_core.model.checkpoint import EncoderSpec
from llm2vec_core.model.derived import prune_layers
from llm2vec_core.model.lora import LoraSettings, lora_config
from llm2vec_core.training.contrastive import contrastive_encoder

TEMPLATE = "{% for message in messages %}<system>You are helpful.</system>{{ message['content'] }}{% endfor %}"


@pytest.fixture
def chat_base(tiny_base, tmp_path):
    """A base model whose tokenizer has a chat template, as those of instructed models have."""
    directory = tmp_path / "chat"
    shutil.copytree(tiny_base, directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(directory)
    return directory


def test_a_chat_template_wraps_no_training_text(chat_base):
    model = contrastive_encoder(chat_base, attention="causal", pooling_mode="mean", max_tokens=16, name="chat").eval()
    features = model.preprocess(["nurse", "cook"])
    assert features["attention_mask"].sum(dim=1).tolist() == [len("nurse"), len("cook")]


def test_a_checkpoint_of_a_chat_model_loads_anywhere_with_equal_vectors(chat_base, tmp_path):
    directory = tmp_path / "checkpoint"
    write_checkpoint(
        directory,
        backbone=chat_base,
        spec=EncoderSpec(base_model="chat", attention="bidirectional", pooling_mode="mean", max_tokens=64),
    )
    texts = ["nurse", "a longer text about a cook"]
    anywhere = SentenceTransformer(str(directory), local_files_only=True).encode(texts)
    np.testing.assert_allclose(Encoder.load(directory).encode(texts), anywhere, atol=1e-5)


def test_an_encoder_that_wraps_its_texts_in_a_chat_template_is_refused(chat_base, tmp_path):
    SentenceTransformer(str(chat_base), local_files_only=True).save(str(tmp_path / "wrapping"))
    with pytest.raises(CheckpointError, match="chat template"):
        Encoder.load(tmp_path / "wrapping")


@pytest.fixture
def adapter(tiny_base, tmp_path):
    torch.manual_seed(1)
    model = AutoModel.from_pretrained(tiny_base, dtype=torch.float32)
    peft = get_peft_model(model, lora_config(LoraSettings(rank=2), model))
    for name, parameter in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    peft.save_pretrained(tmp_path / "adapter")
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": str(tiny_base)}))
    return tmp_path / "adapter", peft


def test_an_adapter_is_merged_into_the_model_it_names_once(adapter, tiny_base, tmp_path):
    directory, peft = adapter
    merged = fetch_base_model(str(directory), cache_dir=tmp_path / "cache")
    assert fetch_base_model(str(directory), cache_dir=tmp_path / "cache") == merged
    tokens = torch.arange(2, 12).unsqueeze(0)
    with torch.inference_mode():
        expected = peft.eval()(input_ids=tokens).last_hidden_state
        causal = AutoModelForCausalLM.from_pretrained(merged).eval()
        found = causal.base_model(input_ids=tokens).last_hidden_state
        before = AutoModel.from_pretrained(tiny_base).eval()(input_ids=tokens).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - before).abs().max() > 1e-3


@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_an_adapter_brings_the_attention_that_is_stated_beside_it(attention, adapter, tmp_path):
    directory, _ = adapter
    without = fetch_base_model(str(directory), cache_dir=tmp_path / "cache")
    (directory / "config.json").write_text(json.dumps(attention_overrides(attention)))
    merged = fetch_base_model(str(directory), cache_dir=tmp_path / "cache")
    assert (base_attention(without), base_attention(merged)) == ("causal", attention)
    assert measured_attention(AutoModel.from_pretrained(merged)) == attention


def test_an_adapter_without_weights_is_refused(adapter, tmp_path):
    directory, _ = adapter
    (directory / "adapter_model.safetensors").unlink()
    with pytest.raises(BaseModelError, match="holds no adapter_model"):
        fetch_base_model(str(directory), cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("name", list(_BUNDLED_ADAPTERS))
def test_an_adapter_that_ships_names_a_bundled_base_and_is_whole(name):
    directory = _BUNDLED_ADAPTERS[name]
    settings = json.loads((directory / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] in _BUNDLED, "no path of the machine that trained it"
    weights = load_file(directory / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert any(tensor.abs().max() > 0 for key, tensor in weights.items() if "lora_B" in key)


@pytest.mark.parametrize(("name", "extra"), [("smollm2-135m", "bundled"), ("gemma3-270m", "gemma")])
def test_a_bundled_model_without_its_package_names_the_extra(name, extra, tmp_path, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(BaseModelError, match="is not installed") as caught:
        fetch_base_model(f"bundled:{name}", cache_dir=tmp_path)
    assert f"[{extra}]" in caught.value.hint


def test_a_directory_is_known_by_its_weights(tmp_path):
    """Trained further under its path it is another model; touched or described anew it is the same."""
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(3 << 20))
    before = base_content(str(tmp_path))
    (tmp_path / "README.md").write_text("described")
    weights.touch()
    assert base_content(str(tmp_path)) == before is not None
    weights.write_bytes(bytes((3 << 20) - 1) + b"1")
    assert base_content(str(tmp_path)) != before
    assert base_content("bundled:smollm2-135m") is base_content("nobody/nothing") is None


def test_an_adapter_of_fewer_layers_is_merged_into_the_first_layers_of_its_base(tiny_base, tmp_path):
    model = prune_layers(AutoModel.from_pretrained(tiny_base), 1, name="tiny")
    adapted = get_peft_model(model, lora_config(LoraSettings(rank=2), model)).eval()
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    adapted.peft_config["default"].base_model_name_or_path = str(tiny_base)
    adapted.save_pretrained(tmp_path / "adapter")
    model.config.save_pretrained(tmp_path / "adapter")
    merged = AutoModel.from_pretrained(fetch_base_model(str(tmp_path / "adapter"), cache_dir=tmp_path / "cache"))
    assert len(merged.layers) == merged.config.num_hidden_layers == 1
    ids = torch.arange(2, 9)[None]
    with torch.no_grad():
        torch.testing.assert_close(merged(ids)[0], adapted(ids)[0], atol=1e-5, rtol=1e-5)


@pytest.fixture
def model_in_parts(tiny_base, tmp_path):
    """A model in an archive of three parts, each in a package, as all-mpnet-base-v2 is published."""
    archive = Path(shutil.make_archive(str(tmp_path / "whole"), "zip", tiny_base.parent, tiny_base.name)).read_bytes()
    third = len(archive) // 3
    pieces = (archive[:third], archive[third : 2 * third], archive[2 * third :])
    parts = [tmp_path / f"model-part_{number:03}" / "input" / f"model.zip.{number:03}" for number in (1, 2, 3)]
    for part, piece in zip(parts, pieces, strict=True):
        part.parent.mkdir(parents=True)
        part.write_bytes(piece)
    return parts


def test_a_model_in_parts_is_joined_once(model_in_parts, tiny_base, tmp_path):
    joined = _join_mpnet(model_in_parts[-1], tmp_path / "cache" / "model")
    assert base_content(str(joined)) == base_content(str(tiny_base))
    assert [path.name for path in joined.parent.iterdir()] == ["model"]
    model_in_parts[0].unlink()
    assert _join_mpnet(model_in_parts[-1], joined) == joined


@pytest.mark.parametrize(("damage", "found"), [(Path.unlink, "Part 2 of model.zip"), (Path.touch, "no whole archive")])
def test_a_model_in_parts_is_joined_whole_or_not_at_all(damage, found, model_in_parts, tmp_path):
    model_in_parts[1].write_bytes(bytes(model_in_parts[1].stat().st_size))
    damage(model_in_parts[1])
    with pytest.raises(BaseModelError, match=found):
        _join_mpnet(model_in_parts[-1], tmp_path / "cache" / "model")
    assert not list(tmp_path.glob("cache/*"))
