"""Explanations of a served pair: a real table with its word index, a tiny encoder, hand-written documents."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from data.errors import InputError, StoreError
from data.schema import KINDS, encoded_text
from data.vectors.lance import create_table, open_table, table_schema
from data.vectors.pointer import Pointer
from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.model.checkpoint import EncoderSpec
from llm2vec_core.ranking.fit import FitLimits
from llm2vec_core.ranking.words import tokenize
from tasks.encoders.checkpoints import checkpoint_dir, load_encoder, store_checkpoint
from tasks.encoders.fit import Fit, read_background
from tasks.queries.explain import MAX_SENTENCES, explain, explanation_page, explanation_tables, fit_sentence
from tasks.queries.search import search
from tasks.run.settings import Settings

JOBS = {"j1": ("Data engineer", "Moves data with SQL and SQL views. Knows Hadoop and Haskell. Likes tea.")}
RESUMES = {
    "r1": ("", "I wrote SQL for ten years.\nI gardened. I like tea."),
    "r2": ("Cook", "I cook."),
    "r3": ("Clerk", "I know Haskell and tea."),
    "it's": ("Odd", "An id with a quote."),
}
JOB, RESUME = "0" * 31 + "0", "1" * 31 + "0"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Settings:
    """A home that serves the documents above."""
    folder = tmp_path_factory.mktemp("explain")
    settings = Settings(home=str(folder / "home"))
    store = settings.store()
    write_checkpoint(
        folder / "made",
        backbone=tiny_base,
        spec=EncoderSpec(base_model="tiny", attention="bidirectional", pooling_mode="mean", max_tokens=64),
    )
    checkpoint = store_checkpoint(store, folder / "made").fingerprint
    encoder = load_encoder(checkpoint_dir(store, checkpoint), settings.encode)
    schema = table_schema(encoder.embedding_dim)
    versions = {}
    for number, (kind, documents) in enumerate(zip(KINDS, (JOBS, RESUMES), strict=True)):
        texts = [encoded_text(*document) for document in documents.values()]
        rows: dict[str, Any] = {field.name: [None if field.nullable else "x"] * len(texts) for field in schema}
        rows |= {
            "doc_id": [str(number) * 31 + str(each) for each in range(len(texts))],
            "source_id": list(documents),
            "title": [title for title, _ in documents.values()],
            "text": [text for _, text in documents.values()],
            "metadata": ["{}"] * len(texts),
            "num_chars": [len(text) for text in texts],
            "words": [" ".join(tokenize(text)) for text in texts],
            "vector": list(encoder.encode(texts, long_texts=settings.encode.long_texts, normalize=True)),
        }
        table = create_table(store, generation="g", kind=kind, embedding_dim=encoder.embedding_dim)
        table.upsert([pa.table(rows, schema=schema)])
        table.build_word_index()
        versions[kind] = table.version
    serve(settings, checkpoint, jobs=versions["job"], resumes=versions["resume"])
    return settings


def serve(settings: Settings, checkpoint: str, *, jobs: int, resumes: int) -> None:
    pointer = Pointer(
        sequence=1,
        generation="g",
        checkpoint=checkpoint,
        jobs=jobs,
        resumes=resumes,
        snapshots={},
        fencing_epoch=1,
        run_id="run",
        promoted_at=datetime(2026, 3, 1, tzinfo=UTC),
    )
    store = settings.store()
    store.compare_and_swap(
        "current.json", expected=store.read("current.json"), content=pointer.model_dump_json().encode()
    )


def test_terms_add_up_to_the_score_that_search_gives(settings: Settings) -> None:
    found = explain(settings, job=JOB, resume=RESUME)
    (hit,) = [hit for hit in search(settings, encoded_text(*JOBS["j1"]), kind="resume") if hit["doc_id"] == RESUME]
    assert {term["term"] for term in found["terms"]} == {"sql", "tea", "like"}
    assert found["terms"][0]["term"] == "sql"  # fewer resumes hold it, and the job says it twice
    assert sum(term["bm25"] for term in found["terms"]) == pytest.approx(hit["lexical_score"], rel=1e-5)
    # The query's vector is encoded by search, and read from the table here.
    for name in ("score", "rank", "dense_rank", "lexical_rank", "dense_score", "lexical_score"):
        assert found["match"][name] == pytest.approx(hit[name], rel=1e-4), name


def test_words_are_shown_as_the_document_writes_them(settings: Settings) -> None:
    """The index holds "garden" and "year"."""
    query = "A gardener who likes gardening, one year"
    (hit,) = [hit for hit in search(settings, query, kind="resume") if hit["doc_id"] == RESUME]
    assert sorted(hit["matched_terms"]) == ["gardened", "like", "years"]
    assert {term["term"] for term in explain(settings, query=query, resume="r1")["terms"]} == {
        "gardened", "like", "years"
    }  # fmt: skip


def test_what_no_leg_brings_has_scores_but_no_ranks(settings: Settings) -> None:
    narrow = settings.model_copy(update={"match": settings.match.model_copy(update={"candidates": 1})})
    matches = [explain(narrow, job="j1", resume=resume)["match"] for resume in RESUMES]
    outside = [match for match in matches if match["rank"] is None]
    assert len(outside) >= len(RESUMES) - 2
    assert all(match["dense_rank"] is match["lexical_rank"] is match["score"] is None for match in outside)
    assert all(-1 <= match["dense_score"] <= 1.00001 for match in outside)


def test_sentences_are_paired_by_the_encoder(settings: Settings) -> None:
    found = explain(settings, job="j1", resume="r1")
    encoder = load_encoder(checkpoint_dir(settings.store(), found["checkpoint"]), settings.encode)
    for pair in found["sentences"]:
        left, right = encoder.encode([pair["job"], pair["resume"]], normalize=True)
        assert pair["cosine"] == pytest.approx(float(left @ right), abs=1e-4)
        assert pair["job"] in encoded_text(*JOBS["j1"]) and pair["resume"] in RESUMES["r1"][1]
    assert found["compared_sentences"] == {"job": [4, 4], "resume": [3, 3]}


def test_the_gap_is_what_the_resume_neither_names_nor_comes_near(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for threshold, expected in ((2.0, "missing"), (-2.0, "near")):
        monkeypatch.setattr("tasks.queries.explain.near_threshold", lambda *_, value=threshold: value)
        found = explain(settings, job="j1", resume="r3")
        by_label = {skill["skill"]: skill for skill in found["skills"]}
        assert list(by_label) == ["SQL", "Hadoop", "Haskell"]
        assert (by_label["Haskell"]["found"], by_label["Haskell"]["evidence"]) == ("named", "Haskell")
        assert {by_label[label]["found"] for label in ("SQL", "Hadoop")} == {expected}
        assert found["missing_skills"] == [label for label in ("SQL", "Hadoop") if expected == "missing"]
        assert by_label["SQL"]["evidence"] in ("Clerk", "I know Haskell and tea.")


def test_a_long_document_is_explained_by_its_beginning_and_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.queries.explain.MAX_SENTENCES", 2)
    assert MAX_SENTENCES > 2
    found = explain(settings, job="j1", resume="r1")
    assert found["compared_sentences"] == {"job": [2, 4], "resume": [2, 3]}
    assert {pair["job"] for pair in found["sentences"]} <= {"Data engineer", "Moves data with SQL and SQL views."}


def test_tables_show_every_part(settings: Settings) -> None:
    tables = explanation_tables(explain(settings, job="j1", resume="it's"))
    assert [title.split()[0] for title, _, _ in tables] == ["Data", "1", "Nearest", "3", "0"]
    assert all(len(row) == len(columns) for _, columns, rows in tables for row in rows)


def test_a_page_holds_each_resume_and_escapes_what_it_shows(settings: Settings) -> None:
    found = explain(settings, job="j1", resume="it's")
    shown = {**found, "resume": {**found["resume"], "title": "<script>alert(1)</script>"}}
    page = explanation_page([found, shown])
    assert page.count("<section>") == 2
    assert "<script" not in page and "&lt;script&gt;" in page
    for _, columns, _ in explanation_tables(found):
        assert all(f">{column}" in page for column in columns)


@pytest.mark.parametrize(("weight", "shown"), [(None, ["", "by rank", "by rank"]), (0.35, ["", "0.35", "0.65"])])
def test_tables_say_what_each_leg_counts(settings: Settings, weight: float | None, shown: list[str]) -> None:
    found = explain(settings, job="j1", resume="it's") | {"weight_of_vectors": weight}
    _, columns, rows = explanation_tables(found)[0]
    assert [row[columns.index("weight")] for row in rows] == shown


@pytest.mark.parametrize(("job", "resume"), [("none", "r1"), (RESUME, "r1"), ("j1", "r' OR '1' = '1"), ("", "r1")])
def test_an_unknown_id_is_the_callers_mistake(settings: Settings, job: str, resume: str) -> None:
    with pytest.raises(InputError, match=r"No served (job|resume) has the id"):
        explain(settings, job=job, resume=resume)


def test_an_unknown_checkpoint_is_the_callers_mistake(settings: Settings) -> None:
    with pytest.raises(InputError, match="fingerprint"):
        explain(settings, job="j1", resume="r1", checkpoint="f" * 12)


def test_without_a_word_index_the_remedy_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.vectors.lance.LanceTable.has_word_index", False)
    with pytest.raises(StoreError, match="word index") as caught:
        explain(settings, job="j1", resume="r1")
    assert "l2v embed" in caught.value.hint


@pytest.mark.parametrize(
    ("limit", "verdict", "whole"),
    [(-1.0, "strong", "A strong fit: cosine"), (2.0, "none", "They do not fit: cosine"), (None, None, "is not known")],
)
def test_an_explanation_says_whether_the_pair_fits(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, limit: float | None, verdict: str | None, whole: str
) -> None:
    def fit(store: Any, pointer: Pointer) -> Fit | None:
        limits = {"possible": limit, "strong": limit, "random_possible": 0, "random_strong": 0}
        background = {
            kind: read_background(open_table(store, generation="g", kind=kind, version=pointer.version_of(kind)), None)
            for kind in KINDS
        }
        counts = {"jobs": 60, "resumes": 60, "mutual": 30}
        return limit and Fit(FitLimits.model_validate({**limits, **counts}), background, {"job": 20, "resume": 20})

    monkeypatch.setattr("tasks.queries.explain.served_fit", fit)
    found = explain(settings, job="j1", resume="r1")
    assert (found["fit"] and found["fit"]["class"]) == verdict
    assert whole in fit_sentence(found)
    page = explanation_page([found])
    assert fit_sentence(found)[:20] in page
    assert ("None of these resumes fits the job." in page) == (verdict == "none")
    if limit is not None:
        assert found["fit"]["among_jobs"] == 0.0, "the only job is not further away than itself"
        few_words = explain(settings, query="SQL", resume="r1")
        assert few_words["fit"]["class"] is None and "the text is short" in fit_sentence(few_words)


def test_random_skills_are_encoded_once_for_a_checkpoint(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    first = explain(settings, job="j1", resume="r1")

    def read_again() -> None:
        raise AssertionError("the random skills were drawn and encoded again")

    monkeypatch.setattr("tasks.queries.explain.read_skill_names", read_again)
    assert explain(settings, job="j1", resume="r1") == first
