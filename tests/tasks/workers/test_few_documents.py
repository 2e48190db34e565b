"""A few documents are encoded by the graph of the checkpoint: the same vectors and counts, without torch."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from data.config import CleanConfig, SourceConfig
from data.schema import KINDS
from data.snapshots.build import build_snapshot
from data.snapshots.snapshot import contents_of, open_snapshot
from data.vectors.shards import ShardVectors, drop_shards
from llm2vec_core.training.settings import Recipe
from tasks.encoders import query_encoder
from tasks.encoders.checkpoints import build_untrained
from tasks.encoders.query_encoder import keep_query_encoder
from tasks.ledger.usage import embed_usage
from tasks.run.settings import EncodeSettings, Settings
from tasks.stages.embed import latest_snapshots, plan_shards
from tasks.workers import shards
from tasks.workers.shards import encode_planned

TEXTS = ["Nurse", "Cares for patients. " * 20, "Writes SQL and knows Haskell."]


@pytest.fixture
def home(tmp_path, tiny_base):
    """Settings of a home with three documents of each kind, and a checkpoint with its graph."""
    settings = Settings(home=str(tmp_path / "home"), train=Recipe(base_model=str(tiny_base), max_tokens=64))
    for kind in KINDS:
        path = tmp_path / f"{kind}.jsonl"
        rows = [{"id": str(row), "text": f"{kind}: {text}"} for row, text in enumerate(TEXTS)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        build_snapshot(
            settings.store(),
            kind=kind,
            sources={"board": SourceConfig(kind=kind, path=str(path))},
            clean=CleanConfig(near_duplicates=False),
            run_id="run",
            fence=lambda: None,
            now=datetime(2026, 3, 1, tzinfo=UTC),
        )
    store = settings.store()
    fingerprint = build_untrained(store, settings, str(tiny_base)).fingerprint
    keep_query_encoder(store, fingerprint, settings.encode)
    return settings, fingerprint


def encoded(settings, fingerprint, make_run):
    """Encode everything; returns the reports and the vectors and token counts by kind."""
    store, made_by = settings.store(), {"fingerprint": fingerprint}
    drop_shards(store, fingerprint=fingerprint)
    snapshots = latest_snapshots(store)
    reports = [
        encode_planned(settings, fingerprint, plan)
        for plan in plan_shards.fn(make_run(settings), fingerprint, snapshots)
    ]
    vectors = {}
    for kind in KINDS:
        contents = contents_of(open_snapshot(store, kind, snapshots[kind]))
        found = ShardVectors(store, encode_key=settings.encode.encode_key(kind), **made_by)
        vectors[kind] = found.of(contents)
    return reports, vectors


@pytest.mark.parametrize("long_texts", ["parts", "cut", "sections"])
def test_vectors_and_counts_are_those_of_torch(home, make_run, monkeypatch, long_texts):
    settings, fingerprint = home
    settings = settings.model_copy(update={"encode": EncodeSettings(long_texts=long_texts)})
    monkeypatch.setattr(shards, "load_encoder", None)
    by_graph, vectors = encoded(settings, fingerprint, make_run)
    monkeypatch.undo()
    monkeypatch.setattr(shards, "FEW_TEXTS", 0)
    by_torch, expected = encoded(settings, fingerprint, make_run)
    for kind in KINDS:
        np.testing.assert_allclose(vectors[kind], expected[kind], atol=1e-5)
    counted = {"documents", "tokens", "truncated"}
    assert [each.model_dump(include=counted) for each in by_graph] == [
        each.model_dump(include=counted) for each in by_torch
    ]
    assert [each.without_torch for each in (*by_graph, *by_torch)] == [True, True, False, False]


def test_the_share_of_the_peak_is_not_worth_importing_torch(home, make_run):
    settings, fingerprint = home
    reports, _ = encoded(settings, fingerprint, make_run)
    usage = embed_usage(make_run(settings), fingerprint, reports)
    assert (usage.tokens, usage.flops) == (sum(report.tokens for report in reports), None)


@pytest.mark.parametrize(
    "encode",
    [
        EncodeSettings(precision="bf16"),
        EncodeSettings(prompts={"job": "A job: ", "resume": "A person: "}),
    ],
)
def test_what_the_graph_was_not_compared_for_is_encoded_by_torch(home, make_run, encode):
    settings, fingerprint = home
    reports, _ = encoded(settings.model_copy(update={"encode": encode}), fingerprint, make_run)
    assert not any(report.without_torch for report in reports)


def test_a_machine_with_a_gpu_and_a_checkpoint_without_a_graph_use_torch(home, make_run, monkeypatch):
    settings, fingerprint = home
    with monkeypatch.context() as patched:
        patched.setattr(query_encoder, "has_gpu_driver", lambda: True)
        reports, _ = encoded(settings, fingerprint, make_run)
        assert not any(report.without_torch for report in reports)
    monkeypatch.setattr(query_encoder, "QUERY_GRAPH_NAME", "another.onnx")
    reports, _ = encoded(settings, fingerprint, make_run)
    assert not any(report.without_torch for report in reports)
