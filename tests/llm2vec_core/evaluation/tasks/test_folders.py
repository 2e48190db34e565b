import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llm2vec_core.errors import EvalTaskError
from llm2vec_core.evaluation.tasks.folders import OFFICIAL_NOTE, discover_eval_tasks, load_eval_task
from llm2vec_core.evaluation.tasks.types import EVAL_TASK_TYPES, WORD_TASK_TYPE

MakeTask = Callable[..., Path]

ALL_TYPES = (*EVAL_TASK_TYPES, WORD_TASK_TYPE)

FILES = {
    "Retrieval": ["corpus.jsonl", "queries.jsonl", "qrels.tsv"],
    "Reranking": ["samples.jsonl"],
    "Clustering": ["items.jsonl"],
    "PairClassification": ["pairs.jsonl"],
    "Classification": ["train.jsonl", "test.jsonl"],
    "STS": ["pairs.jsonl"],
    "Summarization": ["samples.jsonl"],
    "TokenClassification": ["train.jsonl", "test.jsonl"],
}


@pytest.mark.parametrize("task_type", ALL_TYPES)
def test_every_type_loads_and_can_be_cut(make_task: MakeTask, task_type: str) -> None:
    folder = make_task(task_type)
    whole = load_eval_task(folder)
    cut = load_eval_task(folder, max_items=5)
    assert (whole.name, whole.type) == (f"Tiny{task_type}", task_type)
    assert whole.num_items > cut.num_items == 5
    assert cut == load_eval_task(folder, max_items=5)
    assert whole.content_sha256 != cut.content_sha256 != load_eval_task(folder, max_items=6).content_sha256
    assert load_eval_task(folder, max_items=5, seed=1).tables != cut.tables
    assert load_eval_task(folder, max_items=10_000) == whole


def test_a_cut_keeps_the_corpus_and_the_training_split(make_task: MakeTask) -> None:
    retrieval = load_eval_task(make_task("Retrieval"), max_items=3)
    assert len(retrieval.tables["corpus"]) == 12
    assert len(load_eval_task(make_task("Classification"), max_items=3).tables["train"]) == 20


def test_a_cut_of_a_word_task_keeps_four_training_sentences_a_test_sentence(make_task: MakeTask) -> None:
    folder = make_task("TokenClassification")
    whole, cut = load_eval_task(folder), load_eval_task(folder, max_items=5)
    assert (len(whole.tables["train"]), len(whole.tables["test"])) == (128, 32)
    assert (len(cut.tables["train"]), len(cut.tables["test"])) == (20, 5)
    assert all(row in whole.tables[stem] for stem in ("train", "test") for row in cut.tables[stem])


def test_a_cut_of_the_training_sentences_alone_is_a_subset_too(make_task: MakeTask) -> None:
    folder = make_task("TokenClassification", note=OFFICIAL_NOTE)
    (folder / "test.jsonl").write_text("".join((folder / "test.jsonl").read_text().splitlines(keepends=True)[:10]))
    whole, cut = load_eval_task(folder), load_eval_task(folder, max_items=20)
    assert (len(cut.tables["train"]), cut.num_items) == (80, whole.num_items)
    assert cut.content_sha256 != whole.content_sha256
    assert (whole.is_official, cut.is_official) == (True, False)


def test_a_tag_that_training_lacks_is_fine_for_words(make_task: MakeTask) -> None:
    folder = make_task("TokenClassification")
    with (folder / "test.jsonl").open("a") as stream:
        stream.write('{"tokens": ["7"], "tags": ["B-NUM"]}\n')
    assert load_eval_task(folder).num_items == 33


def test_only_a_whole_task_that_says_so_is_official(make_task: MakeTask) -> None:
    official = make_task("STS", note=OFFICIAL_NOTE)
    assert load_eval_task(official).is_official
    assert load_eval_task(official, max_items=10_000).is_official
    assert not load_eval_task(official, max_items=5).is_official
    assert not load_eval_task(make_task("Clustering")).is_official
    assert not load_eval_task(make_task("Reranking", note=f"no {OFFICIAL_NOTE}")).is_official


