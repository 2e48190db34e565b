"""Our vectors equal those of the authors' package; ``benchmarks/reference_parity.py`` generates the golden files."""

import json
from pathlib import Path

import numpy as np
import pytest

from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.model.checkpoint import EncoderSpec

GOLDEN_DIR = Path(__file__).parents[2] / "golden" / "llm2vec_reference"
GOLDEN = json.loads((GOLDEN_DIR / "vectors.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    directory = tmp_path_factory.mktemp("reference") / "c"
    write_checkpoint(
        directory,
        backbone=GOLDEN_DIR,
        spec=EncoderSpec(
            base_model="tiny-llama", attention="bidirectional", pooling_mode="mean", max_tokens=GOLDEN["max_tokens"]
        ),
    )
    return Encoder.load(directory, device="cpu")


@pytest.mark.parametrize("instruction", list(GOLDEN["vectors"]))
def test_vectors_equal_the_reference(encoder, instruction):
    prompt = f"{instruction} " if instruction else None
    ours = encoder.encode(GOLDEN["texts"], prompt=prompt, pool_prompt=False)
    np.testing.assert_allclose(ours, GOLDEN["vectors"][instruction], atol=1e-5)


def test_bos_is_left_out_of_the_mean_only_where_it_is_asked_for(encoder):
    text = GOLDEN["texts"][:1]
    assert np.abs(encoder.encode(text) - encoder.encode(text, pool_prompt=False)).max() > 1e-3
