"""The encoder of queries: a graph after a promotion, torch with a reason without one."""

import logging

import numpy as np
import pytest

from data.documents.headings import SECTION_HEADINGS
from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import ParityError
from llm2vec_core.model.checkpoint import EncoderSpec
from llm2vec_core.serving import query_graph
from llm2vec_core.serving.query_encoder import QUERY_GRAPH_NAME, OnnxEncoder
from tasks.encoders import query_encoder
from tasks.encoders.checkpoints import checkpoint_dir, store_checkpoint
from tasks.encoders.query_encoder import keep_query_encoder, load_query_encoder
from tasks.run.settings import EncodeSettings, Settings

SETTINGS = EncodeSettings()
TEXT = "SKILLS\nSQL\nEXPERIENCE\n" + "Nurse on the night shift. " * 10


@pytest.fixture
def stored(tmp_path, tiny_base):
    """A store with a checkpoint, and its fingerprint."""
    store = Settings(home=str(tmp_path / "home")).store()
    spec = EncoderSpec(base_model="tiny", attention="bidirectional", pooling_mode="mean", max_tokens=64)
    write_checkpoint(tmp_path / "made", backbone=tiny_base, spec=spec)
    return store, store_checkpoint(store, tmp_path / "made").fingerprint


@pytest.fixture(autouse=True)
def said(caplog):
    caplog.set_level(logging.INFO, "tasks.encoders.query_encoder")
    return caplog


def require_equal(found, store, fingerprint):
    encoder = Encoder.load(checkpoint_dir(store, fingerprint), headings=SECTION_HEADINGS)
    for mode in ("cut", "parts", "sections"):
        expected = encoder.encode([TEXT, "a"], long_texts=mode, normalize=True)
        np.testing.assert_allclose(found.encode([TEXT, "a"], long_texts=mode), expected, atol=1e-5)


def test_a_promoted_checkpoint_is_read_without_torch(stored, monkeypatch):
    keep_query_encoder(*stored, SETTINGS)
    found = load_query_encoder(*stored, SETTINGS)
    assert isinstance(found, OnnxEncoder)
    assert load_query_encoder(*stored, SETTINGS) is found
    require_equal(found, *stored)
    monkeypatch.setattr(query_encoder, "checkpoint_dir", None)
    keep_query_encoder(*stored, SETTINGS)  # once is enough: nothing is read again


def test_a_checkpoint_of_an_earlier_version_is_read_by_torch(stored, said):
    found = load_query_encoder(*stored, SETTINGS)
    assert "Torch encodes the query" in said.text
    assert "earlier version" in said.text
    require_equal(found, *stored)


def test_a_damaged_graph_is_named_and_torch_is_used(stored, said):
    store, fingerprint = stored
    store.put_if_absent(f"checkpoints/{fingerprint}/{QUERY_GRAPH_NAME}", b"no graph")
    require_equal(load_query_encoder(*stored, SETTINGS), *stored)
    assert "cannot be used" in said.text


def test_other_vectors_are_found_once_and_the_reason_stays(stored, said, monkeypatch):
    def prove(*_):
        raise ParityError("The query encoder differs.")

    monkeypatch.setattr(query_graph, "_prove", prove)
    keep_query_encoder(*stored, SETTINGS)
    monkeypatch.setattr(query_graph, "write_query_graph", None)
    keep_query_encoder(*stored, SETTINGS)
    said.clear()
    require_equal(load_query_encoder(*stored, SETTINGS), *stored)
    assert "The query encoder differs." in said.text


def test_a_missing_package_is_no_lasting_reason(stored, said, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("llm2vec_core.errors.importlib.util.find_spec", lambda name: None)
        keep_query_encoder(*stored, SETTINGS)
    assert "llm2vec-pipelines[serving]" in said.text
    keep_query_encoder(*stored, SETTINGS)
    assert isinstance(load_query_encoder(*stored, SETTINGS), OnnxEncoder)


def test_documents_in_half_precision_are_searched_in_full(stored):
    half = EncodeSettings(precision="bf16")
    keep_query_encoder(*stored, half)
    require_equal(load_query_encoder(*stored, half), *stored)
