"""Encoder names: their directories, how they are loaded, and their labels in reports."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from data.errors import InputError
from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import BaseModelError
from llm2vec_core.evaluation.systems import SystemTraits
from llm2vec_core.model.bidirectional import attention_overrides
from llm2vec_core.model.checkpoint import RECORD_NAME, EncoderSpec, read_record
from llm2vec_core.model.checkpoint import fingerprint as directory_fingerprint
from llm2vec_core.model.modes import Attention, EncoderView, PoolingMode, parse_encoder_name
from llm2vec_core.training.settings import Recipe
from tasks.encoders.checkpoints import (
    build_untrained,
    checkpoint_dir,
    find_checkpoint,
    store_candidate,
    store_checkpoint,
)
from tasks.encoders.names import ResolvedEncoder, resolve_encoder
from tasks.run.reports import CheckpointRef
from tasks.run.settings import Settings

MAX_TOKENS = 64
Train = Callable[..., CheckpointRef]


@pytest.fixture
def settings(tmp_path: Path, tiny_base: Path) -> Settings:
    return Settings(home=str(tmp_path / "home"), train=Recipe(base_model=str(tiny_base), max_tokens=MAX_TOKENS))


@pytest.fixture
def train(settings: Settings, tiny_base: Path, tmp_path: Path) -> Train:
    """Store a checkpoint that says of itself which stages are behind it; the weights are those of the base."""

    def make(*stages: str, attention: Attention = "bidirectional", max_tokens: int = MAX_TOKENS) -> CheckpointRef:
        pooling: PoolingMode = "mean"
        directory = tmp_path / f"made-{attention}-{max_tokens}-{'-'.join(stages)}"
        write_checkpoint(
            directory,
            backbone=tiny_base,
            spec=EncoderSpec(
                base_model=str(tiny_base),
                attention=attention,
                pooling_mode=pooling,
                max_tokens=max_tokens,
                stages=stages,
            ),
        )
        return store_checkpoint(settings.store(), directory)

    return make


@pytest.fixture
def foreign(settings: Settings, tiny_base: Path, tmp_path: Path) -> Path:
    """A sentence-transformers directory that others made."""
    ref = build_untrained(settings.store(), settings, str(tiny_base))
    directory = tmp_path / "foreign"
    shutil.copytree(checkpoint_dir(settings.store(), ref.fingerprint), directory)
    (directory / RECORD_NAME).unlink()
    shutil.rmtree(settings.home)
    return directory


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, loading a model fails."""

    def fail(*_: object) -> Encoder:
        raise AssertionError("a model was loaded to answer for a name")

    return lambda: monkeypatch.setattr("tasks.encoders.names.load_encoder", fail)


def resolve(settings: Settings, name: str | Path) -> ResolvedEncoder:
    return resolve_encoder(settings.store(), settings, parse_encoder_name(str(name)))


def test_the_modes_of_an_untrained_base_are_views_of_one_directory(
    settings: Settings, tiny_base: Path, no_model: Callable[[], None]
) -> None:
    no_model()
    modes = ("", "+mean", "+bidirectional", "+bidirectional+mean", "+last", "+eos", "+echo", "+bidirectional+mean+echo")
    found = {mode: resolve(settings, f"{tiny_base}{mode}") for mode in modes}
    (directory,) = {encoder.directory for encoder in found.values()}
    assert [path.name for path in (Path(settings.home) / "checkpoints").iterdir()] == [directory.name]
    assert len({encoder.fingerprint for encoder in found.values()}) == len(modes)
    for encoder in found.values():
        assert encoder.fingerprint == Encoder.load(directory, view=encoder.view).fingerprint


@pytest.mark.parametrize(
    ("modes", "title", "label"),
    [
        ("", "Uni, w. mean", "causal+weighted_mean"),
        ("+bidirectional+mean", "Bi, mean", "bidirectional+mean"),
        ("+eos", "Uni, EOS", "causal+eos"),
        ("+last", "Uni, last", "causal+last"),
        ("+mean+echo", "Echo, mean", "causal+mean+echo"),
    ],
)
def test_titles_are_the_paper_s_behind_the_name_of_the_base(
    settings: Settings, tiny_base: Path, modes: str, title: str, label: str
) -> None:
    found = resolve(settings, f"{tiny_base}{modes}")
    assert (found.title, found.label) == (f"{tiny_base.name} {title}", f"{tiny_base.name}+{label}")


def test_the_pooling_of_an_untrained_base_is_that_of_the_settings(settings: Settings, tiny_base: Path) -> None:
    evaluate = settings.evaluate.model_copy(update={"base_pooling": "mean"})
    found = resolve(settings.model_copy(update={"evaluate": evaluate}), tiny_base)
    assert found.traits is not None
    assert (found.traits.attention, found.traits.pooling_mode) == ("causal", "mean")
    assert read_record(found.directory).max_tokens == MAX_TOKENS


