"""The match stage: a served state is matched once, and the next run reuses the result."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from data.outputs.matches import match_id
from data.store.lease import hold_lease
from data.vectors.lance import create_table, table_schema
from data.vectors.pointer import POINTER_KEY, Pointer, read_pointer
from tasks.run.context import Run
from tasks.run.settings import Settings
from tasks.stages import match, match_blocks
from tasks.stages.match import match_all


def documents(kind, numbers):
    columns = {name: ["x"] * len(numbers) for name in table_schema(2).names}
    columns |= {
        "doc_id": [f"{number:032x}" for number in numbers],
        "kind": [kind] * len(numbers),
        "metadata": ["{}"] * len(numbers),
        "num_chars": [1] * len(numbers),
        "words": [f"ward w{number % 3}" for number in numbers],
        "vector": list(np.random.default_rng(0).normal(size=(len(numbers), 2)).astype(np.float32)),
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
    decisive = {"top_k": 20, "candidates": 100, "rrf_k": 60, "weight": None, "version": 2}
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
