"""A nightly run that is killed or hits a full disk at any point can be repeated, with the same result."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data.errors import DataError, StoreError
from data.store.base import LocalStore
from data.vectors.index_watch import read_watch
from data.vectors.pointer import read_pointer

SCRIPT = Path(__file__).with_name("simulated_night.py")
BEFORE = {f"j{number}": (f"text {number}", "Oslo") for number in range(12)}
AFTER = {
    **{f"j{number}": (f"TEXT {number}", "Oslo") for number in range(4)},  # other texts
    **{f"j{number}": (f"text {number}", "Bergen") for number in range(4, 6)},  # other metadata
    **{f"k{number}": (f"text {number}", "Oslo") for number in range(6, 8)},  # other ids
    **{f"j{number}": (f"text {number}", "Oslo") for number in range(8, 11)},  # as before; one is gone
    "new": ("new", "Oslo"),
}
RESUMES = {"r1": ("I nurse.", "Oslo"), "r2": ("I cook.", "Oslo")}
NUM_PLACES = 24


def in_a_process(folder, run_id, kill_at=None):
    arguments = [folder / "var", folder / "feeds", run_id, *([kill_at] if kill_at else [])]
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )


@pytest.fixture(scope="module")
def start(simulated, tmp_path_factory):
    """A night that is served, and the feeds of the next one."""
    folder = tmp_path_factory.mktemp("start")
    simulated.write_feed(folder / "feeds", "job", BEFORE)
    simulated.write_feed(folder / "feeds", "resume", RESUMES)
    simulated.run_night(LocalStore(folder / "var"), folder / "feeds", run_id="night-1")
    simulated.write_feed(folder / "feeds", "job", AFTER)
    return folder


@pytest.fixture(scope="module")
def whole(simulated, start, tmp_path_factory):
    """The next night without any fault: what is seen then, and how many writing events it had."""
    folder = tmp_path_factory.mktemp("whole") / "night"
    shutil.copytree(start, folder)
    done = in_a_process(folder, "night-2")
    assert done.returncode == 0, done.stderr
    store = LocalStore(folder / "var")
    seen = simulated.state(store)
    assert seen[1]["job"] == AFTER
    assert len((folder / "encoded.log").read_text().splitlines()) == 5, "only what has another text"
    return seen, int(done.stdout)


def places(num_events, num_places):
    return sorted({1 + round(step * (num_events - 1) / (num_places - 1)) for step in range(num_places)})


def kill_and_repeat(simulated, start, whole, folder, at):
    shutil.copytree(start, folder)
    store, log = LocalStore(folder / "var"), folder / "encoded.log"
    killed = in_a_process(folder, "night-2", kill_at=at)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    pointer = read_pointer(store)
    assert simulated.served(store, "job") == (BEFORE if pointer.sequence == 1 else AFTER)
    there = simulated.finished(store)
    log.unlink(missing_ok=True)
    done = in_a_process(folder, "night-2")
    assert done.returncode == 0, done.stderr
    again = {simulated.digest_of(name) for name in log.read_text().split()} if log.exists() else set()
    assert not again & there, "a finished shard is not encoded again"
    assert simulated.state(store) == whole[0]
    assert read_watch(store, read_pointer(store), "job") is not None, "the indexes of what is served are measured"


@pytest.mark.parametrize("place", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_night_that_is_killed_ends_like_one_that_was_not(simulated, start, whole, tmp_path, place):
    at = places(whole[1], 4)[1 + place]
    kill_and_repeat(simulated, start, whole, tmp_path / "night", at)


@pytest.mark.slow
@pytest.mark.parametrize("place", range(NUM_PLACES))
def test_a_night_that_is_killed_anywhere_ends_like_one_that_was_not(simulated, start, whole, tmp_path, place):
    assert len(places(whole[1], NUM_PLACES)) == NUM_PLACES
    kill_and_repeat(simulated, start, whole, tmp_path / "night", places(whole[1], NUM_PLACES)[place])


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_or_a_lost_permission_anywhere_leaves_what_is_served(
    simulated, faults, start, whole, tmp_path, code
):
    def fail():
        raise OSError(code, os.strerror(code))

    num_failed = 0
    for at in places(whole[1], 16):
        folder = tmp_path / f"{at}"
        shutil.copytree(start, folder)
        store = LocalStore(folder / "var")
        faults.arm(store.root, at, fail)
        try:
            simulated.run_night(store, folder / "feeds", run_id="night-2")
        except DataError as error:
            num_failed += 1
            assert isinstance(error, StoreError)
            assert os.strerror(code) in str(error)
            assert error.hint
        finally:
            faults.disarm()
        assert simulated.served(store, "job") == (BEFORE if read_pointer(store).sequence == 1 else AFTER)
        simulated.run_night(store, folder / "feeds", run_id="night-2")
        assert simulated.state(store) == whole[0]
    assert num_failed > 8


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_shard_is_named_and_the_night_goes_on_when_it_is_removed(simulated, start, whole, tmp_path, damage):
    folder = tmp_path / "night"
    shutil.copytree(start, folder)
    store = LocalStore(folder / "var")
    key = next(key for key in store.list("shards"))
    path = store.local_path(key)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 3] ^= 0x10
    path.write_bytes(content[: len(content) // 2] if damage == "truncated" else content)
    with pytest.raises(StoreError, match=key) as caught:
        simulated.run_night(store, folder / "feeds", run_id="night-2")
    assert "Remove the file" in caught.value.hint
    assert simulated.served(store, "job") == BEFORE
    path.unlink()
    simulated.run_night(store, folder / "feeds", run_id="night-2")
    assert simulated.state(store) == whole[0]


def test_a_clock_that_was_moved_back_changes_nothing(simulated, start, whole, tmp_path, monkeypatch):
    folder = tmp_path / "night"
    shutil.copytree(start, folder)
    store = LocalStore(folder / "var")
    real = simulated.datetime

    class Earlier(real):
        @classmethod
        def now(cls, zone=None):
            return real.now(zone).replace(year=2001)

    monkeypatch.setattr(simulated, "datetime", Earlier)
    monkeypatch.setattr("data.store.lease.time.time", lambda: 1e9)
    simulated.run_night(store, folder / "feeds", run_id="night-2")
    assert simulated.state(store) == whole[0]
