import contextlib
import json
import shutil
import tempfile
from pathlib import Path

import lancedb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lancedb.merge import LanceMergeInsertBuilder

from data.errors import ConflictError, FencedError, InputError, RefusedError, StoreError
from data.snapshots.snapshot import contents_of, latest_snapshot
from data.store.base import LocalStore
from data.store.digests import unpack_digests
from data.store.lease import hold_lease
from data.vectors import pointer as pointer_module
from data.vectors import tables
from data.vectors.gate import GenerationRefusedError
from data.vectors.generations import create_generation, generation_id, list_generations
from data.vectors.lance import create_table, open_table
from data.vectors.pointer import POINTER_KEY, promote, promote_generation, read_pointer, rollback
from data.vectors.shards import encoded_contents
from data.vectors.tables import sync_table, verify_generation

FIRST, SECOND = "1" * 64, "2" * 64
KINDS = ("job", "resume")


@pytest.fixture
def lease(store):
    with hold_lease(store, owner="run") as lease:
        yield lease


@pytest.fixture
def night(rooms, store, lease):
    """One night over the given jobs; resumes are always the same."""

    def run(jobs, *, checkpoint=FIRST):
        return run_night(rooms, store, lease, jobs, checkpoint=checkpoint)

    return run


def new_generation(rooms, store, checkpoint):
    return create_generation(
        store, fingerprint=checkpoint, encode_keys=rooms.encode_keys, embedding_dim=rooms.dim, now=rooms.now
    )


def take_in(rooms, store, jobs):
    resumes = {"r1": "I nurse.", "r2": "I cook."}
    return {
        "job": rooms.snapshot(store, "job", jobs),
        "resume": latest_snapshot(store, "resume") or rooms.snapshot(store, "resume", resumes),
    }


def embed(rooms, store, lease, snapshots, *, checkpoint, run_id="run"):
    """What the embed flow does: encode what is stale, update the tables, pass the gate, move the pointer."""
    generation = new_generation(rooms, store, checkpoint)
    for snapshot in snapshots.values():
        rooms.encode(store, snapshot, checkpoint)
    versions = {kind: sync_table(store, generation, snapshot).version for kind, snapshot in snapshots.items()}
    verify_generation(store, generation, snapshots, versions)
    ids = {kind: snapshot.manifest.id for kind, snapshot in snapshots.items()}
    return promote(store, generation, versions=versions, snapshots=ids, lease=lease, run_id=run_id, now=rooms.now)


def run_night(rooms, store, lease, jobs, *, checkpoint=FIRST):
    return embed(rooms, store, lease, take_in(rooms, store, jobs), checkpoint=checkpoint)


def served(store, kind="job"):
    """Rows that readers see, by source id."""
    pointer = read_pointer(store)
    table = open_table(store, generation=pointer.generation, kind=kind, version=pointer.version_of(kind))
    columns = ["source_id", "text", "metadata", "content_sha256", "checkpoint", "vector", "row_sha256"]
    rows = table.read(columns).to_pylist()
    assert len({row["source_id"] for row in rows}) == len(rows)
    return {row.pop("source_id"): row for row in rows}


def texts(store):
    return {source_id: row["text"] for source_id, row in served(store).items()}


def assert_served(rooms, store, jobs, checkpoint):
    """Readers see exactly these jobs, each with its own vector."""
    rows = served(store)
    wanted = {key: value if isinstance(value, tuple) else (value, "Oslo") for key, value in jobs.items()}
    assert {key: (row["text"], json.loads(row["metadata"])["city"]) for key, row in rows.items()} == wanted
    for row in (*rows.values(), *served(store, "resume").values()):
        assert row["checkpoint"] == checkpoint
        assert row["vector"] == rooms.vector(row["content_sha256"], checkpoint).tolist()


# --- tables -----------------------------------------------------------------------------------------------------------


def test_a_night_adds_replaces_and_removes(rooms, store, night):
    first = {"a": "text a", "b": "text b", "c": "text c", "d": "text c"}
    night(first)
    assert_served(rooms, store, first, FIRST)
    second = {"a": "text a", "b": "text B", "e": "text e"}
    generation = new_generation(rooms, store, FIRST)
    snapshot = rooms.snapshot(store, "job", second)
    assert rooms.encode(store, snapshot, FIRST) == 2
    change = sync_table(store, generation, snapshot)
    assert (change.upserted, change.removed) == (2, 2)
    assert texts(store) == {"a": "text a", "b": "text b", "c": "text c", "d": "text c"}  # not promoted yet
    night(second)
    assert_served(rooms, store, second, FIRST)


