"""The evaluation tasks of the sample: balanced, hard for keyword search, reproducible, and without leakage."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

from data.errors import InputError
from data.sample import esco as sample_esco
from data.sample import eval_tasks as sample_tasks
from data.sample import read as sample

PAIRS = sample_tasks.read_skill_pairs()
PUBLISHED = {
    "corpus.jsonl": "cd4e474ddfcc9223",
    "queries.jsonl": "dadd0b62b0c9944e",
    "qrels.tsv": "88814a2354f00ca6",
}
"""First digits of the hashes of the files behind the published table of 100 jobs."""

SAME_KINDS = {"acronym", "category", "everyday", "evidence", "paraphrase", "synonym"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.name: path for path in sample_tasks.write_sample_tasks(tmp_path_factory.mktemp("tasks"))}


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def read_qrels(path: Path) -> list[tuple[str, str, int]]:
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    assert header == "query-id\tcorpus-id\tscore"
    return [(query, document, int(score)) for query, document, score in (line.split("\t") for line in lines)]


@pytest.fixture(scope="module")
def corpus(folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    rows = read_jsonl(folders["EscoTitleRetrieval"] / "corpus.jsonl")
    found = {row["_id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def answers(folders: dict[str, Path]) -> list[tuple[str, str]]:
    """(Label, URI of its occupation)."""
    folder = folders["EscoTitleRetrieval"]
    labels = {row["_id"]: row["text"] for row in read_jsonl(folder / "queries.jsonl")}
    qrels = read_qrels(folder / "qrels.tsv")
    assert [query for query, _, _ in qrels] == list(labels)
    assert {score for _, _, score in qrels} == {1}
    return [(labels[query], document) for query, document, _ in qrels]


class TestSkillPairs:
    def test_many_pairs_of_both_labels(self) -> None:
        counts = Counter(pair["label"] for pair in PAIRS)
        assert set(counts) == {0, 1}
        assert min(counts.values()) >= 170
        assert counts[0] == counts[1]

    def test_every_row_has_these_keys_and_a_known_kind(self) -> None:
        for pair in PAIRS:
            assert list(pair) == ["sentence1", "sentence2", "label", "kind"]
        assert {pair["kind"] for pair in PAIRS} == set(get_args(sample_tasks.PairKind))

    def test_the_kind_tells_the_label(self) -> None:
        for pair in PAIRS:
            assert (pair["kind"] in SAME_KINDS) == (pair["label"] == 1), pair

    def test_phrases_are_short_and_clean(self) -> None:
        for pair in PAIRS:
            for phrase in (pair["sentence1"], pair["sentence2"]):
                assert 2 <= len(phrase.split()) <= 20, phrase
                assert phrase == " ".join(phrase.split())

    def test_no_pair_comes_twice_in_either_order(self) -> None:
        unordered = Counter(frozenset((pair["sentence1"].lower(), pair["sentence2"].lower())) for pair in PAIRS)
        assert [pair for pair, count in unordered.items() if count > 1 or len(pair) < 2] == []

    def test_no_phrase_is_used_more_than_three_times(self) -> None:
        phrases = Counter(phrase.lower() for pair in PAIRS for phrase in (pair["sentence1"], pair["sentence2"]))
        assert max(phrases.values()) <= 3

    def test_positives_share_fewer_words_than_negatives(self) -> None:
        overlap = sample_tasks.measure_word_overlap(PAIRS)
        assert overlap[1] < overlap[0]

    @pytest.mark.parametrize(
        ("one", "other", "label"),
        [
            ("AWS and GCP", "cloud-based systems", 1),
            ("changed dressings and monitored vital signs", "bedside patient care", 1),
            ("Java developer with Spring", "JavaScript developer with React", 0),
            ("manages customer accounts", "reconciles customer accounts ledger", 0),
            ("no driving licence required", "driving licence required", 0),
        ],
    )
    def test_known_pairs_are_there(self, one: str, other: str, label: int) -> None:
        labels = {frozenset((pair["sentence1"], pair["sentence2"])): pair["label"] for pair in PAIRS}
        assert labels[frozenset((one, other))] == label

    def test_lines_are_in_the_order_of_their_hashes(self) -> None:
        def key(pair: sample_tasks.SkillPair) -> str:
            return hashlib.sha256(f"{pair['sentence1']}\n{pair['sentence2']}".encode()).hexdigest()

        assert sorted(PAIRS, key=key) == PAIRS

    def test_labels_are_not_in_blocks(self) -> None:
        runs = [len(list(run)) for _, run in itertools.groupby(pair["label"] for pair in PAIRS)]
        assert max(runs) <= 12

    def test_positives_do_not_always_begin_with_the_longer_phrase(self) -> None:
        longer_first = Counter(
            len(pair["sentence1"]) > len(pair["sentence2"])
            for pair in PAIRS
            if len(pair["sentence1"]) != len(pair["sentence2"])
        )
        assert 0.4 < longer_first[True] / longer_first.total() < 0.6


def test_word_overlap_is_the_median_of_shared_over_all_words() -> None:
    def pair(one: str, other: str, label: int) -> sample_tasks.SkillPair:
        return {"sentence1": one, "sentence2": other, "label": label, "kind": "sibling"}  # type: ignore[typeddict-item]

    pairs = [pair("C# and Go", "c# or Go", 0), pair("a b", "a b", 0), pair("a b", "c d", 0), pair("a b", "B c", 1)]
    assert sample_tasks.measure_word_overlap(pairs) == {0: 0.5, 1: pytest.approx(1 / 3)}


class TestEscoTitles:
    def test_corpus_is_all_known_occupations_once(self, corpus: dict[str, dict[str, Any]]) -> None:
        assert len(corpus) > 2_800
        assert {occupation.uri for occupation in sample_esco.read_occupations()} <= set(corpus)
        assert len({row["title"].casefold() for row in corpus.values()}) == len(corpus)
        assert all("/occupation/" in uri and row["text"] for uri, row in corpus.items())

    def test_queries_are_of_held_out_occupations_only(self, answers: list[tuple[str, str]]) -> None:
        ict = {occupation.uri for occupation in sample_esco.read_occupations()}
        assert len(answers) > 200
        assert {uri for _, uri in answers} <= {uri for uri in ict if sample_tasks.is_held_out(uri)}

    def test_no_query_is_a_title(self, corpus: dict[str, dict[str, Any]], answers: list[tuple[str, str]]) -> None:
        titles = {row["title"].casefold() for row in corpus.values()}
        assert [label for label, _ in answers if label.casefold() in titles] == []

    def test_a_query_names_one_occupation(self, answers: list[tuple[str, str]]) -> None:
        labels = Counter(label.casefold() for label, _ in answers)
        assert [label for label, count in labels.items() if count > 1] == []
        for occupation in sample_esco.read_occupations():
            names = {" ".join(name.split()).casefold() for name in occupation.alternatives}
            assert all(uri == occupation.uri for label, uri in answers if label.casefold() in names)

    def test_the_other_half_shares_no_label_with_the_queries(self, answers: list[tuple[str, str]]) -> None:
        others = [entry for entry in sample_esco.read_occupations() if not sample_tasks.is_held_out(entry.uri)]
        names = {name.casefold() for entry in others for name in (entry.label, *entry.alternatives)}
        assert len(others) > 30
        assert not names & {label.casefold() for label, _ in answers}

    def test_a_query_is_a_label_of_its_occupation(self, answers: list[tuple[str, str]]) -> None:
        names = {
            occupation.uri: {" ".join(name.split()) for name in occupation.alternatives}
            for occupation in sample_esco.read_occupations()
        }
        assert all(label in names[uri] for label, uri in answers)


class TestHeldOut:
    def test_about_half_of_the_occupations(self) -> None:
        uris = [occupation.uri for occupation in sample_esco.read_flat_occupations().values()]
        assert 0.45 < sum(map(sample_tasks.is_held_out, uris)) / len(uris) < 0.55

    @pytest.mark.parametrize(
        ("uri", "held_out"),
        [
            ("http://data.europa.eu/esco/occupation/0464b062-cea6-4164-b10d-956c61956ae7", True),
            ("http://data.europa.eu/esco/occupation/04ba4d6c-957d-417f-bf63-5b9e015a9f86", True),
            ("http://data.europa.eu/esco/occupation/07e60525-1aad-4099-aaf3-2c7014c92212", False),
        ],
    )
    def test_the_split_never_changes(self, uri: str, held_out: bool) -> None:
        assert sample_tasks.is_held_out(uri) is held_out


class TestWriting:
    def test_all_tasks_by_default(self, folders: dict[str, Path]) -> None:
        assert tuple(folders) == sample_tasks.SAMPLE_TASKS
        assert sample_tasks.SAMPLE_TASKS == (
            "JobResumeRetrieval",
            "LongJobResumeRetrieval",
            "SkillParaphrasePairs",
            "EscoTitleRetrieval",
        )

    def test_only_the_asked_tasks_in_the_asked_order(self, tmp_path: Path) -> None:
        names = ["SkillParaphrasePairs", "JobResumeRetrieval", "SkillParaphrasePairs"]
        assert sample_tasks.write_sample_tasks(tmp_path, names) == [tmp_path / name for name in names[:2]]
        assert {path.name for path in tmp_path.iterdir()} == set(names)
        assert sample_tasks.write_sample_tasks(tmp_path / "none", []) == []

    def test_an_unknown_name_writes_nothing_and_lists_the_known_ones(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="'SkillPairs'") as caught:
            sample_tasks.write_sample_tasks(tmp_path / "new", ["JobResumeRetrieval", "SkillPairs"])
        assert all(name in caught.value.hint for name in sample_tasks.SAMPLE_TASKS)
        assert not (tmp_path / "new").exists()

    def test_the_same_bytes_each_time(self, folders: dict[str, Path], tmp_path: Path) -> None:
        for again in sample_tasks.write_sample_tasks(tmp_path):
            for path in sorted(again.iterdir()):
                assert path.read_bytes() == (folders[again.name] / path.name).read_bytes(), path
                assert b"\r" not in path.read_bytes()

    @pytest.mark.parametrize(
        ("name", "task_type", "main_score"),
        [
            ("JobResumeRetrieval", "Retrieval", "ndcg_at_10"),
            ("LongJobResumeRetrieval", "Retrieval", "ndcg_at_10"),
            ("SkillParaphrasePairs", "PairClassification", "cosine_ap"),
            ("EscoTitleRetrieval", "Retrieval", "ndcg_at_10"),
        ],
    )
    def test_task_json_says_what_it_is(
        self, folders: dict[str, Path], name: str, task_type: str, main_score: str
    ) -> None:
        task = json.loads((folders[name] / "task.json").read_text(encoding="utf-8"))
        assert list(task) == ["name", "type", "main_score", "language", "licence", "source", "note", "files"]
        assert (task["name"], task["type"], task["main_score"]) == (name, task_type, main_score)
        assert all(task.values())
        assert {path.stem for path in folders[name].iterdir()} == {*task["files"], "task"}

    def test_skill_pairs_are_written_as_committed(self, folders: dict[str, Path]) -> None:
        assert read_jsonl(folders["SkillParaphrasePairs"] / "pairs.jsonl") == PAIRS

    def test_the_published_table_has_the_short_texts_that_it_always_had(self, folders: dict[str, Path]) -> None:
        folder = folders["JobResumeRetrieval"]
        found = {
            name: hashlib.sha256((folder / name).read_bytes()).hexdigest()[:16]
            for name in ("corpus.jsonl", "queries.jsonl", "qrels.tsv")
        }
        assert found == PUBLISHED

    def test_the_long_table_has_the_same_judgments_and_longer_texts(self, folders: dict[str, Path]) -> None:
        short, long = folders["JobResumeRetrieval"], folders["LongJobResumeRetrieval"]
        assert (short / "qrels.tsv").read_bytes() == (long / "qrels.tsv").read_bytes()
        for name in ("corpus.jsonl", "queries.jsonl"):
            pairs = list(zip(read_jsonl(short / name), read_jsonl(long / name), strict=True))
            longer = [(one, other) for one, other in pairs if one != other]
            assert 1 / 3 <= len(longer) / len(pairs) < 0.4
            for one, other in longer:
                assert one["_id"] == other["_id"]
                assert one["text"].partition("\n")[2] in other["text"] or one["text"] in other["text"]

    def test_test_jobs_find_the_resumes(self, folders: dict[str, Path]) -> None:
        folder = folders["JobResumeRetrieval"]
        jobs = sample.read_test_jobs()
        resumes = {row["id"] for row in sample.read_sample_resumes()}
        assert {row["_id"] for row in read_jsonl(folder / "corpus.jsonl")} == resumes
        assert {row["_id"] for row in read_jsonl(folder / "queries.jsonl")} == {job.id for job in jobs}
        qrels = read_qrels(folder / "qrels.tsv")
        assert {(query, document): score for query, document, score in qrels} == {
            (job.id, resume): grade for job in jobs for resume, grade in job.relevance.items()
        }
        assert {score for _, _, score in qrels} == {1, 2}
