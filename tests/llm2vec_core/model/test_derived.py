"""Transformers with fewer layers, and averages of weights."""

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from llm2vec_core.errors import BaseModelError
from llm2vec_core.model.derived import average_weights, keep_first_layers


@pytest.fixture
def other(tiny_base, tmp_path):
    """A model of the same shape with other weights."""
    model = AutoModel.from_pretrained(tiny_base)
    torch.manual_seed(3)
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(tiny_base).save_pretrained(tmp_path / "other")
    return tmp_path / "other"


def test_the_first_layers_give_the_states_of_the_middle_of_the_model(tiny_base, tmp_path):
    smaller = AutoModel.from_pretrained(keep_first_layers(tiny_base, 1, target=tmp_path / "smaller"))
    whole = AutoModel.from_pretrained(tiny_base)
    ids = torch.arange(2, 12)[None]
    with torch.no_grad():
        middle = whole(ids, output_hidden_states=True).hidden_states[1]
        torch.testing.assert_close(smaller(ids).last_hidden_state, whole.norm(middle))
    assert len(smaller.layers) == smaller.config.num_hidden_layers == 1


def test_more_layers_than_there_are_is_refused(tiny_base, tmp_path):
    with pytest.raises(BaseModelError, match="has 2 layers, but 3 are to be kept"):
        keep_first_layers(tiny_base, 3, target=tmp_path / "larger")


def test_an_average_weighs_every_weight_by_its_share(tiny_base, other, tmp_path):
    found = AutoModel.from_pretrained(average_weights({tiny_base: 1, other: 3}, target=tmp_path / "mean")).state_dict()
    one, two = (AutoModel.from_pretrained(directory).state_dict() for directory in (tiny_base, other))
    for name, weight in found.items():
        torch.testing.assert_close(weight, 0.25 * one[name] + 0.75 * two[name])


def test_models_of_different_shapes_have_no_average(tiny_base, tmp_path):
    smaller = keep_first_layers(tiny_base, 1, target=tmp_path / "smaller")
    with pytest.raises(BaseModelError, match="have different weights"):
        average_weights({tiny_base: 1, smaller: 1}, target=tmp_path / "mean")


def test_a_result_that_is_complete_is_kept(tiny_base, tmp_path, monkeypatch):
    smaller = keep_first_layers(tiny_base, 1, target=tmp_path / "smaller")
    monkeypatch.setattr(AutoModel, "from_pretrained", lambda *_, **__: pytest.fail("loaded again"))
    assert keep_first_layers(tiny_base, 1, target=tmp_path / "smaller") == smaller
