"""Many nightly runs with all kinds of changes and faults, compared with a plain dictionary, and their disk usage."""

import contextlib
import errno
import json
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from data.config import RetentionConfig, VectorIndexConfig
from data.erasure.erase import erase_documents
from data.errors import DataError, StoreError
from data.outputs import maintenance
from data.outputs.maintenance import (
    compact_served,
    remove_generations,
    remove_leftovers,
    remove_pointers,
    remove_results,
    remove_shards,
    remove_snapshots,
    what_to_keep,
)
from data.schema import document_id
from data.snapshots.snapshot import latest_snapshot
from data.store.base import LocalStore
from data.store.lease import hold_lease
from data.vectors.pointer import read_pointer, rollback

FIRST, SECOND = "1" * 64, "2" * 64
POLICY = RetentionConfig(keep_served=3, grace_hours=0)


def maintain(store, policy=POLICY):
    """What the maintenance flow does: the other steps still work when one fails."""
    with hold_lease(store, owner="maintain") as lease:
        # More time than the margin may pass until LanceDB looks at its clock. It removes nothing then.
        with contextlib.suppress(StoreError):
            compact_served(store, what_to_keep(store, policy, pinned=frozenset()), VectorIndexConfig(), lease=lease)
        for step in (remove_pointers, remove_generations, remove_snapshots, remove_shards):
            step(store, what_to_keep(store, policy, pinned=frozenset()))
        remove_results(store, what_to_keep(store, policy, pinned=frozenset()))
        remove_leftovers(store, what_to_keep(store, policy, pinned=frozenset()))


@pytest.fixture(autouse=True)
def close_nights(monkeypatch):
    """Nights follow each other within a second, so that their versions can be told apart only by less than that."""
    for name, value in (
        ("_AGE_MARGIN", timedelta(seconds=0.3)),
        ("COMPACT_FROM", 6),
        ("KEEP_RESULTS", 2),
        ("KEEP_RUNS", 5),
    ):
        monkeypatch.setattr(maintenance, name, value)


def change(rng, documents, night, *, most=10**6):
    """Other texts, other metadata, new documents, removed ones, other ids for the same text."""
    changed = dict(documents)
    for key in rng.sample(sorted(changed), k=min(len(changed) - 1, rng.randrange(4))):
        kind = rng.randrange(4)
        text, city = changed.pop(key)
        if kind == 0:
            changed[key] = (f"text of night {night}", city)
        elif kind == 1:
            changed[key] = (text, rng.choice(["Oslo", "Bergen", "Bodø"]))
        elif kind == 2:
            changed[f"{key}x"[-6:]] = (text, city)
    for number in range(rng.randrange(3)):
        changed[f"n{night}-{number}"] = (rng.choice([f"new {night}", "often the same"]), "Oslo")
    return {key: changed[key] for key in sorted(changed, key=lambda _: rng.random())[:most]}


def disk(store):
    return sum(path.stat().st_size for path in Path(store.root).rglob("*") if path.is_file())


def end_process(store):
    """A fault that hit the release of the lease leaves it to the process, which ends after its night."""
    record = json.loads(store.read("lease.json"))
    store.local_path("lease.json").write_text(json.dumps({**record, "expires_at": 0.0}))


def two_o_clock(night):
    """The time of a night's run: 02:00 in London, whatever its clocks say."""
    day = date(2026, 1, 1) + timedelta(days=night)
    return datetime.combine(day, time_of_day(2), ZoneInfo("Europe/London")).astimezone(UTC)


