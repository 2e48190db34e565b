"""Training results are found again by the key of their inputs."""

from llm2vec_core.model.base_models import base_content
from tasks.encoders.checkpoints import _base_identity
from tasks.encoders.pins import (
    TrainingPin,
    _pin_key,
    find_trained,
    find_unsupervised,
    read_pin,
    recipe_key,
    record_key,
    write_pin,
)
from tasks.run.reports import CheckpointRef
from tasks.run.settings import Settings


def with_stages(settings, *stages):
    return settings.model_copy(update={"train": settings.train.model_copy(update={"stages": stages})})


def test_the_encoder_before_its_supervised_stage_is_found_where_it_was_trained_by_itself(tmp_path):
    settings = Settings(home=str(tmp_path))
    supervised, alone = with_stages(settings, "simcse", "supervised"), with_stages(settings, "simcse")
    assert find_unsupervised(settings.store(), supervised) is None
    pinned = TrainingPin(identities={"job": "a", "resume": "b"})
    ref = CheckpointRef(fingerprint="f" * 64, label="simcse", trained=True)
    write_pin(settings.store(), alone, pinned)
    settings.store().put_if_absent(record_key(recipe_key(alone, pinned)), ref.model_dump_json().encode())
    assert find_trained(settings.store(), alone) == find_unsupervised(settings.store(), supervised) == ref
    assert find_unsupervised(settings.store(), alone) is None, "it is the recipe's own encoder, no row beside it"
    assert find_unsupervised(settings.store(), with_stages(settings, "mntp", "supervised")) is None


def test_an_adapter_that_was_trained_further_under_its_name_is_another_base(tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(b"first weights")
    settings = Settings(home=str(tmp_path / "home"), train={"base_model": str(adapter), "stages": ["simcse"]})
    pinned = TrainingPin(identities={"job": "a", "resume": "b"})
    ref = CheckpointRef(fingerprint="f" * 64, label="simcse", trained=True)
    write_pin(settings.store(), settings, pinned)
    settings.store().put_if_absent(record_key(recipe_key(settings, pinned)), ref.model_dump_json().encode())
    identity = _base_identity(str(adapter))
    assert find_trained(settings.store(), settings) == ref
    (adapter / "adapter_model.safetensors").write_bytes(b"other weights")
    assert find_trained(settings.store(), settings) is None
    assert _base_identity(str(adapter)) != identity


def test_an_encoder_from_before_a_correction_stands_until_it_is_trained_anew(tmp_path):
    """Otherwise an update of the package would train and encode everything again."""
    settings = with_stages(Settings(home=str(tmp_path)), "mntp")
    store, recipe = settings.store(), settings.train
    former = TrainingPin(identities={"job": "a"}, former=True)
    store.put_if_absent(_pin_key(settings, former=True), b"job a")
    assert read_pin(store, settings) == TrainingPin(identities={"job": "a"}), "a killed training begins anew"
    ref = CheckpointRef(fingerprint="f" * 64, label="mntp", trained=True)
    store.put_if_absent(record_key(recipe_key(settings, former)), ref.model_dump_json().encode())
    assert recipe_key(settings, former) == recipe.key({"job": "a"}, None, base_content(recipe.base_model), former=True)
    assert (read_pin(store, settings), find_trained(store, settings)) == (former, ref)
    corrected = TrainingPin(identities={"job": "b"})
    write_pin(store, settings, corrected)
    new = CheckpointRef(fingerprint="e" * 64, label="mntp", trained=True)
    store.put_if_absent(record_key(recipe_key(settings, corrected)), new.model_dump_json().encode())
    assert (read_pin(store, settings), find_trained(store, settings)) == (corrected, new)
