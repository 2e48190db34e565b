"""The supervised stage on the tiny model: batches, learning and resuming."""

import dataclasses
import logging
import random
from collections import Counter

import numpy as np
import pytest
import torch
from sentence_transformers.base.sampler import ProportionalBatchSampler, RoundRobinBatchSampler
from torch.nn import functional

from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import InputError, TrainingError
from llm2vec_core.model.lora import LoraSettings, lora_config
from llm2vec_core.model.weights import require_whole_weights
from llm2vec_core.training import supervised
from llm2vec_core.training.contrastive import contrastive_encoder, exact_cosines
from llm2vec_core.training.recipe import train_encoder
from llm2vec_core.training.settings import Recipe, SupervisedSettings, TrainingTriple

TITLES = ["nurse", "baker", "pilot", "miner", "tailor", "judge", "farmer", "singer"]
LEVELS = ["junior", "senior", "chief", "night"]
PAIRS = [TrainingTriple(f"{level} {title}", title, source="titles") for title in TITLES for level in LEVELS]
TRIPLES = [
    TrainingTriple(f"we seek a {title}, {number}", f"I am a {title} of {number}", (f"{number} not {title}",), "jobs")
    for number, title in enumerate(TITLES * 2)
]


@pytest.fixture
def settings() -> SupervisedSettings:
    return SupervisedSettings(
        steps=6,
        batch_size=4,
        micro_batch_size=2,
        max_tokens=48,
        learning_rate=5e-3,
        warmup_steps=0,
        save_steps=2,
        temperature=0.05,
        lora=LoraSettings(rank=4),
    )


@pytest.fixture
def recipe(tiny_base, settings) -> Recipe:
    return Recipe(base_model=str(tiny_base), stages=("supervised",), max_tokens=64, supervised=settings)


def train(recipe, work_dir, triples=(*PAIRS, *TRIPLES), on_step=None):
    return train_encoder(
        recipe, [], triples=triples, recipe_key="k", work_dir=work_dir, cache_dir=work_dir, on_step=on_step
    )


def encoder(tiny_base, settings):
    return contrastive_encoder(
        tiny_base,
        attention="bidirectional",
        pooling_mode="mean",
        max_tokens=settings.max_tokens,
        name="tiny",
        pools_prompt=not settings.instruction,
    )


def trainer(tiny_base, settings, triples, output_dir):
    """The stage's trainer, with the loss over the plain model."""
    model = encoder(tiny_base, settings)
    rows = {
        source: list(supervised.as_rows(negatives))
        for source, negatives in supervised.negatives_by_source(triples).items()
    }
    loss = supervised.contrastive_loss(model, settings)
    return supervised._trainer(model, rows, loss=loss, settings=settings, output_dir=output_dir)


def batches(tiny_base, settings, triples, output_dir):
    """Rows of every batch, as the trainer meets them."""
    loader = trainer(tiny_base, settings, triples, output_dir).get_train_dataloader()
    return [[loader.dataset[index] for index in batch] for batch in loader.batch_sampler]


def texts_of(row):
    return [value for column, value in row.items() if column != "dataset_name"]


def test_the_loss_falls_and_positives_end_closer_than_negatives(recipe, tmp_path):
    longer = recipe.model_copy(
        update={"supervised": recipe.supervised.model_copy(update={"steps": 24, "learning_rate": 1e-2})}
    )
    trained = train(longer, tmp_path / "trained", PAIRS)
    losses = trained.curves[0].losses
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert (trained.record.stages, trained.record.seeds) == (("supervised",), {"supervised": 42})

    def right_share(directory):
        """Share of the anchors whose own title is the nearest."""
        vectors = Encoder.load(directory).encode([*(pair.anchor for pair in PAIRS), *TITLES])
        nearest = (vectors[: len(PAIRS)] @ vectors[len(PAIRS) :].T).argmax(axis=1)
        return np.mean([TITLES[index] == pair.positive for index, pair in zip(nearest, PAIRS, strict=True)])

    train(recipe.model_copy(update={"stages": ()}), tmp_path / "untrained")
    before, after = (right_share(tmp_path / name / "checkpoint") for name in ("untrained", "trained"))
    assert after > 0.9 > before + 0.2