def nights(simulated, faults, folder, *, count, seed, most=10**6):
    """Run nights; every one of them must serve what a dictionary holds. Yields what the store takes on the disk."""
    rng = random.Random(seed)
    store, feeds = LocalStore(folder / "var"), folder / "feeds"
    jobs = {f"j{number}": (f"text {number}", "Oslo") for number in range(15)}
    extra, extra_read, erased = {"x0": ("extra text", "Oslo"), "x1": ("another", "Oslo")}, {}, set()
    simulated.write_feed(feeds, "resume", {"r1": ("I nurse.", "Oslo"), "r2": ("I cook.", "Oslo")})
    states = []  # what was served, oldest first: what a rollback goes back to
    is_whole = False  # whether the former night ran to its end

    def fail():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for night in range(count):
        jobs = change(rng, jobs, night, most=most) if night else jobs
        simulated.write_feed(feeds, "job", jobs)
        is_away = is_whole and rng.random() < 0.15
        if is_away:
            (feeds / "extra" / "job.jsonl").unlink(missing_ok=True)
        else:
            extra = {
                "x0": (f"extra text {rng.randrange(5)}", "Oslo"),
                "x1": ("another", rng.choice(["Oslo", "Bergen"])),
            }
            simulated.write_feed(feeds / "extra", "job", extra)
        held = {**jobs, **(extra_read if is_away else extra)}
        checkpoint = SECOND if rng.random() < 0.1 else FIRST
        before = read_pointer(store)
        if night and rng.random() < 0.3:
            faults.arm(store.root, rng.randrange(1, 60), fail)
        try:
            simulated.run_night(
                store,
                feeds,
                run_id=f"night-{night:03d}",
                fingerprint=checkpoint,
                now=two_o_clock(night),
                day=two_o_clock(night).date(),
            )
            is_whole, extra_read = True, extra_read if is_away else extra
        except DataError as error:
            is_whole = False
            assert "No space left" in str(error)
        finally:
            faults.disarm()
        end_process(store)
        if read_pointer(store) != before:
            states.append({key: value for key, value in held.items() if key not in erased})
        assert simulated.served(store, "job") == states[-1], f"night {night}"
        if rng.random() < 0.7:
            maintain(store)
            assert simulated.served(store, "job") == states[-1], f"maintenance of night {night}"
        if rng.random() < 0.1 and len(states) > 1:
            with hold_lease(store, owner="back") as lease:
                rollback(store, lease=lease, run_id="back", now=simulated.datetime.now(simulated.UTC))
            states.pop()
            assert simulated.served(store, "job") == states[-1], f"rollback of night {night}"
        if is_whole and rng.random() < 0.05:
            key = rng.choice(sorted(set(jobs) & set(states[-1])))
            with hold_lease(store, owner="erase") as lease:
                erase_documents(store, [document_id("board", key)], fence=lease.check, now=two_o_clock(night))
            erased.add(key)
            for state in states:
                state.pop(key, None)
            assert simulated.served(store, "job") == states[-1], f"erasure of night {night}"
        yield disk(store)
    simulated.write_feed(feeds / "extra", "job", extra)
    simulated.run_night(store, feeds, run_id="last")
    held = {key: value for key, value in {**jobs, **extra}.items() if key not in erased}
    assert simulated.served(store, "job") == held
    left = {
        row["source_id"]: (row["text"], json.loads(row["metadata"])["city"])
        for row in latest_snapshot(store, "job").table().to_pylist()
    }
    assert left == held, "the snapshot holds what was read, and nothing else"


def test_nights_of_all_kinds_serve_what_a_dictionary_holds(simulated, faults, tmp_path):
    assert len(list(nights(simulated, faults, tmp_path, count=8, seed=1))) == 8


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_year_of_nights_serves_what_a_dictionary_holds_on_a_bounded_disk(simulated, faults, tmp_path):
    began = time.process_time()
    sizes = list(nights(simulated, faults, tmp_path, count=365, seed=2, most=25))
    assert max(sizes[100:]) <= 1.5 * max(sizes[10:100])
    assert time.process_time() - began < 300


def test_maintenance_keeps_what_rollbacks_go_back_to_and_nothing_else(simulated, tmp_path, monkeypatch):
    store, feeds = LocalStore(tmp_path / "var"), tmp_path / "feeds"
    simulated.write_feed(feeds, "resume", {"r1": ("I nurse.", "Oslo")})
    for night in range(6):
        simulated.write_feed(feeds, "job", {"j": (f"text {night}", "Oslo"), "k": ("always", "Oslo")})
        simulated.run_night(store, feeds, run_id=f"night-{night}", fingerprint=FIRST if night else SECOND)
        time.sleep(0.5)
    before = disk(store)
    monkeypatch.setattr(maintenance, "COMPACT_FROM", 2)
    maintain(store)
    assert disk(store) < before
    assert len(list(store.list("pointers"))) == POLICY.keep_served - 1
    kept = {key.split("/")[2] for key in store.list("snapshots/job") if key.endswith("manifest.json")}
    assert len(kept) == POLICY.keep_served
    assert {key.split("/")[1] for key in store.list("shards")} == {FIRST}
    assert len({key.split("/")[1] for key in store.list("lance")}) == 1
    with hold_lease(store, owner="back") as lease:
        for night in (4, 3):
            rollback(store, lease=lease, run_id="back", now=simulated.datetime.now(simulated.UTC))
            assert simulated.served(store, "job")["j"] == (f"text {night}", "Oslo")


