"""Exclusion lists as CSV and Parquet; mistakes in them are named."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import InputError
from data.outputs.exclusions import read_exclusions

ROWS = {"job_id": ["007", "j2", None], "resume_id": ["r1", "", "r3"], "note": ["asked", None, "left"]}


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_rows_are_pairs_or_documents_and_ids_stay_as_they_are_written(tmp_path, form):
    path = tmp_path / f"never.{form}"
    if form == "csv":
        path.write_text("job_id,resume_id,note\n007,r1,asked\nj2,,\n,r3,left\n", encoding="utf-8")
    else:
        pq.write_table(pa.table(ROWS), path)
    found = read_exclusions(str(path))
    assert found.pairs == {("007", "r1")}
    assert found.documents == {"job": {"j2"}, "resume": {"r3"}}
    assert (found.ids("job"), found.ids("resume")) == ({"007", "j2"}, {"r1", "r3"})


def test_a_list_of_resumes_needs_no_jobs(tmp_path):
    path = tmp_path / "never.csv"
    path.write_text("resume_id\nr1\nr2\n", encoding="utf-8")
    assert read_exclusions(str(path)).documents == {"job": frozenset(), "resume": {"r1", "r2"}}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("never.csv", "job,resume\n1,2\n", "expected job_id and resume_id"),
        ("never.csv", "job_id,resume_id\n1,2\n,\n", "Row 2"),
        ("never.parquet", "no parquet", "cannot be read"),
        ("never.xlsx", "", "expected .csv or .parquet"),
        (None, "", "cannot be read"),
    ],
)
def test_a_mistake_is_named(tmp_path, name, content, message):
    if name is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_exclusions(str(tmp_path / (name or "missing.csv")))