def test_more_documents_than_a_merge_takes(rooms, store, night, monkeypatch):
    monkeypatch.setattr(tables, "_ROWS_PER_MERGE", 2)
    jobs = {f"j{number}": f"text {number // 2}" for number in range(17)}  # pairs share a vector
    night(jobs)
    assert_served(rooms, store, jobs, FIRST)


def test_a_change_of_metadata_alone_updates_the_row_without_a_new_vector(rooms, store, night):
    night({"a": ("text", "Oslo"), "b": "other"})
    before = served(store)
    snapshot = rooms.snapshot(store, "job", {"a": ("text", "Bergen"), "b": "other"})
    assert rooms.encode(store, snapshot, FIRST) == 0
    assert sync_table(store, new_generation(rooms, store, FIRST), snapshot).upserted == 1
    night({"a": ("text", "Bergen"), "b": "other"})
    after = served(store)
    assert json.loads(after["a"]["metadata"]) == {"city": "Bergen"}
    assert after["a"]["vector"] == before["a"]["vector"]
    assert after["b"] == before["b"]


def test_an_unchanged_night_moves_nothing(rooms, store, night):
    jobs = {"a": "text a", "b": "text b"}
    pointer = night(jobs)
    before = {key: store.read(key) for key in store.list("lance")}
    assert night(jobs) == pointer
    assert {key: store.read(key) for key in store.list("lance")} == before
    assert list(store.list("pointers")) == []


def test_what_a_killed_night_left_in_the_table_is_invisible_and_dropped(rooms, store, night):
    pointer = night({"a": "text a", "b": "text b"})
    generation = new_generation(rooms, store, FIRST)
    killed = rooms.snapshot(store, "job", {"a": "text A", "c": "text c"})
    rooms.encode(store, killed, FIRST)
    assert sync_table(store, generation, killed).version > pointer.jobs
    assert texts(store) == {"a": "text a", "b": "text b"}
    # The next night finds the sources as they were: nothing to do, and the served version stays.
    assert night({"a": "text a", "b": "text b"}) == pointer
    # The night after that finds a change: it starts from what is served.
    again = rooms.snapshot(store, "job", {"a": "text a", "b": "text B"})
    rooms.encode(store, again, FIRST)
    change = sync_table(store, generation, again)
    assert (change.upserted, change.removed) == (1, 0)
    night({"a": "text a", "b": "text B"})
    assert_served(rooms, store, {"a": "text a", "b": "text B"}, FIRST)


def test_a_missing_vector_is_an_error_that_says_what_to_do(rooms, store, night):
    night({"a": "text a"})
    snapshot = rooms.snapshot(store, "job", {"a": "text a", "b": "text b", "c": "text c"})
    with pytest.raises(StoreError, match=f"2 contents have no vector of checkpoint {FIRST[:12]}") as caught:
        sync_table(store, new_generation(rooms, store, FIRST), snapshot)
    assert "l2v embed" in caught.value.hint
    assert texts(store) == {"a": "text a"}


def test_a_removed_generation_is_built_anew(rooms, store, night, caplog):
    jobs = {"a": "text a", "b": "text b"}
    night({"a": "text a"})
    night(jobs)
    store.delete(f"lance/{read_pointer(store).generation}")
    night(jobs)
    assert_served(rooms, store, jobs, FIRST)
    assert "Rebuilding it" in caplog.text


def test_a_generation_is_recorded_once_and_named_by_its_inputs(rooms, store):
    first = new_generation(rooms, store, FIRST)
    assert new_generation(rooms, store, FIRST) == first
    assert first.generation == generation_id(fingerprint=FIRST, encode_keys=rooms.encode_keys)
    assert first.generation == generation_id(fingerprint=FIRST, encode_keys=dict(reversed(rooms.encode_keys.items())))
    other = {**rooms.encode_keys, "job": "other"}
    assert generation_id(fingerprint=FIRST, encode_keys=other) != first.generation
    second = create_generation(
        store, fingerprint=SECOND, encode_keys=rooms.encode_keys, embedding_dim=4, now=rooms.now.replace(year=2020)
    )
    assert list_generations(store) == [second, first]  # the oldest first


