import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MambaModel,
    MistralConfig,
    Qwen2Config,
)

from llm2vec_core.errors import BaseModelError
from llm2vec_core.model.bidirectional import measured_attention, require_attention, saved_attention, switch_attention

TINY = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}


def load(base, attention, implementation):
    model = AutoModel.from_pretrained(base, attn_implementation=implementation, local_files_only=True)
    switch_attention(model, attention, name="tiny")
    return model.eval()


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("attention", ["causal", "bidirectional"])
def test_the_probe_sees_what_the_switch_did(tiny_base, attention, implementation):
    assert measured_attention(load(tiny_base, attention, implementation)) == attention


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_bidirectional_under_every_mask(tiny_base, implementation, batch_size, padding):
    """A later neighbour moves an earlier state, padding or not, alone or in a batch."""
    model = load(tiny_base, "bidirectional", implementation)
    tokens = torch.randint(2, 200, (batch_size, 8), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens)
    if padding == "left":
        mask[:, :2] = 0
    if padding == "right":
        mask[:, -2:] = 0
    changed = tokens.clone()
    changed[:, 4] += 1
    with torch.inference_mode():
        before, after = (model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 3] for ids in (tokens, changed))
    assert ((before - after).abs().amax(dim=1) > 1e-3).all()


def test_an_architecture_that_ignores_the_switch_is_refused_by_name():
    config = MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, eos_token_id=1, bos_token_id=1)
    config.is_causal = False
    with pytest.raises(BaseModelError, match="mamba"):
        require_attention(MambaModel(config), "bidirectional", name="some/state-space-model")


def test_the_probe_leaves_the_training_mode_as_it_was(tiny_base):
    model = load(tiny_base, "causal", "sdpa").train()
    measured_attention(model)
    assert model.training


@pytest.mark.parametrize("stated", [{}, {"is_causal": False, "use_bidirectional_attention": True}])
@pytest.mark.parametrize("refuse", [require_attention, switch_attention])
def test_an_encoder_only_model_is_told_that_it_cannot_be_causal(stated, refuse):
    """Though BERT would follow the switch in transformers 5; whatever its configuration states."""
    model = BertModel(BertConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, **stated))
    before = model.config.to_dict()
    with pytest.raises(BaseModelError, match="encoder-only") as raised:
        refuse(model, "causal", name="some/bert")
    assert "decoder" in raised.value.hint
    assert model.config.to_dict() == before


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**TINY),
        MistralConfig(**TINY, sliding_window=4),
        Qwen2Config(**TINY),
        Gemma2Config(**TINY, head_dim=8),
        GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4),
    ],
    ids=lambda config: config.model_type,
)
def test_a_decoder_that_was_loaded_bidirectional_can_be_causal_again(config):
    """Its modules are built from a configuration that states the other attention."""
    torch.manual_seed(0)
    config.is_causal = False
    model = AutoModel.from_config(config).eval()
    assert measured_attention(model) == "bidirectional"
    switch_attention(model, "causal", name="tiny")
    assert measured_attention(model) == "causal"


def test_the_saved_attention_is_what_is_stated_or_else_what_is_shown(tiny_base):
    model = load(tiny_base, "bidirectional", "sdpa")
    assert saved_attention(model, name="tiny") == "bidirectional"
    del model.config.is_causal
    assert saved_attention(model, name="tiny") == "causal"
    bert = BertModel(BertConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4))
    assert saved_attention(bert, name="bert") == "bidirectional"
