"""Exported jobs have the facets as columns; exported resumes have none, because they describe persons."""

import json
from datetime import UTC, datetime

import pyarrow as pa

from data.config import CleanConfig, RedactConfig, SourceConfig
from data.snapshots.build import build_snapshot
from data.store.base import LocalStore
from tasks.stages.export import _documents

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
