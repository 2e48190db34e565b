"""Model cards of stored checkpoints: written beside the encoder, and not part of its identity."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from data.config import CleanConfig, SourceConfig
from data.snapshots.build import build_snapshot
from data.store.base import LocalStore
from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.errors import CheckpointError
from llm2vec_core.evaluation.results import TaskScore
from llm2vec_core.model.checkpoint import EncoderSpec, fingerprint, read_record
from tasks.encoders.cards import write_model_card
from tasks.encoders.checkpoints import checkpoint_dir, store_checkpoint


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "home")


@pytest.fixture
def snapshot(store: LocalStore, tmp_path: Path) -> str:
    """Id of a snapshot of three jobs."""
    path = tmp_path / "jobs.jsonl"
    path.write_text("".join(f'{{"id": {n}, "title": "Nurse", "text": "Cares on ward {n}."}}\n' for n in range(3)))
    built = build_snapshot(
        store,
        kind="job",
        sources={"postings": SourceConfig(kind="job", path=str(path))},
        clean=CleanConfig(),
        run_id="run-1",
        fence=lambda: None,
        now=datetime(2026, 3, 1, tzinfo=UTC),
    )
    return built.manifest.id


@pytest.fixture
def trained(store: LocalStore, tiny_base: Path, snapshot: str, tmp_path: Path) -> str:
    """Fingerprint of a stored checkpoint that says that it was trained on the snapshot."""
    write_checkpoint(
        tmp_path / "made",
        backbone=tiny_base,
        spec=EncoderSpec(
            base_model=str(tiny_base),
            attention="bidirectional",
            pooling_mode="mean",
            max_tokens=64,
            stages=("mntp", "simcse"),
            training_snapshots={"job": snapshot},
        ),
    )
    return store_checkpoint(store, tmp_path / "made").fingerprint


def score(system_fingerprint: str, task: str = "SmallRetrieval", main_score: float = 61.25) -> TaskScore:
    return TaskScore(
        task=task,
        type="Retrieval",
        main_score_name="ndcg_at_10",
        main_score=main_score,
        metrics={},
        ci_low=main_score - 5,
        ci_high=main_score + 5,
        seconds=0.0,
        num_items=6,
        num_texts=12,
        content_sha256="c0ffee",
        system_fingerprint=system_fingerprint,
    )


def card_path(store: LocalStore, fingerprint: str) -> Path:
    return checkpoint_dir(store, fingerprint) / "README.md"


def metadata(path: Path) -> dict[str, Any]:
    return dict(ModelCard.load(path).data.to_dict())


def test_a_card_before_any_evaluation_claims_no_score(store: LocalStore, trained: str, snapshot: str) -> None:
    write_model_card(store, trained)
    path = card_path(store, trained)
    found = metadata(path)
    assert {"sentence-transformers", "mntp", "simcse"} <= set(found["tags"])
    assert "model-index" not in found
    assert "license" not in found, "nobody said what the licence of this base model is"
    assert f"| postings | job | 3 | {snapshot} | not known |" in path.read_text()


def test_an_evaluation_puts_the_encoder_s_own_scores_on_its_card(store: LocalStore, trained: str) -> None:
    write_model_card(store, trained)
    write_model_card(store, trained, scores=[score(trained), score("another", "OtherRetrieval", 99.0)])
    path = card_path(store, trained)
    (index,) = metadata(path)["model-index"]
    assert [result["dataset"]["name"] for result in index["results"]] == ["SmallRetrieval"]
    assert index["results"][0]["metrics"] == [{"type": "ndcg_at_10", "value": 61.25}]
    assert "56.25 to 66.25" in path.read_text()
    assert "OtherRetrieval" not in path.read_text()


def test_a_card_is_no_part_of_the_encoder(store: LocalStore, trained: str) -> None:
    write_model_card(store, trained, scores=[score(trained)])
    directory = checkpoint_dir(store, trained)
    assert fingerprint(directory) == trained == read_record(directory).fingerprint


def test_a_card_is_written_only_when_it_says_something_else(
    store: LocalStore, trained: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    swap = store.compare_and_swap

    def counting(key: str, *, expected: bytes | None, content: bytes) -> None:
        written.append(key)
        swap(key, expected=expected, content=content)

    monkeypatch.setattr(store, "compare_and_swap", counting)
    for scores in ([], [], [score(trained)], [score(trained)], [score(trained, main_score=62.0)]):
        write_model_card(store, trained, scores=scores)
    assert written == [f"checkpoints/{trained}/README.md"] * 3


def test_a_card_whose_checkpoint_lost_a_file_is_not_written(store: LocalStore, trained: str) -> None:
    (checkpoint_dir(store, trained) / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        write_model_card(store, trained)
    assert not card_path(store, trained).exists()
