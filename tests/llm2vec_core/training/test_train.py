"""Training from Python: the recipes of the paper, and resuming a killed call."""

import json

import numpy as np
import pytest

from flows.request import PROFILES_DIR
from llm2vec_core.errors import InputError, TrainingError
from llm2vec_core.model.checkpoint import read_record
from llm2vec_core.training.paper import PAPER_MODELS
from llm2vec_core.training.settings import Recipe, TrainingTriple
from llm2vec_core.training.train import _read_judgments, train
from tasks.run.settings import load_settings

TEXTS = [f"a text about number {number} and {number * 7} more" for number in range(80)]
SMALL = {"steps": 3, "batch_size": 4, "micro_batch_size": 4, "max_tokens": 16, "save_steps": 1}
PAIRS = [(f"nurse {number}", f"cares on ward {number}", f"cooks meal {number}") for number in range(16)]


@pytest.fixture
def recipe(tiny_base):
    return Recipe(base_model=str(tiny_base), stages=("simcse",), max_tokens=64, simcse=SMALL)


@pytest.mark.parametrize("name", PAPER_MODELS)
def test_the_recipe_of_a_model_is_that_of_its_profile(name, tmp_path):
    config = tmp_path / "l2v.toml"
    config.write_text("")
    profile = load_settings(PROFILES_DIR / f"{name}.toml", config=config).train
    assert Recipe.paper(name) == profile
    assert Recipe.paper(name).settings_key() == profile.settings_key()


def test_a_recipe_of_the_paper_can_be_changed_in_one_place():
    recipe = Recipe.paper("mistral-7b", base_model="tiny", mntp={"steps": 2})
    assert (recipe.base_model, recipe.mntp.steps, recipe.mntp.mask_policy) == ("tiny", 2, "all_mask")
    assert recipe.simcse == Recipe.paper("mistral-7b").simcse
    with pytest.raises(InputError, match="'gpt-5'") as caught:
        Recipe.paper("gpt-5")
    assert "llama-3-8b" in caught.value.hint


def test_a_finished_training_is_not_done_again(recipe, tmp_path):
    steps = []
    encoder = train(recipe, TEXTS, save_to=tmp_path / "mine", on_step=steps.append)
    assert [step.step for step in steps] == [1, 2, 3]
    assert read_record(tmp_path / "mine").stages == ("simcse",)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"], "nothing is left of the work"
    again = train(recipe, TEXTS, save_to=str(tmp_path / "mine"), on_step=steps.append)
    assert len(steps) == 3
    assert again.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(again.encode(TEXTS[:3]), encoder.encode(TEXTS[:3]))


def test_a_killed_training_goes_on(recipe, tmp_path, capsys):
    whole = train(recipe, TEXTS, save_to=tmp_path / "whole")

    def kill(step):
        if step.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, TEXTS, save_to=tmp_path / "killed", on_step=kill)
    assert not (tmp_path / "killed").exists()
    steps = []
    resumed = train(recipe, TEXTS, save_to=tmp_path / "killed", on_step=steps.append, show_progress=True)
    assert [step.step for step in steps][-1] == 3
    assert len(steps) < 3
    assert "3/3" in capsys.readouterr().err
    assert resumed.fingerprint == whole.fingerprint


def test_another_training_never_takes_the_place_of_a_finished_one(recipe, tmp_path):
    train(recipe, TEXTS, save_to=tmp_path / "mine")
    for other in (recipe.model_copy(update={"max_tokens": 32}), recipe):
        with pytest.raises(InputError, match="something else"):
            train(other, TEXTS[:-1], save_to=tmp_path / "mine")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        train(recipe, TEXTS, save_to=tmp_path / "notes")


def test_a_recipe_takes_a_seeded_sample_of_many_texts(recipe):
    few = recipe.model_copy(update={"max_documents": 5})
    assert few.sample_documents(TEXTS) == few.sample_documents(TEXTS)
    assert len(few.sample_documents(TEXTS)) == 5
    assert recipe.sample_documents(TEXTS) == TEXTS


def test_judgments_train_without_texts(tiny_base, tmp_path):
    settings = SMALL | {"steps": 1, "warmup_steps": 0}
    recipe = Recipe(base_model=str(tiny_base), stages=("supervised",), max_tokens=64, supervised=settings)
    with pytest.raises(TrainingError, match="no triples"):
        train(recipe, save_to=tmp_path / "none")
    encoder = train(recipe, judgments=PAIRS, save_to=tmp_path / "mine")
    assert read_record(tmp_path / "mine").stages == ("supervised",)
    assert encoder.encode("nurse").shape == (1, 32)
    with pytest.raises(InputError, match="something else"):
        train(recipe, judgments=PAIRS[1:], save_to=tmp_path / "mine")


def test_a_judgment_has_the_same_meaning_in_every_form(tmp_path):
    forms = [
        ("a", "p", "n", "m"),
        {"anchor": "a", "positive": "p", "negatives": ["n", "m"], "more": 1},
        {"anchor": "a", "positive": "p", "negative": "n", "negatives": ["m"]},
        TrainingTriple("a", "p", ("n", "m")),
    ]
    assert set(_read_judgments(forms)) == {TrainingTriple("a", "p", ("n", "m"))}
    path = tmp_path / "judged.jsonl"
    path.write_text("\n".join(json.dumps(form) for form in forms[1:3]) + "\n\n")
    assert set(_read_judgments(path)) == {TrainingTriple("a", "p", ("n", "m"), "judged.jsonl")}


@pytest.mark.parametrize("bad", ["text", ("a",), {"anchor": "a"}, ("a", ""), ("a", "p", 3), 7])
def test_what_is_no_judgment_is_refused_with_its_place(bad, tmp_path):
    with pytest.raises(InputError, match=r"judgments\[1\]"):
        list(_read_judgments([("a", "p"), bad]))
    path = tmp_path / "judged.jsonl"
    path.write_text(f'{{"anchor": "a", "positive": "p"}}\n{json.dumps(bad)}\n')
    with pytest.raises(InputError, match="line 2"):
        list(_read_judgments(str(path)))


def test_one_string_is_not_taken_for_texts(recipe, tmp_path):
    with pytest.raises(InputError, match="One string"):
        train(recipe, "nurse", save_to=tmp_path / "mine")
