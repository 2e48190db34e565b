"""The BERT + SimCSE row: a model without a causal switch and without pooler weights, as on the hub."""

import json
import string

import numpy as np
import pytest
import torch

from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import BaseModelError
from llm2vec_core.model.bidirectional import measured_attention
from llm2vec_core.model.checkpoint import EncoderSpec
from llm2vec_core.model.lora import LoraSettings
from llm2vec_core.training.recipe import train_encoder
from llm2vec_core.training.settings import Recipe, SimcseSettings

TEXTS = [f"Nurse number {n} cares for the patients of ward {n}. She writes records every night {n}." for n in range(20)]


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    """Saved with its masked word head and without pooler, as roberta-base is."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    directory = tmp_path_factory.mktemp("tiny_bert")
    letters = [*string.ascii_lowercase, *string.digits, "."]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (directory / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizerFast(vocab=str(directory / "vocab.txt")).save_pretrained(directory)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        initializer_range=0.2,
    )
    BertForMaskedLM(config).save_pretrained(directory)
    return directory


@pytest.fixture
def recipe(tiny_bert) -> Recipe:
    return Recipe(
        base_model=str(tiny_bert),
        stages=("simcse",),
        max_tokens=64,
        simcse=SimcseSettings(
            steps=4,
            batch_size=8,
            micro_batch_size=8,
            max_tokens=48,
            learning_rate=2e-3,
            save_steps=2,
            lora=LoraSettings(rank=4),
        ),
    )


def train(recipe, work_dir, on_step=None):
    return train_encoder(recipe, TEXTS, recipe_key="k", work_dir=work_dir, cache_dir=work_dir, on_step=on_step)


def test_simcse_trains_an_encoder_only_model(recipe, tmp_path):
    from sentence_transformers import SentenceTransformer

    trained = train(recipe, tmp_path)
    assert np.isfinite(trained.curves[0].losses).all()
    assert (trained.record.attention, trained.record.stages) == ("bidirectional", ("simcse",))
    untrained = train(recipe.model_copy(update={"stages": ()}), tmp_path / "untrained")
    theirs = SentenceTransformer(str(tmp_path / "checkpoint"), local_files_only=True)
    assert measured_attention(theirs[0].model) == "bidirectional"
    vectors = Encoder.load(tmp_path / "checkpoint").encode(TEXTS)
    np.testing.assert_allclose(vectors, theirs.encode(TEXTS), atol=1e-5)
    before = Encoder.load(tmp_path / "untrained" / "checkpoint").encode(TEXTS)
    assert np.abs(vectors - before).max() > 1e-3
    assert untrained.record.fingerprint != trained.record.fingerprint


def test_a_checkpoint_of_an_encoder_states_no_switch_and_the_dropouts_of_its_base(recipe, tmp_path):
    train(recipe, tmp_path)
    config = json.loads((tmp_path / "checkpoint" / "config.json").read_text())
    assert not config.keys() & {"is_causal", "use_bidirectional_attention"}
    assert config["attention_probs_dropout_prob"] == config["hidden_dropout_prob"] == 0.1


def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(recipe, tmp_path):
    """Also those of the pooler, which the base does not have: they decide the fingerprint, too."""

    class Killed(BaseException):
        pass

    def kill(step):
        if step.step == 3:
            raise Killed

    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(Killed):
        train(recipe, tmp_path / "resumed", kill)
    torch.manual_seed(123)
    resumed = train(recipe, tmp_path / "resumed")
    assert resumed.steps_run == 2
    assert resumed.record.fingerprint == whole.record.fingerprint


def test_an_untrained_encoder_is_the_same_checkpoint_every_time(tiny_bert, tmp_path):
    fingerprints = set()
    for seed in (1, 2):
        torch.manual_seed(seed)
        record = write_checkpoint(
            tmp_path / str(seed),
            backbone=tiny_bert,
            spec=EncoderSpec(
                base_model="bert-base-uncased", attention="bidirectional", pooling_mode="mean", max_tokens=64
            ),
        )
        fingerprints.add(record.fingerprint)
    assert len(fingerprints) == 1
    assert record.label == "bert-base-uncased+bidirectional+mean"
    assert Encoder.load(tmp_path / "1").encode(["nurse"]).shape == (1, 32)


def test_only_layers_that_the_encoder_uses_get_an_adapter(tiny_bert, recipe):
    from llm2vec_core.model.lora import lora_config
    from llm2vec_core.training.contrastive import contrastive_encoder

    model = contrastive_encoder(
        tiny_bert,
        attention="bidirectional",
        pooling_mode="mean",
        max_tokens=16,
        name="tiny",
        attention_dropout=recipe.simcse.simcse_dropout,
    )
    model.add_adapter(lora_config(recipe.simcse.lora, model[0].model))
    adapted = {name.split(".lora_")[0] for name, weight in model.named_parameters() if weight.requires_grad}
    assert len(adapted) == 2 * 6, "two layers of query, key, value, attention output, intermediate, output"
    assert not any("pooler" in name for name in adapted)
    model.train()(model.preprocess(TEXTS[:2]))["sentence_embedding"].sum().backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)


def test_the_setting_is_for_attention_and_other_dropouts_stay_on(tiny_bert, recipe):
    from llm2vec_core.training.contrastive import contrastive_encoder

    model = contrastive_encoder(
        tiny_bert,
        attention="bidirectional",
        pooling_mode="mean",
        max_tokens=16,
        name="tiny",
        attention_dropout=recipe.simcse.simcse_dropout,
    )
    assert model[0].model.config.attention_probs_dropout_prob == recipe.simcse.simcse_dropout == 0.3
    assert model[0].model.config.hidden_dropout_prob == 0.1
    features = model.preprocess(["nurses care for patients"] * 2)
    with torch.no_grad():
        noisy = model.train()(dict(features))["sentence_embedding"]
        quiet = model.eval()(dict(features))["sentence_embedding"]
    assert (noisy[0] - noisy[1]).abs().max() > 1e-3
    assert torch.equal(quiet[0], quiet[1])


def test_mntp_and_causal_attention_are_refused_before_anything_is_trained(recipe, tmp_path):
    def never(step):
        pytest.fail("trained")

    with pytest.raises(BaseModelError, match="no output layer for the next token"):
        train(recipe.model_copy(update={"stages": ("mntp", "simcse")}), tmp_path / "mntp", never)
    with pytest.raises(BaseModelError, match="causal"):
        train(recipe.model_copy(update={"attention": "causal"}), tmp_path / "causal", never)


def test_a_sentence_transformers_directory_is_a_base_model(recipe, tmp_path):
    """Its transformer is trained; pooling and what follows are the recipe's."""
    train(recipe.model_copy(update={"stages": ()}), tmp_path / "base")
    base = tmp_path / "base" / "checkpoint"
    again = recipe.model_copy(update={"base_model": str(base), "pooling_mode": "weighted_mean"})
    record = train(again, tmp_path / "again").record
    assert (record.pooling_mode, record.embedding_dim) == ("weighted_mean", 32)