# --- the gate ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def synced(rooms, store):
    """A generation that equals the snapshots, but is not served: snapshots, generation, versions."""
    snapshots = take_in(rooms, store, {"a": "text a", "b": ("text b", "Oslo")})
    generation = new_generation(rooms, store, FIRST)
    for snapshot in snapshots.values():
        rooms.encode(store, snapshot, FIRST)
    versions = {kind: sync_table(store, generation, snapshot).version for kind, snapshot in snapshots.items()}
    verify_generation(store, generation, snapshots, versions)
    return snapshots, generation, versions


def table_of(rooms, store, generation):
    return create_table(store, generation=generation.generation, kind="job", embedding_dim=rooms.dim)


def test_the_gate_refuses_missing_rows(rooms, store, synced):
    snapshots, generation, versions = synced
    table = table_of(rooms, store, generation)
    table.delete(table.read(["doc_id"])["doc_id"].to_pylist()[:1])
    verify_generation(store, generation, snapshots, versions)  # the pinned versions still hold all
    with pytest.raises(RefusedError, match=r"'jobs' has 1 rows, snapshot \w+ has 2 documents: 1 missing"):
        verify_generation(store, generation, snapshots, {**versions, "job": table.version})


@pytest.mark.parametrize("job", [("text b", "Bergen"), ("text B", "Oslo")])
def test_the_gate_refuses_rows_of_another_text_or_metadata(rooms, store, synced, job):
    snapshots, generation, versions = synced
    other = {**snapshots, "job": rooms.snapshot(store, "job", {"a": "text a", "b": job})}
    with pytest.raises(RefusedError, match="1 missing, 1 unexpected"):
        verify_generation(store, generation, other, versions)


def test_the_gate_refuses_rows_of_another_checkpoint(rooms, store, synced):
    snapshots, generation, versions = synced
    table = table_of(rooms, store, generation)
    rows = table.read([*table._table.schema.names]).slice(0, 1)
    stranger = rows.set_column(rows.schema.get_field_index("checkpoint"), "checkpoint", [[SECOND]])
    stranger = stranger.set_column(rows.schema.get_field_index("row_sha256"), "row_sha256", [["changed"]])
    assert table.upsert([stranger]) == 1
    with pytest.raises(RefusedError, match=f"vectors of checkpoint {SECOND[:12]} with those of {FIRST[:12]}"):
        verify_generation(store, generation, snapshots, {**versions, "job": table.version})


# --- the pointer ------------------------------------------------------------------------------------------------------


def move(rooms, store, lease, synced, **changes):
    snapshots, generation, versions = synced
    arguments = {
        "versions": versions,
        "snapshots": {kind: snapshot.manifest.id for kind, snapshot in snapshots.items()},
        "lease": lease,
        "run_id": "run",
        "now": rooms.now,
        **changes,
    }
    return promote(store, generation, **arguments)


def test_a_promotion_says_what_is_served_by_whom(rooms, store, lease, synced):
    assert read_pointer(store) is None
    pointer = move(rooms, store, lease, synced)
    snapshots, generation, versions = synced
    assert read_pointer(store) == pointer
    assert (pointer.sequence, pointer.generation, pointer.checkpoint) == (1, generation.generation, FIRST)
    assert (pointer.jobs, pointer.resumes) == (versions["job"], versions["resume"])
    assert pointer.snapshots == {kind: snapshot.manifest.id for kind, snapshot in snapshots.items()}
    assert (pointer.fencing_epoch, pointer.run_id, pointer.restores) == (lease.epoch, "run", None)


def test_a_promotion_of_what_is_served_leaves_the_pointer_as_it_is(rooms, store, lease, synced):
    move(rooms, store, lease, synced)
    before = store.read(POINTER_KEY)
    assert move(rooms, store, lease, synced, run_id="later").run_id == "run"
    assert store.read(POINTER_KEY) == before


def test_a_writer_that_lost_its_lease_cannot_promote(rooms, store, synced):
    with hold_lease(store, owner="slow") as slow:
        pass
    with hold_lease(store, owner="next") as lease:
        with pytest.raises(FencedError, match=r"Run slow \(epoch 1\) lost the lease"):
            move(rooms, store, slow, synced)
        assert read_pointer(store) is None
        assert move(rooms, store, lease, synced).fencing_epoch == 2


