import pytest
import torch
from transformers import AutoModel, LlamaConfig, MambaConfig, MambaModel

from llm2vec_core.bidirectional import (
    attention_dropout_overrides,
    measured_attention,
    require_attention,
    switch_attention,
)
from llm2vec_core.errors import BaseModelError


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


def test_attention_dropout_goes_by_the_architecture_s_own_name():
    assert attention_dropout_overrides(LlamaConfig(), 0.2) == {"attention_dropout": 0.2}

    class NoDropout:
        model_type = "dry"

    with pytest.raises(BaseModelError, match="dry"):
        attention_dropout_overrides(NoDropout(), 0.2)
