"""What is saved gives what was in memory, and bases that could not be saved are refused before."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import BaseModelError, CheckpointError
from llm2vec_core.model.base_models import fetch_base_model
from llm2vec_core.model.checkpoint import EncoderSpec
from llm2vec_core.model.layered import write_layers
from llm2vec_core.model.lora import LoraSettings
from llm2vec_core.planning.plan import plan_recipe
from llm2vec_core.training.job import StageJob
from llm2vec_core.training.mntp import train_mntp
from llm2vec_core.training.settings import MntpSettings, Recipe, SimcseSettings
from llm2vec_core.training.simcse import train_simcse

SPEC = EncoderSpec(base_model="tiny", attention="bidirectional", pooling_mode="mean", max_tokens=64)
TEXTS = [f"Nurse {n} cares for patients of ward {n}. She writes {'many ' * n}records every night." for n in range(8)]
ONE_STEP = {"steps": 1, "batch_size": 4, "micro_batch_size": 4, "learning_rate": 1e-2, "warmup_steps": 0}


@pytest.fixture
def base(tiny_base, tmp_path):
    return shutil.copytree(tiny_base, tmp_path / "base")


def recipe_for(base, *, stages=("mntp", "simcse"), attention="bidirectional", dropout=0.05):
    lora = LoraSettings(rank=2, dropout=dropout)
    return Recipe(
        base_model=str(base),
        stages=stages,
        attention=attention,
        max_tokens=64,
        mntp=MntpSettings(**ONE_STEP, chunk_tokens=16, lora=lora),
        simcse=SimcseSettings(**ONE_STEP, max_tokens=48, lora=lora),
    )


def job_for(recipe, base, directory, *, stage):
    return StageJob(stage=stage, recipe=recipe, base=base, work_dir=directory / stage, texts=TEXTS)


def plan(base, **changes):
    recipe = recipe_for(base, **changes)
    return plan_recipe(str(base), recipe, gpu="H200", num_documents=10, tokens_per_document=10)


QUANTISED = [
    {"quant_method": "fp8", "weight_block_size": [128, 128]},
    {"quant_method": "gptq", "bits": 4},
    {"quant_method": "awq", "bits": 4},
    {"quant_method": "bitsandbytes", "load_in_4bit": True},
    {"load_in_4bit": True},
]


@pytest.mark.parametrize("settings", QUANTISED)
def test_a_quantised_model_is_refused_everywhere_before_anything_is_stored(settings, base, tmp_path):
    write_checkpoint(tmp_path / "encoder", backbone=base, spec=SPEC)
    for directory in (base, tmp_path / "encoder"):
        config = directory / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": settings}))
    method = settings.get("quant_method", "bitsandbytes")
    refused = pytest.raises(BaseModelError, match=f"are quantised .*{method}")
    with refused:
        fetch_base_model(str(base), cache_dir=tmp_path / "cache")
    with refused:
        Encoder.from_base(base)
    with refused:
        plan(base)
    (tmp_path / "encoder" / "checkpoint.json").unlink()
    with pytest.raises(CheckpointError, match=f"are quantised .*{method}"):
        Encoder.load(tmp_path / "encoder")


def test_an_adapter_of_a_quantised_model_is_refused_before_it_is_merged(base, tmp_path):
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path / "adapter")
    config = base / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"quantization_config": QUANTISED[0]}))
    with pytest.raises(BaseModelError, match="are quantised"):
        fetch_base_model(str(tmp_path / "adapter"), cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_codes_of_fp8_whose_scales_lie_beside_them_are_refused_without_a_configuration(base):
    path = base / "model.safetensors"
    weights = load_file(path)
    key = "model.layers.0.self_attn.q_proj.weight"
    weights |= {key: weights[key].to(torch.float8_e4m3fn), f"{key}_scale_inv": torch.ones(1, 1)}
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(BaseModelError, match=r"left over: \S*q_proj\.weight_scale_inv"):
        Encoder.from_base(base)


@pytest.fixture
def damaging(monkeypatch):
    """Every save changes one weight, and the directory loads without a complaint."""
    save = PreTrainedModel.save_pretrained

    def damaged(self, directory, *args, **settings):
        weight = next(weight for key, weight in self.named_parameters() if "layers.0" in key)
        before = weight.data.clone()
        weight.data.mul_(1.01)
        save(self, directory, *args, **settings)
        weight.data.copy_(before)

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", damaged)


def test_a_checkpoint_that_gives_other_vectors_than_the_model_is_refused_and_removed(base, tmp_path, damaging):
    with pytest.raises(CheckpointError, match="does not give what the model in memory gives"):
        write_checkpoint(tmp_path / "encoder", backbone=base, spec=SPEC)
    assert not (tmp_path / "encoder").exists()
    with pytest.raises(CheckpointError, match="does not give what the model in memory gives"):
        Encoder.from_base(base).save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_merged_adapter_that_gives_other_logits_than_the_model_is_refused(base, tmp_path, monkeypatch, damaging):
    model = AutoModelForCausalLM.from_pretrained(base)
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"]))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    adapted.save_pretrained(tmp_path / "adapter")
    with pytest.raises(BaseModelError, match="does not give what the model in memory gives"):
        fetch_base_model(str(tmp_path / "adapter"), cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(("stage", "train"), [("mntp", train_mntp), ("simcse", train_simcse)])
def test_a_stage_whose_adapter_is_damaged_is_refused(stage, train, base, tmp_path, monkeypatch):
    def damaged(directory, *, base, adapter):
        write_layers(directory, base=base, adapter=adapter)
        weights = load_file(adapter / "adapter_model.safetensors")
        save_file({name: weight + 0.1 for name, weight in weights.items()}, adapter / "adapter_model.safetensors")

    monkeypatch.setattr("llm2vec_core.training.loop.write_layers", damaged)
    with pytest.raises(BaseModelError, match=f"The model after {stage} was saved, .* does not give"):
        train(job_for(recipe_for(base), base, tmp_path, stage=stage))


def test_saving_leaves_the_model_as_it_was(base, tmp_path):
    encoder = Encoder.from_base(base)
    before = encoder.encode(TEXTS)
    encoder.save(tmp_path / "saved")
    assert (encoder.encode(TEXTS) == before).all()
    bf16 = Encoder.from_base(base, precision="bf16")
    bf16.save(tmp_path / "bf16")
    assert SentenceTransformer(str(tmp_path / "bf16"), local_files_only=True).encode(TEXTS).shape == before.shape


WIDTH = {
    **{"vocab_size": 258, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 1024},
    **{"initializer_range": 0.2, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None},
}


def base_of(model_type, directory, *, tokenizer_of, **settings):
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **WIDTH | settings)
    AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    AutoTokenizer.from_pretrained(tokenizer_of).save_pretrained(directory)
    return directory


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys")  # peft's own, for fused matrices
@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("mixtral", {"num_local_experts": 4}),
        ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}),
    ],
)
def test_a_mixture_of_experts_is_trained_without_dropout_and_refused_with_it(model_type, settings, tiny_base, tmp_path):
    base = base_of(model_type, tmp_path / "base", tokenizer_of=tiny_base, **settings)
    refused = pytest.raises(BaseModelError, match=rf"{model_type} .* no dropout; .* 0\.05")
    for stage, train in (("mntp", train_mntp), ("simcse", train_simcse)):
        with refused as raised:
            train(job_for(recipe_for(base), base, tmp_path / "with", stage=stage))
        assert "lora.dropout = 0" in raised.value.hint
    with refused:
        plan(base)
    merged, _ = train_mntp(job_for(recipe_for(base, dropout=0), base, tmp_path / "without", stage="mntp"))
    write_checkpoint(tmp_path / "encoder", backbone=merged, spec=SPEC)
    assert Encoder.load(tmp_path / "encoder").attention == "bidirectional"


def test_a_decoder_that_is_bidirectional_as_published_is_read_so(tiny_base, tmp_path):
    settings = {"use_bidirectional_attention": True, "sliding_window": 16, "layer_types": ["sliding_attention"] * 2}
    base = base_of("gemma3_text", tmp_path / "base", tokenizer_of=tiny_base, **settings)
    assert Encoder.load(base).attention == "bidirectional"
    write_checkpoint(tmp_path / "encoder", backbone=base, spec=SPEC)
    plan(base)
    with pytest.raises(BaseModelError, match="looks both ways by design"):
        plan(base, attention="causal")


def test_a_decoder_whose_transformer_is_hidden_is_refused_by_mntp_and_by_its_plan(tiny_base, tmp_path):
    settings = {"intermediate_size_mlp": 64, "moe_layers": [], "attention_chunk_size": 16, "no_rope_layers": [1, 0]}
    base = base_of("llama4_text", tmp_path / "base", tokenizer_of=tiny_base, **settings)
    for attention in ("causal", "bidirectional"):
        recipe = recipe_for(base, attention=attention)
        with pytest.raises(BaseModelError, match="no access to its transformer"):
            train_mntp(job_for(recipe, base, tmp_path, stage="mntp"))
        with pytest.raises(BaseModelError, match="no access to its transformer"):
            plan(base, attention=attention)
    train_simcse(job_for(recipe_for(base, stages=("simcse",)), base, tmp_path, stage="simcse"))
