import json

import pytest
import torch
from transformers import AutoConfig, AutoModel

from llm2vec_core.architectures import (
    apply_attention,
    attention_dropout_overrides,
    is_encoder_only,
    seeded_missing_weights,
    transformer_directory,
)
from llm2vec_core.bidirectional import measured_attention
from llm2vec_core.errors import BaseModelError

SMALL = {
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "roberta": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "mpnet": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "modernbert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "llama": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
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
