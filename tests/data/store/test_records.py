import json

import pytest
from pydantic import BaseModel

from data.errors import ConflictError, StoreError
from data.store.records import Latest, Record


class Thing(BaseModel):
    name: str
    count: int = 0


RECORD = Record(Thing, "things/one.json", hint="Ask somebody.")
LATEST = Latest("things/latest.json", "thing")


def test_a_record_is_written_once_and_swapped_from_the_bytes_that_were_read(store):
    assert RECORD.read(store) is None
    assert RECORD.put_if_absent(store, Thing(name="a"))
    assert not RECORD.put_if_absent(store, Thing(name="b"))
    assert store.read("things/one.json") == b'{"name":"a","count":0}'
    raw = store.read(RECORD.key)
    RECORD.swap(store, Thing(name="a", count=1), expected=raw)
    assert RECORD.read(store) == Thing(name="a", count=1)
    with pytest.raises(ConflictError):
        RECORD.swap(store, Thing(name="c"), expected=raw)


@pytest.mark.parametrize("content", [b"no json", b"[]", b"{}", b'{"name": 1}'])
def test_a_damaged_record_is_named_with_its_hint(store, content):
    store.put_if_absent(RECORD.key, content)
    with pytest.raises(StoreError, match=r"things/one\.json is damaged") as caught:
        RECORD.read(store)
    assert caught.value.hint == "Ask somebody."


def test_the_latest_is_named_with_further_fields_and_only_written_when_it_changes(store):
    fenced = []
    assert LATEST.name(store) is None
    for name in ("a", "a", "b"):
        LATEST.put(store, name, more={"rows": 2}, fence=lambda: fenced.append(1))
        assert LATEST.name(store) == name
    assert len(fenced) == 2
    assert store.read("things/latest.json") == b'{"rows":2,"thing":"b"}'


def test_a_writer_without_its_lease_leaves_the_latest_as_it_is(store):
    LATEST.put(store, "a")

    def lost():
        raise RuntimeError

    with pytest.raises(RuntimeError):
        LATEST.put(store, "b", fence=lost)
    assert LATEST.name(store) == "a"


def test_the_latest_is_renamed_only_if_it_names_what_was_replaced(store):
    LATEST.rename(store, {"a": "b"})
    assert LATEST.name(store) is None
    LATEST.put(store, "a")
    LATEST.rename(store, {"x": "y"})
    assert LATEST.name(store) == "a"
    LATEST.rename(store, {"a": "b"})
    assert json.loads(store.read(LATEST.key)) == {"thing": "b"}


@pytest.mark.parametrize("content", [b"no json", b"[]", b'{"other": "a"}', b"3"])
def test_a_damaged_latest_is_named(store, content):
    store.put_if_absent(LATEST.key, content)
    with pytest.raises(StoreError, match=r"things/latest\.json is damaged"):
        LATEST.name(store)
