import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm2vec_core.batching import padded_length, plan_batches
from llm2vec_core.checkpoint import RECORD_NAME, fingerprint, read_record, write_checkpoint
from llm2vec_core.encoder import Encoder
from llm2vec_core.errors import BaseModelError, CheckpointError
from llm2vec_core.modes import ATTENTIONS, POOLING_MODES, parse_encoder_name

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


def build(base: Path, directory: Path, *, attention="bidirectional", pooling_mode="mean", max_tokens=256) -> Path:
    write_checkpoint(
        directory,
        backbone=base,
        base_model="tiny",
        attention=attention,
        pooling_mode=pooling_mode,
        max_tokens=max_tokens,
    )
    return directory


@pytest.fixture(scope="module")
def checkpoint(tiny_base, tmp_path_factory) -> Path:
    return build(tiny_base, tmp_path_factory.mktemp("checkpoint") / "c")


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("pooling_mode", POOLING_MODES)
def test_vectors_equal_those_of_sentence_transformers(tiny_base, tmp_path, attention, pooling_mode):
    from sentence_transformers import SentenceTransformer

    directory = build(tiny_base, tmp_path / "c", attention=attention, pooling_mode=pooling_mode)
    texts = [text for text in TEXTS if text]
    ours = Encoder.load(directory).encode(texts)
    theirs = SentenceTransformer(str(directory), local_files_only=True).encode(texts)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


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
def test_a_text_has_one_vector_whatever_its_company(checkpoint, texts, token_budget, random):
    """Alone or in a batch, in any order and under any token budget."""
    encoder = Encoder.load(checkpoint, token_budget=token_budget)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    order = list(range(len(texts)))
    random.shuffle(order)
    np.testing.assert_allclose(encoder.encode([texts[i] for i in order]), alone[order], atol=1e-5)


def test_left_and_right_padding_agree(checkpoint):
    encoder = Encoder.load(checkpoint)
    right = encoder.encode(TEXTS)
    encoder._tokenizer.padding_side = "left"
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
    encoding = encoder.encode_counted(["x" * 17, "x" * 16, "y" * 400, "y" * 400])
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
def test_batches_hold_every_text_once_within_the_budget(lengths, token_budget):
    batches = plan_batches(lengths, token_budget=token_budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        assert len(batch) == 1 or len(batch) * padded_length(longest) <= token_budget


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
    from llm2vec_core import bidirectional

    monkeypatch.setattr(bidirectional, "measured_attention", lambda model: "causal")
    with pytest.raises(BaseModelError, match="bidirectional"):
        Encoder.load(checkpoint)


def test_parse_encoder_name():
    name = parse_encoder_name("bundled:smollm2-135m+causal+weighted_mean")
    assert (name.base_model, name.attention, name.pooling_mode) == ("bundled:smollm2-135m", "causal", "weighted_mean")
    assert str(parse_encoder_name(str(name))) == str(name)
    with pytest.raises(Exception, match="wmean"):
        parse_encoder_name("x+wmean")
