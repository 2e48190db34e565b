"""Limits of fit in a store: fitted once for a generation, used by matches and search, and never a person's vector."""

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.schema import KINDS, document_id
from data.store.lease import hold_lease
from data.vectors.lance import create_table, table_schema
from data.vectors.pointer import POINTER_KEY, Pointer, read_pointer
from tasks.encoders import fit as fit_module
from tasks.encoders.fit import known_fit, nobody_fits, read_background, served_fit, settle_fit
from tasks.queries.search import Hit, with_fit
from tasks.run.context import Run
from tasks.run.settings import Settings
from tasks.stages.match import match_all

DIM, OCCUPATIONS, WITHOUT = 24, 30, 10
CENTRES = np.random.default_rng(0).normal(size=(OCCUPATIONS, DIM))


def documents(kind, occupations, *, seed=0, copies=0, noise=0.6):
    """Documents of occupations; the last ``copies`` are marked as near duplicates of the first."""
    rng = np.random.default_rng([seed, kind == "job"])
    vectors = CENTRES[occupations] + noise * rng.normal(size=(len(occupations), DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ids = [document_id(f"{kind}-{seed}", str(number)) for number in range(len(occupations))]
    columns = {field.name: [None if field.nullable else "x"] * len(ids) for field in table_schema(DIM)}
    marks = [None] * (len(ids) - copies) + [ids[0]] * copies
    columns |= {
        "doc_id": ids,
        "kind": [kind] * len(ids),
        "metadata": ["{}"] * len(ids),
        "num_chars": [400] * len(ids),
        "near_duplicate_of": marks,
        "words": [f"w{occupation}" for occupation in occupations],
        "vector": list(vectors),
    }
    return pa.table(columns, schema=table_schema(DIM))


JOBS, RESUMES = np.arange(90) % OCCUPATIONS, np.arange(80) % (OCCUPATIONS - WITHOUT)


def serve(store, tables):
    pointer = Pointer(
        sequence=1,
        generation="g",
        checkpoint="f",
        jobs=tables["job"].version,
        resumes=tables["resume"].version,
        snapshots={},
        fencing_epoch=1,
        run_id="run",
        promoted_at=datetime(2026, 3, 1, tzinfo=UTC),
    )
    store.compare_and_swap(POINTER_KEY, expected=store.read(POINTER_KEY), content=pointer.model_dump_json().encode())


@pytest.fixture
def board(tmp_path):
    """A home whose last ten occupations have jobs and no resumes."""
    settings = Settings(home=str(tmp_path / "home"))
    store = settings.store()
    tables = {kind: create_table(store, generation="g", kind=kind, embedding_dim=DIM) for kind in KINDS}
    tables["job"].upsert([documents("job", JOBS)])
    tables["resume"].upsert([documents("resume", RESUMES)])
    serve(store, tables)
    with hold_lease(store, owner="run") as lease:
        yield Run("run", settings, store, lease), tables


def matches_of(store, match, direction):
    keys = [key for key in store.list(f"matches/{match}/direction={direction}") if key.endswith(".parquet")]
    return [row for key in keys for row in pq.read_table(store.local_path(key), partitioning=None).to_pylist()]


def test_jobs_that_nobody_fits_are_counted_and_their_matches_say_so(board):
    run, _ = board
    report = match_all.fn(run)
    without = {
        document_id("job-0", str(at)) for at, occupation in enumerate(JOBS) if occupation >= OCCUPATIONS - WITHOUT
    }
    classes = {}
    for row in matches_of(run.store, report.match, "resumes_for_job"):
        classes.setdefault(row["job_id"], set()).add(row["fit_class"])
        assert 0 <= row["fit"] <= 1
    unfit = {job for job, found in classes.items() if found == {"none"}}
    lonely = {row["resume_id"]: set() for row in matches_of(run.store, report.match, "jobs_for_resume")}
    for row in matches_of(run.store, report.match, "jobs_for_resume"):
        lonely[row["resume_id"]].add(row["fit_class"])
    assert report.nobody_fits == {"job": len(unfit), "resume": sum(found == {"none"} for found in lonely.values())}
    assert len(unfit & without) >= 27 and len(unfit - without) <= 4
    assert f"nobody fits {len(unfit):,} jobs" in report.sentence()
    assert "choose each other" in report.fit_note
    again = match_all.fn(run)
    assert again.reused and again.nobody_fits == report.nobody_fits


def test_limits_stay_with_the_generation_and_are_fitted_again_only_after_a_drift(board):
    run, tables = board
    first = settle_fit(run, "g", tables)
    assert first.record == known_fit(run.store, "g") and first.note == ""
    assert first.record.least_chars == {"job": 200, "resume": 200} and len(first.record.held_back) in (0, 8)
    tables["job"].upsert([documents("job", JOBS, seed=5)])
    tables["job"].delete([document_id("job-0", str(at)) for at in range(len(JOBS))])
    assert settle_fit(run, "g", tables).record == first.record, "more of the same is no drift"
    tables["job"].upsert([documents("job", JOBS, seed=2, noise=3.0)])
    tables["job"].delete([document_id("job-5", str(at)) for at in range(len(JOBS))])
    again = settle_fit(run, "g", tables)
    assert again.record != first.record and again.record == known_fit(run.store, "g")
    assert "drifted away" in again.note and f"{first.record.limits.possible:.3f}" in again.note
    serve(run.store, tables)
    assert match_all.fn(run).match != "", "matches follow the new limits"
    assert json.loads(run.store.read("lance/g/fit.json"))["limits"] == again.record.limits.model_dump()


def test_too_few_documents_have_no_fit_and_the_report_says_why(board):
    run, tables = board
    tables["resume"].delete([document_id("resume-0", str(at)) for at in range(40)])
    serve(run.store, tables)
    report = match_all.fn(run)
    assert report.nobody_fits == {} and known_fit(run.store, "g") is None
    assert "90 jobs and 40 resumes" in report.sentence()
    assert {row["fit_class"] for row in matches_of(run.store, report.match, "jobs_for_resume")} == {None}
    assert served_fit(run.store, read_pointer(run.store)) is None


def test_the_background_is_a_part_of_the_table_without_copies(board, monkeypatch):
    run, tables = board
    monkeypatch.setattr(fit_module, "MAX_BACKGROUND", 60)
    settle_fit(run, "g", tables)
    record = known_fit(run.store, "g")
    rows = tables["job"].read(["doc_id"])["doc_id"].to_pylist()
    drawn = sum(doc_id < record.bounds["job"] for doc_id in rows)
    assert 45 < drawn < 75
    assert len(read_background(tables["job"], record.bounds["job"])) == drawn
    whole = len(read_background(tables["resume"], None))
    tables["resume"].upsert([documents("resume", RESUMES, seed=3, copies=10)])
    assert len(read_background(tables["resume"], None)) == whole + len(RESUMES) - 10


def test_search_finds_the_fit_that_matching_stored(board):
    run, tables = board
    report = match_all.fn(run)
    job = tables["job"].read(["doc_id", "vector"]).slice(0, 1).to_pylist()[0]
    rows = [row for row in matches_of(run.store, report.match, "resumes_for_job") if row["job_id"] == job["doc_id"]]
    hits = {row["resume_id"]: Hit(row["score"]) for row in rows}
    fit = served_fit(run.store, read_pointer(run.store), ["resume"])
    assert set(fit.background) == {"job"}, "only what the ranking needs is read"
    found = with_fit(hits, tables["resume"], "resume", np.array(job["vector"], np.float32), fit)
    assert [(hit.fit, hit.fit_class) for hit in found.values()] == [
        (pytest.approx(row["fit"], abs=1e-6), row["fit_class"]) for row in rows
    ]
    assert with_fit(hits, tables["resume"], "resume", np.zeros(DIM, np.float32), None) is hits


def test_nobody_fits_only_if_every_class_is_known_and_none():
    def ranking(*classes):
        return [{"fit_class": each} for each in classes]

    assert nobody_fits(ranking("none", "none")) is True
    assert nobody_fits(ranking("none", "possible")) is False
    assert nobody_fits(ranking("none", None)) is nobody_fits([]) is None