@pytest.mark.parametrize("task_type", ALL_TYPES)
def test_every_file_counts_for_the_hash_and_none_may_be_missing(make_task: MakeTask, task_type: str) -> None:
    folder = make_task(task_type)
    before = load_eval_task(folder).content_sha256
    for name in FILES[task_type]:
        path = folder / name
        original = path.read_text()
        path.write_text(original + "\n")
        assert load_eval_task(folder).content_sha256 != before, name
        path.unlink()
        with pytest.raises(EvalTaskError, match=f"{name} is missing"):
            load_eval_task(folder)
        path.write_text(original)
    assert load_eval_task(folder).content_sha256 == before


def test_a_remark_in_the_header_does_not_count_for_the_hash(make_task: MakeTask) -> None:
    folder = make_task("STS")
    before = load_eval_task(folder).content_sha256
    header = json.loads((folder / "task.json").read_text())
    (folder / "task.json").write_text(json.dumps(header | {"note": "read me"}))
    assert load_eval_task(folder).content_sha256 == before


@pytest.mark.parametrize(
    ("task_type", "file", "line", "message"),
    [
        ("STS", "pairs.jsonl", "{not json", r"pairs\.jsonl, line 24 is not JSON"),
        ("STS", "pairs.jsonl", "[1, 2]", "line 24 is not a JSON object"),
        ("STS", "pairs.jsonl", '{"sentence1": "a", "score": 1}', "line 24 lacks sentence2"),
        ("STS", "pairs.jsonl", '{"sentence1": "a", "sentence2": "b", "score": "5"}', 'score is "5"; expected a number'),
        ("STS", "pairs.jsonl", '{"sentence1": "a", "sentence2": "b", "score": NaN}', "score is NaN; expected a number"),
        ("STS", "pairs.jsonl", '{"sentence1": "a", "sentence2": null, "score": 1}', "sentence2 is null; expected text"),
        (
            "PairClassification",
            "pairs.jsonl",
            '{"sentence1": "a", "sentence2": "b", "label": 2}',
            "label 2; expected 0 or 1",
        ),
        ("PairClassification", "pairs.jsonl", '{"sentence1": "a", "sentence2": "b", "label": true}', "label is true"),
        ("Classification", "test.jsonl", '{"text": "a", "label": "unseen"}', "train.jsonl lacks: 'unseen'"),
        ("Clustering", "items.jsonl", '{"text": "a", "label": 1.5}', r"label is 1\.5"),
        ("Retrieval", "corpus.jsonl", '{"_id": "d0", "title": "", "text": "again"}', "1 repeated _id"),
        ("Retrieval", "queries.jsonl", '{"_id": 7, "text": "numbers"}', "_id is 7; expected text"),
        ("Retrieval", "qrels.tsv", "q0\td99\t1", "judges the document 'd99'"),
        ("Retrieval", "qrels.tsv", "q99\td0\t1", "judges the query 'q99'"),
        ("Retrieval", "qrels.tsv", "q0 d0 1", "line 14 is 'q0 d0 1'"),
        (
            "Reranking",
            "samples.jsonl",
            '{"query": "a", "positive": "b", "negative": []}',
            'positive is "b"; expected a list',
        ),
        (
            "Summarization",
            "samples.jsonl",
            '{"text": "a", "human_summaries": ["b"], "machine_summaries": ["c", "d"], "relevance": [1]}',
            "2 machine summaries, 1 judgments",
        ),
        ("TokenClassification", "test.jsonl", '{"tokens": ["a"]}', r"test\.jsonl, line 33 lacks tags"),
        ("TokenClassification", "train.jsonl", '{"tokens": ["a", "b"], "tags": ["O"]}', "line 129 has 2 tokens and 1"),
        (
            "TokenClassification",
            "train.jsonl",
            '{"tokens": [], "tags": []}',
            r"line 129: tokens is \[\]; expected a list of one",
        ),
        ("TokenClassification", "test.jsonl", '{"tokens": ["a", " "], "tags": ["O", "O"]}', "line 33: tokens is"),
        ("TokenClassification", "test.jsonl", '{"tokens": "ab", "tags": ["O", "O"]}', 'line 33: tokens is "ab"'),
        ("TokenClassification", "test.jsonl", '{"tokens": ["a", "b"], "tags": ["O", 1]}', "line 33: tags is"),
    ],
)
def test_bad_lines_are_named(make_task: MakeTask, task_type: str, file: str, line: str, message: str) -> None:
    folder = make_task(task_type)
    with (folder / file).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(EvalTaskError, match=message) as caught:
        load_eval_task(folder)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("header", "message"), [({"type": "Haiku"}, "type 'Haiku'"), ({"name": 5}, "name is 5"), ({"type": None}, "null")]
)
def test_bad_headers_are_named(make_task: MakeTask, header: dict[str, object], message: str) -> None:
    with pytest.raises(EvalTaskError, match=message):
        load_eval_task(make_task("STS", **header))


