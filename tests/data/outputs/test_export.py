import json
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import FencedError, RefusedError, StoreError
from data.outputs import export as module
from data.outputs.export import ExportTable, publish_export
from data.outputs.export_schemas import (
    EXPORT_SCHEMAS,
    EXPORT_VERSION,
    annotated_schema,
    dictionary_of,
    render_dictionary,
    schema_record,
)

DAY = date(2026, 3, 1)
EVALUATION = EXPORT_SCHEMAS["evaluation"]
GOLDEN = Path(__file__).parents[1] / "golden" / "export_schema.json"


def part(*values):
    """Rows of kind ``evaluation``, told apart by their value."""
    row = {"system": "s", "fingerprint": "f", "task": "t", "type": "Retrieval", "metric": "m", "is_main_score": True}
    return pa.Table.from_pylist([{**row, "value": float(value)} for value in values], schema=EVALUATION)


def publish(store, *parts, run_id="run-1", day=DAY, prefix="exports/", fence=lambda: None, keep=10, identity=None):
    tables = {
        "evaluation": ExportTable(identity or run_id, iter(parts)),
        "matches": ExportTable("no matches", iter(())),
    }
    return publish_export(store, tables, run_id=run_id, day=day, prefix=prefix, fence=fence, keep=keep)


def values(store, prefix="exports/"):
    """What an analyst finds behind ``latest.json``; None before the first export."""
    raw = store.read(f"{prefix}latest.json")
    if raw is None:
        return None
    root = store.local_path(prefix + json.loads(raw)["export"])
    assert (root / "_SUCCESS").is_file()
    assert [path.name for path in root.glob("date=*")] == [f"date={DAY.isoformat()}"]
    # A folder of a date holds kinds of different schemas: each is a dataset of its own.
    files = [str(path) for path in root.glob("date=*/kind=evaluation/*")]
    table = ds.dataset(files, format="parquet", partitioning="hive").to_table()
    assert table.column_names == [*EVALUATION.names, "date", "kind"]
    assert {*table["date"].to_pylist(), *table["kind"].to_pylist()} <= {DAY.isoformat(), "evaluation"}
    return sorted(table["value"].to_pylist())


def runs(store, version=EXPORT_VERSION):
    return sorted({key.split("/")[2] for key in store.list(f"exports/v{version}") if key.count("/") > 2})


def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("prefix", ["exports/", ""])
def test_an_export_is_found_through_latest_and_read_by_partition(store, prefix):
    assert values(store, prefix) is None
    done = publish(store, part(3, 1), part(2), prefix=prefix)
    assert (done.key, done.num_files, done.reused) == (f"{prefix}v{EXPORT_VERSION}/run-1", 2, False)
    assert done.rows == {"evaluation": 3, "matches": 0}
    assert values(store, prefix) == [1, 2, 3]
    manifest = json.loads(store.read(f"{done.key}/manifest.json"))
    assert manifest.items() >= {"version": EXPORT_VERSION, "run_id": "run-1", "date": "2026-03-01"}.items()
    latest = json.loads(store.read(f"{prefix}latest.json"))
    assert latest == {"export": f"v{EXPORT_VERSION}/run-1", **manifest}


def test_a_kind_without_rows_has_a_file_with_its_schema(store):
    root = publish(store, part(1)).key
    path = store.local_path(f"{root}/date=2026-03-01/kind=matches/part-00000.parquet")
    with pq.ParquetFile(path) as file:
        assert file.metadata.num_rows == 0
        assert file.schema_arrow.equals(EXPORT_SCHEMAS["matches"])


class TestTheDataDictionary:
    """What the columns mean lies beside the data and in it."""

    def test_every_column_has_a_type_and_a_meaning(self):
        for kind, schema in EXPORT_SCHEMAS.items():
            rows = dictionary_of(kind)
            assert [row["column"] for row in rows] == schema.names
            assert all(row["meaning"] and row["type"] for row in rows)

    def test_it_lies_in_every_file_where_any_reader_finds_it(self, store):
        root = publish(store, part(1)).key
        path = store.local_path(f"{root}/date=2026-03-01/kind=evaluation/part-00000.parquet")
        metadata = pq.read_metadata(path).metadata
        assert json.loads(metadata[b"data_dictionary"]) == dictionary_of("evaluation")
        assert metadata[b"export_version"] == str(EXPORT_VERSION).encode()
        assert pq.read_schema(path).equals(annotated_schema("evaluation"), check_metadata=True)

    def test_it_lies_beside_the_files_as_a_page(self, store):
        page = store.read(f"{publish(store, part(1)).key}/DATA_DICTIONARY.md").decode()
        assert page == render_dictionary()
        assert "| num_chars | int64 | characters | no | characters of the text that is encoded |" in page
        assert "| duplicate_of | string |  | yes |" in page

    def test_no_text_and_no_further_columns_of_a_resume_leave_the_store(self):
        assert all("text" not in schema.names for schema in EXPORT_SCHEMAS.values())
        assert not [name for name in EXPORT_SCHEMAS["resumes"].names if name.startswith("metadata")]

    def test_the_columns_of_a_version_never_change(self):
        """When this fails: raise EXPORT_VERSION, and write ``schema_record()`` to the golden file."""
        assert schema_record() == GOLDEN.read_bytes()


