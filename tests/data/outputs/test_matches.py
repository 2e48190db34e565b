import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from data.errors import FencedError, StoreError
from data.outputs.matches import (
    DIRECTIONS,
    LATEST_MATCHES,
    MATCH_SCHEMA,
    MatchPart,
    latest_match_files,
    match_id,
    read_former_matches,
    read_manifest,
    write_matches,
)


def part(direction, *numbers):
    rows = [
        {
            "direction": direction,
            "job_id": f"j{number}",
            "resume_id": "r",
            "rank": number,
            "score": 0.5,
            "fusion": "rrf",
            "matched_terms": ["a"],
            "checkpoint": "f",
            "run_id": "run",
        }
        for number in numbers
    ]
    return pa.Table.from_pylist(rows, schema=MATCH_SCHEMA)


FIRST, SECOND = (lambda *numbers, direction=direction: part(direction, *numbers) for direction in DIRECTIONS)


def write(store, match, *tables, fence=lambda: None, cut="1024"):
    parts = [
        MatchPart(direction, number, lambda table=table: table)
        for direction in DIRECTIONS
        for number, table in enumerate(each for each in tables if each["direction"].to_pylist()[:1] == [direction])
    ]
    return write_matches(store, match, parts, cut=cut, manifest={"run_id": "run"}, documents={}, fence=fence)


def found(store):
    """Direction and job of all latest matches, as an analyst reads them."""
    files = latest_match_files(store)
    if not files:
        return []
    table = ds.dataset(files, format="parquet", partitioning="hive").to_table()
    return sorted(zip(table["direction"].to_pylist(), table["job_id"].to_pylist(), strict=True))


def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")


def test_matches_can_be_read_back_by_direction(store):
    assert latest_match_files(store) == []
    assert write(store, "m", FIRST(1, 2), FIRST(3), SECOND(1)) == 4
    assert found(store) == [(DIRECTIONS[1], "j1"), *((DIRECTIONS[0], f"j{number}") for number in (1, 2, 3))]
    assert read_manifest(store, "m") == {"run_id": "run", "rows": 4, "fitting": dict.fromkeys(DIRECTIONS, 0)}
    assert all(path.is_file() for path in latest_match_files(store))
    columns = [field for field in MATCH_SCHEMA if field.name != "direction"]
    for path in latest_match_files(store):
        assert pq.read_schema(path).equals(pa.schema(columns), check_metadata=False)
        assert pq.read_schema(path).field("rank").metadata[b"description"]


def test_no_match_at_all_is_a_result_too(store):
    write(store, "m", FIRST(1))
    assert write(store, "n", MATCH_SCHEMA.empty_table()) == 0
    assert read_manifest(store, "n") == {"run_id": "run", "rows": 0, "fitting": dict.fromkeys(DIRECTIONS, 0)}
    assert found(store) == []


def test_the_manifest_comes_after_all_parts_and_the_latest_after_the_manifest(store, monkeypatch):
    put = []
    real_put, real_swap = store.put_if_absent, store.compare_and_swap
    monkeypatch.setattr(store, "put_if_absent", lambda key, content: put.append(key) or real_put(key, content))
    monkeypatch.setattr(store, "compare_and_swap", lambda key, **swap: put.append(key) or real_swap(key, **swap))
    write(store, "m", FIRST(1), SECOND(1))
    assert [key.rsplit("/", 1)[-1] for key in put[-2:]] == ["manifest.json", "latest.json"]
    assert len(put) == 6


def test_matches_that_are_there_are_not_written_again(store):
    write(store, "m", FIRST(1))
    before = {key: store.read(key) for key in store.list("matches")}

    def fail():
        raise AssertionError("nothing needs to be matched again")
        yield

    assert write_matches(store, "m", fail(), cut="1024", manifest={}, documents={}, fence=lambda: None) == 1
    assert {key: store.read(key) for key in store.list("matches")} == before


def test_former_matches_can_become_the_latest_again(store):
    write(store, "m", FIRST(1))
    write(store, "n", FIRST(2))
    LATEST_MATCHES.put(store, "m")
    LATEST_MATCHES.put(store, "m")
    assert found(store) == [(DIRECTIONS[0], "j1")]