def test_a_lower_epoch_than_the_pointers_is_refused(rooms, store, synced):
    with hold_lease(store, owner="a"):
        pass
    with hold_lease(store, owner="b") as lease:
        pointer = move(rooms, store, lease, synced)
    store.delete("lease.json")  # epochs begin again
    fenced = pytest.raises(FencedError, match="moved under epoch 2, but this writer's epoch is 1")
    with hold_lease(store, owner="c") as lease, fenced:
        move(rooms, store, lease, synced, versions={"job": 1, "resume": 1})
    assert read_pointer(store) == pointer


def test_another_promotion_in_between_is_a_conflict(rooms, store, lease, synced, monkeypatch):
    move(rooms, store, lease, synced)
    real = lease.check

    def check():
        real()
        monkeypatch.undo()
        move(rooms, store, lease, synced, versions={"job": 1, "resume": 1})

    monkeypatch.setattr(lease, "check", check)
    with pytest.raises(ConflictError):
        move(rooms, store, lease, synced, versions={"job": 2, "resume": 1})
    assert read_pointer(store).jobs == 1


def test_readers_that_were_there_before_a_promotion_still_read_their_version(store, night):
    pointer = night({"a": "text a", "b": "text b"})
    reader = open_table(store, generation=pointer.generation, kind="job", version=pointer.jobs)
    night({"a": "text A"})
    night({"c": "text c"}, checkpoint=SECOND)
    assert sorted(reader.read(["text"])["text"].to_pylist()) == ["text a", "text b"]
    assert texts(store) == {"c": "text c"}


def test_a_damaged_pointer_is_reported(store):
    store.put_if_absent(POINTER_KEY, b"{}")
    with pytest.raises(StoreError, match=r"current.json is damaged: \d+ fault") as caught:
        read_pointer(store)
    assert "pointers/" in caught.value.hint


# --- going back and forth ---------------------------------------------------------------------------------------------


@pytest.fixture
def back(rooms, store, lease):
    return lambda: rollback(store, lease=lease, run_id="back", now=rooms.now)


@pytest.fixture
def serve(rooms, store, lease):
    return lambda name: promote_generation(store, name, lease=lease, run_id="by-hand", now=rooms.now)


def test_every_rollback_goes_one_state_further_back(store, night, back):
    states = [{"a": "1"}, {"a": "2"}, {"a": "3"}]
    for number, jobs in enumerate(states):
        night(jobs, checkpoint=SECOND if number == 1 else FIRST)
    found = []
    for _ in range(2):
        pointer = back()
        found.append((pointer.sequence, pointer.restores, pointer.run_id, texts(store)))
    assert found == [(4, 2, "back", states[1]), (5, 1, "back", states[0])]
    before = store.read(POINTER_KEY)
    with pytest.raises(InputError, match="Nothing was served before the current state"):
        back()
    assert store.read(POINTER_KEY) == before


def test_the_night_after_a_rollback_starts_from_what_was_restored(rooms, store, night, back):
    night({"a": "1", "b": "x"})
    night({"a": "2", "b": "x"})
    back()
    night({"a": "3", "b": "x"})
    assert_served(rooms, store, {"a": "3", "b": "x"}, FIRST)
    back()
    assert texts(store) == {"a": "1", "b": "x"}  # the state that the rollback had restored
    with pytest.raises(InputError):
        back()


def test_nothing_served_cannot_be_rolled_back(back):
    with pytest.raises(InputError):
        back()


def test_a_generation_is_promoted_by_name_as_it_was_served_last(store, night, serve, back):
    night({"a": "1"})
    first = night({"a": "2"}).generation
    second = night({"a": "3"}, checkpoint=SECOND).generation
    assert serve(second).sequence == 3  # it is served already
    pointer = serve(first)
    assert (pointer.sequence, pointer.run_id, texts(store)) == (4, "by-hand", {"a": "2"})
    assert back().generation == second  # a promotion is a state of its own: a rollback undoes it
    with pytest.raises(InputError, match="No generation 'zz' was ever served") as caught:
        serve("zz")
    assert first in caught.value.hint and second in caught.value.hint


def test_a_generation_that_was_never_served_is_not_promoted_by_name(store, synced, serve):
    with pytest.raises(InputError, match="was ever served"):
        serve(synced[1].generation)