def test_another_machine_finds_a_checkpoint_of_a_bucket_by_its_name(
    settings: Settings, tiny_base: Path, bucket: str, tmp_path: Path
) -> None:
    """Listing checkpoints must not ask for what only the machine that made them has at hand."""
    here, there = (
        settings.model_copy(update={"home": f"s3://{bucket}/home", "work_dir": str(tmp_path / name)})
        for name in ("here", "there")
    )
    ref = build_untrained(here.store(), here, str(tiny_base))
    assert find_checkpoint(there.store(), ref.fingerprint[:12]) == ref
    assert resolve(there, ref.fingerprint[:12]).fingerprint == ref.fingerprint


def test_a_base_that_states_that_it_looks_both_ways_is_taken_so(
    settings: Settings, tiny_base: Path, tmp_path: Path
) -> None:
    switched = shutil.copytree(tiny_base, tmp_path / "switched")
    config = json.loads((switched / "config.json").read_text())
    (switched / "config.json").write_text(json.dumps(config | attention_overrides("bidirectional")))
    found = resolve(settings, switched)
    assert found.traits is not None
    assert (found.traits.attention, found.traits.pooling_mode) == ("bidirectional", "mean")


def test_naming_what_is_saved_is_naming_nothing(settings: Settings, tiny_base: Path) -> None:
    saved = resolve(settings, tiny_base)
    assert saved.fingerprint == read_record(saved.directory).fingerprint
    assert resolve(settings, f"{tiny_base}+causal+weighted_mean") == saved
    assert resolve(settings, f"{saved.directory}+weighted_mean") == saved
    assert not saved.view


def test_a_part_of_a_view_that_changes_nothing_does_not_count(settings: Settings, tiny_base: Path) -> None:
    assert resolve(settings, f"{tiny_base}+causal+mean") == resolve(settings, f"{tiny_base}+mean")


def test_stages_that_were_not_trained_say_how_to_train_them(settings: Settings, tiny_base: Path, train: Train) -> None:
    train("mntp")
    with pytest.raises(InputError, match="bidirectional, trained by mntp, simcse") as caught:
        resolve(settings, f"{tiny_base}+mntp+simcse")
    assert f"l2v train --base-model {tiny_base}" in caught.value.hint
    assert "train.attention=bidirectional" in caught.value.hint
    assert 'train.stages=["mntp", "simcse"]' in caught.value.hint


def test_trained_encoders_are_found_by_base_attention_and_stages(
    settings: Settings, tiny_base: Path, train: Train, no_model: Callable[[], None]
) -> None:
    no_model()
    # Other lengths, since these stand-ins of a training share their weights and would share their fingerprints.
    both, mntp = train("mntp", "simcse"), train("mntp", max_tokens=48)
    simcse = train("simcse", attention="causal")
    for name, ref, title in (
        ("+simcse+mntp", both, "Bi + MNTP + SimCSE, mean"),
        ("+mntp", mntp, "Bi + MNTP, mean"),
        ("+causal+simcse", simcse, "Uni + SimCSE, mean"),
    ):
        found = resolve(settings, f"{tiny_base}{name}")
        assert (found.fingerprint, found.title) == (ref.fingerprint, f"{tiny_base.name} {title}")
        assert found.directory == checkpoint_dir(settings.store(), ref.fingerprint)
    read_otherwise = resolve(settings, f"{tiny_base}+mntp+simcse+weighted_mean")
    assert read_otherwise.title == f"{tiny_base.name} Bi + MNTP + SimCSE, w. mean"
    assert read_otherwise.directory.name == both.fingerprint != read_otherwise.fingerprint
    with pytest.raises(InputError, match="bidirectional, trained by simcse"):
        resolve(settings, f"{tiny_base}+simcse")


def test_the_newest_of_several_trained_encoders_is_taken(settings: Settings, tiny_base: Path, train: Train) -> None:
    refs = [train("mntp", max_tokens=max_tokens) for max_tokens in (32, 40, 48)]
    for age, ref in zip((2, 0, 1), refs, strict=True):
        os.utime(checkpoint_dir(settings.store(), ref.fingerprint) / RECORD_NAME, (1e9 - age, 1e9 - age))
    assert resolve(settings, f"{tiny_base}+mntp").fingerprint == refs[1].fingerprint


