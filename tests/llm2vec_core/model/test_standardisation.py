"""Standardisation after pooling, as a view and in a saved checkpoint."""

import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sentence_transformers import SentenceTransformer

from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.encoding.views import encode_together, load_views, shares_pass
from llm2vec_core.errors import InputError
from llm2vec_core.model.checkpoint import EncoderSpec, fingerprint
from llm2vec_core.model.modes import EncoderView
from llm2vec_core.model.standardisation import MIN_TEXTS, is_standardisation, standardisation_module

CALIBRATION = [f"{first}{second} skill {first * 3}" for first in string.ascii_lowercase[:9] for second in "abcdefgh"]
STANDARDISED = EncoderView(standardised=True)


def write(base, directory, calibration=(), **settings):
    write_checkpoint(
        directory,
        backbone=base,
        spec=EncoderSpec(
            **{"base_model": "tiny", "attention": "causal", "pooling_mode": "mean", "max_tokens": 64} | settings
        ),
        calibration=calibration,
    )
    return directory


@pytest.fixture(scope="module")
def plain(tiny_base, tmp_path_factory):
    return write(tiny_base, tmp_path_factory.mktemp("plain") / "c")


@pytest.fixture(scope="module")
def saved(tiny_base, tmp_path_factory):
    return write(tiny_base, tmp_path_factory.mktemp("standardised") / "c", calibration=CALIBRATION)


def test_calibration_texts_get_mean_0_and_deviation_1(plain):
    before = Encoder.load(plain).encode(CALIBRATION)
    after = Encoder.load(plain, view=STANDARDISED, calibration=CALIBRATION).encode(CALIBRATION)
    assert np.abs(before.std(axis=0) - 1).max() > 0.1
    np.testing.assert_allclose(after.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(after.std(axis=0), 1, atol=1e-4)


def test_a_saved_standardisation_is_the_view_and_loads_anywhere(plain, saved):
    texts = ["AWS and GCP", "cloud", ""]
    viewed = Encoder.load(plain, view=STANDARDISED, calibration=CALIBRATION)
    ours = Encoder.load(saved)
    np.testing.assert_allclose(ours.encode(texts), viewed.encode(texts), atol=1e-5)
    anywhere = SentenceTransformer(str(saved), local_files_only=True)
    np.testing.assert_allclose(anywhere.encode(texts[:2]), ours.encode(texts[:2]), atol=1e-5)
    assert is_standardisation(anywhere[-1])
    assert ours.fingerprint == fingerprint(saved) != fingerprint(plain)


def test_another_pooling_takes_a_saved_standardisation_out(plain, saved):
    view = EncoderView(pooling_mode="last")
    np.testing.assert_allclose(
        Encoder.load(saved, view=view).encode(["nurse"]), Encoder.load(plain, view=view).encode(["nurse"]), atol=1e-6
    )


def test_one_pass_gives_what_passes_of_their_own_give(plain):
    views = [EncoderView(pooling_mode=mode, standardised=on) for mode in ("mean", "last") for on in (False, True)]
    texts = ["one", "another, longer text", "one"]
    together = load_views(plain, views, calibration=CALIBRATION)
    assert len({encoder.fingerprint for encoder in together}) == len(views)
    for encoding, view in zip(encode_together(together, texts), views, strict=True):
        alone = Encoder.load(plain, view=view, calibration=CALIBRATION).encode_with_counts(texts)
        np.testing.assert_allclose(encoding.vectors, alone.vectors, atol=1e-5)
        assert (encoding.num_tokens, encoding.num_truncated) == (alone.num_tokens, alone.num_truncated)


def test_an_eos_token_needs_a_pass_of_its_own(plain):
    mean, last, eos = load_views(plain, [EncoderView(pooling_mode=mode) for mode in ("mean", "last", "eos")])
    assert shares_pass(mean, last)
    assert not shares_pass(mean, eos)


def test_two_attentions_cannot_share_weights(plain):
    with pytest.raises(InputError, match="causally and bidirectionally"):
        load_views(plain, [EncoderView(), EncoderView("bidirectional")])


@given(arrays(np.float32, (MIN_TEXTS, 4), elements=st.floats(-100, 100, width=32), fill=st.nothing()))
def test_a_constant_dimension_is_centred_and_nothing_is_infinite(vectors):
    vectors[:, 0] = 7.5
    import torch

    with torch.inference_mode():
        found = standardisation_module(vectors).linear(torch.from_numpy(vectors)).numpy()
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, 0], 0, atol=1e-5)


def test_too_few_texts_say_too_little(plain):
    with pytest.raises(InputError, match=f"found 3 calibration texts; at least {MIN_TEXTS}"):
        Encoder.load(plain, view=STANDARDISED, calibration=["a", "b", "c", "a"])


@pytest.mark.parametrize("dim", [0, 33])
def test_dimensions_that_are_not_there_are_refused(plain, dim):
    with pytest.raises(InputError, match="have 32"):
        Encoder.load(plain).encode("a", dim=dim)


def test_leading_dimensions_are_kept_and_then_normalised(plain):
    encoder = Encoder.load(plain)
    whole, cut = encoder.encode(["nurse"]), encoder.encode(["nurse"], dim=8, normalize=True)
    np.testing.assert_allclose(cut, whole[:, :8] / np.linalg.norm(whole[:, :8]), atol=1e-6)