def test_a_state_whose_tables_are_gone_is_not_restored(store, night, back):
    first = night({"a": "1"}).generation
    pointer = night({"a": "2"}, checkpoint=SECOND)
    store.delete(f"lance/{first}")
    with pytest.raises(StoreError, match=f"Generation {first} has no table"):
        back()
    assert read_pointer(store) == pointer


# --- crashes ----------------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """A process that is killed: no handler may swallow it."""


@contextlib.contextmanager
def crash_after(step):
    """Let the writing step of that number (from 1) be the last one; 0 and numbers beyond the last one: none."""
    count = 0

    def counted(method):
        def call(*args, **kwargs):
            nonlocal count
            result = method(*args, **kwargs)
            count += 1
            if count == step:
                raise Crash
            return result

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (LocalStore, "put_if_absent"),
            (LocalStore, "compare_and_swap"),
            (LanceMergeInsertBuilder, "execute"),
            (lancedb.table.LanceTable, "delete"),
            (lancedb.table.LanceTable, "restore"),
            (lancedb.db.LanceDBConnection, "create_table"),
        ):
            patch.setattr(owner, name, counted(getattr(owner, name)))
        patch.setattr(tables, "_ROWS_PER_MERGE", 2)
        yield lambda: count


def crashing_night(rooms, store, lease, jobs, *, checkpoint, step):
    """Number of writing steps, or None where the night was killed."""
    try:
        with crash_after(step) as count:
            run_night(rooms, store, lease, jobs, checkpoint=checkpoint)
            return count()
    except Crash:
        return None


def end_state(store):
    """All that a reader or a rollback could ever see."""
    states = [pointer.model_dump(exclude={"jobs", "resumes"}) for pointer in pointer_module.pointer_history(store)]
    return (
        states,
        served(store),
        served(store, "resume"),
        set(encoded_contents(store, fingerprint=FIRST, encode_key="job: ").tolist()),
    )


@pytest.mark.parametrize("checkpoint", [FIRST, SECOND])
def test_a_night_that_is_killed_after_any_step_and_repeated_ends_like_one_that_was_not(rooms, tmp_path, checkpoint):
    before = {f"j{number}": f"text {number}" for number in range(5)}
    jobs = {**{f"j{number}": f"TEXT {number}" for number in range(3)}, "j3": ("text 3", "Bergen"), "new": "new"}

    start = LocalStore(tmp_path / "start" / "var")
    with hold_lease(start, owner="run") as lease:
        run_night(rooms, start, lease, before)
    former = served(start)

    def copied(name):
        shutil.copytree(start.root, tmp_path / name / "var")
        return LocalStore(tmp_path / name / "var")

    store = copied("whole")
    with hold_lease(store, owner="run") as lease:
        num_steps = crashing_night(rooms, store, lease, jobs, checkpoint=checkpoint, step=0)
    wanted = end_state(store)
    assert num_steps > 10
    for step in range(1, num_steps + 1):
        store = copied(f"{step}")
        with hold_lease(store, owner="run") as lease:
            assert crashing_night(rooms, store, lease, jobs, checkpoint=checkpoint, step=step) is None
            assert served(store) == (wanted[1] if step == num_steps else former)
            run_night(rooms, store, lease, jobs, checkpoint=checkpoint)
            assert end_state(store) == wanted
            rollback(store, lease=lease, run_id="back", now=rooms.now)
            assert served(store) == former


def all_changes():
    name = st.sampled_from([f"j{number}" for number in range(6)])
    value = st.tuples(st.sampled_from(["red", "green", "blue", "grey"]), st.sampled_from(["Oslo", "Bergen"]))
    return st.fixed_dictionaries(
        {
            "put": st.dictionaries(name, value, max_size=4),
            "remove": st.sets(name, max_size=3),
            "step": st.integers(0, 16),
            "checkpoint": st.sampled_from([FIRST, FIRST, FIRST, SECOND]),
            "back": st.sampled_from([False, False, False, True]),
        }
    )


