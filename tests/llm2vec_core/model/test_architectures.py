import json

import pytest
import torch
from transformers import AutoConfig, AutoModel

from llm2vec_core.errors import BaseModelError
from llm2vec_core.model.architectures import (
    apply_attention,
    attention_dropout_overrides,
    holds_encoder_only,
    is_encoder_only,
    prepare_padding,
    require_positions,
    seeded_missing_weights,
    transformer_directory,
)
from llm2vec_core.model.bidirectional import measured_attention

SMALL = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "roberta": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "mpnet": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "modernbert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "llama": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "opt": {
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64},
        **{"word_embed_proj_dim": 32, "init_std": 0.2},
    },
    "gpt_neox": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "phi": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "qwen3": {
        **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
        **{"num_key_value_heads": 2, "head_dim": 8},
    },
}
TOKENS = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.2}


def config_of(model_type, **settings):
    return AutoConfig.for_model(model_type, **SMALL[model_type], **TOKENS, **settings)


@pytest.mark.parametrize("model_type", SMALL)
def test_the_rule_agrees_with_what_the_architecture_does_as_it_comes(model_type):
    config = config_of(model_type)
    torch.manual_seed(0)
    measured = measured_attention(AutoModel.from_config(config))
    assert measured == ("bidirectional" if is_encoder_only(config) else "causal")


def test_a_bert_configured_as_decoder_is_none():
    assert not is_encoder_only(config_of("bert", is_decoder=True))


def test_a_decoder_that_states_bidirectional_attention_is_still_a_decoder():
    config = config_of("llama")
    config.is_causal = False
    assert not is_encoder_only(config)


def test_an_encoder_only_model_keeps_its_configuration_and_is_never_causal():
    model = AutoModel.from_config(config_of("bert"))
    before = model.config.to_dict()
    apply_attention(model, "bidirectional", name="tiny-bert")
    assert model.config.to_dict() == before
    with pytest.raises(BaseModelError, match=r"tiny-bert \(bert\) was asked for causal"):
        apply_attention(model, "causal", name="tiny-bert")


@pytest.mark.parametrize("model_type", SMALL)
def test_attention_dropout_goes_by_the_architecture_s_own_name(model_type):
    config = config_of(model_type)
    for name, dropout in attention_dropout_overrides(config, 0.4).items():
        setattr(config, name, dropout)
    torch.manual_seed(0)
    model = AutoModel.from_config(config, attn_implementation="eager").train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout) and module.p != 0.4:
            module.p = 0.0  # only the attention's own dropout is left
    tokens = torch.arange(3, 13)[None]
    with torch.no_grad():
        views = [model(input_ids=tokens).last_hidden_state for _ in range(2)]
    assert (views[0] - views[1]).abs().max() > 1e-3


def test_an_architecture_without_attention_dropout_is_refused_by_name():
    class NoDropout:
        model_type = "dry"

    with pytest.raises(BaseModelError, match="dry"):
        attention_dropout_overrides(NoDropout(), 0.2)


@pytest.mark.parametrize("model_type", ["bart", "t5", "pegasus"])
def test_an_encoder_decoder_is_refused_rather_than_taken_for_a_decoder(model_type, tmp_path):
    config = AutoConfig.for_model(model_type)
    config.save_pretrained(tmp_path)
    for ask in (lambda: is_encoder_only(config), lambda: holds_encoder_only(tmp_path)):
        with pytest.raises(BaseModelError, match=f"{model_type} model is an encoder-decoder"):
            ask()


def test_an_encoder_decoder_is_refused_when_its_attention_is_set():
    layers = {f"{part}_{name}": 2 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    model = AutoModel.from_config(AutoConfig.for_model("bart", d_model=32, vocab_size=64, **layers))
    with pytest.raises(BaseModelError, match="bart model is an encoder-decoder"):
        apply_attention(model, "bidirectional", name="hub/bart")


def test_a_model_for_images_too_is_told_apart_from_its_language_model():
    config = AutoConfig.for_model("gemma3")
    with pytest.raises(BaseModelError, match=r"gemma3 model reads more than text: its language model \(gemma3_text\)"):
        is_encoder_only(config)
    assert not is_encoder_only(config.get_text_config())


def test_positions_bound_the_tokens_of_a_text_where_they_have_an_end():
    require_positions(config_of("gpt2", n_positions=64), 64, name="tiny")
    with pytest.raises(BaseModelError, match=r"tiny \(gpt2\) has 64 positions .* 65 tokens") as raised:
        require_positions(config_of("gpt2", n_positions=64), 65, name="tiny")
    assert "64 at most" in raised.value.hint
    require_positions(AutoConfig.for_model("bloom"), 10**6, name="no positions at all")


class Tokens:
    padding_side = "left"

    def __init__(self, **tokens):
        self.pad_token = self.eos_token = self.bos_token = self.unk_token = None
        vars(self).update(tokens)


@pytest.mark.parametrize(
    ("tokens", "pad_token"),
    [
        ({"pad_token": "<pad>", "eos_token": "</s>"}, "<pad>"),
        ({"eos_token": "</s>"}, "</s>"),
        ({"unk_token": "?"}, "?"),
    ],
)
def test_a_tokenizer_without_padding_token_pads_with_another_and_to_the_right(tokens, pad_token):
    tokenizer = Tokens(**tokens)
    prepare_padding(tokenizer)
    assert (tokenizer.pad_token, tokenizer.padding_side) == (pad_token, "right")


def test_a_tokenizer_that_cannot_pad_is_refused():
    with pytest.raises(BaseModelError, match="no padding token"):
        prepare_padding(Tokens())


@pytest.mark.parametrize("folder", ["", "0_Transformer"])
def test_a_sentence_transformers_directory_holds_its_transformer_somewhere(tmp_path, folder):
    assert transformer_directory(tmp_path) == tmp_path, "a plain model directory is its own"
    (tmp_path / "modules.json").write_text(json.dumps([{"idx": 0, "path": folder}, {"idx": 1, "path": "1_Pooling"}]))
    with pytest.raises(BaseModelError, match="no transformer"):
        transformer_directory(tmp_path)
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "config.json").write_text("{}")
    assert transformer_directory(tmp_path) == tmp_path / folder


def test_missing_weights_are_seeded_and_the_caller_s_randomness_is_left_alone():
    def draw():
        with seeded_missing_weights():
            return torch.rand(3)

    torch.manual_seed(1)
    first, after = draw(), torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(3))
    assert torch.equal(first, draw())
