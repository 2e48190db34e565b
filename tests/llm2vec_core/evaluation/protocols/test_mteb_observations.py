"""Observations captured from mteb's predictions reproduce mteb's scores for each task class, or nothing is captured."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from mteb._evaluators.text.summarization_evaluator import DeprecatedSummarizationEvaluator
from mteb.abstasks import AbsTaskClustering, AbsTaskClusteringLegacy, AbsTaskPairClassification, AbsTaskRetrieval
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata

from llm2vec_core.encoding.result import Encoding
from llm2vec_core.evaluation.protocols.mteb_models import build_mteb_model
from llm2vec_core.evaluation.protocols.mteb_observations import CAUGHT, Recorder
from llm2vec_core.evaluation.protocols.sentence import MtebRun, run_mteb
from llm2vec_core.evaluation.statistics.observations import MeanOfItems, VMeasure, score_all
from llm2vec_core.evaluation.statistics.stats import estimate
from llm2vec_core.evaluation.systems import System
from llm2vec_core.evaluation.tasks.folders import load_eval_task
from llm2vec_core.evaluation.tasks.mteb_tasks import build_mteb_task

MakeTask = Callable[..., Path]
MakeSystem = Callable[..., System]

EXACT, ROUNDED = 1e-6, 2e-3
"""How far the items' score may be from mteb's, in points; mteb rounds the metrics of rankings."""


class NoisyEncoder:
    """Vectors by words, and a noise for each text: good but not perfect, and of many lengths."""

    def __init__(self, words: Any, *, noise: float = 1.5) -> None:
        self.fingerprint, self.embedding_dim = "noisy", words.embedding_dim
        self._words, self._noise = words, noise

    def encode_with_counts(
        self, texts: Sequence[str], *, prompt: str | None = None, pool_prompt: bool = True
    ) -> Encoding:
        clear, noise = self._words.encode(texts), self._words.encode([text.replace(" ", "_") for text in texts])
        lengths = np.array([[1 + len(text) % 3] for text in texts], dtype=np.float32)
        return Encoding(lengths * (clear + self._noise * np.sqrt(6) * noise), 0, 0, 0)


@pytest.fixture
def system(make_system: MakeSystem, encoder: Any) -> System:
    return make_system("dense", NoisyEncoder(encoder))


@pytest.fixture(autouse=True)
def _nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    yield
    assert list(empty.iterdir()) == []
    assert not CAUGHT.exists()


def _run(system: System, task: AbsTask, *, is_caught: bool) -> dict[str, Any]:
    """mteb's own figures of a task with one split and language, as they are."""
    result = mteb.evaluate(
        build_mteb_model(system, task),
        task,
        cache=None,
        prediction_folder=CAUGHT if is_caught else None,
        co2_tracker=False,
        show_progress_bar=False,
        encode_kwargs={"batch_size": 64, "show_progress_bar": False},
    )
    ((part,),) = result.task_results[0].scores.values()
    return part


def _agreeing(run: MtebRun, task: AbsTask, *, within: float) -> None:
    """Items are known, and together score what mteb says."""
    main_score = run.metrics[task.metadata.main_score]
    assert 3 < abs(main_score) < 97, "a perfect score would hide a wrong one"
    assert run.observations
    assert np.mean([score_all(observed) for observed in run.observations]) == pytest.approx(main_score, abs=within)


CORRELATIONS = ("spearman", "pearson")
RANKINGS = ("ndcg_at_10", "ndcg_at_1", "map_at_1000", "mrr_at_10", "recall_at_1", "precision_at_1", "hit_rate_at_1")
SUPPORTED: dict[str, Sequence[str]] = {
    "STS": [f"{kind}{each}" for kind in ("", "cosine_", "euclidean_", "manhattan_") for each in CORRELATIONS],
    "PairClassification": [f"{kind}_ap" for kind in ("max", "similarity", "cosine", "dot", "euclidean", "manhattan")],
    "Classification": ["accuracy"],
    "Clustering": ["v_measure"],
    "Retrieval": RANKINGS,
    "Reranking": RANKINGS,
    "Summarization": [f"{kind}{each}" for kind in ("", "cosine_", "dot_") for each in CORRELATIONS],
}


@pytest.mark.parametrize(
    ("task_type", "main_score"), [(kind, name) for kind, names in SUPPORTED.items() for name in names]
)
def test_items_score_what_mteb_says(make_task: MakeTask, system: System, task_type: str, main_score: str) -> None:
    eval_task = load_eval_task(make_task(task_type, main_score=main_score))
    task = build_mteb_task(eval_task)
    run = run_mteb(system, task)
    _agreeing(run, task, within=ROUNDED if task_type in ("Retrieval", "Reranking") else EXACT)
    assert [observed.num_items for observed in run.observations] == [eval_task.num_items]


