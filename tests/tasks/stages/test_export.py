"""Exported jobs have the facets as columns; resumes have none, and matches no words, because they describe persons."""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from data.config import CleanConfig, RedactConfig, SourceConfig
from data.outputs.export_schemas import EXPORT_SCHEMAS
from data.outputs.matches import MATCH_SCHEMA
from data.snapshots.build import build_snapshot
from data.store.base import LocalStore
from tasks.stages.export import _documents, _matches

ROW = {
    "id": "1", "title": "Welder", "text": "Welds pressure vessels.", "city": "Kiel", "country": "DE", "remote": "False",
    "salary": "45.000 - 55.000 € brutto/Jahr", "closing_date": "2026-01-31",
}  # fmt: skip


def exported(tmp_path, kind):
    path = tmp_path / f"{kind}.jsonl"
    path.write_text(json.dumps(ROW) + "\n")
    snapshot = build_snapshot(
        LocalStore(tmp_path / "home"),
        kind=kind,
        sources={"board": SourceConfig(kind=kind, path=str(path))},
        clean=CleanConfig(),
        run_id="run",
        fence=lambda: None,
        now=datetime(2026, 3, 1, tzinfo=UTC),
    )
    (row,) = pa.concat_tables(_documents(snapshot, RedactConfig())).to_pylist()
    return row


def test_exported_jobs_have_their_facets_as_columns(tmp_path):
    row = exported(tmp_path, "job")
    assert (row["location"], row["city"], row["remote"], row["valid_through"]) == (
        "Kiel, DE",
        "Kiel",
        False,
        "2026-01-31",
    )
    assert [row[f"salary_{name}"] for name in ("min", "max", "currency", "unit")] == [45000, 55000, "EUR", "year"]
    assert not {"location", "salary_min", "metadata"} & exported(tmp_path, "resume").keys()


MATCH = {
    "job_id": "j", "resume_id": "r", "rank": 1, "score": 0.5, "matched_terms": ["ward"], "checkpoint": "f",
    "run_id": "run",
}  # fmt: skip


def exported_match(tmp_path, row, names):
    path = tmp_path / "direction=resumes_for_job" / "part-00000.parquet"
    path.parent.mkdir()
    pq.write_table(pa.Table.from_pylist([row], pa.schema([MATCH_SCHEMA.field(name) for name in names])), path)
    (table,) = _matches([path])
    (found,) = table.cast(EXPORT_SCHEMAS["matches"]).to_pylist()
    return found


def test_exported_conditions_have_no_words(tmp_path):
    verdict = {"condition": "licences", "outcome": "fail", "asked": "RN required", "found": "RN licence expired"}
    row = {**MATCH, "fusion": "rrf", "verdict": "fail", "conditions": [verdict]}
    found = exported_match(tmp_path, row, MATCH_SCHEMA.names[1:])
    assert (found["verdict"], found["conditions"]) == ("fail", [{"condition": "licences", "outcome": "fail"}])


def test_matches_of_an_earlier_version_are_exported_with_empty_columns(tmp_path):
    found = exported_match(tmp_path, MATCH, list(MATCH))
    assert (found["job_id"], found["fusion"], found["verdict"], found["conditions"]) == ("j", "", None, None)
