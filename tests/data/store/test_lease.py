import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from data.errors import ConflictError, FencedError, LeaseHeldError, StoreError
from data.store import lease as lease_module
from data.store.base import LocalStore
from data.store.lease import LEASE_KEY, LeaseRecord, adopt_lease, hold_lease

ROOT = Path(__file__).parents[3]
CAN_UNSHARE = (
    shutil.which("unshare") is not None
    and subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode == 0
)


def record(store):
    return LeaseRecord(**json.loads(store.read(LEASE_KEY)))


def write(store, wanted):
    store.compare_and_swap(LEASE_KEY, expected=store.read(LEASE_KEY), content=json.dumps(asdict(wanted)).encode())


def foreign(**changes):
    values = {"owner": "far", "epoch": 7, "expires_at": time.time() + 60, "host": "elsewhere", "pid": 1}
    return LeaseRecord(**{**values, **changes})


def here(store, **changes):
    """A record as a writer in this PID namespace makes it."""
    with hold_lease(store, owner="near"):
        return replace(record(store), **changes)


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def is_held(store):
    try:
        with hold_lease(store, owner="probe"):
            return False
    except LeaseHeldError:
        return True


def test_a_second_writer_is_refused_and_told_who_writes(store):
    with hold_lease(store, owner="first") as lease:
        before = store.read(LEASE_KEY)
        wanted = rf"Run first on {socket.gethostname()} \(process {os.getpid()}\) is writing"
        with pytest.raises(LeaseHeldError, match=wanted) as caught, hold_lease(store, owner="second"):
            pass
        assert "Wait" in caught.value.hint
        assert store.read(LEASE_KEY) == before
        lease.check()
    assert not is_held(store)


def test_the_lease_is_free_after_an_error_too(store):
    with pytest.raises(KeyError), hold_lease(store, owner="first"):
        raise KeyError
    assert not is_held(store)


def test_the_epoch_grows_by_one_with_every_owner(store):
    epochs = []
    for owner in ("a", "b", "a"):
        with hold_lease(store, owner=owner) as lease:
            epochs.append(lease.epoch)
    write(store, foreign(expires_at=time.time() - 1, epoch=7))
    with hold_lease(store, owner="c") as lease:
        epochs.append(lease.epoch)
    assert epochs == [1, 2, 3, 8]


def test_the_lease_of_a_dead_process_on_this_machine_is_taken_over_at_once(store):
    write(store, here(store, pid=dead_pid()))
    assert not is_held(store)


def test_the_lease_of_a_living_process_on_this_machine_is_not_taken_over(store):
    write(store, here(store))
    assert is_held(store)


def test_a_process_id_that_is_used_again_is_not_the_living_writer(store):
    lease = here(store)
    write(store, replace(lease, started=lease.started - 1))
    assert not is_held(store)


def test_a_writer_that_was_killed_and_not_yet_reaped_is_dead(store):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = lease_module._started(process.pid)
        write(store, here(store, pid=process.pid, started=started))
        assert is_held(store)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not is_held(store)


@pytest.mark.parametrize("elsewhere", [{"boot_id": "other"}, {"pid_namespace": 7}, {"host": "elsewhere"}])
def test_a_process_that_cannot_be_seen_from_here_lives_until_its_time_is_over(store, elsewhere):
    lease = here(store, pid=dead_pid(), **elsewhere)
    write(store, lease)
    assert is_held(store)
    write(store, replace(lease, expires_at=time.time() - 0.01))
    assert not is_held(store)


def test_a_record_of_an_earlier_version_is_read_and_trusted_for_its_time_to_live(store):
    former = asdict(foreign(host=socket.gethostname(), pid=dead_pid()))
    for name in ("boot_id", "pid_namespace", "started"):
        del former[name]
    store.put_if_absent(LEASE_KEY, json.dumps(former).encode())
    assert is_held(store)
    write(store, foreign(expires_at=time.time() - 0.01, epoch=7))
    with hold_lease(store, owner="next") as lease:
        assert lease.epoch == 8


@pytest.mark.skipif(not CAN_UNSHARE, reason="needs the right to make PID namespaces")
def test_the_lease_of_a_living_writer_in_another_pid_namespace_is_not_taken_over(store, tmp_path):
    """Two containers with one host name: the process id of the one does not exist, or is another process, here."""
    held = [sys.executable, "-c", RACER, str(tmp_path), "contained"]
    (tmp_path / "go").touch()
    command = ["unshare", "--pid", "--fork", "--mount-proc", *held]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as container:
        assert [container.stdout.readline().strip() for _ in range(2)] == ["ready", "held"]
        contained = LocalStore(tmp_path / "var")
        assert record(contained).host == socket.gethostname()
        assert is_held(contained)
        (tmp_path / "stop").touch()


def test_the_lease_of_another_machine_is_taken_over_only_when_its_time_is_over(store):
    write(store, foreign(pid=dead_pid()))
    with pytest.raises(LeaseHeldError, match="Run far on elsewhere") as caught, hold_lease(store, owner="b"):
        pass
    assert "expires in 60 s" in caught.value.hint or "expires in 59 s" in caught.value.hint
    write(store, foreign(expires_at=time.time() - 0.01))
    assert not is_held(store)


def test_a_superseded_writer_cannot_commit_even_if_its_clock_is_turned_back(store, monkeypatch):
    with hold_lease(store, owner="slow") as slow:
        write(store, replace(record(store), expires_at=time.time() - 1))  # it slept
        with hold_lease(store, owner="next") as lease:
            assert lease.epoch == slow.epoch + 1
            monkeypatch.setattr(time, "time", lambda: 1.0)
            with pytest.raises(FencedError, match=r"Run slow \(epoch 1\) lost the lease.*held by next \(epoch 2\)"):
                slow.check()
            lease.check()
        with pytest.raises(FencedError, match="now held by nobody"):
            slow.check()