def test_nothing_is_removed_within_the_grace_time(simulated, tmp_path, monkeypatch):
    store, feeds = LocalStore(tmp_path / "var"), tmp_path / "feeds"
    simulated.write_feed(feeds, "resume", {"r1": ("I nurse.", "Oslo")})
    for night in range(5):
        simulated.write_feed(feeds, "job", {"j": (f"text {night}", "Oslo")})
        simulated.run_night(store, feeds, run_id=f"night-{night}", fingerprint=FIRST if night else SECOND)
    (store.root / "tmp" / "left").mkdir(parents=True, exist_ok=True)
    before = {key for prefix in ("snapshots", "shards", "exports", "lance") for key in store.list(prefix)}
    monkeypatch.setattr(maintenance, "COMPACT_FROM", 2)
    maintain(store, POLICY.model_copy(update={"grace_hours": 1}))
    after = {key for prefix in ("snapshots", "shards", "exports", "lance") for key in store.list(prefix)}
    assert before <= after
    assert (store.root / "tmp" / "left").exists()
    assert simulated.served(store, "job") == {"j": ("text 4", "Oslo")}


def test_versions_that_no_kept_state_names_go_at_every_maintenance_compacted_or_not(simulated, tmp_path, monkeypatch):
    """A full feed replaces every row each night: there are never enough small files to merge."""
    monkeypatch.setattr(maintenance, "COMPACT_FROM", 1000)
    store, feeds = LocalStore(tmp_path / "var"), tmp_path / "feeds"
    simulated.write_feed(feeds, "resume", {"r1": ("I nurse.", "Oslo")})
    left = []
    for night in range(9):
        jobs = {f"j{number}": (f"text {number} of night {night}; " * 50 + "end", "Oslo") for number in range(20)}
        simulated.write_feed(feeds, "job", jobs)
        pointer = simulated.run_night(store, feeds, run_id=f"night-{night}")
        time.sleep(0.5)
        maintain(store)
        assert simulated.served(store, "job") == jobs
        table = simulated.open_table(store, generation=pointer.generation, kind="job")
        files = list(store.list(f"lance/{pointer.generation}/jobs.lance/data"))
        left.append((len(table.versions()), len(files)))
    states = POLICY.keep_served + 1  # one is beyond the margin of time only at the next maintenance
    assert left[-1][1] <= states, f"versions and files after each night: {left}"
    assert left[-1][0] <= 4 * states, f"versions and files after each night: {left}"
    with hold_lease(store, owner="back") as lease:
        for night in (7, 6):
            rollback(store, lease=lease, run_id="back", now=simulated.datetime.now(simulated.UTC))
            assert simulated.served(store, "job")["j0"] == (f"text 0 of night {night}; " * 50 + "end", "Oslo")
    maintain(store)
    simulated.run_night(store, feeds, run_id="next")
    assert simulated.served(store, "job") == jobs


def test_a_prune_that_is_killed_leaves_what_is_served(simulated, tmp_path, monkeypatch):
    store, feeds = LocalStore(tmp_path / "var"), tmp_path / "feeds"
    simulated.write_feed(feeds, "resume", {"r1": ("I nurse.", "Oslo")})
    for night in range(2):
        simulated.write_feed(feeds, "job", {"j": (f"text {night}", "Oslo"), "k": ("always", "Oslo")})
        pointer = simulated.run_night(store, feeds, run_id=f"night-{night}")
    table = simulated.open_table(store, generation=pointer.generation, kind="job")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(type(table), "restore", killed)
        table.prune(timedelta(days=1))
    assert simulated.served(store, "job")["j"] == ("text 1", "Oslo")
    maintain(store)
    assert simulated.served(store, "job")["j"] == ("text 1", "Oslo")
    simulated.write_feed(feeds, "job", {"j": ("text 2", "Oslo"), "k": ("always", "Oslo")})
    simulated.run_night(store, feeds, run_id="next")
    assert simulated.served(store, "job") == {"j": ("text 2", "Oslo"), "k": ("always", "Oslo")}