@pytest.mark.parametrize(
    ("task_type", "main_score"),
    [
        ("PairClassification", "max_f1"),
        ("PairClassification", "cosine_accuracy"),
        ("Classification", "f1"),
        ("Classification", "recall"),
        ("Clustering", "ami"),
        ("Retrieval", "nauc_ndcg_at_10_max"),
    ],
)
def test_a_metric_that_is_not_computed_by_item_has_none(
    make_task: MakeTask, system: System, task_type: str, main_score: str
) -> None:
    task = build_mteb_task(load_eval_task(make_task(task_type, main_score=main_score)))
    assert run_mteb(system, task).observations == []


# --- mteb's task classes that no folder of ours has, in memory -------------------------------------------------------

JOBS = ["nurse", "chef", "driver", "teacher"]


def _in_memory(
    base: type[AbsTask],
    kind: str,
    main_score: str,
    dataset: Any,
    *,
    eval_langs: Any = ("eng-Latn",),
    **attributes: Any,
) -> AbsTask:
    """A task of one of mteb's classes, its data at hand."""
    metadata = TaskMetadata(
        name="InMemory",
        description="Rows made by a test.",
        dataset={"path": "local", "revision": "1"},
        type=kind,
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=eval_langs if isinstance(eval_langs, dict) else list(eval_langs),
        main_score=main_score,
    )
    task = type("InMemory", (base,), {"metadata": metadata, **attributes})()
    task.dataset, task.data_loaded = dataset, True
    return task


def _split(**columns: Sequence[Any]) -> DatasetDict:
    return DatasetDict({"test": Dataset.from_dict(columns)})


def _postings(times: int = 12) -> tuple[list[str], list[str]]:
    """Texts that name their job, and the jobs."""
    jobs = [job for job in JOBS for _ in range(times)]
    return [f"{job} {job} wanted {number}" for number, job in enumerate(jobs)], jobs


def _clustering_task(labels: Sequence[Any] | None = None, **attributes: Any) -> AbsTask:
    texts, jobs = _postings()
    dataset = _split(sentences=texts, labels=labels or jobs)
    options = {"max_fraction_of_documents_to_embed": None, "max_documents_per_cluster": 40} | attributes
    return _in_memory(AbsTaskClustering, "Clustering", "v_measure", dataset, **options)


@pytest.mark.parametrize(
    ("options", "num_items"),
    [({}, 48), ({"max_document_to_embed": 30}, 30), ({"max_fraction_of_documents_to_embed": 0.5}, 24)],
)
def test_recorded_random_numbers_are_the_ones_that_mteb_draws(
    system: System, options: dict[str, Any], num_items: int
) -> None:
    plain = _run(system, _clustering_task(**options), is_caught=False)
    task = _clustering_task(**options)
    recorder = Recorder(task)
    caught = _run(system, task, is_caught=True)
    assert caught["v_measures"] == plain["v_measures"]
    (observed,) = recorder.observations
    assert isinstance(observed, VMeasure)
    assert (observed.num_draws, observed.num_items) == (10, num_items)
    assert score_all(observed) == pytest.approx(100 * plain["main_score"], abs=EXACT)
    assert 3 < score_all(observed) < 97
    by_draw = observed.scores(np.ones((10, observed.num_items), int), np.tile(np.arange(10)[:, None], 10))
    assert by_draw == pytest.approx(100 * np.array(plain["v_measures"]["Level 0"]), abs=EXACT)


def test_groups_of_one_level_are_known_by_item_and_of_two_are_not(system: System) -> None:
    _, jobs = _postings()
    task = _clustering_task([[job] for job in jobs])
    _agreeing(run_mteb(system, task), task, within=EXACT)
    assert run_mteb(system, _clustering_task([[job, job[:1]] for job in jobs])).observations == []


def _legacy_task(sets: Sequence[int]) -> AbsTask:
    """Sets of postings, each of so many jobs."""
    texts, jobs = _postings(6)
    dataset = _split(
        sentences=[[f"{number} {text}" for text in texts[: 6 * size]] for number, size in enumerate(sets)],
        labels=[jobs[: 6 * size] for size in sets],
    )
    return _in_memory(AbsTaskClusteringLegacy, "Clustering", "v_measure", dataset)


