import errno
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import ConflictError, InputError, StoreError
from data.store.base import LocalStore, put_directory

ROOT = Path(__file__).parents[3]


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def files(store):
    """Every file under the store, hidden ones too, but the lock."""
    paths = (path for path in store.root.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(store.root).as_posix(): path.read_bytes() for path in paths}


def folder(path, **contents):
    for name, content in contents.items():
        file = path / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return path


# --- put_if_absent ----------------------------------------------------------------------------------------------------


def test_what_is_put_can_be_read_and_is_never_replaced(store):
    assert store.read("a/b") is None
    assert store.put_if_absent("a/b", b"first")
    assert not store.put_if_absent("a/b", b"second")
    assert store.read("a/b") == b"first"
    assert files(store) == {"a/b": b"first"}


def test_a_finished_file_is_moved_in(store, tmp_path):
    path = folder(tmp_path / "w", part="content") / "part"
    assert store.put_if_absent("a/part", path)
    assert not path.exists()
    assert files(store) == {"a/part": b"content"}


def test_what_the_caller_writes_to_its_old_path_afterwards_does_not_reach_the_store(store, tmp_path):
    path = folder(tmp_path / "w", part="content") / "part"
    store.put_if_absent("a/part", path)
    path.write_text("later")
    assert store.read("a/part") == b"content"


def test_of_many_threads_that_put_at_once_exactly_one_stores_and_its_content_is_whole(store):
    for attempt in range(20):
        barrier = threading.Barrier(4)
        contents = [bytes([number]) * 50_000 for number in range(4)]

        def put(content, key=f"race/{attempt}", barrier=barrier):
            barrier.wait()
            return store.put_if_absent(key, content)

        with ThreadPoolExecutor(4) as pool:
            stored = list(pool.map(put, contents))
        assert stored.count(True) == 1
        assert store.read(f"race/{attempt}") == contents[stored.index(True)]
    assert len(files(store)) == 20


@pytest.mark.parametrize("target", ["os.fsync", "os.link", "os.open"])
@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_a_full_disk_stores_nothing_and_says_what_to_do(store, tmp_path, monkeypatch, target, kind):
    store.put_if_absent("a/old", b"old")
    path = folder(tmp_path / "w", part="content") / "part"
    with monkeypatch.context() as patch:
        patch.setattr(target, full_disk)
        with pytest.raises(StoreError, match="Could not write a/new: No space left on device") as caught:
            store.put_if_absent("a/new", b"content" if kind == "bytes" else path)
    assert "Free disk space" in caught.value.hint
    assert files(store) == {"a/old": b"old"}
    assert path.read_text() == "content"  # a caller that tries again still has its file
    assert store.put_if_absent("a/new", b"content" if kind == "bytes" else path)
    assert files(store) == {"a/old": b"old", "a/new": b"content"}


def test_a_write_that_fails_in_the_middle_leaves_no_part_of_it(store, monkeypatch):
    real = Path.open

    def opened(path, mode="r", *args, **kwargs):
        handle = real(path, mode, *args, **kwargs)
        if mode == "wb":
            handle.write(b"the first half")
            handle.close()
            full_disk()
        return handle

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(StoreError, match="No space left"):
            store.put_if_absent("a/b", b"content")
    assert files(store) == {}


def test_a_file_of_another_file_system_is_copied_in(store, tmp_path, monkeypatch):
    path = folder(tmp_path / "w", part="content") / "part"
    real = os.rename

    def rename(source, target, **kwargs):
        if Path(source) == path:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return real(source, target, **kwargs)

    monkeypatch.setattr("os.rename", rename)
    assert store.put_if_absent("a/part", path)
    assert files(store) == {"a/part": b"content"}
    assert not path.exists()


def test_a_missing_file_is_an_error_and_stores_nothing(store, tmp_path):
    with pytest.raises(StoreError, match="Could not write a/part: No such file"):
        store.put_if_absent("a/part", tmp_path / "gone")
    assert files(store) == {}


