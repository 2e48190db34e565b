"""The queries from ``docs/exports.md``, run unchanged on a real export."""

import re
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from data.outputs.export import ExportTable, publish_export
from data.outputs.export_schemas import EXPORT_SCHEMAS, dictionary_of
from data.store.base import LocalStore

PAGE = (Path(__file__).parents[3] / "docs" / "exports.md").read_text()


def blocks(title, language):
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def table(kind, rows):
    empty = {field.name: None if field.nullable else "" for field in EXPORT_SCHEMAS[kind]}
    return pa.Table.from_pylist([{**empty, **row} for row in rows], schema=EXPORT_SCHEMAS[kind])


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """Two jobs, two resumes: the nurse is first for both jobs, for one of them by meaning alone."""
    match = {"direction": "resumes_for_job", "score": 0.1, "matched_terms": ["ward"]}
    failed = {"verdict": "fail", "conditions": [{"condition": "licences", "outcome": "fail"}]}
    rows = {
        "jobs": [
            {"doc_id": "j1", "title": "Nurse", "content_sha256": "c1", "num_chars": 10, "metadata": '{"city": "York"}'},
            {"doc_id": "j2", "title": "Carer", "content_sha256": "c2", "num_chars": 12, "metadata": "{}"},
        ],
        "resumes": [
            {"doc_id": "r1", "title": "Ward nurse", "num_chars": 10},
            {"doc_id": "r2", "title": "Cook", "num_chars": 10, "duplicate_of": "r1"},
        ],
        "matches": [
            {**match, "job_id": "j1", "resume_id": "r1", "rank": 1, "lexical_rank": 1},
            {**match, "job_id": "j2", "resume_id": "r1", "rank": 1, **failed},
            {**match, "job_id": "j2", "resume_id": "r2", "rank": 2, "lexical_rank": 1},
        ],
        "evaluation": [{"value": 3.0, "is_main_score": True}],
        "vectors": [
            {"content_sha256": name, "document_kind": kind, "vector": np.array([0.6, 0.8], "float16")}
            for name, kind in (("c1", "job"), ("c2", "job"), ("c1", "resume"))
        ],
    }
    publish_export(
        LocalStore(tmp_path / "var"),
        {kind: ExportTable("now", iter([table(kind, found)])) for kind, found in rows.items()},
        run_id="run-1",
        day=date(2026, 3, 1),
        keep=1,
        fence=lambda: None,
        prefix="exports/",
    )
    monkeypatch.chdir(tmp_path)


def test_duckdb(exported):
    duckdb = pytest.importorskip("duckdb")
    ranking, suited, best, dates, dictionary = blocks("DuckDB", "sql")
    with duckdb.connect() as connection:
        assert connection.execute(ranking).fetchall() == [("Ward nurse", 2)]
        assert connection.execute(suited).fetchall() == [("j1", "r1", 1, None, None), ("j2", "r2", 2, None, None)]
        assert connection.execute(best).fetchall() == [
            ("Carer", None, 1, "", ["ward"]),
            ("Carer", None, 2, "", ["ward"]),
            ("Nurse", "York", 1, "", ["ward"]),
        ]
        assert connection.execute(dates).fetchall() == [
            ("Carer", date(2026, 3, 1), date(2026, 3, 1)),
            ("Nurse", date(2026, 3, 1), date(2026, 3, 1)),
        ]
        ((found,),) = connection.execute(dictionary).fetchall()
        assert found.startswith('[{"column": "doc_id", "type": "string"')
        vectors = "SELECT vector FROM read_parquet('var/exports/v4/*/date=*/kind=vectors/*.parquet')"
        assert np.allclose(connection.execute(vectors).fetchall()[0][0], [0.6, 0.8], atol=1e-3)
        hive = "SELECT DISTINCT date::VARCHAR, kind FROM read_parquet('var/exports/v4/*/date=*/kind=jobs/*.parquet')"
        assert connection.execute(hive).fetchall() == [("2026-03-01", "jobs")]
        for kind in EXPORT_SCHEMAS:
            path = f"var/exports/v4/*/date=*/kind={kind}/*.parquet"
            columns = connection.execute(f"DESCRIBE SELECT * FROM read_parquet('{path}')").fetchall()
            assert [row[0] for row in columns][:-2] == [row["column"] for row in dictionary_of(kind)]


def test_polars(exported):
    pytest.importorskip("polars")
    (query,) = blocks("Polars", "python")
    names: dict = {}
    exec(query, names)
    assert names["answer"].to_dicts() == [{"title": "Carer", "found_by_meaning_alone": 1}]
    vectors = names["pl"].read_parquet(names["export"] / "date=*/kind=vectors/*.parquet")
    assert np.allclose(vectors["vector"].to_list()[0], [0.6, 0.8], atol=1e-3)


def test_pandas(exported):
    pytest.importorskip("pandas")
    (query,) = blocks("pandas", "python")
    names: dict = {}
    exec(query, names)
    assert names["answer"].shape == (2, 2)
    assert np.allclose(np.linalg.norm(names["answer"], axis=1), 1, atol=1e-3)
