"""The training chain on the tiny model: it learns, resumes, and writes an encoder."""

import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from pydantic import ValidationError
from safetensors.torch import load_file

from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import BaseModelError, DeviceError, DeviceMemoryError, InputError, TrainingError
from llm2vec_core.model.bidirectional import measured_attention
from llm2vec_core.model.checkpoint import read_record
from llm2vec_core.model.lora import LoraSettings
from llm2vec_core.model.modes import ATTENTIONS, STAGES
from llm2vec_core.model.weights import require_whole_weights
from llm2vec_core.planning.plan import plan_recipe
from llm2vec_core.training import stages
from llm2vec_core.training.loop import example_order, resumable_save, trainer_arguments
from llm2vec_core.training.recipe import train_encoder
from llm2vec_core.training.settings import MntpSettings, Recipe, SimcseSettings
from llm2vec_core.training.simcse import distinct_sentences

WORDS = [
    "nurses",
    "care",
    "for",
    "patients",
    "in",
    "wards",
    "while",
    "developers",
    "write",
    "software",
    "and",
    "deploy",
    "cloud",
    "systems",
    "every",
    "night",
]
TEXTS = [f"{' '.join(np.roll(WORDS, k)[: 6 + k % 7])}. {' '.join(np.roll(WORDS, -k)[:8])}." for k in range(40)]


@pytest.fixture
def recipe(tiny_base) -> Recipe:
    shared = {"learning_rate": 2e-3, "save_steps": 2, "lora": LoraSettings(rank=4)}
    return Recipe(
        base_model=str(tiny_base),
        max_tokens=64,
        mntp=MntpSettings(steps=6, batch_size=8, micro_batch_size=4, chunk_tokens=32, **shared),
        simcse=SimcseSettings(steps=6, batch_size=8, micro_batch_size=4, max_tokens=48, **shared),
    )


