"""Weights that are not loaded: every loading function rejects them and lists the keys."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
)

from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import BaseModelError, CheckpointError
from llm2vec_core.model.base_models import fetch_base_model
from llm2vec_core.model.checkpoint import EncoderSpec
from llm2vec_core.training.contrastive import contrastive_encoder
from llm2vec_core.training.mntp import _with_output_layer

TOKENS = torch.arange(2, 12)[None]
TARGETS = ["q_proj", "v_proj", "down_proj"]


def rewritten(directory, change):
    """The directory with other weights."""
    path = directory / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})
    return directory


def prefixed(weights):
    return {f"module.{key}": weight for key, weight in weights.items()}


def without_a_block(weights):
    return {key: weight for key, weight in weights.items() if "layers.1." not in key}


def with_a_block_more(weights):
    return weights | {key.replace("layers.1.", "layers.2."): weights[key].clone() for key in weights if ".1." in key}


def with_a_weight_renamed(weights):
    return {key.replace("layers.0.mlp.up_proj", "layers.0.mlp.upper"): weight for key, weight in weights.items()}


def with_another_shape(weights):
    return {key: weight[:40].clone() if "0.mlp.up_proj" in key else weight for key, weight in weights.items()}


FAULTS = [
    (prefixed, r"missing: .* left over: module\."),
    (without_a_block, r"missing: \S*layers\.1\."),
    (with_a_block_more, r"left over: \S*layers\.2\."),
    (with_a_weight_renamed, r"missing: \S*layers\.0\.mlp\.up_proj\.weight; left over: \S*upper"),
    (with_another_shape, r"of another shape: \S*layers\.0\.mlp\.up_proj\.weight"),
]


@pytest.fixture
def base(tiny_base, tmp_path):
    return shutil.copytree(tiny_base, tmp_path / "base")


@pytest.mark.parametrize(("change", "found"), FAULTS)
def test_a_base_model_with_other_weights_than_its_configuration_says_is_refused(change, found, base):
    rewritten(base, change)
    with pytest.raises(BaseModelError, match=found):
        Encoder.from_base(base)
    with pytest.raises(BaseModelError, match=found):
        contrastive_encoder(base, attention="causal", pooling_mode="mean", max_tokens=16, name="base")
    with pytest.raises(BaseModelError, match=found):
        _with_output_layer(base, name="base")


@pytest.mark.parametrize(("change", "found"), FAULTS)
def test_a_checkpoint_with_other_weights_than_its_configuration_says_is_refused(change, found, base, tmp_path):
    spec = EncoderSpec(base_model="tiny", attention="bidirectional", pooling_mode="mean", max_tokens=64)
    write_checkpoint(tmp_path / "encoder", backbone=base, spec=spec)
    (tmp_path / "encoder" / "checkpoint.json").unlink()  # as any other sentence-transformers directory
    Encoder.load(tmp_path / "encoder")
    rewritten(tmp_path / "encoder", change)
    with pytest.raises(CheckpointError, match=found):
        Encoder.load(tmp_path / "encoder")


def test_weights_that_break_off_are_refused_in_one_sentence(base):
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BaseModelError, match="cannot be read"):
        Encoder.from_base(base)


def test_parts_that_no_pooling_uses_may_be_missing_or_left_over(base, tiny_base, tmp_path):
    """A decoder without its output layer, and BERT with an output layer and without a pooler."""
    rewritten(base, lambda weights: {key: weight for key, weight in weights.items() if key != "lm_head.weight"})
    vectors = Encoder.from_base(base).encode(["nurse"])
    assert (vectors == Encoder.from_base(tiny_base).encode(["nurse"])).all()
    bert = BertConfig(vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    BertForMaskedLM(bert).save_pretrained(tmp_path / "bert")
    AutoTokenizer.from_pretrained(tiny_base).save_pretrained(tmp_path / "bert")
    assert Encoder.from_base(tmp_path / "bert").encode(["nurse"]).shape == (1, 32)


def trained(model, **settings):
    """A LoRA whose every update is something."""
    torch.manual_seed(1)
    adapted = get_peft_model(model, LoraConfig(r=2, **settings)).eval()
    for name, weight in adapted.named_parameters():
        if weight.requires_grad and ".lora_A." not in name:
            torch.nn.init.normal_(weight, std=0.1)
    return adapted


def saved(adapted, directory, *, base):
    adapted.save_pretrained(directory)
    path = directory / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(base)}))
    return directory


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": TARGETS},
        {"target_modules": TARGETS, "task_type": "CAUSAL_LM"},
        {"target_modules": "all-linear", "task_type": "CAUSAL_LM", "modules_to_save": ["embed_tokens", "lm_head"]},
        {"target_modules": r"model\.layers\.\d+\.self_attn\.[qk]_proj", "use_dora": True, "use_rslora": True},
    ],
    ids=["no task", "causal", "modules to save", "regex"],
)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings")
def test_a_causal_adapter_is_merged_as_peft_merges_it(settings, tied, base, tmp_path):
    config = AutoConfig.from_pretrained(base)
    config.tie_word_embeddings = tied
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(base)
    adapter = saved(trained(model, **settings), tmp_path / "adapter", base=base)
    own = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(own, str(adapter)).merge_and_unload().eval()
    found = AutoModelForCausalLM.from_pretrained(fetch_base_model(str(adapter), cache_dir=tmp_path / "cache")).eval()
    with torch.inference_mode():
        torch.testing.assert_close(found(TOKENS).logits, merged(TOKENS).logits, atol=1e-5, rtol=1e-5)
        before = AutoModelForCausalLM.from_pretrained(base).eval()(TOKENS).logits
    assert (found(TOKENS).logits - before).abs().max() > 1e-2


def test_a_masked_adapter_of_an_encoder_only_model_is_merged(tiny_base, tmp_path):
    bert = BertConfig(vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    base = tmp_path / "bert"
    BertForMaskedLM(bert).save_pretrained(base)
    AutoTokenizer.from_pretrained(tiny_base).save_pretrained(base)
    own = BertForMaskedLM.from_pretrained(base)
    adapter = saved(trained(own, target_modules=["query", "value"]), tmp_path / "adapter", base=base)
    own = PeftModel.from_pretrained(BertForMaskedLM.from_pretrained(base), str(adapter)).merge_and_unload().eval()
    bert.save_pretrained(adapter)  # a configuration beside it, as our own stages write it
    found = BertModel.from_pretrained(fetch_base_model(str(adapter), cache_dir=tmp_path / "cache")).eval()
    with torch.inference_mode():
        torch.testing.assert_close(found(TOKENS)[0], own.bert(TOKENS)[0], atol=1e-5, rtol=1e-5)


def test_an_adapter_on_a_base_without_its_output_layer_brings_no_drawn_one(tiny_base, tmp_path):
    """MNTP refuses the merged model for its missing output layer, and does not train through a random one."""
    base = tmp_path / "alone"
    AutoModel.from_pretrained(tiny_base).save_pretrained(base)
    AutoTokenizer.from_pretrained(tiny_base).save_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    adapter = saved(trained(model, target_modules=TARGETS), tmp_path / "adapter", base=base)
    merged = fetch_base_model(str(adapter), cache_dir=tmp_path / "cache")
    assert not [key for key in load_file(merged / "model.safetensors") if "lm_head" in key]
    with pytest.raises(BaseModelError, match=r"missing: lm_head\.weight"):
        _with_output_layer(merged, name="merged")


def rename(directory, change):
    path = directory / "adapter_model.safetensors"
    weights = {change(key): weight for key, weight in load_file(path).items()}
    save_file({key: weight for key, weight in weights.items() if key}, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda key: key.replace("base_model.model.", "base_model.model.language_model."), r"layers\.0\."),
        (lambda key: key.replace("q_proj", "qkv_proj"), r"missing: \S*q_proj.*left over: \S*qkv_proj"),
        (lambda key: key if "layers.1." not in key else "", r"missing: \S*layers\.1\."),
        (lambda key: key if "modules_to_save" not in key and "lm_head" not in key else "", "lm_head"),
    ],
)
def test_an_adapter_whose_keys_do_not_match_is_refused_with_them(change, found, tiny_base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    adapted = trained(model, target_modules=TARGETS, task_type="CAUSAL_LM", modules_to_save=["lm_head"])
    adapter = saved(adapted, tmp_path / "adapter", base=tiny_base)
    rename(adapter, change)
    with pytest.raises(BaseModelError, match=found) as raised:
        fetch_base_model(str(adapter), cache_dir=tmp_path / "cache")
    assert "base_model_name_or_path" in raised.value.hint
    assert not (tmp_path / "cache").exists()


def test_an_adapter_of_a_wider_model_is_refused(tiny_base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    adapter = saved(trained(model, target_modules=["q_proj"]), tmp_path / "adapter", base=tiny_base)
    path = adapter / "adapter_model.safetensors"
    save_file({key: torch.cat([weight, weight], dim=1) for key, weight in load_file(path).items()}, path)
    with pytest.raises(BaseModelError, match="size mismatch"):
        fetch_base_model(str(adapter), cache_dir=tmp_path / "cache")


def test_an_adapter_that_was_never_trained_is_refused(tiny_base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    untrained = get_peft_model(model, LoraConfig(r=2, target_modules=TARGETS))
    adapter = saved(untrained, tmp_path / "adapter", base=tiny_base)
    with pytest.raises(BaseModelError, match="changes no weight"):
        fetch_base_model(str(adapter), cache_dir=tmp_path / "cache")


def test_an_adapter_that_is_no_change_of_weights_is_refused(tiny_base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    prompt = get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    adapter = saved(prompt, tmp_path / "adapter", base=tiny_base)
    with pytest.raises(BaseModelError, match="adapter"):
        fetch_base_model(str(adapter), cache_dir=tmp_path / "cache")


def test_an_adapter_is_refused_on_a_base_that_lacks_weights(base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base)
    adapter = saved(trained(model, target_modules=TARGETS), tmp_path / "adapter", base=base)
    rewritten(base, without_a_block)
    with pytest.raises(BaseModelError, match=r"missing: model\.layers\.1\."):
        fetch_base_model(str(adapter), cache_dir=tmp_path / "cache")