def test_a_process_killed_while_it_puts_a_large_file_leaves_nothing_under_the_key(store):
    code = """
import os, signal, sys
from pathlib import Path
from data.store.base import LocalStore
real = os.fsync
def fsync(descriptor):
    if os.fstat(descriptor).st_size > 1_000_000:
        print("writing", flush=True)
        signal.pause()
    real(descriptor)
os.fsync = fsync
LocalStore(Path(sys.argv[1])).put_if_absent("big/one.bin", b"x" * 8_000_000)
"""
    process = subprocess.Popen([sys.executable, "-c", code, store.root], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert store.read("big/one.bin") is None
    assert list(store.list("big")) == []
    assert store.put_if_absent("big/one.bin", b"whole")
    assert list(store.list("big")) == ["big/one.bin"]
    assert [path.name for path in (store.root / "big").iterdir()] == [
        "one.bin"
    ]  # readers of the folder see no left-over either


# --- compare_and_swap -------------------------------------------------------------------------------------------------


def test_a_swap_needs_the_content_that_is_there(store):
    store.compare_and_swap("r", expected=None, content=b"1")
    for expected in (None, b"0"):
        with pytest.raises(ConflictError, match="r was changed by another writer"):
            store.compare_and_swap("r", expected=expected, content=b"2")
    assert files(store) == {"r": b"1"}
    store.compare_and_swap("r", expected=b"1", content=b"2")
    assert files(store) == {"r": b"2"}


def test_a_swap_of_what_is_gone_is_a_conflict(store):
    with pytest.raises(ConflictError):
        store.compare_and_swap("r", expected=b"1", content=b"2")
    assert files(store) == {}


def test_counting_in_many_threads_loses_nothing(store):
    num_threads, num_steps = 4, 15

    def count(_):
        for _ in range(num_steps):
            while True:
                found = store.read("n")
                try:
                    store.compare_and_swap("n", expected=found, content=str(int(found or b"0") + 1).encode())
                    break
                except ConflictError:
                    continue

    with ThreadPoolExecutor(num_threads) as pool:
        list(pool.map(count, range(num_threads)))
    assert files(store) == {"n": str(num_threads * num_steps).encode()}


@pytest.mark.parametrize("target", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.open", "fcntl.flock"])
def test_a_full_disk_leaves_the_former_record(store, monkeypatch, target):
    store.compare_and_swap("r", expected=None, content=b"1")
    with monkeypatch.context() as patch:
        patch.setattr(target, full_disk)
        with pytest.raises(StoreError, match="No space left on device") as caught:
            store.compare_and_swap("r", expected=b"1", content=b"2")
    assert caught.value.hint
    assert not isinstance(caught.value, ConflictError)
    assert files(store) == {"r": b"1"}
    store.compare_and_swap("r", expected=b"1", content=b"2")


# --- keys, lists, deletion, scratch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", ".", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/..", "a\0b"])
def test_a_key_that_leaves_the_store_is_refused(store, key):
    for call in (
        lambda: store.put_if_absent(key, b""),
        lambda: store.compare_and_swap(key, expected=None, content=b""),
        lambda: store.read(key),
        lambda: list(store.list(key)),
        lambda: store.delete(key),
        lambda: store.local_path(key),
    ):
        with pytest.raises(InputError, match="is not a valid store key"):
            call()
    assert files(store) == {}


@given(st.text(alphabet="./ab", max_size=12))
def test_no_key_reaches_out_of_the_store(tmp_path_factory, key):
    store = LocalStore(tmp_path_factory.getbasetemp() / "keys")
    try:
        path = store.local_path(key)
    except InputError:
        return
    assert path != store.root
    assert store.root in path.resolve().parents


def test_keys_are_listed_in_the_order_of_their_text_without_hidden_files(store):
    keys = ["t/b.txt", "t/b/a", "t/a", "t/b-1/z", "u/x"]
    for key in keys:
        store.put_if_absent(key, b"")
    (store.root / "t" / ".b.txt.0123").write_bytes(b"half")
    assert list(store.list("t")) == sorted(key for key in keys if key.startswith("t/"))
    assert list(store.list("nothing")) == []


def test_deleting_removes_a_key_or_all_below_it(store):
    for key in ("a/x", "a/b/y", "c"):
        store.put_if_absent(key, b"")
    store.delete("gone")
    store.delete("a")
    assert files(store) == {"c": b""}
    store.delete("c")
    assert files(store) == {}


def test_an_interrupted_deletion_leaves_no_half_of_an_artifact(store, monkeypatch):
    for name in ("manifest.json", "part"):
        store.put_if_absent(f"a/1/{name}", b"")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", full_disk)
        with pytest.raises(StoreError):
            store.delete("a/1")
    assert list(store.list("a")) == []


def test_a_store_cannot_be_made_where_a_file_is(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="Could not create the store"):
        LocalStore(tmp_path / "file")


def test_a_change_of_directory_does_not_move_the_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = LocalStore(Path("var"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.put_if_absent("a", b"1")
    assert (tmp_path / "var" / "a").read_bytes() == b"1"


def test_scratch_is_private_and_removed_also_after_an_error(store):
    with store.scratch() as one, store.scratch() as two:
        assert one != two
        (one / "file").write_text("")
    with pytest.raises(KeyError), store.scratch() as three:
        (three / "file").write_text("")
        raise KeyError
    assert not one.exists() and not two.exists() and not three.exists()


# --- put_directory ----------------------------------------------------------------------------------------------------


def test_a_directory_is_put_with_its_commit_record_last(store, tmp_path, monkeypatch):
    put = []
    real = store.put_if_absent
    monkeypatch.setattr(store, "put_if_absent", lambda key, content: put.append(key) or real(key, content))
    directory = folder(tmp_path / "w", aaa="c", config="1", sub__aaa="not the record", zzz="2")
    put_directory(store, "k", directory, last="aaa")
    assert put == ["k/config", "k/sub/aaa", "k/zzz", "k/aaa"]
    assert files(store) == {"k/aaa": b"c", "k/config": b"1", "k/sub/aaa": b"not the record", "k/zzz": b"2"}


@pytest.mark.parametrize("step", range(3))
def test_a_put_that_stops_in_the_middle_has_no_commit_record_and_is_completed_by_a_repeat(
    store, tmp_path, monkeypatch, step
):
    directory = folder(tmp_path / "w", a="1", b="2", record="r")
    calls = iter(range(10))
    real = store.put_if_absent

    def put(key, content):
        if next(calls) == step:
            full_disk()
        return real(key, content)

    with monkeypatch.context() as patch:
        patch.setattr(store, "put_if_absent", put)
        with pytest.raises(OSError, match="No space"):
            put_directory(store, "k", directory, last="record")
    assert "k/record" not in files(store)
    assert len(files(store)) == step
    put_directory(store, "k", directory, last="record")
    assert files(store) == {"k/a": b"1", "k/b": b"2", "k/record": b"r"}


def test_a_directory_that_was_committed_gets_no_further_files(store, tmp_path):
    put_directory(store, "k", folder(tmp_path / "1", a="1", record="r"), last="record")
    put_directory(store, "k", folder(tmp_path / "2", a="other", b="more", record="s"), last="record")
    assert files(store) == {"k/a": b"1", "k/record": b"r"}