def test_each_set_of_the_first_clustering_is_an_item(system: System) -> None:
    task = _legacy_task([4, 3, 4, 2, 4])
    run = run_mteb(system, task)
    _agreeing(run, task, within=EXACT)
    (observed,) = run.observations
    assert isinstance(observed, MeanOfItems)
    plain = _run(system, _legacy_task([4, 3, 4, 2, 4]), is_caught=False)
    assert observed.values == pytest.approx(100 * np.array(plain["v_measures"]), abs=EXACT)


def test_sets_that_are_not_clustered_leave_no_items(system: System) -> None:
    assert run_mteb(system, _legacy_task([4, 1, 3])).observations == []


def _sts_rows(seed: int) -> dict[str, list[Any]]:
    random = np.random.default_rng(seed)
    firsts, seconds = random.choice(JOBS, size=(2, 25))
    return {
        "sentence1": [f"{first} by day {number}" for number, first in enumerate(firsts)],
        "sentence2": [f"{second} by night" for second in seconds],
        "score": [4.0 * (first == second) + random.random() for first, second in zip(firsts, seconds, strict=True)],
    }


def test_each_language_is_drawn_from_apart(system: System) -> None:
    dataset = {"en": _split(**_sts_rows(1)), "de": _split(**{key: rows[:20] for key, rows in _sts_rows(2).items()})}
    languages = {"en": ["eng-Latn"], "de": ["deu-Latn"]}
    task = _in_memory(AbsTaskSTS, "STS", "cosine_spearman", dataset, eval_langs=languages)
    run = run_mteb(system, task)
    _agreeing(run, task, within=EXACT)
    assert [observed.num_items for observed in run.observations] == [25, 20]
    found = estimate(run.metrics["cosine_spearman"], run.observations, content_sha256="0" * 64)
    interval = found.interval()
    assert interval is not None and interval[0] < found.score < interval[1]


def test_pairs_in_a_single_row_are_pairs(system: System) -> None:
    """The layout of mteb's first version."""
    rows = _sts_rows(3)
    dataset = _split(
        sentence1=[rows["sentence1"]],
        sentence2=[rows["sentence2"]],
        labels=[[int(score > 2) for score in rows["score"]]],
    )
    task = _in_memory(AbsTaskPairClassification, "PairClassification", "max_ap", dataset)
    run = run_mteb(system, task)
    _agreeing(run, task, within=EXACT)
    assert run.observations[0].num_items == 25


@pytest.mark.filterwarnings("ignore:The used Evaluator is deprecated:DeprecationWarning")
def test_the_summarization_score_of_the_first_version_has_no_items(make_task: MakeTask, system: System) -> None:
    """It is a mean of correlations and p-values, which no text has."""
    task: Any = build_mteb_task(load_eval_task(make_task("Summarization")))
    task.evaluator = DeprecatedSummarizationEvaluator
    run = run_mteb(system, task)
    assert 0 < run.metrics["cosine_spearman"] < 100
    assert run.observations == []


def test_scores_of_a_ranking_task_of_its_own_are_kept(make_task: MakeTask, system: System) -> None:
    task: Any = build_mteb_task(load_eval_task(make_task("Retrieval")))
    task.task_specific_scores = lambda scores, qrels, results, hf_split, hf_subset: {"own_score": len(results) / 100}
    run = run_mteb(system, task)
    _agreeing(run, task, within=ROUNDED)
    assert run.metrics["own_score"] == len(run.observations[0].scores(np.eye(12, dtype=int), np.zeros((12, 1), int)))


def test_queries_are_in_the_order_of_their_names(system: System) -> None:
    """Whatever order a task has: the same query must be the same item for every system."""

    def run(names: Sequence[str]) -> np.ndarray:
        corpus = [{"id": f"d{number}", "title": "", "text": f"{job} wanted"} for number, job in enumerate(JOBS)]
        queries = [{"id": name, "text": JOBS[int(name[1:])]} for name in names]
        relevant = {name: {f"d{(int(name[1:]) // 2) * 2}": 1} for name in names}
        split = RetrievalSplitData(
            corpus=Dataset.from_list(corpus),
            queries=Dataset.from_list(queries),
            relevant_docs=relevant,
            top_ranked=None,
        )
        task = _in_memory(AbsTaskRetrieval, "Retrieval", "mrr_at_10", {"default": {"test": split}})
        (observed,) = run_mteb(system, task).observations
        assert isinstance(observed, MeanOfItems)
        return observed.values

    values = run(["q0", "q1", "q2", "q3"])
    assert len(set(values)) > 1
    assert run(["q2", "q0", "q3", "q1"]) == pytest.approx(values)