def test_a_process_that_was_suspended_before_it_removes_versions_removes_none_that_is_kept(simulated, tmp_path):
    """The age of what may go is computed first. LanceDB looks at its clock later: perhaps hours later."""
    store, feeds = LocalStore(tmp_path / "var"), tmp_path / "feeds"
    simulated.write_feed(feeds, "resume", {"r1": ("I nurse.", "Oslo")})
    for night in range(3):
        simulated.write_feed(feeds, "job", {"j": (f"text {night}", "Oslo"), "k": ("always", "Oslo")})
        pointer = simulated.run_night(store, feeds, run_id=f"night-{night}")
    table = simulated.open_table(store, generation=pointer.generation, kind="job")
    time.sleep(0.1)
    with pytest.raises(StoreError, match="tagged version"):
        table.prune(timedelta(seconds=0.01), keep=[pointer.jobs])
    assert simulated.served(store, "job")["j"] == ("text 2", "Oslo")
    with hold_lease(store, owner="back") as lease:
        rollback(store, lease=lease, run_id="back", now=simulated.datetime.now(simulated.UTC))
    assert simulated.served(store, "job")["j"] == ("text 1", "Oslo")
    maintain(store)
    simulated.run_night(store, feeds, run_id="next")
    assert simulated.served(store, "job")["j"] == ("text 2", "Oslo")


def test_a_reader_that_was_there_before_maintenance_reads_on(simulated, tmp_path, monkeypatch):
    store, feeds = LocalStore(tmp_path / "var"), tmp_path / "feeds"
    simulated.write_feed(feeds, "resume", {"r1": ("I nurse.", "Oslo")})
    for night in range(4):
        simulated.write_feed(feeds, "job", {"j": (f"text {night}", "Oslo")})
        pointer = simulated.run_night(store, feeds, run_id=f"night-{night}")
    reader = simulated.open_table(store, generation=pointer.generation, kind="job", version=pointer.jobs)
    monkeypatch.setattr(maintenance, "COMPACT_FROM", 2)
    maintain(store)
    assert read_pointer(store).sequence == pointer.sequence
    assert reader.read(["text"])["text"].to_pylist() == ["text 3"]


def test_readers_read_on_while_tables_are_merged_and_versions_are_removed(simulated, tmp_path, monkeypatch):
    store, feeds = LocalStore(tmp_path / "var"), tmp_path / "feeds"
    simulated.write_feed(feeds, "resume", {"r1": ("I nurse.", "Oslo")})
    monkeypatch.setattr(maintenance, "COMPACT_FROM", 2)
    simulated.write_feed(feeds, "job", {"j": ("text 0", "Oslo"), "k": ("always", "Oslo")})
    simulated.run_night(store, feeds, run_id="night-0")
    seen, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            seen.append(simulated.served(store, "job")["j"][0])

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for night in range(1, 6):
            simulated.write_feed(feeds, "job", {"j": (f"text {night}", "Oslo"), "k": ("always", "Oslo")})
            simulated.run_night(store, feeds, run_id=f"night-{night}")
            maintain(store, POLICY.model_copy(update={"grace_hours": 2 / 3600}))  # longer than a read takes
        stop.set()
        for reader in readers:
            reader.result()
    assert len(seen) > 5
    assert set(seen) <= {f"text {night}" for night in range(6)}
    assert simulated.served(store, "job")["j"] == ("text 5", "Oslo")


def test_a_step_that_fails_leaves_the_others_to_do_their_work(simulated, tmp_path, monkeypatch):
    store, feeds = LocalStore(tmp_path / "var"), tmp_path / "feeds"
    simulated.write_feed(feeds, "resume", {"r1": ("I nurse.", "Oslo")})
    for night in range(6):
        simulated.write_feed(feeds, "job", {"j": (f"text {night}", "Oslo")})
        simulated.run_night(store, feeds, run_id=f"night-{night}")
        store.put_if_absent(f"reports/{night}/report.json", b"{}")
    key = next(iter(store.list("shards")))
    store.local_path(key).write_bytes(b"damaged")
    kept = what_to_keep(store, POLICY, pinned=frozenset())
    with pytest.raises(DataError, match="cannot be read"):
        remove_shards(store, kept)
    assert remove_snapshots(store, kept).count == 3
    assert remove_results(store, kept).count == 4
    assert simulated.served(store, "job") == {"j": ("text 5", "Oslo")}