def train(recipe, work_dir, on_step=None, **options):
    return train_encoder(
        recipe, TEXTS, recipe_key="k", work_dir=work_dir, cache_dir=work_dir / "cache", on_step=on_step, **options
    )


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the code under test sees it."""


def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(recipe, tmp_path):
    whole = train(recipe, tmp_path / "whole")
    seconds = {}
    for stage, last_step in [("mntp", 5), ("simcse", 3)]:

        def kill(step, stage=stage, last_step=last_step):
            seconds[step.stage, step.step] = step.seconds
            if (step.stage, step.step) == (stage, last_step):
                raise Killed

        with pytest.raises(Killed):
            train(recipe, tmp_path / "resumed", kill)
    resumed = train(recipe, tmp_path / "resumed", lambda step: seconds.update({(step.stage, step.step): step.seconds}))
    for curve in resumed.curves:
        told = [seconds[curve.stage, step] for step in range(1, 7)]
        assert curve.seconds == pytest.approx(sum(told)), "of all runs that the stage took"
    assert resumed.steps_run == 4, "simcse goes on from its save at step 2, mntp is done"
    assert resumed.record.fingerprint == whole.record.fingerprint
    assert [curve.losses for curve in resumed.curves] == [curve.losses for curve in whole.curves]


def test_mntp_needs_an_output_layer(recipe, tiny_base, tmp_path):
    """What contrastive training saves has none, and transformers would draw one at random."""
    from transformers import AutoModel, AutoTokenizer

    headless = tmp_path / "headless"
    AutoModel.from_pretrained(tiny_base, local_files_only=True).save_pretrained(headless)
    AutoTokenizer.from_pretrained(tiny_base, local_files_only=True).save_pretrained(headless)
    with pytest.raises(BaseModelError, match="missing: lm_head"):
        train(recipe.model_copy(update={"base_model": str(headless)}), tmp_path / "run")


@pytest.mark.parametrize("stages", [("simcse", "mntp"), ("mntp", "mntp"), ("supervised", "simcse")])
def test_stages_come_once_and_in_their_order(stages):
    with pytest.raises(ValidationError, match="in this order"):
        Recipe(stages=stages)


@pytest.mark.parametrize(("seen", "used"), [(0, 0), (1, 1), (4, 1)])
def test_one_process_trains_on_one_device(recipe, tmp_path, seen, used):
    arguments = trainer_arguments(
        partial(SimpleNamespace, n_gpu=seen), recipe.mntp, output_dir=tmp_path, num_examples=9
    )
    assert arguments._n_gpu == used


def test_the_seed_of_the_first_stage_draws_the_documents(recipe):
    seeded = recipe.model_copy(update={"simcse": recipe.simcse.model_copy(update={"seed": 7})})
    assert (recipe.sampling_seed, seeded.sampling_seed) == (42, 42)
    assert seeded.model_copy(update={"stages": ("simcse",)}).sampling_seed == 7


def test_a_save_cut_short_is_passed_over(tmp_path):
    for step in (2, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text("{}")
    assert resumable_save(tmp_path) == tmp_path / "checkpoint-2"
    assert not (tmp_path / "checkpoint-4").exists()


def test_training_changes_the_encoder_and_is_recorded(recipe, tmp_path):
    trained = train(recipe, tmp_path)
    record = trained.record
    assert (record.attention, record.pooling_mode, record.stages) == ("bidirectional", "mean", ("mntp", "simcse"))
    curves = json.loads((tmp_path / "checkpoint" / "training.json").read_text())
    assert [curve["stage"] for curve in curves] == ["mntp", "simcse"]
    assert all(len(curve["losses"]) == 6 for curve in curves)
    untrained = train(recipe.model_copy(update={"stages": ()}), tmp_path / "untrained").record
    assert untrained.fingerprint != record.fingerprint
    vectors = Encoder.load(tmp_path / "checkpoint").encode(["nurse", "developer"])
    assert np.isfinite(vectors).all()


def test_stages_keep_adapters_and_the_disk_of_a_recipe_is_what_the_plan_says(recipe, tmp_path, tiny_base):
    """Weights are on disk twice at the peak, as base model and as checkpoint, whatever the number of stages."""

    def weight_bytes(*folders):
        return sum(path.stat().st_size for folder in folders for path in folder.rglob("*.safetensors"))

    peak = 0

    def watch(step):
        nonlocal peak
        peak = max(peak, weight_bytes(tiny_base, tmp_path))

    trained = train(recipe, tmp_path, watch)
    peak = max(peak, weight_bytes(tiny_base, tmp_path))
    plan = plan_recipe(str(tiny_base), recipe, gpu="L4", num_documents=1, tokens_per_document=1)
    assert peak <= 1.1 * plan.disk.peak
    assert not list(tmp_path.glob("*/merged/*.safetensors")) and not list(tmp_path.glob("*/saves"))
    with pytest.raises(OSError, match="safetensors"):  # no other loader takes the base model for it
        transformers.AutoModel.from_pretrained(tmp_path / "simcse" / "merged", local_files_only=True)
    with require_whole_weights("simcse"):
        layered = transformers.AutoModel.from_pretrained(tmp_path / "simcse" / "merged", dtype=torch.bfloat16)
    saved = load_file(tmp_path / "checkpoint" / "model.safetensors")
    assert layered.dtype == torch.bfloat16
    for name, weight in layered.state_dict().items():
        assert torch.equal(weight, saved[name].to(torch.bfloat16)), "merged in fp32, cast once"
    shutil.rmtree(tmp_path / "mntp" / "adapter")
    with pytest.raises(BaseModelError, match="no longer there"), require_whole_weights("simcse"):
        transformers.AutoModel.from_pretrained(tmp_path / "simcse" / "merged")
    assert trained.record.files["model.safetensors"] > 0


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_simcse_alone_keeps_the_attention_asked_for(recipe, tmp_path, attention):
    """The rows Uni + SimCSE and Bi + SimCSE: a fresh load shows what the recipe says, and the weights were trained."""
    from sentence_transformers import SentenceTransformer

    alone = recipe.model_copy(update={"stages": ("simcse",), "attention": attention})
    trained = train(alone, tmp_path / "trained")
    untrained = train(alone.model_copy(update={"stages": ()}), tmp_path / "untrained")
    assert (trained.record.attention, trained.record.stages) == (attention, ("simcse",))
    assert np.isfinite(trained.curves[0].losses).all()
    assert trained.record.fingerprint != untrained.record.fingerprint
    for directory in ("checkpoint", "simcse/merged"):
        with require_whole_weights(directory):  # it merges the adapters of a stage
            model = SentenceTransformer(str(tmp_path / "trained" / directory), local_files_only=True)
        assert measured_attention(model[0].model) == attention
    ours = Encoder.load(tmp_path / "trained" / "checkpoint").encode(TEXTS[:4])
    theirs = SentenceTransformer(str(tmp_path / "trained" / "checkpoint"), local_files_only=True).encode(TEXTS[:4])
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_checkpoint_knows_how_it_was_trained(recipe, tmp_path):
    alone = recipe.model_copy(update={"stages": ("simcse",)})
    train(alone, tmp_path, training_snapshots={"job": "a1", "resume": "b2"})
    record = read_record(tmp_path / "checkpoint")
    assert Recipe.model_validate(record.recipe).key({}) == alone.key({})
    assert record.recipe["simcse"]["learning_rate"] == 2e-3
    assert "mntp" not in record.recipe, "a stage that did not run has no settings to tell about"
    assert record.seeds == {"simcse": 42}
    assert record.training_snapshots == {"job": "a1", "resume": "b2"}


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_mntp_trains_under_the_attention_asked_for(recipe, tmp_path, attention):
    """Causal is the control of an ablation: the same training, without what comes behind the masked token."""
    alone = recipe.model_copy(update={"stages": ("mntp",), "attention": attention})
    assert train(alone, tmp_path).record.attention == attention
    assert Encoder.load(tmp_path / "checkpoint").attention == attention


def test_a_recipe_goes_on_behind_the_checkpoint_of_all_but_its_last_stage(recipe, tmp_path):
    whole = train(recipe, tmp_path / "whole")
    train(recipe.model_copy(update={"stages": ("mntp",)}), tmp_path / "mntp")
    rest = train(recipe, tmp_path / "rest", begun=tmp_path / "mntp" / "checkpoint")
    assert rest.steps_run == recipe.simcse.steps
    assert rest.record.fingerprint == whole.record.fingerprint
    assert [curve.losses for curve in rest.curves] == [curve.losses for curve in whole.curves]


def test_a_pooling_that_cannot_be_saved_is_refused_before_training():
    with pytest.raises(ValidationError, match="NAME\\+eos"):
        Recipe.model_validate({"pooling_mode": "eos"})


def test_micro_batches_change_nothing_but_the_memory(recipe, tmp_path):
    """Without dropout, two micro batches of four learn what one of eight learns, stage by stage."""
    quiet = LoraSettings(rank=4, dropout=0.0)
    curves = []
    for micro_batch_size in (4, 8):
        mntp = recipe.mntp.model_copy(update={"micro_batch_size": micro_batch_size, "lora": quiet})
        variant = recipe.model_copy(update={"stages": ("mntp",), "mntp": mntp})
        curves.append(train(variant, tmp_path / str(micro_batch_size)).curves[0].losses)
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)
    assert curves[0][0] < 2 * np.log(258), "the loss of a whole update is a mean, not a sum over its micro batches"


def test_mntp_lowers_its_loss(recipe, tmp_path):
    longer = recipe.model_copy(
        update={"stages": ("mntp",), "mntp": recipe.mntp.model_copy(update={"steps": 60, "learning_rate": 1e-2})}
    )
    losses = train(longer, tmp_path).curves[0].losses
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_simcse_views_differ_in_training_and_agree_in_evaluation(tiny_base, recipe, attention):
    from llm2vec_core.training.contrastive import contrastive_encoder

    model = contrastive_encoder(
        tiny_base,
        attention=attention,
        pooling_mode="mean",
        max_tokens=16,
        name="tiny",
        attention_dropout=recipe.simcse.simcse_dropout,
    )
    assert measured_attention(model[0].model) == attention
    features = model.preprocess(["nurses care for patients"] * 2)
    torch.manual_seed(0)
    with torch.no_grad():
        noisy = model.train()(dict(features))["sentence_embedding"]
        quiet = model.eval()(dict(features))["sentence_embedding"]
    assert (noisy[0] - noisy[1]).abs().max() > 1e-3
    assert torch.equal(quiet[0], quiet[1])


def test_too_little_text_is_an_error_that_counts(recipe, tmp_path):
    with pytest.raises(TrainingError, match="1 chunks"):
        train_encoder(recipe, ["abc" * 12], recipe_key="k", work_dir=tmp_path, cache_dir=tmp_path)


def test_a_loss_that_is_no_number_stops_the_run(recipe, tmp_path):
    hot = recipe.mntp.model_copy(update={"learning_rate": 1e38, "steps": 4})
    with pytest.raises(TrainingError, match="loss of mntp"):
        train(recipe.model_copy(update={"mntp": hot}), tmp_path)


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (torch.OutOfMemoryError("out of memory"), DeviceMemoryError, "train.mntp.micro_batch_size"),
        (torch.AcceleratorError("CUDA error: device lost"), DeviceError, "Run it again"),
    ],
)
def test_a_device_that_fails_in_training_says_what_to_set(recipe, tmp_path, monkeypatch, fault, error, said):
    def failing(job):
        raise fault

    monkeypatch.setattr(stages, "TRAINERS", {"mntp": failing})
    with pytest.raises(error, match="mntp") as failed:
        train(recipe, tmp_path)
    assert said in failed.value.hint


def test_an_unknown_base_model_names_the_known_ones(recipe, tmp_path):
    with pytest.raises(BaseModelError, match="bundled:nothing") as caught:
        train(recipe.model_copy(update={"base_model": "bundled:nothing"}), tmp_path)
    assert "bundled:smollm2-135m" in caught.value.hint


def test_the_key_of_a_recipe_follows_what_decides_the_result(recipe):
    pinned = {"job": "a", "resume": "b"}
    assert recipe.key(pinned) == recipe.model_copy().key(dict(reversed(pinned.items())))
    assert recipe.key(pinned) != recipe.key({"job": "a", "resume": "c"})
    hotter = recipe.model_copy(update={"simcse": recipe.simcse.model_copy(update={"temperature": 0.1})})
    assert hotter.settings_key() != recipe.settings_key()
    only_mntp = {"stages": ("mntp",)}
    assert hotter.model_copy(update=only_mntp).settings_key() == recipe.model_copy(update=only_mntp).settings_key()


def test_keys_from_before_recipes_had_an_attention_are_still_found():
    """Computed when a recipe could only be bidirectional; former keys find what mntp trained before its correction."""
    known = {
        Recipe(): "f9c765ff315e2991b79d50280c7284c3c0b53ed4d0d84298ef6a72e6b6c389d6",
        Recipe(stages=("simcse",)): "112e37ebf81bee166aec1a40de4c66a9ea94e0100a72828be16a4ae4b6baa7f1",
        Recipe(stages=()): "c4525d9614ff383f8ea6940e9d4a9d2b38dd8c96cc8ddd46c316134c16fbca8d",
    }
    for recipe, key in known.items():
        assert recipe.settings_key(former=True) == key
        assert (recipe.settings_key() == key) == ("mntp" not in recipe.stages)
    assert Recipe().key({"job": "a"}, former=True) == "1de9ce56b81ac170a51729c9ac2e6163fd63b1b676cb033ce6e17483fec11eec"
    assert Recipe(stages=("simcse",), attention="causal").settings_key() not in known.values()


def test_the_supervised_stage_is_asked_for_and_follows_the_others(recipe):
    assert STAGES == ("mntp", "simcse", "distil", "supervised")
    assert Recipe().stages == ("mntp", "simcse")
    hotter = {"supervised": recipe.supervised.model_copy(update={"temperature": 0.1})}
    assert recipe.model_copy(update=hotter).settings_key() == recipe.settings_key(), "it does not run"
    whole = recipe.model_copy(update={"stages": STAGES})
    assert whole.model_copy(update=hotter).settings_key() != whole.settings_key()


def test_the_key_follows_the_judgments_where_they_are_trained_on(recipe):
    pinned = {"job": "a"}
    assert recipe.key(pinned, "1f") == recipe.key(pinned, None) == recipe.key(pinned)
    whole = recipe.model_copy(update={"stages": STAGES})
    assert len({whole.key(pinned), whole.key(pinned, "1f"), whole.key(pinned, "2e"), whole.key({}, "1f")}) == 4


@pytest.mark.parametrize("dims", [[0], [-8, 16]])
def test_matryoshka_dimensions_are_counts(dims):
    with pytest.raises(ValidationError, match="greater than 0"):
        Recipe.model_validate({"supervised": {"matryoshka_dims": dims}})


def test_the_rate_falls_as_in_the_reference(recipe, tmp_path):
    """LLM2Vec's code plans three epochs and stops after 1,000 updates, when the rate has hardly fallen."""
    from transformers import get_linear_schedule_with_warmup

    changed = {"schedule_epochs": 3, "warmup_steps": 2, "steps": 5}
    longer = recipe.simcse.model_copy(update=changed)
    curve = train(recipe.model_copy(update={"stages": ("simcse",), "simcse": longer}), tmp_path).curves[0]
    num_examples = len(distinct_sentences(TEXTS, min_words=4))
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=longer.learning_rate)
    schedule = get_linear_schedule_with_warmup(optimizer, 2, 3 * -(-num_examples // 8))
    expected = []
    for _ in range(5):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(curve.learning_rates, expected, rtol=1e-6)
    assert expected[-1] > 0.7 * longer.learning_rate


def test_a_schedule_that_is_shorter_than_the_stage_ends_with_it(recipe, tmp_path):
    kind = partial(SimpleNamespace, n_gpu=0)
    short = recipe.mntp.model_copy(update={"schedule_epochs": 1})
    arguments = trainer_arguments(kind, short, output_dir=tmp_path, num_examples=8)
    assert arguments.lr_scheduler_kwargs["lr_end"] == 0


@pytest.mark.parametrize("changed", [{"num_processes": 2}, {"compile_blocks": True}, {"chat_template": True}])
def test_what_changes_dropout_or_tokens_is_part_of_the_key(recipe, changed):
    same = dict.fromkeys(changed, 1 if "num_processes" in changed else False)
    plain = recipe.model_dump()
    assert Recipe.model_validate(plain | same).settings_key() == recipe.settings_key()
    stages = {stage: plain[stage] | changed for stage in STAGES} if "compile_blocks" in changed else {}
    assert Recipe.model_validate(plain | changed | stages).settings_key() != recipe.settings_key()


def test_no_example_meets_itself_in_a_batch():
    order = example_order(10, num_draws=40, batch_size=4, seed=1)
    assert all(len(set(order[start : start + 4])) == 4 for start in range(0, 40, 4))
    assert len(set(order)) == 10


def test_split_sentences_keeps_each_once():
    texts = ["Cares for all patients. Cares for all patients.\nShort one", "Writes code for C++; tests the code too"]
    assert distinct_sentences(texts, min_words=4) == [
        "Cares for all patients.",
        "Writes code for C++;",
        "tests the code too",
    ]


def test_mixed_precision_trains_on_a_cpu_as_full_precision_does(recipe, tmp_path):
    """The trainer refuses bf16 without a GPU unless it is told that this is meant."""

    def losses(bf16):
        stages = {stage: getattr(recipe, stage).model_copy(update={"bf16": bf16}) for stage in ("mntp", "simcse")}
        trained = train(recipe.model_copy(update=stages), tmp_path / str(bf16))
        return np.array([curve.losses for curve in trained.curves])

    full, mixed = losses(False), losses(True)
    assert not np.array_equal(full, mixed)
    np.testing.assert_allclose(mixed, full, rtol=0.05)


def test_frozen_weights_in_bf16_train_as_autocast_of_fp32_weights_does(recipe, tmp_path, monkeypatch):
    """Autocast would round them in every forward pass: kept rounded, nothing is different but the memory."""
    stages = {stage: getattr(recipe, stage).model_copy(update={"bf16": True}) for stage in ("mntp", "simcse")}
    recipe = recipe.model_copy(update=stages)

    def trained(name):
        result = train(recipe, tmp_path / name)
        return result.record.fingerprint, [curve.losses for curve in result.curves]

    cast_once = trained("cast_once")
    monkeypatch.setattr("llm2vec_core.training.loop.cast_frozen_linears", lambda model: None)
    assert trained("cast_each_time") == cast_once


@pytest.mark.slow  # a minute of compiling
@pytest.mark.filterwarnings("default:The .grad attribute of a Tensor:UserWarning")  # torch's own, while it compiles
def test_compiled_blocks_train_as_interpreted_ones_do(recipe, tmp_path):
    def losses(compile_blocks):
        # Compiled code draws dropout from random numbers of its own.
        changed = {"compile_blocks": compile_blocks, "lora": LoraSettings(rank=4, dropout=0.0)}
        stages = {
            "mntp": recipe.mntp.model_copy(update=changed),
            "simcse": recipe.simcse.model_copy(update=changed | {"simcse_dropout": 1e-6}),
        }
        trained = train(recipe.model_copy(update=stages), tmp_path / str(compile_blocks))
        return [curve.losses for curve in trained.curves]

    (mntp, simcse), (interpreted_mntp, interpreted_simcse) = losses(True), losses(False)
    np.testing.assert_allclose(mntp, interpreted_mntp, rtol=1e-4)
    np.testing.assert_allclose(simcse, interpreted_simcse, rtol=1e-3)  # cosines over a temperature of 0.05


def test_a_recipe_is_read_from_a_file(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('[train]\nstages = ["distil"]\nkeep_layers = 2\n[train.distil]\nsteps = 3\n')
    recipe = Recipe.load(path)
    assert (recipe.stages, recipe.keep_layers, recipe.distil.steps) == (("distil",), 2, 3)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "There is no recipe file"),
        ("[train", "is not a TOML file"),
        ("[judgments]", r"has no table \[train\]"),
        ("[train]\nstep = 3", "settings that no recipe has: step: Extra inputs"),
    ],
)
def test_a_file_without_a_recipe_is_refused(tmp_path, content, found):
    if content is not None:
        (tmp_path / "recipe.toml").write_text(content)
    with pytest.raises(InputError, match=found):
        Recipe.load(tmp_path / "recipe.toml")


@pytest.mark.parametrize("path", sorted(Path("recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_the_recipes_in_files_can_be_read(path):
    assert Recipe.load(path).base_model.startswith("bundled:")


def test_the_teacher_is_in_the_key_only_where_it_teaches():
    distilled = Recipe(stages=("distil",))
    assert distilled.key({}, teacher_sha256="a") != distilled.key({}, teacher_sha256="b")
    assert (distilled.teachers, Recipe().teachers) == (("bundled:all-minilm-l6-v2",), ())
