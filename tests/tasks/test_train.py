"""What training left is found again by what decides it."""

from tasks.refs import CheckpointRef
from tasks.settings import Settings
from tasks.train import _pin, _recipe_key, _record_key, find_trained, find_unsupervised


def with_stages(settings, *stages):
    return settings.model_copy(update={"train": settings.train.model_copy(update={"stages": stages})})


def test_the_encoder_before_its_supervised_stage_is_found_where_it_was_trained_by_itself(tmp_path):
    settings = Settings(home=str(tmp_path))
    supervised, alone = with_stages(settings, "simcse", "supervised"), with_stages(settings, "simcse")
    assert find_unsupervised(supervised) is None
    pinned = {"job": "a", "resume": "b"}
    ref = CheckpointRef(fingerprint="f" * 64, label="simcse", trained=True)
    _pin(settings.store(), alone, pinned)
    settings.store().put_if_absent(_record_key(_recipe_key(alone, pinned)), ref.model_dump_json().encode())
    assert find_trained(alone) == find_unsupervised(supervised) == ref
    assert find_unsupervised(alone) is None, "it is the recipe's own encoder, no row beside it"
    assert find_unsupervised(with_stages(settings, "mntp", "supervised")) is None
