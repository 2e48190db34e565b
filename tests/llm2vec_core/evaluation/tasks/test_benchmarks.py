"""MTEB benchmarks: task names without a network, and the error if their data cannot be reached."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict
from datasets.packaged_modules.json.json import Json
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData

from llm2vec_core.errors import EvalTaskError, InputError
from llm2vec_core.evaluation.protocols.registry import can_score
from llm2vec_core.evaluation.protocols.scoring import evaluate_task
from llm2vec_core.evaluation.protocols.sentence import parts_of
from llm2vec_core.evaluation.published import MTEB_15, MTEB_56
from llm2vec_core.evaluation.systems import System
from llm2vec_core.evaluation.tasks import benchmarks
from llm2vec_core.evaluation.tasks.benchmarks import (
    PAPER_BENCHMARK,
    PAPER_SUBSET,
    BenchmarkTask,
    load_benchmark,
    require_data,
)
from llm2vec_core.evaluation.tasks.types import EVAL_TASK_TYPES

MakeSystem = Callable[..., System]
LoadData = Callable[[AbsTask], None]

JOBS = ["nurse", "chef", "driver", "teacher"]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuse(*args: object) -> None:
        raise AssertionError("a benchmark opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield


def _only(name: str) -> BenchmarkTask:
    (task,) = load_benchmark(PAPER_BENCHMARK, names=[name])
    return task


# --- names ----------------------------------------------------------------------------------------------------------


def test_the_benchmark_of_the_paper_has_its_56_tasks() -> None:
    tasks = load_benchmark(PAPER_BENCHMARK)
    assert {task.name for task in tasks} == {name for names in MTEB_56.values() for name in names}
    assert Counter(task.type for task in tasks) == {
        "Retrieval": 15,
        "Classification": 12,
        "Clustering": 11,
        "STS": 10,
        "Reranking": 4,
        "PairClassification": 3,
        "Summarization": 1,
    }
    assert {task.type: task.name for task in tasks if task.name not in MTEB_56[task.type]} == {}
    assert all(task.is_official and task.main_score and task.datasets for task in tasks)


def test_the_subset_of_the_paper_has_its_15_tasks() -> None:
    tasks = load_benchmark(PAPER_SUBSET)
    assert len(tasks) == 15 and {task.name for task in tasks} == set(MTEB_15)
    assert {task.type for task in tasks} == set(EVAL_TASK_TYPES) - {"Summarization"}
    whole = {task.name: task for task in load_benchmark(PAPER_BENCHMARK)}
    assert all(task == whole[task.name] for task in tasks)


def test_the_second_english_benchmark_is_known() -> None:
    tasks = load_benchmark("MTEB(eng, v2)")
    assert len(tasks) == 41 and {task.type for task in tasks} == set(EVAL_TASK_TYPES)


def test_tasks_come_in_the_asked_order_and_once() -> None:
    names = ["SciFact", "STSBenchmark", "SciFact"]
    assert [task.name for task in load_benchmark(PAPER_BENCHMARK, names=names)] == ["SciFact", "STSBenchmark"]


def test_an_unknown_benchmark_is_refused_with_the_english_ones() -> None:
    with pytest.raises(InputError, match="'MTEB\\(engl\\)'") as caught:
        load_benchmark("MTEB(engl)")
    for name in (PAPER_BENCHMARK, "MTEB(eng, v2)", PAPER_SUBSET):
        assert name in caught.value.hint
    assert "deu" not in caught.value.hint


def test_an_unknown_task_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="has no task 'Nope'") as caught:
        load_benchmark(PAPER_SUBSET, names=["SciFact", "Nope"])
    assert all(name in caught.value.hint for name in MTEB_15)


def test_types_that_are_not_scored_are_refused_by_name() -> None:
    with pytest.raises(EvalTaskError, match="BitextMining") as caught:
        load_benchmark("MTEB(Multilingual, v2)")
    assert "Retrieval" in caught.value.hint


# --- identity -------------------------------------------------------------------------------------------------------


def test_no_two_tasks_have_the_same_content() -> None:
    tasks = {task.content_sha256: task.name for task in load_benchmark(PAPER_BENCHMARK)}
    assert len(tasks) == 56
    # a task of both benchmarks is one task, a new version of it another
    newer = {task.name: task.content_sha256 for task in load_benchmark("MTEB(eng, v2)")}
    older = {name: content for content, name in tasks.items()}
    assert all(newer[name] == older[name] for name in ("STSBenchmark", "ArguAna", "SprintDuplicateQuestions"))
    assert newer["ArXivHierarchicalClusteringP2P"] not in tasks


@pytest.mark.slow
def test_content_is_the_same_in_another_process() -> None:
    """With other hashes of strings, as any process has them: sets come in another order."""
    code = (
        "import json; from llm2vec_core.evaluation.tasks.benchmarks import load_benchmark;"
        f"print(json.dumps({{task.name: task.content_sha256 for task in load_benchmark({PAPER_BENCHMARK!r})}}))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == {task.name: task.content_sha256 for task in load_benchmark(PAPER_BENCHMARK)}


def test_a_dozen_forums_are_one_task() -> None:
    tasks = [task for task in load_benchmark(PAPER_BENCHMARK) if task.name.startswith("CQADupstack")]
    (forums,) = tasks
    assert (forums.type, forums.main_score) == ("Retrieval", "ndcg_at_10")
    assert len(forums.datasets) == len(set(forums.datasets)) == 12
    assert all(
        path.lower().startswith("mteb/cqadupstack") and len(revision) == 40 for path, revision in forums.datasets
    )


# --- data that is there, or not -------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of data sets, and no hub."""
    monkeypatch.setattr(benchmarks, "_hub_answers", lambda dataset: False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    return tmp_path


def _fill(cache: Path, task: BenchmarkTask) -> None:
    """Folders where ``datasets`` itself would put the data."""
    for path, _ in task.datasets:
        builder = Json(str(cache), dataset_name=path.partition("/")[2], repo_id=path, hash="0")
        Path(builder.cache_dir).mkdir(parents=True)


def test_what_is_missing_is_named_before_anything_runs(cache: Path) -> None:
    tasks = load_benchmark(PAPER_BENCHMARK, names=["SciFact", "STSBenchmark", "CQADupstackRetrieval"])
    _fill(cache, tasks[1])
    with pytest.raises(EvalTaskError, match="2 of 3 tasks: SciFact, CQADupstackRetrieval") as caught:
        require_data(PAPER_BENCHMARK, tasks)
    assert PAPER_BENCHMARK in str(caught.value) and str(cache) in str(caught.value)
    assert "STSBenchmark" not in str(caught.value)
    assert "HF_HOME" in caught.value.hint and "--tasks-dir" in caught.value.hint


def test_a_long_list_is_cut(cache: Path) -> None:
    with pytest.raises(EvalTaskError, match=r"lacks 56 of 56 tasks: .* and 50 more"):
        require_data(PAPER_BENCHMARK, load_benchmark(PAPER_BENCHMARK))


def test_data_in_the_cache_is_enough(cache: Path) -> None:
    tasks = load_benchmark(PAPER_BENCHMARK, names=["SciFact", "STSBenchmark", "CQADupstackRetrieval"])
    for task in tasks:
        _fill(cache, task)
    require_data(PAPER_BENCHMARK, tasks)
    # a task of several data sets needs all of them
    (next(iter(cache.glob("mteb___*gaming*")))).rename(cache / "elsewhere")
    with pytest.raises(EvalTaskError, match="1 of 3 tasks: CQADupstackRetrieval"):
        require_data(PAPER_BENCHMARK, tasks)


def test_a_hub_that_answers_is_enough(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(benchmarks, "_hub_answers", lambda dataset: asked.append(dataset) or True)
    tasks = load_benchmark(PAPER_SUBSET)
    require_data(PAPER_SUBSET, tasks)
    assert asked == [tasks[0].datasets[0][0]]  # one question, not one a task
    require_data(PAPER_SUBSET, [])


def test_without_a_network_the_hub_does_not_answer() -> None:
    assert not benchmarks._hub_answers("mteb/stsbenchmark-sts")


def test_data_that_cannot_be_loaded_is_named_with_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(task: AbsTask, **options: object) -> None:
        raise OSError("the disk is full\nand more that nobody reads")

    sts = _only("STSBenchmark")
    monkeypatch.setattr(type(sts._task), "load_data", fail)
    ((path, revision),) = sts.datasets
    with pytest.raises(
        EvalTaskError, match=f"STSBenchmark .{path} at revision {revision}. .*the disk is full"
    ) as caught:
        sts.mteb_task()
    assert "nobody reads" not in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    forums = _only("CQADupstackRetrieval")
    part, (path, revision) = parts_of(forums._task)[3], forums.datasets[3]
    for earlier in parts_of(forums._task)[:3]:
        monkeypatch.setattr(type(earlier), "load_data", lambda task: None)
    monkeypatch.setattr(type(part), "load_data", fail)
    with pytest.raises(EvalTaskError, match=f"CQADupstackRetrieval .{path} at revision {revision}"):
        forums.mteb_task()


# --- end to end, with rows of our own -------------------------------------------------------------------------------

_is_superseded = pytest.mark.filterwarnings("ignore:The task .* is superseded:UserWarning")


def _load_pairs(task: AbsTask, **options: object) -> None:
    rows = {
        "sentence1": [f"{first} wanted" for first in JOBS for _ in JOBS],
        "sentence2": [f"{second} at work" for _ in JOBS for second in JOBS],
        "score": [4.0 * (first == second) + 0.1 * len(second) for first in JOBS for second in JOBS],
    }
    task.dataset, task.data_loaded = DatasetDict({"test": Dataset.from_dict(rows)}), True  # type: ignore[assignment]


def _load_search(task: AbsTask, **options: object) -> None:
    """Each job is asked for; the forums that have "s" in their name judge one of the queries otherwise."""
    found = {job: {f"d{job}": 1} for job in JOBS}
    if "s" in task.metadata.name.removeprefix("CQADupstack").removesuffix("Retrieval"):
        found["nurse"] = {"dchef": 1}
    split = RetrievalSplitData(
        corpus=Dataset.from_list([{"id": f"d{job}", "title": job, "text": f"{job} wanted"} for job in JOBS]),
        queries=Dataset.from_list([{"id": job, "text": f"the {job}"} for job in JOBS]),
        relevant_docs=found,
        top_ranked=None,
    )
    task.dataset, task.data_loaded = {"default": {"test": split}}, True  # type: ignore[dict-item]


def _fake(monkeypatch: pytest.MonkeyPatch, task: BenchmarkTask, load: LoadData) -> None:
    for part in parts_of(task._task):
        monkeypatch.setattr(type(part), "load_data", load)


@_is_superseded
def test_a_task_of_a_benchmark_is_scored_like_any_other(
    make_system: MakeSystem, encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    eval_task = _only("STSBenchmark")
    _fake(monkeypatch, eval_task, _load_pairs)
    outcome = evaluate_task(make_system("dense", encoder), eval_task)
    score = outcome.score
    assert (score.task, score.type, score.main_score_name) == ("STSBenchmark", "STS", "cosine_spearman")
    assert 30 < score.main_score < 100
    assert (score.num_items, score.is_official, score.content_sha256) == (16, True, eval_task.content_sha256)
    assert score.ci_low is not None and score.ci_high is not None
    assert score.ci_low < score.main_score < score.ci_high
    assert outcome.task_result is not None and json.loads(outcome.task_result)["task_name"] == "STSBenchmark"
    again = evaluate_task(make_system("dense", encoder), eval_task)
    assert again.score.main_score == score.main_score and again.estimate.interval() == outcome.estimate.interval()


def test_forums_are_scored_as_one_task(make_system: MakeSystem, encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    eval_task = _only("CQADupstackRetrieval")
    _fake(monkeypatch, eval_task, _load_search)
    outcome = evaluate_task(make_system("dense", encoder), eval_task)
    names = [part.metadata.name for part in parts_of(eval_task._task)]
    num_odd = sum("s" in name.removeprefix("CQADupstack").removesuffix("Retrieval") for name in names)
    assert 0 < num_odd < 12
    right, one_is_second_or_lower = 100.0, 100.0 * 3 / 4
    assert one_is_second_or_lower * num_odd / 12 + right * (12 - num_odd) / 12 < outcome.score.main_score < right
    assert outcome.score.num_items == 12 * len(JOBS)
    assert outcome.score.ci_low is not None and outcome.score.ci_low < outcome.score.main_score
    assert outcome.by_item is None  # queries of twelve sets are no single list
    lexical = evaluate_task(make_system("lexical"), eval_task)
    assert lexical.score.num_items == 12 * len(JOBS)


def test_every_run_gets_a_task_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """mteb's tasks keep their data and the state of their random numbers: none is left in mteb's registry."""
    for name, load in (("STSBenchmark", _load_pairs), ("CQADupstackRetrieval", _load_search)):
        eval_task = _only(name)
        _fake(monkeypatch, eval_task, load)
        first, second = eval_task.mteb_task(), eval_task.mteb_task()
        assert not {id(part) for part in parts_of(first)} & {id(part) for part in parts_of(second)}
        assert all(part.data_loaded for part in parts_of(first))
        assert not any(part.data_loaded for part in parts_of(eval_task._task))


@pytest.mark.parametrize(("mode", "names"), [("lexical", {"Retrieval", "Reranking"}), ("dense", set(EVAL_TASK_TYPES))])
def test_bm25_does_the_rankings_of_a_benchmark_only(
    make_system: MakeSystem, encoder: Any, mode: str, names: Sequence[str]
) -> None:
    """Pairs are scored by words only where the texts are at hand, in a folder."""
    system = make_system(mode, encoder if mode == "dense" else None)
    assert {task.type for task in load_benchmark(PAPER_BENCHMARK) if can_score(system, task)} == set(names)
