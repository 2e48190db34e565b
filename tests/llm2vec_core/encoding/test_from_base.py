"""Encoders built from base models in one call, saved, and loaded by name."""

from pathlib import Path

import numpy as np
import pytest

from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import BaseModelError, InputError
from llm2vec_core.model.base_models import user_cache_dir
from llm2vec_core.model.checkpoint import EncoderSpec, fingerprint, read_record
from llm2vec_core.model.modes import EncoderView

TEXTS = ["AWS and GCP", "", "cloud-based systems " * 30, "a"]


@pytest.mark.parametrize(("attention", "pooling"), [("bidirectional", "mean"), ("causal", "weighted_mean")])
def test_a_base_model_becomes_the_encoder_that_a_checkpoint_of_it_is(tiny_base, tmp_path, attention, pooling):
    spec = EncoderSpec(base_model="tiny", attention=attention, pooling_mode=pooling, max_tokens=64)
    write_checkpoint(tmp_path / "c", backbone=tiny_base, spec=spec)
    encoder = Encoder.from_base(tiny_base, attention=attention, pooling=pooling, max_tokens=64)
    np.testing.assert_array_equal(encoder.encode(TEXTS), Encoder.load(tmp_path / "c").encode(TEXTS))
    assert (encoder.attention, encoder.pooling_mode, encoder.max_tokens) == (attention, pooling, 64)


def test_two_encoders_of_one_base_model_are_told_apart(tiny_base):
    makings = [{}, {"attention": "causal"}, {"pooling": "last"}, {"pooling": "eos"}, {"max_tokens": 64}]
    fingerprints = [Encoder.from_base(tiny_base, **making).fingerprint for making in makings]
    assert len(set(fingerprints)) == len(makings)
    assert Encoder.from_base(str(tiny_base)).fingerprint == fingerprints[0]


def test_a_saved_encoder_is_the_same_wherever_it_is_loaded(tiny_base, tmp_path):
    encoder = Encoder.from_base(tiny_base, max_tokens=64)
    record = encoder.save(tmp_path / "saved")
    assert record == read_record(tmp_path / "saved")
    assert (record.base_model, record.stages, record.pooling_mode) == (str(tiny_base), (), "mean")
    again = Encoder.load(str(tmp_path / "saved"))
    np.testing.assert_array_equal(again.encode(TEXTS), encoder.encode(TEXTS))
    assert again.fingerprint == record.fingerprint == fingerprint(tmp_path / "saved")
    assert again.save(tmp_path / "copy") == record, "saved again, it is the same encoder"


def test_an_encoder_is_saved_as_it_is_read(tiny_base, tmp_path):
    Encoder.from_base(tiny_base, max_tokens=64).save(tmp_path / "saved")
    causal = Encoder.load(f"{tmp_path / 'saved'}+causal+last")
    record = causal.save(tmp_path / "causal")
    assert (record.attention, record.pooling_mode) == ("causal", "last")
    np.testing.assert_array_equal(Encoder.load(tmp_path / "causal").encode(TEXTS), causal.encode(TEXTS))


@pytest.mark.parametrize("mode", ["eos", "echo"])
def test_what_a_directory_cannot_state_is_not_saved(tiny_base, tmp_path, mode):
    with pytest.raises(InputError, match=mode):
        Encoder.load(f"{tiny_base}+{mode}").save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_nothing_is_saved_over_something_else(tiny_base, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        Encoder.from_base(tiny_base).save(tmp_path)


def test_a_base_model_by_name_is_read_with_its_own_attention(tiny_base):
    found = Encoder.load(tiny_base)
    assert (found.attention, found.pooling_mode) == ("causal", "weighted_mean")
    asked = Encoder.load(f"{tiny_base}+bidirectional")
    assert (asked.attention, asked.pooling_mode) == ("bidirectional", "mean")
    np.testing.assert_array_equal(asked.encode(TEXTS), Encoder.from_base(tiny_base).encode(TEXTS))


def test_modes_of_a_name_say_how_it_is_read(tiny_base, tmp_path):
    directory = tmp_path / "saved"
    Encoder.from_base(tiny_base, max_tokens=64).save(directory)
    found = Encoder.load(f"{directory}+causal+eos+echo")
    view = Encoder.load(directory, view=EncoderView("causal", "eos", echo=True))
    assert found.fingerprint == view.fingerprint
    sections, plain = Encoder.load(f"{directory}+sections"), Encoder.load(directory)
    text = "# One\n" + "a" * 99 + "\n# Two\nbb"
    np.testing.assert_array_equal(sections.encode(text), plain.encode(text, long_texts="sections"))
    np.testing.assert_array_equal(sections.encode(text, long_texts="cut"), plain.encode(text))
    assert np.abs(sections.encode(text) - plain.encode(text)).max() > 1e-3


@pytest.mark.parametrize("mode", ["hybrid", "instructed", "reranked"])
def test_modes_of_an_evaluation_are_refused(tiny_base, mode):
    with pytest.raises(InputError, match=mode):
        Encoder.load(f"{tiny_base}+{mode}")


def test_an_encoder_is_not_what_its_name_does_not_say(tiny_base):
    with pytest.raises(InputError, match=r"trained by no stage, not by mntp"):
        Encoder.load(f"{tiny_base}+mntp")


def test_a_base_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BaseModelError, match="bundled:nothing"):
        Encoder.from_base("bundled:nothing", cache_dir=tmp_path)


def test_counts_and_progress_come_with_the_same_vectors(tiny_base, capsys):
    encoder = Encoder.from_base(tiny_base, max_tokens=64)
    finished = []
    counted = encoder.encode_with_counts(TEXTS, show_progress=True, batch_tokens=64, on_progress=finished.append)
    np.testing.assert_allclose(counted.vectors, encoder.encode(TEXTS), atol=1e-5)
    assert (counted.num_truncated, sum(finished)) == (1, len(TEXTS))
    assert len(finished) > 1, "a small budget makes several batches"
    assert "4/4" in capsys.readouterr().err
    encoder.encode(TEXTS)
    assert capsys.readouterr().err == ""


def test_converted_weights_lie_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("LLM2VEC_CACHE", str(tmp_path / "here"))
    assert user_cache_dir() == tmp_path / "here"
    monkeypatch.delenv("LLM2VEC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_dir() == tmp_path / "llm2vec"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_cache_dir() == Path.home() / ".cache" / "llm2vec"
