"""Files at rest: other users of the machine read nothing of a home, whatever the umask is."""

import os
import stat

import pytest

from data.store.base import LocalStore
from data.store.lease import hold_lease
from data.store.open import open_store


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=oct)
def umask(request):
    former = os.umask(request.param)
    yield request.param
    os.umask(former)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_what_a_store_writes_belongs_to_its_owner_alone(umask, tmp_path):
    store = LocalStore(tmp_path / "home")
    (tmp_path / "file").write_bytes(b"moved into the store")
    store.put_if_absent("a/b/bytes", b"1")
    store.put_if_absent("a/b/file", tmp_path / "file")
    store.compare_and_swap("record.json", expected=None, content=b"2")
    with hold_lease(store, owner="run"), store.scratch() as scratch:
        assert mode(scratch) == 0o700
    paths = [store.root, *store.root.rglob("*")]
    assert {mode(path) for path in paths if path.is_dir()} == {0o700}
    files = [path for path in paths if path.is_file() and path.name != ".lock"]  # the lock file is empty
    assert len(files) == 4
    assert {mode(path) for path in files} == {0o600}


def test_a_night_leaves_nothing_that_others_reach(simulated, tmp_path):
    """LanceDB writes its own files with the umask; they lie below directories that are closed."""
    former = os.umask(0)
    try:
        store = LocalStore(tmp_path / "home")
        simulated.write_feed(tmp_path, "resume", {"r": ("I nurse.", "Oslo")})
        simulated.write_feed(tmp_path, "job", {"j": ("A nurse is wanted.", "Oslo")})
        simulated.run_night(store, tmp_path, run_id="night")
    finally:
        os.umask(former)
    assert mode(store.root) == 0o700
    assert {mode(path) for path in store.root.iterdir() if path.is_dir()} == {0o700}
    closed = list(store.root.glob("lance/*"))
    assert closed
    assert {mode(path) for path in closed} == {0o700}


def test_exports_for_others_follow_the_umask(tmp_path):
    former = os.umask(0o022)
    try:
        store = open_store(str(tmp_path / "exports"), work_dir=str(tmp_path), is_private=False)
        store.put_if_absent("v1/run/jobs.parquet", b"1")
    finally:
        os.umask(former)
    assert mode(tmp_path / "exports") == 0o755
    assert mode(tmp_path / "exports" / "v1" / "run" / "jobs.parquet") == 0o644


def test_an_existing_home_keeps_its_mode(tmp_path):
    (tmp_path / "home").mkdir(mode=0o750)
    (tmp_path / "home").chmod(0o750)
    assert mode(LocalStore(tmp_path / "home").root) == 0o750