def test_unknown_type_lists_the_types(make_task: MakeTask) -> None:
    with pytest.raises(EvalTaskError) as caught:
        load_eval_task(make_task("STS", type="Haiku"))
    assert all(task_type in caught.value.hint for task_type in ALL_TYPES)


def test_header_that_is_not_json_and_file_that_is_not_utf8(make_task: MakeTask) -> None:
    folder = make_task("STS")
    (folder / "pairs.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(EvalTaskError, match="not UTF-8"):
        load_eval_task(folder)
    (folder / "task.json").write_text("{")
    with pytest.raises(EvalTaskError, match=r"task\.json is not JSON"):
        load_eval_task(folder)


def test_sets_that_cannot_tell_systems_apart_are_refused(make_task: MakeTask) -> None:
    folder = make_task("PairClassification")
    (folder / "pairs.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "label": 1}\n' * 3)
    with pytest.raises(EvalTaskError, match="same label"):
        load_eval_task(folder)
    words = make_task("TokenClassification")
    (words / "train.jsonl").write_text('{"tokens": ["a", "b"], "tags": ["O", "O"]}\n' * 3)
    with pytest.raises(EvalTaskError, match="same tags"):
        load_eval_task(words)
    (folder / "pairs.jsonl").write_text("\n")
    with pytest.raises(EvalTaskError, match="nothing to score"):
        load_eval_task(folder)


def test_queries_without_a_relevant_document_are_not_scored(make_task: MakeTask) -> None:
    folder = make_task("Retrieval")
    qrels = (folder / "qrels.tsv").read_text().replace("q3\td3\t1", "q3\td3\t0")
    (folder / "qrels.tsv").write_text(qrels)
    assert load_eval_task(folder).num_items == 11


def test_labels_of_two_kinds_are_refused(make_task: MakeTask) -> None:
    folder = make_task("Classification")
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    rows.append({"text": "one more", "label": 1})
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(EvalTaskError, match="numbers and labels that are texts"):
        load_eval_task(folder)


def test_max_items_below_one_is_refused(make_task: MakeTask) -> None:
    with pytest.raises(EvalTaskError, match="max_items is 0"):
        load_eval_task(make_task("STS"), max_items=0)


def test_discovery(make_task: MakeTask, tmp_path: Path) -> None:
    sts, clustering = make_task("STS"), make_task("Clustering")
    assert discover_eval_tasks(tmp_path / "tasks") == [clustering, sts]
    assert discover_eval_tasks(sts) == [sts]
    assert discover_eval_tasks(tmp_path / "tasks", ["TinySTS"]) == [sts]
    with pytest.raises(EvalTaskError, match="'Other'") as caught:
        discover_eval_tasks(tmp_path / "tasks", ["TinySTS", "Other"])
    assert caught.value.hint == "Found: TinyClustering, TinySTS."
    with pytest.raises(EvalTaskError, match="no task folder"):
        discover_eval_tasks(tmp_path)
    with pytest.raises(EvalTaskError, match="does not exist"):
        discover_eval_tasks(tmp_path / "nowhere")