@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_the_stage_follows_the_others_and_keeps_the_attention(recipe, tmp_path, attention):
    from llm2vec_core.model.bidirectional import measured_attention

    chained = recipe.model_copy(
        update={
            "stages": ("simcse", "supervised"),
            "attention": attention,
            "simcse": recipe.simcse.model_copy(
                update={"steps": 2, "batch_size": 4, "micro_batch_size": 4, "min_words": 1, "max_tokens": 32}
            ),
        }
    )
    texts = [f"{title} number {number}." for number, title in enumerate(TITLES)]
    trained = train_encoder(
        chained, texts, triples=TRIPLES, recipe_key="k", work_dir=tmp_path, cache_dir=tmp_path / "cache"
    )
    assert [curve.stage for curve in trained.curves] == ["simcse", "supervised"]
    assert trained.record.stages == ("simcse", "supervised")
    from transformers import AutoModel

    with require_whole_weights("supervised"):
        merged = AutoModel.from_pretrained(tmp_path / "supervised" / "merged", local_files_only=True)
    assert measured_attention(merged) == attention


class Killed(BaseException):
    """Stands for SIGKILL: no handler of the code under test sees it."""


@pytest.mark.parametrize("hard_negatives", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(recipe, tmp_path, monkeypatch, hard_negatives):
    recipe = recipe.model_copy(
        update={"supervised": recipe.supervised.model_copy(update={"hard_negatives": hard_negatives})}
    )

    def kill(step):
        if step.step == 5:
            raise Killed

    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(Killed):
        train(recipe, tmp_path / "resumed", on_step=kill)
    monkeypatch.setattr(supervised, "mine_negatives", lambda *_, **__: pytest.fail("mined a second time"))
    torch.manual_seed(123)
    resumed = train(recipe, tmp_path / "resumed")
    assert resumed.steps_run == 2, "it goes on from the save at step 4"
    assert resumed.record.fingerprint == whole.record.fingerprint
    assert resumed.curves[0].losses == whole.curves[0].losses


def test_a_batch_is_of_one_source_and_sources_are_drawn_by_their_size(tiny_base, settings, tmp_path):
    drawn = batches(tiny_base, settings.model_copy(update={"steps": 60}), [*PAIRS, *TRIPLES], tmp_path)
    sources = {text: triple.source for triple in (*PAIRS, *TRIPLES) for text in (triple.anchor, triple.positive)}
    met = [{sources[row["anchor"]] for row in batch} for batch in drawn]
    assert all(len(of_batch) == 1 for of_batch in met)
    assert Counter(of_batch.pop() for of_batch in met)["titles"] == pytest.approx(40, abs=9), "32 of 48 rows"


@pytest.mark.parametrize(("temperature", "share"), [(1, 0.99), (2, 0.909), (1e6, 0.5)])
def test_a_temperature_gives_small_sources_more_turns(temperature, share):
    drawn = supervised.draw_sources([9900, 100], num_draws=4000, temperature=temperature, seed=1)
    assert drawn.count(0) / 4000 == pytest.approx(share, abs=0.02)


def test_one_source_is_drawn_as_before_sources_had_shares(tiny_base, settings, tmp_path):
    """Keys of recipes with one source did not change, so neither may their batches."""
    from torch.utils.data import ConcatDataset

    found = trainer(tiny_base, settings.model_copy(update={"steps": 20}), TRIPLES, tmp_path)
    sampler = found.get_train_dataloader().batch_sampler
    (inner,) = sampler.batch_samplers
    generator = torch.Generator()
    inner.generator = generator
    proportional = ProportionalBatchSampler(sampler.dataset, batch_samplers=[inner], generator=generator, seed=42)
    before = RoundRobinBatchSampler(
        ConcatDataset([sampler.dataset]), batch_samplers=[proportional], generator=generator, seed=42
    )
    expected = []
    for epoch in range(5):
        before.set_epoch(epoch)
        expected += list(before)
    assert list(sampler) == expected[:20]


def test_an_instruction_is_read_but_not_pooled_in_training_and_afterwards(recipe, tmp_path, tiny_base):
    """The reference pools neither the instruction nor the tokens before it."""
    instructed = recipe.supervised.model_copy(update={"instruction": "represent: ", "steps": 2})
    stage = trainer(tiny_base, instructed, PAIRS, tmp_path / "t")
    batch = stage.data_collator([dict(stage.train_dataset["0"][0])])
    assert batch["anchor_prompt_length"] == len("represent: ")
    assert "positive_prompt_length" not in batch
    train(recipe.model_copy(update={"supervised": instructed}), tmp_path, PAIRS)
    saved = Encoder.load(tmp_path / "checkpoint")
    assert not saved.spec.pools_prompt
    text = ["night nurse"]
    served = saved.encode(text, prompt="represent: ")
    np.testing.assert_allclose(served, saved.encode(text, prompt="represent: ", pool_prompt=False), atol=1e-6)
    np.testing.assert_allclose(served, saved.model.encode(text, prompt="represent: "), atol=1e-5)


def test_no_text_comes_twice_in_a_batch_and_every_batch_is_full(tiny_base, settings, tmp_path):
    """Eight titles for 32 anchors: eight is the largest batch, and most passes run out of titles before their end."""
    tight = settings.model_copy(update={"steps": 30, "batch_size": 8})
    drawn = batches(tiny_base, tight, PAIRS, tmp_path)
    assert len(drawn) == 30
    for batch in drawn:
        texts = [text for row in batch for text in texts_of(row)]
        assert len(batch) == 8
        assert len(set(texts)) == len(texts)
    anchors = Counter(row["anchor"] for batch in drawn for row in batch)
    assert set(anchors) == {pair.anchor for pair in PAIRS}


def test_the_order_of_the_batches_follows_from_the_seed(tiny_base, settings, tmp_path):
    first, again, other = (
        batches(tiny_base, settings.model_copy(update={"seed": seed}), [*PAIRS, *TRIPLES], tmp_path)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_a_source_may_hold_pairs_and_triples(tiny_base, settings, tmp_path, caplog):
    """They are datasets of their own, and take part by size."""
    mixed = [*TRIPLES[:12], *(dataclasses.replace(triple, negatives=()) for triple in TRIPLES[12:])]
    drawn = batches(tiny_base, settings.model_copy(update={"steps": 16}), mixed, tmp_path)
    columns = Counter(frozenset(batch[0]) - {"dataset_name"} for batch in drawn)
    assert columns == {frozenset(["anchor", "positive", "negative"]): 12, frozenset(["anchor", "positive"]): 4}
    with caplog.at_level(logging.WARNING):
        batches(tiny_base, settings, [*mixed[:12], mixed[-1]], tmp_path)
    assert "jobs: 1 rows of anchor + positive cannot fill a batch" in caplog.text


def test_several_negatives_make_several_rows():
    triple = TrainingTriple("a", "p", ("n1", "n2"))
    gathered = supervised.negatives_by_source([triple, TrainingTriple("a", "p", ("n2", "n3")), triple])
    assert list(supervised.as_rows(gathered[""])) == [("a", "p", "n1"), ("a", "p", "n2"), ("a", "p", "n3")]
    assert list(supervised.as_rows({("a", "p"): ()})) == [("a", "p", None)]


@pytest.mark.parametrize(
    ("triples", "batch_size"), [(TRIPLES[:3], 4), (PAIRS, 9)], ids=["too few rows", "too few distinct positives"]
)
def test_a_source_that_cannot_fill_a_batch_is_named(recipe, tmp_path, triples, batch_size):
    recipe = recipe.model_copy(
        update={"supervised": recipe.supervised.model_copy(update={"batch_size": batch_size, "micro_batch_size": 4})}
    )
    others = [TrainingTriple(f"a{n}", f"p{n}", source="others") for n in range(20)]
    with pytest.raises(TrainingError, match=f"source {triples[0].source} cannot fill a batch of {batch_size}"):
        train(recipe, tmp_path, [*others, *triples])


def test_the_stage_without_triples_is_refused_before_anything_is_trained(recipe, tmp_path):
    first = recipe.model_copy(update={"stages": ("simcse", "supervised")})
    with pytest.raises(TrainingError, match="no triples"):
        train(first, tmp_path, (), on_step=lambda step: pytest.fail("trained"))


@pytest.mark.parametrize("dims", [(), (8, 16)])
@pytest.mark.parametrize("columns", [2, 3])
def test_micro_batches_change_nothing_but_the_memory(tiny_base, settings, dims, columns):
    """The loss and its gradients are those of the whole batch in one forward pass."""
    model = encoder(tiny_base, settings)
    torch.manual_seed(0)
    model.add_adapter(lora_config(LoraSettings(rank=2, dropout=0.0), model[0].model))
    model.train()
    texts = [[triple.anchor, triple.positive, triple.negatives[0]][:columns] for triple in TRIPLES[:6]]
    outcomes = []
    for micro_batch_size in (6, 4, 1):
        variant = settings.model_copy(
            update={"batch_size": 6, "micro_batch_size": micro_batch_size, "matryoshka_dims": dims}
        )
        loss_of = supervised.contrastive_loss(model, variant)
        assert getattr(loss_of.loss if dims else loss_of, "uses_gradient_cache", False) == (micro_batch_size < 6)
        model.zero_grad()
        loss = loss_of([model.preprocess(list(column)) for column in zip(*texts, strict=True)], labels=None)
        loss.backward()
        gradients = [weight.grad.flatten() for weight in model.parameters() if weight.requires_grad]
        outcomes.append((loss.item(), torch.cat(gradients).numpy()))
    for loss, gradients in outcomes[1:]:
        assert loss == pytest.approx(outcomes[0][0], rel=1e-5)
        np.testing.assert_allclose(gradients, outcomes[0][1], atol=1e-5 * np.abs(outcomes[0][1]).max())
    assert np.abs(outcomes[0][1]).max() > 0


def test_the_loss_is_the_cross_entropy_of_the_positive_among_all_texts_of_the_others(tiny_base, settings):
    """Computed by hand from the vectors; with Matryoshka dimensions it is the sum over them and the full width."""
    model = encoder(tiny_base, settings).eval()
    anchors, positives, negatives = (
        [[triple.anchor, triple.positive, triple.negatives[0]][place] for triple in TRIPLES[:4]] for place in range(3)
    )

    def expected(width):
        vectors = [
            functional.normalize(model.encode(column, convert_to_tensor=True)[:, :width], dim=-1)
            for column in (anchors, positives, negatives)
        ]
        logits = vectors[0] @ torch.cat(vectors[1:]).T / settings.temperature
        return functional.cross_entropy(logits, torch.arange(4)).item()

    for dims, widths in (((), (32,)), ((8,), (8, 32)), ((32, 8), (8, 32))):
        loss_of = supervised.contrastive_loss(model, settings.model_copy(update={"matryoshka_dims": dims}))
        with torch.no_grad():
            loss = loss_of([model.preprocess(column) for column in (anchors, positives, negatives)], labels=None)
        assert loss.item() == pytest.approx(sum(map(expected, widths)), rel=1e-4)


def taught(recipe, **changes):
    return recipe.model_copy(
        update={"supervised": recipe.supervised.model_copy(update={"micro_batch_size": 4, **changes})}
    )


@pytest.mark.parametrize("dims", [(), (8,)])
@pytest.mark.parametrize("columns", [2, 3])
def test_a_teacher_adds_the_differences_of_similarities_of_all_columns(tiny_base, settings, dims, columns):
    model = encoder(tiny_base, settings).eval()
    rows = [(triple.anchor, triple.positive, triple.negatives[0])[:columns] for triple in TRIPLES[:4]]
    teacher = functional.normalize(torch.randn(4 * columns, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    features = [model.preprocess(list(column)) for column in zip(*rows, strict=True)]
    labels = torch.arange(4 * columns).reshape(4, columns)
    whole = settings.model_copy(update={"micro_batch_size": 4, "matryoshka_dims": dims, "teacher_weight": 3.0})
    with torch.no_grad():
        alone = supervised.contrastive_loss(model, whole)(features, labels=None)
        both = supervised.contrastive_loss(model, whole, teacher=teacher.half())(features, labels)

    def difference(width):
        texts = [text for column in zip(*rows, strict=True) for text in column]
        vectors = functional.normalize(model.encode(texts, convert_to_tensor=True)[:, :width], dim=-1)
        wanted = teacher[labels.T.flatten()]
        others = ~torch.eye(len(texts), dtype=torch.bool)
        return ((vectors @ vectors.T - wanted @ wanted.T)[others] ** 2).mean().item()

    assert both.item() - alone.item() == pytest.approx(3 * sum(map(difference, {*dims, 32})), rel=2e-3)


def test_an_encoder_that_teaches_itself_forgets_less(recipe, tmp_path):
    texts = [f"{town} in {month}" for town in ("Oslo", "Rome", "Bern") for month in ("May", "June", "July")]

    def similarities(directory):
        vectors = Encoder.load(directory).encode(texts, normalize=True)
        return vectors @ vectors.T

    train(recipe.model_copy(update={"stages": ()}), tmp_path / "start")
    before = similarities(tmp_path / "start" / "checkpoint")
    change = {}
    for name, teacher in (("alone", ""), ("taught", "start")):
        changed = taught(recipe, teacher=teacher, steps=12, teacher_weight=1000.0)
        train(changed, tmp_path / name, PAIRS)
        change[name] = np.abs(similarities(tmp_path / name / "checkpoint") - before).mean()
    assert change["taught"] < 0.5 * change["alone"]


def test_a_killed_run_with_a_teacher_resumes_with_its_vectors(recipe, tmp_path, monkeypatch):
    def kill(step):
        if step.step == 5:
            raise Killed

    changed = taught(recipe, teacher="start", hard_negatives=1)
    with pytest.raises(Killed):
        train(changed, tmp_path / "killed", on_step=kill)
    whole = train(changed, tmp_path / "whole")
    assert train(changed, tmp_path / "killed").record.fingerprint == whole.record.fingerprint


def test_a_teacher_needs_the_whole_batch_in_one_pass(recipe, tmp_path):
    with pytest.raises(InputError, match="batch of 4 with micro_batch_size 2 would be split"):
        train(taught(recipe, teacher="start", micro_batch_size=2), tmp_path)


def test_teachers_are_part_of_the_key(recipe):
    alone, itself, other = (taught(recipe, teacher=teacher) for teacher in ("", "start", "bundled:all-minilm-l6-v2"))
    assert len({one.settings_key() for one in (alone, itself, other)}) == 3
    assert taught(recipe, teacher_weight=25.0).settings_key() == alone.settings_key()
    assert [one.teachers for one in (alone, itself, other)] == [(), (), ("bundled:all-minilm-l6-v2",)]


def test_similarities_of_a_bf16_run_are_not_rounded():
    generator = torch.Generator().manual_seed(0)
    anchors, others = torch.randn(2, 8, 64, generator=generator).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cosines = exact_cosines(anchors, others)
    expected = functional.cosine_similarity(anchors.double()[:, None], others.double()[None], dim=-1)
    torch.testing.assert_close(cosines.double(), expected, atol=1e-6, rtol=0)


def test_matryoshka_dimensions_beyond_the_encoder_are_refused(recipe, tmp_path):
    wide = recipe.model_copy(update={"supervised": recipe.supervised.model_copy(update={"matryoshka_dims": (16, 64)})})
    with pytest.raises(InputError, match=r"64, .* 32 dimensions"):
        train(wide, tmp_path)


def test_the_instruction_stands_before_anchors_only(tiny_base, settings, tmp_path):
    """In what the model is fed, and in the tokens that are counted."""
    instructed = settings.model_copy(update={"instruction": "find it: "})
    ready = trainer(tiny_base, instructed, [*PAIRS, *TRIPLES], tmp_path)
    columns = Counter()
    for inputs in ready.get_train_dataloader():
        for key in [key for key in inputs if key.endswith("_input_ids")]:
            texts = ready.model.tokenizer.batch_decode(inputs[key], skip_special_tokens=True)
            columns[key, all(text.startswith("find it: ") for text in texts)] += 1
            assert sum("find it" in text for text in texts) in (0, len(texts))
    assert (columns["anchor_input_ids", True], columns["positive_input_ids", False]) == (6, 6)
    assert set(columns) == {(f"{name}_input_ids", name == "anchor") for name in ("anchor", "positive", "negative")}
    rows = {"titles": [supervised.TripleRow("ab", "c", None)], "jobs": [supervised.TripleRow("ab", "c", "de")]}
    for instruction, expected in (("", (3 + 5) / 2), ("xyz", (6 + 8) / 2)):
        counted = settings.model_copy(update={"instruction": instruction})
        assert supervised._tokens_per_row(ready.model, rows, settings=counted) == expected


def test_mined_negatives_keep_the_margin_and_fit_no_anchor(tiny_base, settings):
    """The toy encoder is random, so that some titles are nearer to an anchor than its own."""
    model = encoder(tiny_base, settings)
    margin = 0.4
    mining = settings.model_copy(update={"hard_negatives": 2, "false_negative_margin": margin})
    two_fit = [*PAIRS, *(TrainingTriple(f"{level} nurse", "baker", source="titles") for level in LEVELS)]
    given = supervised.negatives_by_source(two_fit)["titles"]
    mined = supervised.mine_negatives(given, model, settings=mining)
    assert list(mined) == list(given)
    assert 0 < sum(map(len, mined.values())) < 2 * len(mined), "the margin leaves some anchors without"
    vectors = {
        text: vector
        for texts in [sorted({text for pair in given for text in pair})]
        for text, vector in zip(texts, model.encode(texts, normalize_embeddings=True), strict=True)
    }
    for (anchor, positive), negatives in mined.items():
        assert not {positive for known, positive in given if known == anchor} & set(negatives)
        for negative in negatives:
            right, wrong = (float(vectors[anchor] @ vectors[text]) for text in (positive, negative))
            assert wrong <= (1 - margin) * right + 1e-5


def test_mining_adds_to_what_is_given_and_sees_the_instruction(tiny_base, settings, monkeypatch):
    asked = {}

    def mine(dataset, model, **options):
        asked.update(options)
        return [{"anchor": "a", "positive": "p", "negative": text} for text in ("given", "mined")]

    monkeypatch.setattr(supervised, "mine_hard_negatives", mine)
    mining = settings.model_copy(update={"hard_negatives": 2, "instruction": "find it: "})
    found = supervised.mine_negatives({("a", "p"): ("given",), ("b", "q"): ()}, None, settings=mining)
    assert found == {("a", "p"): ("given", "mined"), ("b", "q"): ()}
    assert (asked["query_prompt"], asked["relative_margin"], asked["num_negatives"]) == ("find it: ", 0.05, 2)


def test_mining_is_silent(tiny_base, settings, capfd):
    pairs = {(triple.anchor, triple.positive): () for triple in random.Random(0).sample(PAIRS, 12)}
    model = encoder(tiny_base, settings)
    capfd.readouterr()
    supervised.mine_negatives(pairs, model, settings=settings.model_copy(update={"hard_negatives": 1}))
    assert capfd.readouterr() == ("", "")
