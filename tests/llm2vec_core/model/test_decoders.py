"""Every listed decoder passes the same steps: switch, probe, both training stages, merge, save, reload.

The models are tiny and random. The four models of the paper are also built at full size, without allocating memory.
"""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, LlamaConfig, MistralConfig
from transformers.pytorch_utils import Conv1D

from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import BaseModelError
from llm2vec_core.model.bidirectional import measured_attention, one_sided_blocks, require_attention, switch_attention
from llm2vec_core.model.checkpoint import EncoderSpec
from llm2vec_core.model.lora import LoraSettings, lora_config
from llm2vec_core.model.weights import merge_adapter, require_whole_weights
from llm2vec_core.training.job import StageJob
from llm2vec_core.training.mntp import IGNORED, MntpModel, train_mntp
from llm2vec_core.training.settings import MntpSettings, Recipe, SimcseSettings
from llm2vec_core.training.simcse import train_simcse

POSITIONS = 128
WIDTH = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.2,
}
GROUPED = WIDTH | {"num_key_value_heads": 2}
HEADS = GROUPED | {"head_dim": 8}
WINDOW = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
DECODERS = {
    "llama": GROUPED,
    "mistral": GROUPED | {"sliding_window": 4},
    "qwen2": GROUPED | WINDOW | {"use_sliding_window": True},
    "qwen3": HEADS,
    "gemma": HEADS,
    "gemma2": HEADS | WINDOW | {"final_logit_softcapping": 2.0},
    "gemma3_text": HEADS | WINDOW,
    "phi": WIDTH,
    "phi3": GROUPED,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS, "initializer_range": 0.2},
    "gpt_neox": WIDTH,
    "opt": {
        **{"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "init_std": 0.2},
        **{"word_embed_proj_dim": 16, "max_position_embeddings": POSITIONS},
    },
}
IN_THE_FAST_TIER = ("gemma3_text", "gpt2")

TEXTS = [f"Nurse {n} cares for patients of ward {n}. She writes {'many ' * n}records every night." for n in range(8)]
ONE_STEP = {"steps": 1, "batch_size": 4, "micro_batch_size": 4, "learning_rate": 1e-2, "lora": LoraSettings(rank=4)}
MNTP = MntpSettings(**ONE_STEP, chunk_tokens=32)
SIMCSE = SimcseSettings(**ONE_STEP, max_tokens=48)


def config_of(model_type, **changes):
    tokens = {"vocab_size": 258, "pad_token_id": None, "bos_token_id": None, "eos_token_id": 1}
    return AutoConfig.for_model(model_type, **tokens | DECODERS[model_type] | changes)


def tiny_model(model_type, implementation=None):
    torch.manual_seed(0)
    return AutoModel.from_config(config_of(model_type), attn_implementation=implementation).eval()


def tiny_causal_model(model_type):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config_of(model_type)).eval()


def save_base(model_type, directory, *, tokenizer_of):
    """A base model as a hub has them: no padding token, and padding on the left."""
    tiny_causal_model(model_type).save_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_of, local_files_only=True)
    tokenizer.pad_token, tokenizer.padding_side = None, "left"
    tokenizer.save_pretrained(directory)
    return directory


def linear_layers(model):
    return {name for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))}


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("model_type", DECODERS)
def test_the_switch_holds_under_every_mask(model_type, implementation):
    """A later neighbour moves an earlier state: with padding or without, alone or in a batch, in every block."""
    if implementation == "sdpa" and not tiny_model(model_type)._supports_sdpa:
        pytest.skip(f"transformers has no sdpa for {model_type}, so that eager is what runs")
    model = tiny_model(model_type, implementation)
    assert measured_attention(model) == "causal"
    assert one_sided_blocks(model) == [0, 1]
    switch_attention(model, "bidirectional", name="tiny")
    assert one_sided_blocks(model) == []
    for batch_size in (1, 4):
        tokens = torch.randint(2, 200, (batch_size, 8), generator=torch.Generator().manual_seed(1))
        changed = tokens.clone()
        changed[:, 4] += 1
        for padded in ([], [0, 1], [6, 7]):
            mask = torch.ones_like(tokens)
            mask[:, padded] = 0
            with torch.inference_mode():
                before, after = (model(input_ids=ids, attention_mask=mask)[0][:, 3] for ids in (tokens, changed))
            assert ((before - after).abs().amax(dim=1) > 1e-3).all(), (batch_size, padded)
    switch_attention(model, "causal", name="tiny")
    assert measured_attention(model) == "causal"