@settings(max_examples=4, deadline=None)
@given(nights=st.lists(all_changes(), min_size=10, max_size=15))
def test_any_nights_with_crashes_rollbacks_and_other_checkpoints_serve_what_a_dictionary_holds(rooms, nights):
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder) / "var")
        with hold_lease(store, owner="run") as lease:
            jobs = {"kept": ("always", "Oslo")}
            run_night(rooms, store, lease, jobs)
            model = [(dict(jobs), FIRST)]  # states that a rollback can go back to; the last one is served
            for night in nights:
                jobs = {key: value for key, value in {**jobs, **night["put"]}.items() if key not in night["remove"]}
                pointer = read_pointer(store)
                state = (dict(jobs), night["checkpoint"])
                crashing_night(rooms, store, lease, jobs, checkpoint=night["checkpoint"], step=night["step"])
                if read_pointer(store) == pointer:  # killed before the end, or nothing had changed
                    assert_served(rooms, store, *model[-1])
                else:
                    model.append(state)
                    assert_served(rooms, store, *state)
                if night["back"] and len(model) > 1:
                    model.pop()
                    rollback(store, lease=lease, run_id="back", now=rooms.now)
                    assert_served(rooms, store, *model[-1])
            pointer = run_night(rooms, store, lease, jobs)
            assert_served(rooms, store, jobs, FIRST)
            assert run_night(rooms, store, lease, jobs) == pointer
            assert np.isfinite([row["vector"] for row in served(store).values()]).all()


def test_the_gate_compares_with_what_the_same_checkpoint_serves(rooms, store, lease, monkeypatch):
    """A night of other texts is refused, and the pointer stays; another checkpoint has nothing to compare with."""
    jobs = {f"j{number}": f"a nurse cares for {number} patients on the ward" for number in range(30)}
    pointer = run_night(rooms, store, lease, jobs)
    snapshots = take_in(rooms, store, {f"j{number}": f"медсестра ухаживает за {number}" for number in range(30)})
    monkeypatch.setattr("data.vectors.gate.MIN_DOCUMENTS", 20)

    def gate(checkpoint):
        generation = new_generation(rooms, store, checkpoint)
        for snapshot in snapshots.values():
            rooms.encode(store, snapshot, checkpoint)
        versions = {kind: sync_table(store, generation, snapshot).version for kind, snapshot in snapshots.items()}
        return verify_generation(store, generation, snapshots, versions)

    with pytest.raises(GenerationRefusedError, match=r"Table 'jobs': letter_shift is .*, the limit is 0\.1") as caught:
        gate(FIRST)
    assert caught.value.checks
    assert read_pointer(store) == pointer
    assert all(check.passed for check in gate(SECOND))


def test_a_table_version_is_measured_once_and_damaged_figures_are_measured_again(rooms, store, lease, monkeypatch):
    measured, real = [], tables.profile_table
    monkeypatch.setattr(tables, "profile_table", lambda batches: measured.append(1) or real(batches))
    jobs = {"a": "text a", "b": "text b"}
    run_night(rooms, store, lease, jobs)
    assert len(measured) == 2
    run_night(rooms, store, lease, jobs)
    assert len(measured) == 2
    for number in range(3):
        run_night(rooms, store, lease, {**jobs, "c": f"text {number}"})
    assert len(measured) == 5
    keys = [key for key in store.list("lance") if "/profiles/jobs/" in key]
    assert len(keys) == 2  # the disk stays bounded
    for key in keys:
        content = json.loads(store.read(key))
        store.delete(key)
        store.put_if_absent(key, json.dumps({**content, "letters": [1]}).encode())
    run_night(rooms, store, lease, {**jobs, "c": "text 2"})
    assert len(measured) == 6


def test_a_row_that_was_made_anew_is_replaced_although_it_looks_unchanged(rooms, store, night, monkeypatch):
    jobs = {"a": "text a", "b": "text b", "c": "text c"}
    night(jobs)
    before = served(store)
    snapshot = latest_snapshot(store, "job")
    generation = new_generation(rooms, store, FIRST)
    assert sync_table(store, generation, snapshot).upserted == 0
    anew = contents_of(snapshot)[:1]
    (name,) = [key for key, row in before.items() if row["content_sha256"].startswith(unpack_digests(anew)[0])]
    store.delete(f"shards/{FIRST}")
    monkeypatch.setattr(rooms, "vector", staticmethod(lambda content, fingerprint: np.eye(8, dtype=np.float32)[0]))
    rooms.encode(store, snapshot, FIRST)
    change = sync_table(store, generation, snapshot, rewritten=anew)
    assert (change.upserted, change.removed) == (1, 0)
    table = open_table(store, generation=generation.generation, kind="job", version=change.version)
    after = {row["source_id"]: row["vector"] for row in table.read(["source_id", "vector"]).to_pylist()}
    assert {key for key, vector in after.items() if vector != before[key]["vector"]} == {name}
