"""An overlay behaves like the store below it, and never changes it."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import ConflictError
from data.store.base import LocalStore
from data.store.overlay import OverlayStore, rehearsal

KEYS = st.sampled_from(["a/one.json", "a/two.json", "b/c/three.json", "record.json"])
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "delete folder", "swap"]), KEYS, st.binary(max_size=3)), max_size=8
)


def do(store, what, key, content):
    if what == "put":
        store.put_if_absent(key, content)
    elif what == "delete":
        store.delete(key)
    elif what == "delete folder":
        store.delete(key.split("/")[0])
    else:
        store.compare_and_swap(key, expected=store.read(key), content=content)


def seen(store):
    found = {}
    for prefix in ("a", "b", "b/c", "record.json"):
        keys = [entry.key for entry in store.entries(prefix)]
        found[prefix] = (sorted(store.list(prefix)), keys, [store.read(key) for key in keys])
        assert store.exists(prefix) or not keys
        for key in keys:
            with store.open(key) as opened:
                assert opened.read() == store.read(key) == store.local_path(key).read_bytes()
    return found


def files(folder: Path):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=STEPS, steps=STEPS)
def test_it_shows_what_the_store_would_show_and_leaves_it(tmp_path_factory, before, steps):
    folder = tmp_path_factory.mktemp("stores")
    below, twin = LocalStore(folder / "below"), LocalStore(folder / "twin")
    for step in before:
        do(below, *step)
        do(twin, *step)
    kept = files(below.root)
    overlay = OverlayStore(below, folder / "overlay")
    for step in steps:
        do(overlay, *step)
        do(twin, *step)
        assert seen(overlay) == seen(twin)
    assert files(below.root) == kept


def test_a_conflict_is_found(tmp_path):
    below = LocalStore(tmp_path / "below")
    below.put_if_absent("record.json", b"1")
    overlay = OverlayStore(below, tmp_path / "overlay")
    with pytest.raises(ConflictError):
        overlay.compare_and_swap("record.json", expected=b"0", content=b"2")


def test_a_rehearsal_leaves_no_file(tmp_path):
    below = LocalStore(tmp_path / "below")
    with rehearsal(below) as store:
        store.put_if_absent("a/one.json", b"1")
        assert store.read("a/one.json") == b"1"
        place = store.local_path("a/one.json")
        assert store.machine is store
    assert not place.exists()
    assert files(below.root) == {}