def test_a_fingerprint_or_its_beginning_names_a_checkpoint(settings: Settings, train: Train) -> None:
    ref, other = train("mntp", "simcse"), train("mntp", max_tokens=48)
    for name in (ref.fingerprint, ref.fingerprint[:6]):
        assert resolve(settings, name).fingerprint == ref.fingerprint
    assert resolve(settings, f"{ref.fingerprint[:8]}+causal").title.endswith("Uni + MNTP + SimCSE, mean")
    with pytest.raises(InputError, match="No checkpoint of this store has the fingerprint 'abcdef012345'") as caught:
        resolve(settings, "abcdef012345")
    assert ref.fingerprint[:12] in caught.value.hint and other.fingerprint[:12] in caught.value.hint


def test_stages_that_a_checkpoint_did_not_go_through_are_a_mistake(settings: Settings, train: Train) -> None:
    ref = train("mntp")
    assert resolve(settings, f"{ref.fingerprint}+mntp").fingerprint == ref.fingerprint
    with pytest.raises(InputError, match="was trained by mntp, not by mntp, simcse"):
        resolve(settings, f"{ref.fingerprint}+mntp+simcse")


def test_a_base_directory_that_changed_is_another_base(settings: Settings, tiny_base: Path, tmp_path: Path) -> None:
    base = tmp_path / "decade"  # six letters that could begin a fingerprint
    shutil.copytree(tiny_base, base)
    before = resolve(settings, base).fingerprint
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-2}))
    assert resolve(settings, base).fingerprint != before


def test_a_foreign_encoder_is_measured_once(settings: Settings, foreign: Path, no_model: Callable[[], None]) -> None:
    first = resolve(settings, foreign)
    assert first.fingerprint == directory_fingerprint(foreign)
    assert first.traits == SystemTraits(base_model="foreign", attention="causal", pooling_mode="weighted_mean")
    assert (Path(settings.home) / "encoders" / f"{first.fingerprint}.json").is_file()
    no_model()
    assert resolve(settings, foreign) == resolve(settings, f"{foreign}+causal") == first
    read_otherwise = resolve(settings, f"{foreign}+bidirectional+mean+echo")
    assert read_otherwise.title == read_otherwise.label == "foreign+bidirectional+mean+echo"
    assert read_otherwise.fingerprint == Encoder.load(foreign, view=read_otherwise.view).fingerprint


def test_a_pooling_without_a_name_has_no_place_in_the_ablation(settings: Settings, foreign: Path) -> None:
    (config,) = foreign.glob("*Pooling/config.json")
    pooling = json.loads(config.read_text())
    assert pooling["pooling_mode"] == "weightedmean"
    config.write_text(json.dumps(pooling | {"pooling_mode": "cls"}))
    assert resolve(settings, foreign).traits is None
    pooled = resolve(settings, f"{foreign}+mean")
    assert pooled.traits is not None
    assert (pooled.traits.pooling_mode, pooled.view) == ("mean", EncoderView(pooling_mode="mean"))


def test_a_bundled_encoder_keeps_its_own_pooling(settings: Settings) -> None:
    found = resolve(settings, "bundled:all-minilm-l6-v2")
    assert (found.title, found.label) == ("all-minilm-l6-v2", "all-minilm-l6-v2")
    assert found.traits == SystemTraits(
        base_model="all-minilm-l6-v2", attention="bidirectional", pooling_mode="mean", stages=()
    )
    assert found.fingerprint == resolve(settings, found.directory).fingerprint
    assert not (Path(settings.home) / "checkpoints").exists()


@pytest.mark.parametrize("name", ["bundled:nothing", "some-org/some-model", "abc"])
def test_an_unknown_name_is_named(settings: Settings, name: str) -> None:
    with pytest.raises(BaseModelError, match=name) as caught:
        resolve(settings, f"{name}+causal+mean")
    assert "bundled:smollm2-135m" in caught.value.hint


def test_a_standardised_encoder_of_others_has_the_identity_that_it_loads_with(
    settings: Settings, tiny_base: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "standardised"
    write_checkpoint(
        directory,
        backbone=tiny_base,
        spec=EncoderSpec(base_model="tiny", attention="causal", pooling_mode="mean", max_tokens=64),
        calibration=[f"text {number}" for number in range(60)],
    )
    (directory / RECORD_NAME).unlink()
    for modes in ("", "+standardised", "+last"):
        found = resolve(settings, f"{directory}{modes}")
        assert found.fingerprint == Encoder.load(directory, view=found.view).fingerprint
    assert resolve(settings, f"{directory}+standardised").fingerprint == directory_fingerprint(directory)


def test_a_candidate_is_stored_once_and_found_again_without_loading_encoders(
    settings: Settings, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = store_candidate(settings.store(), str(tiny_base))
    monkeypatch.setitem(sys.modules, "llm2vec_core.encoding.encoder", None)  # an import of it fails
    assert store_candidate(settings.store(), str(tiny_base)) == stored