class TestOneVersionHasOneSchema:
    """Who reads ``v1`` relies on its columns."""

    def test_other_columns_are_refused_and_nothing_changes(self, store, monkeypatch):
        publish(store, part(1))
        before = {key: store.read(key) for key in store.list("exports")}
        monkeypatch.setitem(EXPORT_SCHEMAS, "jobs", EXPORT_SCHEMAS["jobs"].remove(0))
        with pytest.raises(RefusedError, match="have unexpected columns") as caught:
            publish(store, part(2), run_id="run-2")
        assert "EXPORT_VERSION" in caught.value.hint
        assert {key: store.read(key) for key in store.list("exports")} == before

    def test_a_raised_version_has_a_folder_of_its_own(self, store, monkeypatch):
        publish(store, part(1))
        for name in ("data.outputs.export.EXPORT_VERSION", "data.outputs.export_schemas.EXPORT_VERSION"):
            monkeypatch.setattr(name, EXPORT_VERSION + 1)
        monkeypatch.setitem(EXPORT_SCHEMAS, "jobs", EXPORT_SCHEMAS["jobs"].remove(0))
        done = publish(store, part(2), run_id="run-2")
        assert done.key == f"exports/v{EXPORT_VERSION + 1}/run-2"
        assert (values(store), runs(store), runs(store, EXPORT_VERSION + 1)) == ([2], ["run-1"], ["run-2"])


@given(st.lists(st.integers(0, 7), max_size=8))
def test_parts_of_any_size_become_row_groups_of_bounded_size_without_loss(lengths):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROW_GROUP_ROWS", 3)
        numbers = iter(range(100))
        parts = [part(*[next(numbers) for _ in range(length)]) for length in lengths]
        found = list(module._row_groups(parts, EVALUATION))
    assert [value for each in found for value in each["value"].to_pylist()] == list(range(sum(lengths)))
    assert found and all(len(each) <= 3 for each in found)
    assert all(len(each) for each in found) or len(found) == 1


def test_wide_rows_make_small_row_groups_and_many_row_groups_several_files(store, monkeypatch):
    monkeypatch.setattr(module, "_ROW_GROUP_BYTES", part(1).nbytes * 2)
    monkeypatch.setattr(module, "_ROW_GROUPS_PER_FILE", 2)
    root = publish(store, *(part(number) for number in range(7))).key
    paths = sorted(store.local_path(f"{root}/date=2026-03-01/kind=evaluation").iterdir())
    assert [pq.read_metadata(path).num_row_groups for path in paths] == [2, 2]
    assert [pq.read_metadata(path).num_rows for path in paths] == [4, 3]
    assert pq.read_metadata(paths[0]).row_group(0).column(0).compression == "ZSTD"
    assert values(store) == list(range(7))


def test_success_comes_last_and_latest_after_it(store, monkeypatch):
    put = []
    real_put, real_swap = store.put_if_absent, store.compare_and_swap
    monkeypatch.setattr(store, "put_if_absent", lambda key, content: put.append(key) or real_put(key, content))
    monkeypatch.setattr(store, "compare_and_swap", lambda key, **swap: put.append(key) or real_swap(key, **swap))
    done = publish(store, part(1))
    assert put[-2:] == [f"{done.key}/_SUCCESS", "exports/latest.json"]
    assert len(put) == done.num_files + 5  # schema.json, dictionary, manifest, success, latest


@pytest.mark.parametrize("step", range(7))
def test_a_killed_export_leaves_latest_on_the_former_one_and_a_repeat_completes_it(store, killed_at, step):
    publish(store, part(7))
    with killed_at(store, step):
        # The first try was before midnight, and had other parts.
        publish(store, part(1), run_id="run-2", day=date(2026, 2, 28) if step < 6 else DAY)
    assert values(store) == [7]
    assert (store.read(f"exports/v{EXPORT_VERSION}/run-2/_SUCCESS") is None) == (step < 6)
    publish(store, part(1), run_id="run-2")
    assert values(store) == [1]


