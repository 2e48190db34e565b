"""The distillation stage on the tiny model: it learns its teacher, resumes, and leaves no projection behind."""

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import BaseModelError, TrainingError
from llm2vec_core.model.lora import LoraSettings
from llm2vec_core.training import distil
from llm2vec_core.training.distil import similarity_loss, teacher_vectors
from llm2vec_core.training.recipe import train_encoder
from llm2vec_core.training.settings import DistilSettings, Recipe

TEXTS = [f"{level} {title} in {town}." for title in ("nurse", "baker", "judge", "miner", "pilot") for level in
         ("junior", "senior", "chief") for town in ("Oslo", "Rome", "Bern")]  # fmt: skip


@pytest.fixture(scope="module")
def teacher(tiny_base, tmp_path_factory):
    """Another encoder: the same architecture after a few updates of SimCSE, as a sentence-transformers directory."""
    work_dir = tmp_path_factory.mktemp("teacher")
    simcse = {"steps": 6, "batch_size": 8, "min_words": 1, "max_tokens": 32, "learning_rate": 2e-2}
    recipe = Recipe(base_model=str(tiny_base), stages=("simcse",), max_tokens=64, simcse=simcse)
    train_encoder(recipe, TEXTS, recipe_key="t", work_dir=work_dir, cache_dir=work_dir)
    return work_dir / "checkpoint"


@pytest.fixture
def recipe(tiny_base, teacher) -> Recipe:
    settings = DistilSettings(
        steps=12,
        batch_size=16,
        micro_batch_size=16,
        learning_rate=1e-2,
        max_tokens=32,
        min_words=1,
        save_steps=4,
        teacher=str(teacher),
        lora=LoraSettings(rank=8, dropout=0.0),
    )
    return Recipe(base_model=str(tiny_base), stages=("distil",), max_tokens=64, distil=settings)


def changed(recipe, **distil):
    return recipe.model_copy(update={"distil": recipe.distil.model_copy(update=distil)})


def train(recipe, work_dir, **options):
    return train_encoder(recipe, TEXTS, recipe_key="k", work_dir=work_dir, cache_dir=work_dir / "cache", **options)


def similarities(directory):
    vectors = Encoder.load(directory).encode(TEXTS, normalize=True)
    return (vectors @ vectors.T)[np.triu_indices(len(TEXTS), 1)]


@pytest.mark.parametrize("distance", ["cosine", "mse"])
def test_the_encoder_comes_closer_to_its_teacher(recipe, teacher, tmp_path, distance):
    trained = train(changed(recipe, distance=distance, steps=24), tmp_path / "trained")
    train(recipe.model_copy(update={"stages": ()}), tmp_path / "untrained")
    losses = trained.curves[0].losses
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])
    wanted = similarities(teacher)
    before, after = (
        np.abs(similarities(tmp_path / name / "checkpoint") - wanted).mean() for name in ("untrained", "trained")
    )
    assert after < 0.7 * before
    assert trained.record.stages == ("distil",)
    assert Encoder.load(tmp_path / "trained" / "checkpoint").encode(["nurse"]).shape == (1, 32)  # no projection


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the code under test sees it."""


def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(recipe, tmp_path, monkeypatch):
    def kill(step):
        if step.step == 10:
            raise Killed

    with pytest.raises(Killed):
        train(recipe, tmp_path / "killed", on_step=kill)
    whole = train(recipe, tmp_path / "whole")
    # The teacher's vectors of the killed run are used again.
    monkeypatch.setattr(distil.Encoder, "load", lambda *_, **__: pytest.fail("the teacher was loaded again"))
    resumed = train(recipe, tmp_path / "killed")
    assert resumed.steps_run < whole.steps_run
    assert resumed.record.fingerprint == whole.record.fingerprint


def test_micro_batches_only_split_the_similarities(recipe, tmp_path):
    plain = changed(recipe, similarity_weight=0.0, steps=3)
    one = train(plain, tmp_path / "one").curves[0].losses
    split = train(changed(plain, micro_batch_size=4), tmp_path / "split").curves[0].losses
    np.testing.assert_allclose(one, split, rtol=2e-3)


def test_the_teachers_vectors_are_unit_vectors_in_the_order_of_the_texts(recipe, teacher, tmp_path):
    found = teacher_vectors(TEXTS, recipe.distil.teacher, path=tmp_path / "teacher.npy")
    wanted = Encoder.load(teacher).encode(TEXTS, normalize=True)
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_similarity_loss_compares_all_pairs_but_a_text_with_itself():
    torch.manual_seed(0)
    vectors, teacher = torch.randn(5, 7), torch.randn(5, 3)
    unit, teacher_unit = (torch.nn.functional.normalize(values) for values in (vectors, teacher))
    expected = [
        float((unit[one] @ unit[other] - teacher_unit[one] @ teacher_unit[other]) ** 2)
        for one in range(5) for other in range(5) if one != other
    ]  # fmt: skip
    assert float(similarity_loss(vectors, teacher)) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(similarity_loss(3 * teacher, teacher)) == pytest.approx(0, abs=1e-6)


def test_an_unknown_teacher_and_too_few_texts_are_refused(recipe, tmp_path):
    with pytest.raises(BaseModelError, match="nobody"):
        train(changed(recipe, teacher="bundled:nobody"), tmp_path / "unknown")
    with pytest.raises(TrainingError, match="found 45 sentences to train on, but one update needs 64"):
        train(changed(recipe, batch_size=64), tmp_path / "few")


def test_kept_layers_and_an_average_of_stages_are_saved_as_a_plain_encoder(recipe, teacher, tmp_path):
    pruned = recipe.model_copy(update={"keep_layers": 1, "stages": ("simcse", "distil"), "merge": {"distil": 1.0},
                                       "simcse": recipe.simcse.model_copy(update={"steps": 1, "batch_size": 4,
                                                                                  "min_words": 1})})  # fmt: skip
    trained = train(pruned, tmp_path)
    assert AutoConfig.from_pretrained(tmp_path / "checkpoint").num_hidden_layers == 1
    assert [curve.stage for curve in trained.curves] == ["simcse", "distil"]
    assert np.isfinite(Encoder.load(tmp_path / "checkpoint").encode(TEXTS[:3])).all()


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"stages": ("simcse",), "keep_layers": 1}, "keep_layers is 1, but no stage would repair the damage"),
        ({"stages": ("distil",), "merge": {"simcse": 1.0}}, "merge names simcse; expected some of base, distil"),
        (
            {"stages": ("distil",), "keep_layers": 1, "merge": {"base": 1.0}},
            "expected some of distil",
        ),
    ],
)
def test_a_recipe_that_cannot_be_pruned_or_averaged_is_refused(fields, found):
    with pytest.raises(ValueError, match=found):
        Recipe(**fields)
