"""Old checkpoints go by policy; one that anything needs stays, with the reason."""

import contextlib
import json
import time
from datetime import timedelta

import pytest

from data.config import RetentionConfig
from data.errors import StoreError
from data.outputs.maintenance import what_to_keep
from data.vectors.generations import create_generation
from data.vectors.pointer import POINTER, former_pointer
from flows.cli import run
from llm2vec_core.model.checkpoint import CheckpointRecord
from tasks.encoders.checkpoints import _untrained_key, stored_checkpoints
from tasks.encoders.pins import TrainingPin, pinned_snapshots, record_key, write_pin
from tasks.encoders.retention import list_checkpoints, remove_checkpoints
from tasks.queries.states import former_states
from tasks.run.context import utc_now
from tasks.run.reports import CheckpointRef
from tasks.run.settings import Settings

STRICT = RetentionConfig(keep_served=2, keep_checkpoints=0, grace_hours=0)


@pytest.fixture
def settings(tmp_path):
    return Settings(home=str(tmp_path / "home"), retention=STRICT, evaluate={"references": []})


def put(settings, digit, **changes):
    """A stored checkpoint, whose fingerprint repeats a digit."""
    fields = {
        "fingerprint": digit * 64,
        "base_model": "bundled:smollm2-135m",
        "attention": "bidirectional",
        "pooling_mode": "mean",
        "max_tokens": 48,
        "stages": ("mntp",),
        "recipe_key": digit * 32,
        "training_snapshots": {"job": f"job-{digit}", "resume": f"resume-{digit}"},
        "embedding_dim": 8,
        "files": {"weights": 7},
    }
    record = CheckpointRecord(**fields | changes)
    store = settings.store()
    store.put_if_absent(f"checkpoints/{record.fingerprint}/weights", b"weights")
    store.put_if_absent(f"checkpoints/{record.fingerprint}/checkpoint.json", record.model_dump_json().encode())
    ref = CheckpointRef(fingerprint=record.fingerprint, label=record.label, trained=bool(record.stages))
    key = record_key(digit * 32) if record.stages else _untrained_key(settings, record.base_model)
    store.put_if_absent(key, ref.model_dump_json().encode())
    return record.fingerprint


def kept_states(settings):
    time.sleep(0.01)  # files have just been written
    return what_to_keep(settings.store(), settings.retention, pinned=pinned_snapshots(settings.store()))


def reasons(settings):
    listed = list_checkpoints(settings.store(), settings, kept_states(settings))
    return {each.fingerprint[0]: each.kept_because for each in listed}


def serve(settings, make_pointer, digits):
    """States that were served one after another, each of its own generation."""
    store = settings.store()
    for sequence, digit in enumerate(digits, start=1):
        generation = create_generation(
            store, fingerprint=digit * 64, encode_keys={"job": "", "resume": ""}, embedding_dim=8, now=utc_now()
        )
        pointer = make_pointer(
            sequence=sequence,
            generation=generation.generation,
            checkpoint=digit * 64,
            snapshots={"job": f"job-{digit}", "resume": f"resume-{digit}"},
            promoted_at=utc_now() - timedelta(days=len(digits) - sequence),
        )
        if sequence < len(digits):
            former_pointer(sequence).put_if_absent(store, pointer)
        else:
            POINTER.swap(store, pointer, expected=None)


def test_what_is_served_or_can_be_rolled_back_to_stays_and_the_rest_goes(settings, make_pointer):
    for digit in "1234":
        put(settings, digit)
    serve(settings, make_pointer, "123")
    store = settings.store()
    (oldest, *_) = store.list("lance")
    store.delete(oldest)  # an earlier step of maintenance removes its generation
    assert reasons(settings) == {
        "4": (),
        "3": ("served", "a generation has its vectors"),
        "2": ("a rollback can reach it", "a generation has its vectors"),
        "1": (),
    }
    removed = remove_checkpoints(store, settings, kept_states(settings))
    assert removed.count == 2
    assert {record.fingerprint[0] for record in stored_checkpoints(store)} == {"2", "3"}
    assert set(store.list("recipes")) == {record_key("2" * 32), record_key("3" * 32)}
    assert remove_checkpoints(store, settings, kept_states(settings)).count == 0