@pytest.mark.parametrize("target", ["pyarrow.parquet.write_table", "os.link"])
def test_a_full_disk_leaves_the_former_matches(store, monkeypatch, target):
    write(store, "m", FIRST(1))
    with monkeypatch.context() as patch:
        patch.setattr(target, full_disk)
        with pytest.raises(StoreError, match="No space left on device") as caught:
            write(store, "n", FIRST(2))
    assert "Free disk space" in caught.value.hint
    assert found(store) == [(DIRECTIONS[0], "j1")]
    assert read_manifest(store, "n") is None
    assert list(store.list("tmp")) == []


@pytest.mark.parametrize("step", range(7))
def test_a_killed_run_leaves_the_former_matches_and_its_finished_parts(store, killed_at, step):
    write(store, "m", FIRST(9))
    with killed_at(store, step):
        write(store, "n", FIRST(1), FIRST(2), SECOND(1))
    assert found(store) == [(DIRECTIONS[0], "j9")]
    assert (read_manifest(store, "n") is None) == (step < 6)
    built = []
    parts = [
        MatchPart(direction, number, lambda direction=direction, job=job: built.append(job) or part(direction, job))
        for direction, number, job in [(DIRECTIONS[0], 0, 1), (DIRECTIONS[0], 1, 2), (DIRECTIONS[1], 0, 1)]
    ]
    assert write_matches(store, "n", parts, cut="1024", manifest={}, documents={}, fence=lambda: None) == 3
    assert len(built) == (0 if step == 6 else max(0, min(3, 4 - step))), "what was finished is not made again"
    assert found(store) == [(DIRECTIONS[1], "j1"), (DIRECTIONS[0], "j1"), (DIRECTIONS[0], "j2")]


def test_parts_that_were_cut_otherwise_are_dropped(store, killed_at):
    with killed_at(store, 3):
        write(store, "n", FIRST(1), FIRST(2), SECOND(1))
    assert write(store, "n", FIRST(1, 2), SECOND(1), cut="2048") == 3
    assert found(store) == [(DIRECTIONS[1], "j1"), (DIRECTIONS[0], "j1"), (DIRECTIONS[0], "j2")]


def test_a_lost_lease_stops_the_commit(store):
    write(store, "m", FIRST(1))

    def fence():
        raise FencedError("A newer writer took over.")

    with pytest.raises(FencedError):
        write(store, "n", FIRST(2), fence=fence)
    assert found(store) == [(DIRECTIONS[0], "j1")]
    assert read_manifest(store, "n") is None


def test_former_matches_are_those_of_the_same_recipe_that_know_their_documents(store):
    documents = {"job": np.array([b"a" * 16, b"b" * 16]), "resume": np.array([b"c" * 16])}
    parts = [MatchPart(DIRECTIONS[0], 0, lambda: FIRST(1, 2)), MatchPart(DIRECTIONS[0], 1, lambda: FIRST(3))]
    assert read_former_matches(store, recipe="r") is None
    manifest = {"run_id": "run", "recipe": "r"}
    write_matches(store, "m", parts, cut="1", manifest=manifest, documents=documents, fence=lambda: None)
    assert read_former_matches(store, recipe="other") is None
    former = read_former_matches(store, recipe="r")
    for kind, digests in documents.items():
        np.testing.assert_array_equal(former.documents[kind], digests)
    found = former.rows(DIRECTIONS[0], ["j2", "j3", "j4"])
    assert found.schema.equals(MATCH_SCHEMA)
    assert sorted(found["job_id"].to_pylist()) == ["j2", "j3"]
    assert former.rows(DIRECTIONS[1], ["r"]).num_rows == former.rows(DIRECTIONS[0], []).num_rows == 0


def test_the_identity_of_matches_follows_the_served_tables_and_the_settings(make_pointer):
    pointer = make_pointer()
    same = pointer.model_copy(update={"sequence": 2, "run_id": "other", "fencing_epoch": 3})
    assert match_id(pointer, {"a": 1, "b": 2}) == match_id(same, {"b": 2, "a": 1})
    changes = [{"generation": "h"}, {"jobs": 2}, {"resumes": 2}]
    others = {match_id(pointer.model_copy(update=change), {"a": 1}) for change in changes}
    assert len(others | {match_id(pointer, {"a": 1}), match_id(pointer, {"a": 2})}) == 5