class TestUnchanged:
    """Nothing new means no new export."""

    def test_the_latest_export_stays_and_no_row_is_read(self, store):
        first = publish(store, part(1), identity="same")
        before = {key: store.read(key) for key in store.list("exports")}

        def rows():
            raise AssertionError("an unchanged table was read")
            yield

        tables = {"evaluation": ExportTable("same", rows()), "matches": ExportTable("no matches", rows())}
        again = publish_export(store, tables, run_id="run-2", day=DAY, prefix="exports/", fence=lambda: None, keep=10)
        assert (again.key, again.rows, again.reused) == (first.key, first.rows, True)
        assert {key: store.read(key) for key in store.list("exports")} == before

    @pytest.mark.parametrize("lost", ["_SUCCESS", ""])
    def test_a_latest_export_that_somebody_removed_is_made_anew(self, store, lost):
        first = publish(store, part(1), identity="same")
        store.delete(f"{first.key}/{lost}".rstrip("/"))
        again = publish(store, part(1), run_id="run-2", identity="same")
        assert (again.reused, values(store)) == (False, [1])

    def test_one_changed_kind_is_a_new_export(self, store):
        publish(store, part(1), identity="a")
        assert not publish(store, part(2), run_id="run-2", identity="b").reused
        assert values(store) == [2]


class TestRetention:
    """``export.keep``."""

    def test_the_newest_stay(self, store):
        for number in range(5):
            done = publish(store, part(number), run_id=f"run-{number}", keep=2)
        assert (runs(store), done.removed, values(store)) == (["run-3", "run-4"], 1, [4])

    def test_the_latest_stays_even_if_it_is_not_the_newest(self, store):
        publish(store, part(1), run_id="run-9", keep=3)
        publish(store, part(2), run_id="run-1", keep=1)
        assert (runs(store), values(store)) == (["run-1"], [2])

    def test_exports_of_other_places_and_files_of_others_stay(self, store):
        store.put_if_absent("exports/notes/mine.txt", b"keep")
        store.put_if_absent("exports/v1/mine.txt", b"keep")
        for number in range(3):
            publish(store, part(number), run_id=f"run-{number}", keep=1)
        assert runs(store) == ["run-2"]
        assert store.read("exports/notes/mine.txt") == store.read("exports/v1/mine.txt") == b"keep"

    def test_a_removal_that_is_killed_leaves_no_half_export(self, store, monkeypatch):
        publish(store, part(1), run_id="run-1", keep=2)
        real = store.delete

        def killed(key):
            real(key)
            if key.endswith("_SUCCESS"):
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(store, "delete", killed)
            with pytest.raises(KeyboardInterrupt):
                publish(store, part(2), run_id="run-2", keep=1)
        assert store.read(f"exports/v{EXPORT_VERSION}/run-1/_SUCCESS") is None
        assert values(store) == [2]
        publish(store, part(3), run_id="run-3", keep=1)
        assert runs(store) == ["run-3"]


def test_what_a_run_published_stays_as_it_is(store):
    first = publish(store, part(1, 2))
    before = {key: store.read(key) for key in store.list("exports")}
    assert publish(store, part(3), day=date(2026, 3, 2), identity="other").key == first.key
    assert {key: store.read(key) for key in store.list("exports")} == before


def test_a_writer_that_lost_its_lease_publishes_nothing(store):
    publish(store, part(1), run_id="run-1")

    def fence():
        raise FencedError("another run took over")

    with pytest.raises(FencedError):
        publish(store, part(1, 2), run_id="run-2", fence=fence)
    assert values(store) == [1]


@pytest.mark.parametrize("target", ["pyarrow.parquet.ParquetWriter.write_table", "os.link", "pathlib.Path.write_text"])
def test_a_full_disk_leaves_the_former_export(store, monkeypatch, target):
    publish(store, part(1))
    with monkeypatch.context() as patch:
        patch.setattr(target, full_disk)
        with pytest.raises(StoreError, match="No space left on device") as caught:
            publish(store, part(2), run_id="run-2")
    assert "Free disk space" in caught.value.hint
    assert values(store) == [1]
    assert list(store.list("tmp")) == []


def test_a_table_of_another_schema_is_not_published(store):
    with pytest.raises((pa.ArrowInvalid, ValueError)):
        publish(store, pa.table({"system": ["x"]}))
    assert values(store) is None