@pytest.mark.parametrize("model_type", DECODERS)
def test_every_linear_layer_but_the_output_layer_gets_an_adapter(model_type):
    causal_model = tiny_causal_model(model_type)
    expected = {f"{causal_model.base_model_prefix}.{name}" for name in linear_layers(causal_model.base_model)}
    model = MntpModel(causal_model, lora_config(LoraSettings(rank=2), causal_model))
    trained = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert {name.removeprefix("base_model.model.").split(".lora_")[0] for name in trained} == expected
    assert len(trained) == 2 * len(expected)


@pytest.mark.parametrize("model_type", DECODERS)
def test_masked_tokens_are_scored_by_the_model_s_own_logits(model_type):
    """Also where an architecture changes them behind its output layer, as Gemma 2 does."""
    causal_model = tiny_causal_model(model_type)
    tokens = torch.randint(2, 200, (2, 10), generator=torch.Generator().manual_seed(1))
    labels = torch.full_like(tokens, IGNORED)
    labels[0, 3], labels[1, 1], labels[1, 9] = 7, 8, 9
    mask = torch.ones_like(tokens)
    with torch.no_grad():
        own = causal_model(input_ids=tokens, attention_mask=mask).logits
        expected = functional.cross_entropy(own[[0, 1, 1], [2, 0, 8]], torch.tensor([7, 8, 9]))
        model = MntpModel(causal_model, lora_config(LoraSettings(rank=2), causal_model)).eval()
        loss = model(input_ids=tokens, attention_mask=mask, labels=labels)["loss"]
        again = causal_model(input_ids=tokens, attention_mask=mask).logits
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert again.shape == own.shape, "the output layer sees all positions again"


@pytest.mark.parametrize("model_type", ["llama", "gemma", "gpt2"])
def test_a_merged_adapter_does_what_it_did_beside_the_weights(model_type, tmp_path):
    """With tied embeddings (Gemma) and with weights that lie transposed (GPT-2)."""
    model = tiny_model(model_type)
    adapted = PeftModel(model, lora_config(LoraSettings(rank=2), model)).eval()
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    tokens = torch.arange(2, 12)[None]
    with torch.no_grad():
        expected = adapted(input_ids=tokens).last_hidden_state
        adapted.save_pretrained(tmp_path)
        merged = merge_adapter(tiny_model(model_type), tmp_path, name="tiny").eval()
        torch.testing.assert_close(merged(input_ids=tokens).last_hidden_state, expected, atol=1e-5, rtol=1e-5)
        assert (tiny_model(model_type)(input_ids=tokens).last_hidden_state - expected).abs().max() > 1e-2


RELOAD = """
import json, sys
from pathlib import Path
import numpy as np
from llm2vec_core.encoding.encoder import Encoder

texts = json.loads(Path(sys.argv[1]).read_text())
for directory in map(Path, sys.argv[2:]):
    encoder = Encoder.load(directory / "checkpoint")
    assert encoder.attention == "bidirectional", directory
    np.save(directory / "reloaded.npy", encoder.encode(texts))
"""


