"""A cross-encoder reorders the top of a ranking."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from llm2vec_core.errors import CheckpointError
from llm2vec_core.ranking.reranking import Reranker, rerank


def test_scores_are_those_of_the_cross_encoder(tiny_cross_encoder: Path) -> None:
    from sentence_transformers import CrossEncoder

    texts = ["ward nurse", "chef", "", "nurse " * 200]
    scores = Reranker(tiny_cross_encoder).scores("nurse", texts)
    expected = CrossEncoder(str(tiny_cross_encoder)).predict([("nurse", text) for text in texts])
    np.testing.assert_allclose(1 / (1 + np.exp(-scores)), expected, rtol=1e-5)
    assert len(set(scores.tolist())) == len(texts)
    assert Reranker(tiny_cross_encoder).scores("nurse", []).shape == (0,)


def test_identity_is_that_of_the_weights(tiny_cross_encoder: Path, tiny_base: Path) -> None:
    assert Reranker(tiny_cross_encoder).fingerprint == Reranker(tiny_cross_encoder).fingerprint
    assert Reranker(tiny_cross_encoder).fingerprint != Reranker(tiny_base).fingerprint


def test_what_is_no_cross_encoder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="cross-encoder"):
        Reranker(tmp_path).scores("a", ["b"])


@pytest.mark.parametrize("wrong", ["head missing", "block missing", "prefixed", "quantised"])
def test_weights_that_are_not_loaded_are_refused(tiny_cross_encoder: Path, tmp_path: Path, wrong: str) -> None:
    directory = shutil.copytree(tiny_cross_encoder, tmp_path / "model")
    weights = load_file(directory / "model.safetensors")
    if wrong == "quantised":
        config = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    elif wrong == "prefixed":
        weights = {f"wrapped.{name}": each for name, each in weights.items()}
    else:
        part = {"head missing": "classifier.", "block missing": "bert.encoder.layer.0.attention"}[wrong]
        weights = {name: each for name, each in weights.items() if not name.startswith(part)}
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="quantised" if wrong == "quantised" else "missing: ") as caught:
        Reranker(directory).scores("a", ["b"])
    assert str(directory) in str(caught.value)


@given(
    ranking=st.lists(st.integers(0, 99), unique=True, max_size=9).map(lambda found: [(n, 1.0) for n in found]),
    scores=st.lists(st.integers(-3, 3).map(float), max_size=12),
)
def test_the_first_are_ordered_and_the_rest_follows(ranking, scores) -> None:
    scores = scores[: len(ranking)]
    found = rerank(ranking, scores)
    first, rest = found[: len(scores)], found[len(scores) :]
    assert sorted(number for number, _ in first) == sorted(number for number, _ in ranking[: len(scores)])
    assert dict(first) == {number: score for (number, _), score in zip(ranking, scores, strict=False)}
    assert [number for number, _ in rest] == [number for number, _ in ranking[len(scores) :]]
    assert found == sorted(found, key=lambda pair: (-pair[1], pair[0]))
