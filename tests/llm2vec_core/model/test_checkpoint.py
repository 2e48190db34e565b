import json

import pytest

from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.errors import InputError
from llm2vec_core.model.checkpoint import RECORD_NAME, CheckpointRecord, EncoderSpec, fingerprint, read_record

OLD_RECORD = {
    "fingerprint": "ab" * 32,
    "base_model": "bundled:smollm2-135m",
    "attention": "bidirectional",
    "pooling_mode": "mean",
    "embedding_dim": 576,
    "max_tokens": 512,
    "stages": ["mntp", "simcse"],
    "recipe_key": "cd" * 32,
    "files": {},
}


def build(base, directory, **settings):
    return write_checkpoint(
        directory,
        backbone=base,
        spec=EncoderSpec(
            base_model="hub/tiny", **{"attention": "causal", "pooling_mode": "mean", "max_tokens": 64} | settings
        ),
    )


def test_a_record_from_before_the_recipe_was_kept_still_loads(tmp_path):
    (tmp_path / RECORD_NAME).write_text(json.dumps(OLD_RECORD))
    record = read_record(tmp_path)
    assert record.recipe is None
    assert record.training_snapshots is None
    assert record.seeds == {}, "two stages, of whose seeds nothing is known"
    assert record.label == "smollm2-135m+bidirectional+mntp+simcse+mean"
    assert record.base_name == "smollm2-135m"


def test_what_is_told_about_the_training_is_no_part_of_the_fingerprint(tiny_base, tmp_path):
    told = {
        "stages": ("simcse",),
        "recipe_key": "k",
        "recipe": {"simcse": {"seed": 7}},
        "training_snapshots": {"job": "a1"},
    }
    silent, telling = build(tiny_base, tmp_path / "silent"), build(tiny_base, tmp_path / "telling", **told)
    assert telling.fingerprint == silent.fingerprint == fingerprint(tmp_path / "telling")
    assert read_record(tmp_path / "telling") == telling
    assert telling.seeds == {"simcse": 7}


def test_a_record_says_its_recipe_in_json_that_others_can_read(tmp_path):
    record = CheckpointRecord.model_validate(OLD_RECORD | {"recipe": {"attention": "causal", "simcse": {"seed": 1}}})
    assert json.loads(record.model_dump_json())["recipe"] == {"attention": "causal", "simcse": {"seed": 1}}


def test_a_pooling_that_no_module_can_say_is_refused(tiny_base, tmp_path):
    with pytest.raises(InputError, match="EOS pooling"):
        build(tiny_base, tmp_path / "c", pooling_mode="eos")
