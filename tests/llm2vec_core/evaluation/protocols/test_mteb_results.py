import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from mteb.models.model_meta import ModelMeta
from mteb.similarity_functions import cos_sim, pairwise_cos_sim

from llm2vec_core.errors import InputError
from llm2vec_core.evaluation.protocols.mteb_results import mteb_model_name, write_mteb_results
from llm2vec_core.evaluation.tasks.folders import load_eval_task
from llm2vec_core.evaluation.tasks.mteb_tasks import build_mteb_task

LABEL = "smollm2-135m+bidirectional+mntp+simcse+mean"
NAME = f"llm2vec-pipelines/{LABEL}"


class Words:
    """A text is a bag of its words; to the blind one every text of a length is the same."""

    mteb_model_meta = ModelMeta.create_empty(overwrites={"name": "test/words", "revision": "1"})

    def __init__(self, *, blind: bool) -> None:
        self.blind = blind

    def encode(self, inputs: Any, **kwargs: Any) -> np.ndarray:
        return np.stack([self._vector(text) for batch in inputs for text in batch["text"]])

    def _vector(self, text: str) -> np.ndarray:
        vector = np.ones(64, dtype=np.float32)
        for word in [str(len(text) % 3)] if self.blind else text.split():
            vector[hashlib.sha256(word.encode()).digest()[0] % 64] += 10
        return vector

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        return pairwise_cos_sim(embeddings1, embeddings2)


