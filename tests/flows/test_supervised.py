"""Supervised training as a flow: judgments are pinned like snapshots, and are part of the encoder's identity."""

import json

import pytest

from data.errors import InputError
from flows.train import train
from llm2vec_core.model.checkpoint import read_record

SUPERVISED = {
    "train.stages": ["supervised"],
    "train.supervised.steps": 2,
    "train.supervised.batch_size": 2,
    "train.supervised.micro_batch_size": 2,
    "train.supervised.max_tokens": 16,
}


@pytest.fixture
def request_of(small_night):
    """A request with judgments in a file, and not one document: judgments are all that the stage learns from."""
    path = small_night.folder / "judgments.jsonl"

    def make(*pairs: tuple[str, str]):
        if pairs:
            path.write_text("".join(json.dumps({"anchor": a, "positive": b}) + "\n" for a, b in pairs))
        return small_night.request.model_copy(update={"overrides": {**SUPERVISED, "judgments.sources": [str(path)]}})

    return make


def test_judgments_are_pinned_and_decide_the_encoder(small_night, request_of):
    request = request_of(("ward nurse", "nurse"), ("sous chef", "chef"), ("lorry driver", "driver"))
    first = train(request, newest=True)
    record = read_record(small_night.home / "checkpoints" / first.checkpoint.fingerprint)
    assert (first.steps, record.stages) == (2, ("supervised",))
    request_of(("ward nurse", "nurse"), ("sous chef", "chef"), ("night porter", "porter"))
    assert train(request, newest=False).recipe_key == first.recipe_key, "a night stays with what was pinned"
    second = train(request, newest=True)
    assert second.recipe_key != first.recipe_key
    assert second.checkpoint.fingerprint != first.checkpoint.fingerprint


def test_a_supervised_recipe_without_judgments_is_a_mistake(small_night):
    request = small_night.request.model_copy(update={"overrides": SUPERVISED})
    with pytest.raises(InputError, match="no judgments are named"):
        train(request, newest=True)
