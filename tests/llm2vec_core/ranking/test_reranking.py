"""A cross-encoder reorders the top of a ranking."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