def score(cache: mteb.ResultCache, revision: str, task: str) -> float:
    (result,) = [result for result in cache.load_results().model_results if result.model_revision == revision]
    (task_result,) = [found for found in result.task_results if found.task_name == task]
    return task_result.get_score()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Results of two models on a task that mteb knows by name, by fingerprint."""
    folder = tmp_path_factory.mktemp("tasks") / "STSBenchmark"
    folder.mkdir()
    pairs = [
        {"sentence1": f"the {one} works here", "sentence2": f"here works the {other}", "score": 5.0 * (one == other)}
        for one, other in itertools.product(("nurse", "chef", "driver", "teacher", "gardener"), repeat=2)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    header = {"name": "STSBenchmark", "type": "STS", "main_score": "cosine_spearman"}
    (folder / "task.json").write_text(json.dumps(header))
    found = {}
    for fingerprint, blind in (("a" * 64, False), ("b" * 64, True)):
        evaluated = mteb.evaluate(
            Words(blind=blind),
            build_mteb_task(load_eval_task(folder)),
            cache=None,
            co2_tracker=False,
            show_progress_bar=False,
        )
        found[fingerprint] = {"STSBenchmark": evaluated.task_results[0].model_dump_json()}
    return found


@pytest.fixture
def cache(tmp_path: Path, results: dict[str, dict[str, str]]) -> mteb.ResultCache:
    for fingerprint, task_results in results.items():
        write_mteb_results(tmp_path / "mteb", name=LABEL, revision=fingerprint, task_results=task_results)
    return mteb.ResultCache(tmp_path / "mteb")


def test_systems_that_share_a_label_keep_their_own_scores(
    cache: mteb.ResultCache, results: dict[str, dict[str, str]]
) -> None:
    loaded = cache.load_results()
    assert sorted((found.model_name, found.model_revision) for found in loaded) == [
        (NAME, "a" * 64),
        (NAME, "b" * 64),
    ]
    good, bad = score(cache, "a" * 64, "STSBenchmark"), score(cache, "b" * 64, "STSBenchmark")
    assert good > bad + 0.1
    for fingerprint, found in (("a" * 64, good), ("b" * 64, bad)):
        (scores,) = json.loads(results[fingerprint]["STSBenchmark"])["scores"]["test"]
        assert found == pytest.approx(scores["main_score"], abs=1e-6)


def test_the_cache_answers_by_name_and_revision(cache: mteb.ResultCache) -> None:
    good = cache.load_task_result("STSBenchmark", NAME, "a" * 64)
    assert good is not None and good.get_score() == pytest.approx(score(cache, "a" * 64, "STSBenchmark"))
    assert cache.load_task_result("STSBenchmark", NAME, "c" * 64) is None


def test_tables_show_every_revision_when_asked_to(cache: mteb.ResultCache) -> None:
    table = cache.load_results().to_dataframe(include_model_revision=True, format="long")
    scores = dict(zip(table["model_revision"], table["score"], strict=True))
    assert scores == {
        revision: pytest.approx(score(cache, revision, "STSBenchmark")) for revision in ("a" * 64, "b" * 64)
    }


def test_a_leaderboard_table_shows_systems_of_different_names(
    tmp_path: Path, results: dict[str, dict[str, str]]
) -> None:
    names = {"a" * 64: "words", "b" * 64: "blind"}
    for fingerprint, task_results in results.items():
        write_mteb_results(tmp_path, name=names[fingerprint], revision=fingerprint, task_results=task_results)
    cache = mteb.ResultCache(tmp_path)
    wide = cache.load_results().to_dataframe()
    # what the leaderboard keeps of the results of a benchmark, and its averages
    benchmark = mteb.Benchmark(name="One task", tasks=mteb.get_tasks(tasks=["STSBenchmark"]))
    loaded = cache.load_results(tasks=benchmark)
    kept = loaded._to_results_df(benchmark.tasks)
    averages = loaded.get_aggregated_scores()
    for fingerprint, name in names.items():
        expected = pytest.approx(score(cache, fingerprint, "STSBenchmark"))
        assert wide[f"llm2vec-pipelines/{name}"].tolist() == [expected]
        assert dict(zip(kept["model_name"], kept["score"], strict=True))[f"llm2vec-pipelines/{name}"] == expected
        assert averages[f"llm2vec-pipelines/{name}"]["Mean(Task)"] == expected


def test_files_lie_where_mteb_looks_and_say_what_the_model_is(
    tmp_path: Path, results: dict[str, dict[str, str]]
) -> None:
    (path,) = write_mteb_results(
        tmp_path,
        name=LABEL,
        revision="a" * 64,
        task_results=results["a" * 64],
        description="Words, hashed.",
        embed_dim=32,
    )
    assert path == tmp_path / "results" / f"llm2vec-pipelines__{LABEL}" / ("a" * 64) / "STSBenchmark.json"
    assert (path.parent / "description.txt").read_text() == "Words, hashed.\n"
    (found,) = mteb.ResultCache(tmp_path).load_results()
    assert found.model_meta is not None and found.model_meta.embed_dim == 32


def test_results_can_be_written_again_and_added_to(tmp_path: Path, results: dict[str, dict[str, str]]) -> None:
    for _ in range(2):
        write_mteb_results(tmp_path, name=LABEL, revision="a" * 64, task_results=results["a" * 64])
    other = json.loads(results["b" * 64]["STSBenchmark"]) | {"task_name": "STS13"}
    write_mteb_results(tmp_path, name=LABEL, revision="a" * 64, task_results={"STS13": json.dumps(other)})
    assert sorted(mteb.ResultCache(tmp_path).get_task_names()) == ["STS13", "STSBenchmark"]


def test_a_system_without_results_leaves_no_folder(tmp_path: Path) -> None:
    assert write_mteb_results(tmp_path, name=LABEL, revision="a" * 64, task_results={}) == []
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (LABEL, NAME),
        ("BM25", "llm2vec-pipelines/BM25"),
        ("BERT + SimCSE", "llm2vec-pipelines/BERT-+-SimCSE"),
        ("some__one/model_x", "llm2vec-pipelines/some-one-model-x"),
        ("../../etc", "llm2vec-pipelines/etc"),
        ("Ünïcode", "llm2vec-pipelines/n-code"),
        ("", "llm2vec-pipelines/unnamed"),
    ],
)
def test_names_are_safe_for_mteb(label: str, name: str) -> None:
    assert mteb_model_name(label) == name


@pytest.mark.parametrize(
    ("revision", "task_results", "message"),
    [
        ("../up", {}, "revision '../up' is not a valid file name"),
        ("", {}, "revision '' is not a valid file name"),
        ("r", {"../../x": "{}"}, "task '../../x' is not a valid file name"),
        ("r", {"STS12": "{}"}, "STS12 is not a TaskResult"),
        ("r", {"STS12": "not json"}, "STS12 is not a TaskResult"),
    ],
)
def test_what_is_no_result_is_refused(
    tmp_path: Path, revision: str, task_results: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_mteb_results(tmp_path / "out", name=LABEL, revision=revision, task_results=task_results)
    assert not (tmp_path / "out").exists()


def test_a_result_of_another_task_is_refused(tmp_path: Path, results: dict[str, dict[str, str]]) -> None:
    with pytest.raises(InputError, match="given for STS12 belongs to the task STSBenchmark"):
        write_mteb_results(
            tmp_path / "out", name=LABEL, revision="r", task_results={"STS12": results["a" * 64]["STSBenchmark"]}
        )
    assert not (tmp_path / "out").exists()
