"""Settings that the stages share, and the keys of recipes."""

import json

import pytest
from pydantic import ValidationError

from llm2vec_core.model.modes import STAGES
from llm2vec_core.training.overlay import merge, without
from llm2vec_core.training.settings import Recipe, SharedSettings, SimcseSettings


def test_a_shared_setting_holds_for_every_stage():
    recipe = Recipe.model_validate({"seed": 7, "bf16": True, "lora": {"rank": 8}})
    for stage in STAGES:
        settings = getattr(recipe, stage)
        assert (settings.seed, settings.bf16, settings.lora.rank, settings.lora.alpha) == (7, True, 8, 32)


def test_a_stage_overrides_what_it_shares():
    stage = {"seed": 1, "lora": {"alpha": 64}}
    recipe = Recipe.model_validate({"seed": 7, "lora": {"rank": 8, "alpha": 16}, "mntp": stage})
    assert (recipe.mntp.seed, recipe.mntp.lora.rank, recipe.mntp.lora.alpha) == (1, 8, 64)
    assert (recipe.simcse.seed, recipe.simcse.lora.alpha) == (7, 16)


def test_a_stage_made_in_python_takes_the_shared_settings_that_it_was_not_given():
    recipe = Recipe(seed=7, steps=3, simcse=SimcseSettings(seed=1))
    assert (recipe.simcse.seed, recipe.simcse.steps) == (1, 3)


def test_a_stage_keeps_its_own_default_until_a_shared_value_is_given():
    assert Recipe().supervised.warmup_steps == 300
    assert Recipe(warmup_steps=0).supervised.warmup_steps == 0
    assert Recipe().mntp.micro_batch_size == 8


@pytest.mark.parametrize("name", sorted(SharedSettings.model_fields))
def test_a_shared_setting_and_that_of_every_stage_make_equal_keys(name):
    value = {
        "bf16": True,
        "compile_blocks": True,
        "gradient_checkpointing": True,
        "lora": {"dropout": 0.0},
    }.get(name, 5)
    shared = Recipe.model_validate({"stages": STAGES, name: value})
    alone = Recipe.model_validate({"stages": STAGES, **{stage: {name: value} for stage in STAGES}})
    assert shared.settings_key() == alone.settings_key()
    assert shared.settings_key() != Recipe(stages=STAGES).settings_key()


def test_a_recipe_is_the_same_after_a_round_trip_through_json():
    recipe = Recipe.model_validate({"seed": 7, "mntp": {"seed": 1}, "lora": {"rank": 2}})
    read = Recipe.model_validate_json(recipe.model_dump_json())
    assert read == recipe
    assert read.settings_key() == recipe.settings_key()


def test_a_recipe_written_before_there_were_shared_settings_is_read_as_it_was_meant():
    written = json.loads(Recipe.model_validate({"mntp": {"seed": 1}, "supervised": {"steps": 9}}).model_dump_json())
    old = {name: value for name, value in written.items() if name not in SharedSettings.model_fields}
    read = Recipe.model_validate(old)
    assert (read.mntp.seed, read.simcse.seed, read.supervised.steps, read.supervised.warmup_steps) == (1, 42, 9, 300)


@pytest.mark.parametrize("wrong", [{"seed": "x"}, {"steps": 0}, {"lora": {"rank": 0}}, {"simcse": {"batch_size": 0}}])
def test_a_wrong_value_is_named_once(wrong):
    with pytest.raises(ValidationError) as caught:
        Recipe.model_validate(wrong)
    assert len(caught.value.errors()) == 1


def test_a_change_of_all_stages_replaces_the_papers_stages():
    recipe = Recipe.paper("mistral-7b", steps=2, bf16=False, mntp={"seed": 1})
    assert (recipe.mntp.steps, recipe.simcse.steps, recipe.mntp.bf16, recipe.mntp.seed) == (2, 2, False, 1)
    assert recipe.mntp.mask_policy == "all_mask"


def test_tables_are_merged_in_depth_and_what_is_no_table_is_replaced():
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}, "d": {"e": 5}}) == {
        "a": {"b": 4, "c": 2},
        "d": {"e": 5},
    }


def test_only_values_that_both_tables_have_are_removed():
    assert without({"a": {"b": 1, "c": 2}, "d": 3, "e": 4}, {"a": {"b": 9}, "d": 9}) == {"a": {"c": 2}, "e": 4}
    assert without(3, {"a": 1}) == 3
