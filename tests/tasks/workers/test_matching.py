"""Matches that many processes make are those of one, bit for bit, also after a kill."""

import random
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.errors import StoreError
from data.store.lease import hold_lease
from data.vectors.lance import create_table, table_schema
from data.vectors.pointer import POINTER_KEY
from tasks.run.context import Run
from tasks.run.settings import MatchSettings, Settings
from tasks.stages import match as match_stage
from tasks.stages import match_blocks
from tasks.stages.match import match_all
from tasks.workers import matching

DIM = 8


def documents(kind, numbers):
    rng = np.random.default_rng(len(kind))
    vectors = rng.normal(size=(5000, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    columns = {field.name: [None if field.nullable else "x"] * len(numbers) for field in table_schema(DIM)}
    columns |= {
        "doc_id": [f"{number:032x}" for number in numbers],
        "kind": [kind] * len(numbers),
        "metadata": ["{}"] * len(numbers),
        "num_chars": [1] * len(numbers),
        "words": [f"ward w{number % 3} w{number % 7}" for number in numbers],
        "vector": [vectors[number] for number in numbers],
    }
    return pa.table(columns, schema=table_schema(DIM))


@pytest.fixture
def home(tmp_path, monkeypatch, make_pointer):
    """A served state of 53 jobs and 41 resumes, which takes several tiles, stripes and parts."""
    monkeypatch.setattr(match_blocks, "BLOCK_ROWS", 8)
    monkeypatch.setattr(matching, "TILE_ROWS", 8)
    monkeypatch.setattr(matching, "STRIPE_TILES", 2)
    settings = Settings(home=str(tmp_path / "home"), match=MatchSettings(top_k=5, candidates=9))
    store = settings.store()
    tables = {kind: create_table(store, generation="g", kind=kind, embedding_dim=DIM) for kind in ("job", "resume")}
    tables["job"].upsert([documents("job", range(53))])
    tables["resume"].upsert([documents("resume", range(41))])
    serve(store, tables, make_pointer)
    return settings, tables


def serve(store, tables, make_pointer):
    pointer = make_pointer(jobs=tables["job"].version, resumes=tables["resume"].version)
    store.compare_and_swap(POINTER_KEY, expected=store.read(POINTER_KEY), content=pointer.model_dump_json().encode())


def matched(settings):
    """Match, and return all files of the matches."""
    store = settings.store()
    with hold_lease(store, owner="run") as lease:
        report = match_all.fn(Run("run", settings, store, lease))
    keys = sorted(key for key in store.list(f"matches/{report.match}") if key.endswith(".parquet"))
    return report, {key: store.read(key) for key in keys}


def elsewhere(settings, folder):
    """The same home in another directory, matched in units."""
    shutil.copytree(settings.home, folder)
    match = settings.match.model_copy(update={"engine": "ray"})
    return settings.model_copy(update={"home": str(folder), "match": match})


def a_cluster(monkeypatch, *, dies_after=None, seed=0):
    """A cluster of processes that share nothing but the store, in this process. It may die after some units."""
    done = []

    def run_units(function, work, units):
        units = list(units)
        random.Random(seed).shuffle(units)
        for unit in units:
            if len(done) == dies_after:
                raise KeyboardInterrupt
            matching._opened_as.cache_clear()
            done.append((unit, function(work, unit)))
            yield done[-1][1]

    monkeypatch.setattr(match_stage, "match_on_ray", run_units)
    return done


def test_units_in_any_order_make_the_files_of_one_process(home, tmp_path, monkeypatch):
    settings, _ = home
    done = a_cluster(monkeypatch)
    others = elsewhere(settings, tmp_path / "units")
    _, expected = matched(settings)
    report, found = matched(others)
    assert found == expected and len(found) == 13
    assert [unit.kind for unit, _ in done].count("both") == 4
    assert sum(finished for _, finished in done) == 2 * 53 + 41
    assert not list(others.store().list(f"matches/{report.match}/products"))


@pytest.mark.parametrize("dies_after", [0, 3, 6, 16])
def test_a_killed_match_goes_on_and_writes_each_file_once(home, tmp_path, monkeypatch, dies_after):
    settings, _ = home
    others = elsewhere(settings, tmp_path / "units")
    _, expected = matched(settings)
    a_cluster(monkeypatch, dies_after=dies_after)
    with pytest.raises(KeyboardInterrupt):
        matched(others)
    store = others.store()
    written = {entry.key: entry.written_at for entry in store.entries("matches") if "/cut" not in entry.key}
    a_cluster(monkeypatch, seed=1)
    report, found = matched(others)
    assert found == expected
    kept = {entry.key: entry.written_at for entry in store.entries("matches")}
    parts = {key for key in written if key.endswith(".parquet")}
    assert {key: kept[key] for key in parts} == {key: written[key] for key in parts}
    assert not report.reused


def test_candidates_of_a_killed_match_go_with_the_next_one(home, tmp_path, monkeypatch):
    """Settings that changed after the kill make another match, which resumes nothing."""
    settings, _ = home
    others = elsewhere(settings, tmp_path / "units")
    a_cluster(monkeypatch, dies_after=3)
    with pytest.raises(KeyboardInterrupt):
        matched(others)
    store = others.store()
    assert [key for key in store.list("matches") if "/products/" in key]
    match = others.match.model_copy(update={"engine": "local", "top_k": 4})
    matched(others.model_copy(update={"match": match}))
    assert not [key for key in store.list("matches") if "/products/" in key]


def test_only_changed_documents_are_ranked_by_units(home, tmp_path, monkeypatch, make_pointer):
    """The next night copies what did not change, as in one process."""
    settings, tables = home
    done = a_cluster(monkeypatch)
    matched(settings)
    tables["resume"].upsert([documents("resume", range(41, 45))])
    serve(settings.store(), tables, make_pointer)
    others = elsewhere(settings, tmp_path / "units")
    _, expected = matched(settings)
    _, found = matched(others)
    assert {unit.kind for unit, _ in done} == {"near", "rank"}
    assert {key: pq.read_table(pa.BufferReader(raw)).to_pylist() for key, raw in found.items()} == {
        key: pq.read_table(pa.BufferReader(raw)).to_pylist() for key, raw in expected.items()
    }


def test_a_worker_with_another_store_is_an_error(home, tmp_path, monkeypatch):
    settings, _ = home
    others = elsewhere(settings, tmp_path / "units")
    monkeypatch.setattr(match_stage, "match_on_ray", lambda function, work, units: iter([1]))
    with pytest.raises(StoreError, match="not in the store") as lost:
        matched(others)
    assert "same store" in lost.value.hint


@pytest.fixture
def large_home(tmp_path, make_pointer):
    """A served state of three tiles on each side, with the sizes of the code."""
    settings = Settings(home=str(tmp_path / "home"), match=MatchSettings(top_k=5, candidates=9))
    tables = {
        kind: create_table(settings.store(), generation="g", kind=kind, embedding_dim=DIM) for kind in ("job", "resume")
    }
    for kind, table in tables.items():
        table.upsert([documents(kind, range(2 * match_blocks.BLOCK_ROWS + 100))])
    serve(settings.store(), tables, make_pointer)
    return settings


@pytest.mark.slow
@pytest.mark.timeout(900)  # several processes load numpy and LanceDB at once
@pytest.mark.usefixtures("two_ray_nodes")
def test_two_ray_nodes_make_the_files_of_one_process_though_workers_die(large_home, tmp_path, monkeypatch):
    """The worker dies in a product and in a ranking; Ray repeats both units in other processes."""
    marks = tmp_path / "marks"
    marks.mkdir()

    def dying_once(work, unit):
        import os
        import signal
        import time

        import ray

        (marks / f"node-{ray.get_runtime_context().get_node_id()}").touch()
        time.sleep(0.5)  # long enough that one node alone would not take all
        if unit.start and not (dead := marks / f"dead-{unit.kind}").exists():
            dead.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return matching.do_unit(work, unit)

    others = elsewhere(large_home, tmp_path / "ray")
    _, expected = matched(large_home)
    on_ray = match_stage.match_on_ray
    monkeypatch.setattr(match_stage, "match_on_ray", lambda _, work, units: on_ray(dying_once, work, units))
    report, found = matched(others)
    assert found == expected and len(found) == 6
    assert sorted(mark.name for mark in marks.glob("dead-*")) == ["dead-both", "dead-rank"]
    assert len(list(marks.glob("node-*"))) == 2
    assert not list(others.store().list(f"matches/{report.match}/products"))
