"""Folders of dated deliveries (``mode = "newest"``), and ids for sources without an id field."""

import json
import os
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from data.config import CleanConfig, ShrinkConfig, SourceConfig
from data.documents.deliveries import delivery_date
from data.documents.rows import RawRow, ReadLog
from data.documents.sources import read_rows
from data.errors import InputError
from data.snapshots.build import build_snapshot
from data.store.base import LocalStore

NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)


def deliver(path, *rows):
    """Write a CSV file with the columns id and text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in ("id,text", *(f"{key},{text}" for key, text in rows))))
    return path


def newest(path, **changed):
    """Texts by id in the order of reading, and the log."""
    log = ReadLog()
    rows = list(read_rows(SourceConfig(kind="job", path=str(path), **{"mode": "newest", **changed}), log))
    assert all(isinstance(row, RawRow) for row in rows)
    return [(row.values["id"], row.values["text"]) for row in rows], log


def build(root, path, **changed):
    return build_snapshot(
        LocalStore(root),
        kind="job",
        sources={"board": SourceConfig(kind="job", path=str(path), **{"mode": "newest", **changed})},
        clean=CleanConfig(),
        run_id="r",
        fence=lambda: None,
        now=NOW,
        shrink=ShrinkConfig(max_shrink=1),
    )


def texts(snapshot):
    return {row["source_id"]: row["text"] for row in snapshot.table().to_pylist()}


# --- newest -----------------------------------------------------------------------------------------------------------


def test_the_newest_file_wins_by_id_and_other_documents_stay(tmp_path):
    deliver(tmp_path / "jobs-2026-01-01.csv", (1, "Cook until March"), (2, "Nurse"))
    deliver(tmp_path / "jobs-2026-01-02.csv", (1, "Cook until June"), (3, "Driver"))
    found, log = newest(tmp_path)
    assert found == [("1", "Cook until June"), ("3", "Driver"), ("2", "Nurse")]
    assert log.num_replaced == 1


@pytest.mark.parametrize(("names", "expected"), [(("2026-01-01", "2026-01-02"), 1), (("north", "south"), 0)])
def test_dated_tables_that_are_read_as_one_delivery_are_noted(tmp_path, names, expected):
    for name in names:
        deliver(tmp_path / f"jobs-{name}.csv", (name, "Bakes"))
    _, log = newest(tmp_path, mode="replace")
    assert sum("newest" in note for note in log.notes) == expected


def test_full_replacement_is_the_default(tmp_path):
    deliver(tmp_path / "jobs-2026-01-01.csv", (1, "Cook"))
    deliver(tmp_path / "jobs-2026-01-02.csv", (1, "Cook again"))
    found, log = newest(tmp_path, mode="replace")
    assert found == [("1", "Cook"), ("1", "Cook again")]
    assert log.num_replaced == 0


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("jobs-2026-01-31.csv", "2026-01-31 00:00"),
        ("20260131.csv", "2026-01-31 00:00"),
        ("jobs_2026.01.31_part2.csv", "2026-01-31 00:00"),
        ("export-20260131T1830.jsonl", "2026-01-31 18:30"),
        ("export 2026-01-31 18-30-05.jsonl", "2026-01-31 18:30"),
        ("20260131183005.csv", "2026-01-31 18:30"),
        ("2026-01-31/jobs.csv", "2026-01-31 00:00"),
        ("2026-01-01/jobs-2026-01-31.csv", "2026-01-31 00:00"),
        ("jobs-2026-01-31-0099.csv", "2026-01-31 00:00"),
        ("jobs-31-01-2026.csv", None),
        ("jobs-2026-13-01.csv", None),
        ("jobs-12026-01-31.csv", None),
        ("jobs.csv", None),
    ],
)
def test_the_date_of_a_delivery_is_in_its_name(name, date):
    found = delivery_date(name)
    assert (found and f"{found:%Y-%m-%d %H:%M}") == date


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["jobs-2026-01-01.csv", "jobs-new.csv"], "'jobs-new.csv' has no date; expected one date in each name"),
        (["2026-01-01-to-2026-01-07.csv", "2026-01-08.csv"], "'2026-01-01-to-2026-01-07.csv' has 2 dates"),
        (["a.csv", "b.csv", "c.csv", "d.csv"], "'c.csv' has no date and 1 more"),
    ],
)
def test_names_that_do_not_tell_which_file_is_newer_are_refused(tmp_path, names, message):
    for name in names:
        deliver(tmp_path / name, (1, "Cook"))
    with pytest.raises(InputError, match=message) as caught:
        newest(tmp_path)
    assert "jobs-2026-01-31.csv" in caught.value.hint


def test_one_file_needs_no_date(tmp_path):
    assert newest(deliver(tmp_path / "jobs.csv", (1, "Cook")))[0] == [("1", "Cook")]


def test_parts_of_one_date_are_one_delivery_unless_they_contradict_each_other(tmp_path):
    deliver(tmp_path / "2026-01-01-a.csv", (1, "Cook"), (2, "Nurse"))
    deliver(tmp_path / "2026-01-01-b.csv", (3, "Driver"), (2, "Nurse"))
    assert newest(tmp_path)[0] == [("1", "Cook"), ("2", "Nurse"), ("3", "Driver"), ("2", "Nurse")]
    deliver(tmp_path / "2026-01-01-b.csv", (3, "Driver"), (2, "Nurse corrected"))
    with pytest.raises(InputError, match=r"'2026-01-01-a.csv' and '2026-01-01-b.csv' are both of 2026-01-01 00:00"):
        newest(tmp_path)
    (tmp_path / "2026-01-01-b.csv").rename(tmp_path / "2026-01-01T18.30.csv")
    assert newest(tmp_path)[0][:2] == [("3", "Driver"), ("2", "Nurse corrected")]


def test_an_old_file_that_is_delivered_again_stays_old(tmp_path):
    old = deliver(tmp_path / "jobs-2026-01-01.csv", (1, "Cook until March"))
    new = deliver(tmp_path / "jobs-2026-01-02.csv", (1, "Cook until June"))
    os.utime(new, (0, 0))
    deliver(old, (1, "Cook until March"), (4, "Baker"))
    assert newest(tmp_path)[0] == [("1", "Cook until June"), ("4", "Baker")]


@pytest.mark.parametrize("content", ["id,text\n", ""])
def test_an_empty_file_of_today_replaces_nothing(tmp_path, content):
    deliver(tmp_path / "in" / "jobs-2026-01-01.csv", (1, "Cook"))
    before = build(tmp_path / "var", tmp_path / "in")
    (tmp_path / "in" / "jobs-2026-01-02.csv").write_text(content)
    after = build(tmp_path / "var", tmp_path / "in")
    assert texts(after) == texts(before) == {"1": "Cook"}
    assert newest(tmp_path / "in")[1].skipped == ({} if content else {"jobs-2026-01-02.csv": "an empty file"})


def test_a_row_that_is_left_out_stays_one_without_text_is_withdrawn_and_an_old_file_can_be_removed(tmp_path):
    folder = tmp_path / "in"
    deliver(folder / "2026-01-01.csv", (1, "Cook"), (2, "Nurse"), (3, "Driver"))
    deliver(folder / "2026-01-02.csv", (2, ""))
    withdrawn = build(tmp_path / "var", folder)
    assert texts(withdrawn) == {"1": "Cook", "3": "Driver"}
    counts = withdrawn.manifest.sources["board"]
    assert (counts.rows_in, counts.rows_kept, counts.rows_quarantined, counts.rows_replaced) == (3, 2, 1, 1)
    deliver(folder / "2026-01-03.csv", (3, "Driver at night"))
    (folder / "2026-01-01.csv").unlink()
    assert texts(build(tmp_path / "var", folder)) == {"3": "Driver at night"}


def test_a_damaged_row_without_an_id_replaces_nothing(tmp_path):
    (tmp_path / "2026-01-01.jsonl").write_text('{"id": 1, "text": "Cook"}\n')
    (tmp_path / "2026-01-02.jsonl").write_text('{"id": 1, "text": "Coo\n{"id": 2.5, "text": "x"}\n{"text": "y"}\n')
    assert texts(build(tmp_path / "var", tmp_path)) == {"1": "Cook"}


def test_ids_of_several_formats_are_the_same(tmp_path):
    deliver(tmp_path / "2026-01-01.csv", (1, "Cook"), (2, "Nurse"))
    (tmp_path / "2026-01-02.jsonl").write_text('{"id": 1, "text": "Cook from JSON"}\n')
    pq.write_table(
        pa.table({"id": [2.0, 3.0], "text": ["Nurse from Parquet", "Driver"]}), tmp_path / "20260103.parquet"
    )
    assert dict(newest(tmp_path)[0]) == {3: "Driver", 2: "Nurse from Parquet", 1: "Cook from JSON"}


deliveries = st.lists(
    st.tuples(
        st.integers(1, 5),
        st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["cook", "nurse", ""])), unique_by=lambda row: row[0]),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nights=deliveries)
def test_nights_one_by_one_make_the_snapshot_of_all_deliveries(tmp_path_factory, nights):
    root = tmp_path_factory.mktemp("nights")
    expected = {}
    by_day = {}
    for number, (day, rows) in enumerate(nights):
        by_day[day] = [("always", "porter"), *rows]
        deliver(root / "in" / f"2026-01-0{day}.csv", *by_day[day])
        expected = {f"{key}": text for day in sorted(by_day) for key, text in by_day[day]}
        followed = build(root / "var", root / "in")
        alone = build(root / f"alone{number}", root / "in")
        assert followed.manifest.id == alone.manifest.id
        assert followed.manifest.totals == alone.manifest.totals
    assert texts(followed) == {key: text for key, text in expected.items() if text}


@pytest.mark.parametrize("changed", [{"id_field": "#row"}, {"format": "linkedin-export"}])
def test_combinations_that_make_no_sense_are_refused(changed):
    with pytest.raises(ValidationError, match="mode 'newest'"):
        SourceConfig(kind="resume", path="x", mode="newest", **changed)


# --- sources without ids ----------------------------------------------------------------------------------------------

ROWS = [{"title": "Cook", "text": "Leads the kitchen"}, {"title": "Nurse", "text": "Cares"}]


@pytest.fixture(params=["a.jsonl", "a.json", "a.csv", "a.parquet", "a.xml"])
def unnamed(request, tmp_path):
    """A file of each format with two rows that have no id."""
    path = tmp_path / "in" / request.param
    path.parent.mkdir()
    if path.suffix == ".csv":
        path.write_text("title,text\nCook,Leads the kitchen\nNurse,Cares\n")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif path.suffix == ".xml":
        jobs = "".join(f"<job><title>{row['title']}</title><text>{row['text']}</text></job>" for row in ROWS)
        path.write_text(f"<?xml version='1.0'?><jobs>{jobs}</jobs>")
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS))
    else:
        path.write_text("\n".join(map(json.dumps, ROWS)))
    return path


def made_ids(path, id_field):
    log = ReadLog()
    rows = list(read_rows(SourceConfig(kind="job", path=str(path), id_field=id_field), log))
    return [row.values[id_field] for row in rows], log


def test_a_source_without_ids_takes_row_numbers_and_says_so(unnamed):
    found, log = made_ids(unnamed, "#row")
    assert found == [f"{unnamed.name}#1", f"{unnamed.name}#2"]
    assert log.notes["ids made from row numbers"] == 1


def test_a_source_without_ids_takes_hashes_that_depend_on_the_content_only(unnamed, tmp_path):
    found, log = made_ids(unnamed, "#content")
    again, _ = made_ids(unnamed.rename(tmp_path / f"other{unnamed.suffix}"), "#content")
    assert (again, len(set(found)), {len(each) for each in found}) == (found, 2, {24})
    assert log.notes["ids made from the content of rows"] == 1
    with pytest.raises(InputError, match="no id column 'id'"):
        made_ids(tmp_path, "id")


def test_equal_rows_without_ids_are_one_document_and_a_column_named_id_is_kept(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n1,Cook\n1,Cook\n1,Nurse\n")
    snapshot = build(tmp_path / "var", tmp_path / "a.csv", id_field="#content")
    assert [row["metadata"] for row in snapshot.table().to_pylist()] == ['{"id":"1"}'] * 2
    assert snapshot.quarantine()["reason"].to_pylist() == ["repeated_row"]


def test_a_deep_row_without_an_id_costs_itself_only(tmp_path):
    deep = '{"text": "x", "a": ' + "[" * 900 + "]" * 900 + "}"
    (tmp_path / "a.jsonl").write_text(f'{deep}\n{{"text": "Cook"}}\n')
    assert list(texts(build(tmp_path / "var", tmp_path / "a.jsonl", id_field="#content")).values())[-1] == "Cook"


def test_the_default_settings_of_a_source_keep_their_hash():
    assert SourceConfig(kind="job", path="a").decisive_json() == (
        '{"kind":"job","id_field":"id","title_field":"title","text_field":null,"format":null,"records":null,'
        '"encoding":null,"separator":null}'
    )