def test_the_newest_and_the_young_stay(settings):
    for digit in "123":
        put(settings, digit)
        time.sleep(0.02)
    kept = settings.model_copy(update={"retention": STRICT.model_copy(update={"keep_checkpoints": 1})})
    assert reasons(kept) == {"3": ("among the newest",), "2": (), "1": ()}
    young = settings.model_copy(update={"retention": STRICT.model_copy(update={"grace_hours": 1})})
    assert remove_checkpoints(settings.store(), young, kept_states(young)).count == 0


def test_what_a_recipe_or_a_backfill_or_the_settings_name_stays(settings):
    for digit in "12345":
        put(settings, digit)
    merged = put(settings, "6")
    put(settings, "7", base_model=f"/somewhere/checkpoints/{merged}")
    put(settings, "8", stages=(), training_snapshots=None, recipe_key=None)
    store = settings.store()
    write_pin(store, settings, TrainingPin(identities={"job": "job-1", "resume": "resume-1"}))
    write_pin(store, settings, TrainingPin(identities={"job": "job-2", "resume": "resume-2"}, of_ablation=True))
    store.put_if_absent("backfill.json", json.dumps({"checkpoint": "3" * 64}).encode())
    named = settings.model_copy(
        update={"evaluate": settings.evaluate.model_copy(update={"references": ["bm25", "4" * 12]})}
    )
    assert reasons(named) == {
        "1": ("a recipe is pinned to its data",),
        "2": (),
        "3": ("a backfill encodes with it",),
        "4": ("the settings name it",),
        "5": (),
        "6": ("another one was trained from it",),
        "7": (),
        "8": ("the settings name it",),
    }


def test_an_unfinished_checkpoint_goes(settings):
    store = settings.store()
    store.put_if_absent("checkpoints/half/weights", b"half of it")
    assert remove_checkpoints(store, settings, kept_states(settings)).count == 1
    assert not store.exists("checkpoints/half")


@pytest.mark.parametrize("attempts", range(1, 9))
def test_a_removal_that_breaks_off_anywhere_is_finished_by_the_next_one(settings, make_pointer, monkeypatch, attempts):
    for digit in "12345":
        put(settings, digit)
    serve(settings, make_pointer, "5")
    store = settings.store()
    whole = type(store).delete
    left = attempts

    def delete(self, key):
        nonlocal left
        left -= 1
        if not left:
            raise StoreError(f"{key} cannot be removed.", hint="Try again.")
        whole(self, key)

    monkeypatch.setattr(type(store), "delete", delete)
    with contextlib.suppress(StoreError):
        remove_checkpoints(store, settings, kept_states(settings))
    monkeypatch.undo()
    recorded = {json.loads(store.read(key))["fingerprint"] for key in store.list("recipes")}
    assert recorded <= {record.fingerprint for record in stored_checkpoints(store)}, "a recipe finds no removed one"
    remove_checkpoints(store, settings, kept_states(settings))
    assert [record.fingerprint[0] for record in stored_checkpoints(store)] == ["5"]
    assert list(store.list("recipes")) == [record_key("5" * 32)]


def test_the_commands_list_states_and_checkpoints(settings, make_pointer, capsys):
    for digit in "12":
        put(settings, digit)
    serve(settings, make_pointer, "121")
    assert [state["rollbacks"] for state in former_states(settings)] == [0, 1, 2]
    arguments = ["--set", f"home={settings.home}", "--set", "retention.grace_hours=0"]
    assert run(["generations", "list", *arguments, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [state["checkpoint"][0] for state in listed["states"]] == ["1", "2", "1"]
    assert listed["states"][1]["label"] == "smollm2-135m+bidirectional+mntp+mean"
    assert listed["states"][1]["promoted_at"] < listed["states"][0]["promoted_at"]
    assert listed["states"][1]["documents"] == {"job": None, "resume": None}, "their snapshots are gone"
    assert run(["generations", "list", *arguments]) == 0
    assert "rollbacks" in capsys.readouterr().out
    assert run(["checkpoints", *arguments, "--json"]) == 0
    (first, *_) = json.loads(capsys.readouterr().out)["checkpoints"]
    assert first["size_bytes"] > 0
    assert run(["checkpoints", *arguments]) == 0
    assert "kept because" in capsys.readouterr().out