def train(model_type, directory, *, tokenizer_of):
    """Both stages, one update each; the checkpoint lies in ``directory``. Returns the encoder."""
    base = save_base(model_type, directory / "base", tokenizer_of=tokenizer_of)
    modes = {"attention": "bidirectional", "pooling_mode": "mean"}
    recipe = Recipe(base_model=model_type, mntp=MNTP, simcse=SIMCSE, **modes)
    mntp_job = StageJob(stage="mntp", recipe=recipe, base=base, work_dir=directory / "mntp", texts=TEXTS)
    after_mntp, mntp = train_mntp(mntp_job)
    simcse_job = {"stage": "simcse", "base": after_mntp, "work_dir": directory / "simcse"}
    backbone, simcse = train_simcse(mntp_job.model_copy(update=simcse_job))
    assert np.isfinite([*mntp.losses, *simcse.losses]).all(), model_type
    with require_whole_weights(model_type):
        states = [AutoModel.from_pretrained(path, local_files_only=True) for path in (base, after_mntp, backbone)]
    linear = linear_layers(states[0])
    for before, after in itertools.pairwise(states):
        moved = {
            name for name, weight in after.named_parameters() if not torch.equal(weight, before.get_parameter(name))
        }
        assert moved == {f"{name}.weight" for name in linear}, f"{model_type}: what an update moves and merging keeps"
    write_checkpoint(
        directory / "checkpoint",
        backbone=backbone,
        spec=EncoderSpec(base_model=model_type, **modes, max_tokens=POSITIONS),
    )
    return Encoder.load(directory / "checkpoint")


@pytest.mark.timeout(600)  # two stages for each architecture, and another interpreter's start
@pytest.mark.parametrize(
    "model_types",
    [
        pytest.param(IN_THE_FAST_TIER, id="fast"),
        pytest.param([name for name in DECODERS if name not in IN_THE_FAST_TIER], marks=pytest.mark.slow, id="slow"),
    ],
)
def test_a_trained_encoder_is_the_same_in_a_fresh_process(model_types, tiny_base, tmp_path):
    vectors = {}
    for model_type in model_types:
        encoder = train(model_type, tmp_path / model_type, tokenizer_of=tiny_base)
        vectors[model_type] = encoder.encode(TEXTS)
        alone = np.concatenate([encoder.encode(text) for text in TEXTS])
        np.testing.assert_allclose(vectors[model_type], alone, atol=1e-5, err_msg=f"{model_type}: alone, in a batch")
    (tmp_path / "texts.json").write_text(json.dumps(TEXTS))
    folders = [str(tmp_path / model_type) for model_type in model_types]
    subprocess.run(
        [sys.executable, "-c", RELOAD, str(tmp_path / "texts.json"), *folders],
        cwd=Path(__file__).parents[3],
        check=True,
        capture_output=True,
    )
    for model_type in model_types:
        reloaded = np.load(tmp_path / model_type / "reloaded.npy")
        np.testing.assert_allclose(reloaded, vectors[model_type], atol=1e-6, err_msg=model_type)