def test_a_superseded_writer_does_not_take_its_successors_lease_away_when_it_ends(store):
    with hold_lease(store, owner="slow", ttl_s=0.2):
        write(store, foreign(owner="next", epoch=2))
        time.sleep(0.3)  # time for renewals
    assert record(store) == foreign(owner="next", epoch=2, expires_at=record(store).expires_at)
    assert is_held(store)


def test_a_released_lease_lets_nobody_commit_and_no_clock_brings_it_back(store, monkeypatch):
    with hold_lease(store, owner="a") as lease:
        pass
    with pytest.raises(FencedError):
        lease.check()
    monkeypatch.setattr(time, "time", lambda: 1.0)
    assert not is_held(store)


def test_a_removed_lease_lets_nobody_commit(store):
    with hold_lease(store, owner="a") as lease:
        store.delete(LEASE_KEY)
        with pytest.raises(FencedError, match="held by nobody"):
            lease.check()


def test_renewal_keeps_a_short_lease_alive(store):
    with hold_lease(store, owner="a", ttl_s=0.4) as lease:
        ends = record(store).expires_at
        for _ in range(4):
            time.sleep(0.2)
            assert is_held(store)
        lease.check()
        assert record(store).expires_at > ends + 0.4


@pytest.mark.parametrize("method", ["read", "compare_and_swap"])
def test_a_storage_fault_does_not_end_the_renewals(store, monkeypatch, method):
    def broken(*args, **kwargs):
        failed.set()
        raise StoreError("no")

    failed = threading.Event()
    with hold_lease(store, owner="a", ttl_s=0.4):
        with monkeypatch.context() as patch:
            patch.setattr(store, method, broken)
            assert failed.wait(2)
        time.sleep(0.6)
        assert record(store).expires_at > time.time()


def test_a_release_that_fails_does_not_undo_the_run(store, monkeypatch, caplog):
    def broken(*args, **kwargs):
        raise StoreError("no")

    with hold_lease(store, owner="a"):
        monkeypatch.setattr(store, "compare_and_swap", broken)
    assert "could not be released" in caplog.text


def test_a_child_adopts_its_parents_lease(store):
    with hold_lease(store, owner="parent") as lease:
        adopted = adopt_lease(store, owner="parent")
        assert adopted.epoch == lease.epoch
        adopted.check()
        with pytest.raises(FencedError, match="Run stranger holds no lease"):
            adopt_lease(store, owner="stranger")
    with pytest.raises(FencedError):
        adopted.check()
    with pytest.raises(FencedError, match="Run parent holds no lease"):
        adopt_lease(store, owner="parent")


def test_nobody_can_adopt_what_was_never_held(store):
    with pytest.raises(FencedError):
        adopt_lease(store, owner="parent")


def test_another_run_that_is_faster_by_an_instant_is_a_lease_held(store, monkeypatch):
    def lost(*args, **kwargs):
        raise ConflictError("changed")

    monkeypatch.setattr(store, "compare_and_swap", lost)
    with pytest.raises(LeaseHeldError, match="same moment"), hold_lease(store, owner="a"):
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"owner": "a"}'])
def test_a_damaged_lease_is_reported_and_kept(store, content):
    store.put_if_absent(LEASE_KEY, content)
    with pytest.raises(StoreError, match=r"lease.json is damaged; expected owner, epoch") as caught:
        is_held(store)
    assert "backup" in caught.value.hint
    assert store.read(LEASE_KEY) == content


RACER = """
import sys, time
from pathlib import Path
from data.errors import LeaseHeldError
from data.store.lease import hold_lease
from data.store.base import LocalStore
root, name = Path(sys.argv[1]), sys.argv[2]
store = LocalStore(root / "var")
print("ready", flush=True)
while not (root / "go").exists():
    pass
try:
    with hold_lease(store, owner=name):
        print("held", flush=True)
        while not (root / "stop").exists():
            time.sleep(0.01)
except LeaseHeldError:
    print("refused", flush=True)
"""


def test_of_processes_that_race_exactly_one_holds(tmp_path):
    command = [sys.executable, "-c", RACER, tmp_path]
    racers = [
        subprocess.Popen([*command, f"{number}"], cwd=ROOT, stdout=subprocess.PIPE, text=True) for number in range(3)
    ]
    assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 3
    (tmp_path / "go").touch()
    said = [racer.stdout.readline() for racer in racers]
    (tmp_path / "stop").touch()
    for racer in racers:
        with racer:
            assert racer.wait() == 0
    assert sorted(said) == ["held\n", "refused\n", "refused\n"]


def test_a_writer_that_waits_gets_the_lease_when_the_other_one_is_done(store, monkeypatch):
    monkeypatch.setattr("data.store.lease._POLL_S", 0.02)
    order = []

    def write_for_a_while():
        with hold_lease(store, owner="first"):
            held.set()
            time.sleep(0.2)
            order.append("first")

    held = threading.Event()
    first = threading.Thread(target=write_for_a_while)
    first.start()
    held.wait()
    with hold_lease(store, owner="second", wait_s=30) as lease:
        order.append("second")
        assert lease.epoch == 2
    first.join()
    assert order == ["first", "second"]


def test_a_writer_that_waits_leaves_when_its_time_is_over(store, monkeypatch):
    monkeypatch.setattr("data.store.lease._POLL_S", 0.02)
    with hold_lease(store, owner="first") as lease:
        started = time.monotonic()
        with pytest.raises(LeaseHeldError, match="Run first"), hold_lease(store, owner="second", wait_s=0.2):
            pass
        assert 0.2 <= time.monotonic() - started < 5
        lease.check()
