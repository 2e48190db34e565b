"""The match stage: a served state is matched once, and the next run reuses the result."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data.outputs.matches import match_id
from data.store.lease import hold_lease
from data.vectors.lance import create_table, table_schema
from data.vectors.pointer import POINTER_KEY, Pointer, read_pointer
from tasks.conditions.verdicts import Conditions
from tasks.queries.status import count_past_jobs
from tasks.run.context import Run, utc_now
from tasks.run.settings import Settings
from tasks.stages import match, match_blocks
from tasks.stages.match import match_all


def documents(kind, numbers, valid_through=None):
    columns = {field.name: [None if field.nullable else "x"] * len(numbers) for field in table_schema(2)}
    columns |= {
        "doc_id": [f"{number:032x}" for number in numbers],
        "kind": [kind] * len(numbers),
        "metadata": ["{}"] * len(numbers),
        "num_chars": [1] * len(numbers),
        "valid_through": [(valid_through or {}).get(number) for number in numbers],
        "words": [f"ward w{number % 3}" for number in numbers],
        "vector": [np.random.default_rng(number).normal(size=2).astype(np.float32) for number in numbers],
    }
    return pa.table(columns, schema=table_schema(2))


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


def test_a_served_state_is_matched_once_and_the_next_goes_on_from_it(tmp_path, monkeypatch):
    settings = Settings(home=str(tmp_path / "home"))
    store = settings.store()
    tables = {kind: create_table(store, generation="g", kind=kind, embedding_dim=2) for kind in ("job", "resume")}
    for kind, table in tables.items():
        table.upsert([documents(kind, range(6))])
    with hold_lease(store, owner="run") as lease:
        run = Run("run", settings, store, lease)
        serve(store, tables)
        first, again = (match_all.fn(run) for _ in range(2))
        tables["resume"].upsert([documents("resume", [6])])
        serve(store, tables)
        after = match_all.fn(run)
    assert (first.reused, again.reused, after.reused) == (False, True, False)
    decisive = {"top_k": 20, "candidates": 100, "rrf_k": 5, "dense_votes": 4, "weight": None, "version": 4}
    decisive |= Conditions(settings.match.conditions, utc_now().date()).key
    assert after.match == match_id(read_pointer(store), decisive), "stored matches keep their names"
    assert (first.rows, after.resumes, after.rows) == (2 * 6 * 6, 7, 2 * 6 * 7)
    manifest = json.loads(store.read(f"matches/{after.match}/manifest.json"))
    assert manifest["fusion"] == "by rank"
    for module in (match, match_blocks):
        monkeypatch.setattr(module, "BLOCK_ROWS", 1)
    other = settings.match.model_copy(update={"reranker": "some model"})
    with hold_lease(store, owner="run") as lease:
        same = match_all.fn(replace(run, lease=lease, settings=settings.model_copy(update={"match": other})))
    assert same.reused, "neither is of matter to matches"


def ranked_pairs(store, match):
    """Direction, both ids, rank and score of all stored pairs."""
    rows = [
        {"direction": key.split("/")[2], **row}
        for key in store.list(f"matches/{match}")
        if key.endswith(".parquet")
        for row in pq.read_table(store.local_path(key)).to_pylist()
    ]
    return sorted((row["direction"], row["job_id"], row["resume_id"], row["rank"], row["score"]) for row in rows)


def test_a_job_leaves_the_matches_when_its_last_day_is_past_and_no_other_night_matches_again(tmp_path):
    last_days = {1: "2026-02-28", 2: "2026-03-01", 3: "2026-03-03"}
    settings = Settings(home=str(tmp_path / "home"))

    def nights(home, days):
        store = settings.model_copy(update={"home": str(tmp_path / home)}).store()
        tables = {kind: create_table(store, generation="g", kind=kind, embedding_dim=2) for kind in ("job", "resume")}
        tables["job"].upsert([documents("job", range(5), last_days)])
        tables["resume"].upsert([documents("resume", range(10, 14))])
        serve(store, tables)
        with hold_lease(store, owner="run") as lease:
            runs = [
                Run("run", settings, store, lease, clock=lambda at=day: datetime(2026, 3, at, tzinfo=UTC))
                for day in days
            ]
            return store, [match_all.fn(run) for run in runs]

    store, reports = nights("home", [1, 1, 2, 3, 4])
    assert [(report.jobs, report.past_jobs, report.reused) for report in reports] == [
        (4, 1, False), (4, 1, True), (3, 2, False), (3, 2, True), (2, 3, False),
    ]  # fmt: skip
    assert "3 jobs past their valid_through left out" in reports[-1].sentence()
    assert count_past_jobs(store) == 3
    full, (at_once,) = nights("other", [4])
    assert ranked_pairs(store, reports[-1].match) == ranked_pairs(full, at_once.match), "carried over = matched anew"
    jobs = {int(job, 16) for _, job, _, _, _ in ranked_pairs(full, at_once.match)}
    assert jobs == {0, 4}

    everything = settings.match.model_copy(update={"past_jobs": True})
    with hold_lease(store, owner="run") as lease:
        report = match_all.fn(Run("run", settings.model_copy(update={"match": everything}), store, lease))
    assert (report.jobs, report.past_jobs) == (5, 0)