LLAMA = {"vocab_size": 32000, "tie_word_embeddings": False}
PAPER = {
    "Sheared-LLaMA-1.3B": (
        LlamaConfig(**LLAMA, hidden_size=2048, intermediate_size=5504, num_hidden_layers=24, num_attention_heads=16),
        1_345_423_360,
    ),
    "Llama-2-7b": (
        LlamaConfig(**LLAMA, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32),
        6_738_415_616,
    ),
    "Mistral-7B-v0.2": (
        MistralConfig(
            **LLAMA,
            **{"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
            num_key_value_heads=8,
            sliding_window=None,
        ),
        7_241_732_096,
    ),
    "Meta-Llama-3-8B": (
        LlamaConfig(
            **LLAMA | {"vocab_size": 128256},
            **{"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
            num_key_value_heads=8,
        ),
        8_030_261_248,
    ),
}


@pytest.mark.parametrize("name", PAPER)
def test_a_model_of_the_paper_has_its_published_size_and_all_its_adapters(name):
    """At full size, on the meta device; seven projections in every layer."""
    config, published = PAPER[name]
    settings = LoraSettings()
    with torch.device("meta"):
        causal_model = AutoModelForCausalLM.from_config(config)
        assert causal_model.num_parameters() == published
        model = MntpModel(causal_model, lora_config(settings, causal_model))
    trained = {key: weight for key, weight in model.named_parameters() if weight.requires_grad}
    adapted = {key.split(".lora_")[0].split(".layers.")[1] for key in trained}
    projections = [f"self_attn.{letter}_proj" for letter in "qkvo"] + [f"mlp.{kind}_proj" for kind in ("gate", "up")]
    assert adapted == {
        f"{layer}.{projection}"
        for layer in range(config.num_hidden_layers)
        for projection in [*projections, "mlp.down_proj"]
    }
    hidden, inner = config.hidden_size, config.intermediate_size
    key_value = hidden * config.num_key_value_heads // config.num_attention_heads
    # q and o; k and v; gate, up and down: each adapter has rank * (inputs + outputs) weights.
    per_layer = settings.rank * (2 * (hidden + hidden) + 2 * (hidden + key_value) + 3 * (hidden + inner))
    assert sum(weight.numel() for weight in trained.values()) == config.num_hidden_layers * per_layer


TOKENS = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
NARROW = {"hidden_size": 32, "num_hidden_layers": 2}


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("mamba", NARROW),
        ("rwkv", NARROW | {"attention_hidden_size": 32}),
        ("openai-gpt", {"n_embd": 32, "n_layer": 2, "n_head": 4}),
        (
            "gpt_neo",
            {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
        ),
    ],
)
def test_an_architecture_that_ignores_the_switch_is_refused_by_name_with_the_reason(model_type, settings):
    model = AutoModel.from_config(AutoConfig.for_model(model_type, **settings, **TOKENS))
    with pytest.raises(BaseModelError, match=rf"hub/some \({model_type}\) .* ignores `is_causal`") as raised:
        switch_attention(model, "bidirectional", name="hub/some")
    assert "Llama" in raised.value.hint


@pytest.mark.parametrize(
    ("model_type", "settings", "one_sided"),
    [
        ("lfm2", GROUPED | {"layer_types": ["conv", "full_attention"]}, "0"),
        (
            "recurrent_gemma",
            HEADS | {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 16},
            "0, 1",
        ),
    ],
)
def test_a_hybrid_is_refused_though_the_whole_of_it_looks_bidirectional(model_type, settings, one_sided):
    model = AutoModel.from_config(AutoConfig.for_model(model_type, **settings | TOKENS))
    with pytest.raises(BaseModelError, match=rf"hub/some \({model_type}\) .* in its blocks {one_sided} \("):
        switch_attention(model, "bidirectional", name="hub/some")
    assert measured_attention(model) == "bidirectional"


def test_an_architecture_that_fails_under_the_switch_is_refused_by_name(monkeypatch):
    model = tiny_model("llama")
    monkeypatch.setattr(type(model), "forward", lambda self, **_: None)
    with pytest.raises(BaseModelError, match=r"hub/some \(llama\) .* AttributeError"):
        require_attention(model, "bidirectional", name="hub/some")


def test_texts_beyond_the_positions_of_a_model_are_refused_before_it_is_loaded(tiny_base, tmp_path):
    config_of("gpt2").save_pretrained(tmp_path)  # no weights
    recipe = Recipe(
        base_model="hub/gpt2",
        mntp=MNTP.model_copy(update={"chunk_tokens": 200}),
        simcse=SIMCSE.model_copy(update={"max_tokens": 200}),
    )
    arguments = {"recipe": recipe, "base": tmp_path, "work_dir": tmp_path / "w", "texts": TEXTS}
    message = rf"hub/gpt2 \(gpt2\) has {POSITIONS} positions .* texts of 200 tokens"
    with pytest.raises(BaseModelError, match=message):
        train_mntp(StageJob(stage="mntp", **arguments))
    with pytest.raises(BaseModelError, match=message):
        train_simcse(StageJob(stage="simcse", **arguments))
