import json
from datetime import date

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import export as module
from data.errors import FencedError, StoreError
from data.export import EXPORT_VERSION, publish_export, render_dictionary
from data.matches import MATCH_SCHEMA
from data.schema import DOCUMENT_SCHEMA

DAY = date(2026, 3, 1)
SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False, metadata={"description": "what it is called — in short"}),
        pa.field("size", pa.int64(), metadata={"description": "how large it is"}),
    ]
)
SCHEMAS = {"things": SCHEMA, "matches": MATCH_SCHEMA}


def part(*sizes):
    return pa.table({"name": [f"n{size}" for size in sizes], "size": list(sizes)})


def publish(store, *parts, run_id="run-1", day=DAY, prefix="exports/", fence=lambda: None):
    tables = {"things": iter(parts), "matches": iter(())}
    return publish_export(store, tables, SCHEMAS, run_id=run_id, day=day, prefix=prefix, fence=fence)


def sizes(store, prefix="exports/"):
    """What an analyst finds behind ``latest.json``; None before the first export."""
    raw = store.read(f"{prefix}latest.json")
    if raw is None:
        return None
    root = store.local_path(prefix + json.loads(raw)["export"])
    assert (root / "_SUCCESS").is_file()
    assert [path.name for path in root.glob("date=*")] == [f"date={DAY.isoformat()}"]
    # A folder of a date holds kinds of different schemas: each is a dataset of its own.
    files = [str(path) for path in root.glob("date=*/kind=things/*")]
    table = ds.dataset(files, format="parquet", partitioning="hive").to_table()
    assert table.column_names == ["name", "size", "date", "kind"]
    assert {*table["date"].to_pylist(), *table["kind"].to_pylist()} <= {DAY.isoformat(), "things"}
    return sorted(table["size"].to_pylist())


def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("prefix", ["exports/", ""])
def test_an_export_is_found_through_latest_and_read_by_partition(store, prefix):
    assert sizes(store, prefix) is None
    root, rows, num_files = publish(store, part(3, 1), part(2), prefix=prefix)
    assert (root, rows, num_files) == (f"{prefix}v{EXPORT_VERSION}/run-1", {"things": 3, "matches": 0}, 2)
    assert sizes(store, prefix) == [1, 2, 3]
    manifest = json.loads(store.read(f"{root}/manifest.json"))
    assert manifest == {"version": EXPORT_VERSION, "run_id": "run-1", "date": "2026-03-01", "rows": rows}
    latest = json.loads(store.read(f"{prefix}latest.json"))
    assert latest == {"export": f"v{EXPORT_VERSION}/run-1", **manifest}


def test_a_kind_without_rows_has_a_file_with_its_schema(store):
    root, _, _ = publish(store, part(1))
    path = store.local_path(f"{root}/date=2026-03-01/kind=matches/part-00000.parquet")
    with pq.ParquetFile(path) as file:
        assert file.metadata.num_rows == 0
        assert file.schema_arrow.equals(MATCH_SCHEMA, check_metadata=True)


def test_every_file_has_the_schema_that_the_dictionary_describes(store):
    root, _, _ = publish(store, part(1), part())
    path = store.local_path(f"{root}/date=2026-03-01/kind=things/part-00000.parquet")
    schema = pq.read_schema(path)
    assert schema.equals(SCHEMA, check_metadata=True)
    dictionary = store.read(f"{root}/data_dictionary.md").decode()
    _, _, matches = dictionary.partition("## matches")
    described = [line.split(" | ") for line in matches.splitlines() if line.startswith("| ")][2:]
    assert [row[0].removeprefix("| ") for row in described] == MATCH_SCHEMA.names
    assert [row[1] for row in described] == [str(field.type) for field in MATCH_SCHEMA]
    assert "| name | string | no | what it is called — in short |" in dictionary
    assert "| size | int64 | yes | how large it is |" in dictionary


def test_every_exported_column_has_a_meaning():
    for line in render_dictionary({"documents": DOCUMENT_SCHEMA, "matches": MATCH_SCHEMA}).splitlines():
        assert not line.endswith("|  |"), line


@given(st.lists(st.integers(0, 7), max_size=8))
def test_parts_of_any_size_become_files_of_equal_size_without_loss(lengths):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS_PER_FILE", 3)
        numbers = iter(range(100))
        parts = [part(*[next(numbers) for _ in range(length)]) for length in lengths]
        found = list(module._whole_parts((each.cast(SCHEMA) for each in parts), SCHEMA))
    total = sum(lengths)
    assert [size for each in found for size in each["size"].to_pylist()] == list(range(total))
    assert [len(each) for each in found] == [3] * (total // 3) + ([total % 3] if total % 3 or not total else [])


def test_success_comes_last_and_latest_after_it(store, monkeypatch):
    put = []
    real_put, real_swap = store.put_if_absent, store.compare_and_swap
    monkeypatch.setattr(store, "put_if_absent", lambda key, content: put.append(key) or real_put(key, content))
    monkeypatch.setattr(store, "compare_and_swap", lambda key, **swap: put.append(key) or real_swap(key, **swap))
    root, _, num_files = publish(store, part(1))
    assert put[-2:] == [f"{root}/_SUCCESS", "exports/latest.json"]
    assert len(put) == num_files + 4


@pytest.mark.parametrize("step", range(6))
def test_a_killed_export_leaves_latest_on_the_former_one_and_a_repeat_completes_it(store, killed_at, step):
    publish(store, part(7))
    with killed_at(store, step):
        # The first try was before midnight, and had other parts.
        publish(store, part(1), run_id="run-2", day=date(2026, 2, 28) if step < 5 else DAY)
    assert sizes(store) == [7]
    assert (store.read(f"exports/v{EXPORT_VERSION}/run-2/_SUCCESS") is None) == (step < 5)
    publish(store, part(1), run_id="run-2")
    assert sizes(store) == [1]


def test_what_a_run_published_stays_as_it_is(store):
    first = publish(store, part(1, 2))
    before = {key: store.read(key) for key in store.list("exports")}
    assert publish(store, part(3), day=date(2026, 3, 2)) == first
    assert {key: store.read(key) for key in store.list("exports")} == before


def test_a_writer_that_lost_its_lease_publishes_nothing(store):
    publish(store, part(1), run_id="run-1")

    def fence():
        raise FencedError("another run took over")

    with pytest.raises(FencedError):
        publish(store, part(1, 2), run_id="run-2", fence=fence)
    assert sizes(store) == [1]


def test_former_exports_stay(store):
    publish(store, part(1))
    before = {key: store.read(key) for key in store.list(f"exports/v{EXPORT_VERSION}/run-1")}
    publish(store, part(2), run_id="run-2")
    assert sizes(store) == [2]
    assert {key: store.read(key) for key in store.list(f"exports/v{EXPORT_VERSION}/run-1")} == before


@pytest.mark.parametrize("target", ["pyarrow.parquet.write_table", "os.link", "pathlib.Path.write_text"])
def test_a_full_disk_leaves_the_former_export(store, monkeypatch, target):
    publish(store, part(1))
    with monkeypatch.context() as patch:
        patch.setattr(target, full_disk)
        with pytest.raises(StoreError, match="No space left on device") as caught:
            publish(store, part(2), run_id="run-2")
    assert "Free space" in caught.value.hint
    assert sizes(store) == [1]
    assert list(store.list("tmp")) == []


def test_a_table_of_another_schema_is_not_published(store):
    with pytest.raises((pa.ArrowInvalid, ValueError)):
        publish(store, pa.table({"name": ["x"]}))
    assert sizes(store) is None
