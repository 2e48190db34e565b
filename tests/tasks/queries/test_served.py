"""The served state is found by its pointer, and only vectors of the same checkpoint are compared."""

import pyarrow as pa
import pytest

from data.errors import InputError, VectorSpaceError
from data.store.base import LocalStore
from data.vectors.lance import LanceTable, create_table, table_schema
from data.vectors.pointer import POINTER_KEY
from llm2vec_core.encoding.build import write_checkpoint
from llm2vec_core.model.checkpoint import EncoderSpec
from tasks.encoders.checkpoints import store_checkpoint
from tasks.queries.opened import OpenedState
from tasks.queries.served import require_same_space, served, served_table, split_as_served, words_of


def test_an_empty_home_serves_nothing(tmp_path):
    with pytest.raises(InputError, match="Nothing is served yet") as caught:
        served(LocalStore(tmp_path))
    assert "l2v nightly" in caught.value.hint


def test_the_pointer_decides_the_version_of_a_table(tmp_path, make_pointer):
    store = LocalStore(tmp_path)
    table = create_table(store, generation="g", kind="job", embedding_dim=2)
    before = table.version
    columns = {field.name: [None if field.nullable else "x"] for field in table_schema(2)} | {
        "metadata": ["{}"],
        "num_chars": [1],
    }
    table.upsert([pa.table(columns | {"vector": [[1.0, 0.0]]}, schema=table_schema(2))])
    pointer = make_pointer(jobs=table.version)
    store.compare_and_swap(POINTER_KEY, expected=None, content=pointer.model_dump_json().encode())
    assert served(store) == pointer
    assert served_table(store, pointer, "job").count() == 1
    assert served_table(store, make_pointer(jobs=before), "job").count() == 0


def test_a_query_of_another_checkpoint_is_refused(tmp_path, make_pointer, tiny_base):
    store = LocalStore(tmp_path / "home")
    spec = EncoderSpec(base_model="tiny", attention="bidirectional", pooling_mode="mean", max_tokens=64)
    write_checkpoint(tmp_path / "made", backbone=tiny_base, spec=spec)
    known = store_checkpoint(store, tmp_path / "made").fingerprint
    require_same_space(store, make_pointer(checkpoint=known), known[:12])
    with pytest.raises(VectorSpaceError, match=f"would be encoded by {known[:12]}"):
        require_same_space(store, make_pointer(checkpoint="f" * 64), known[:12])


def test_rows_of_the_first_layout_have_their_words_in_the_text():
    assert words_of({"words": "ci/cd ci cd", "title": "", "text": "not read"}) == ["ci/cd", "ci", "cd"]
    assert words_of({"title": "C++", "text": "and Go"}) == ["c++", "and", "go"]


def test_a_server_opens_a_table_once_and_follows_the_pointer(tmp_path, make_pointer, monkeypatch):
    store, opened = LocalStore(tmp_path), []

    def open_one(_store, pointer, kind):
        opened.append((pointer.jobs, kind))
        return object()

    monkeypatch.setattr("tasks.queries.opened.served_table", open_one)
    state = OpenedState()
    first, second = make_pointer(jobs=1), make_pointer(jobs=2)
    table = state.table(store, first, "job")
    assert state.table(store, first, "job") is table
    assert state.table(store, second, "job") is not table, "a promotion is seen by the next search"
    state.table(store, second, "resume")
    assert opened == [(1, "job"), (2, "job"), (2, "resume")]


def test_a_server_reads_a_background_once_and_again_when_the_limits_change(tmp_path, make_pointer, monkeypatch):
    read, limits = [], ["first"]
    monkeypatch.setattr("tasks.queries.opened.known_fit", lambda *_: limits[0])
    monkeypatch.setattr("tasks.queries.opened.served_fit", lambda *_: read.append(limits[0]) or object())
    state, pointer, store = OpenedState(), make_pointer(), LocalStore(tmp_path)
    fit = state.fit(store, pointer, "job")
    assert state.fit(store, pointer, "job") is fit
    limits[0] = "fitted again"
    assert state.fit(store, pointer, "job") is not fit
    assert read == ["first", "fitted again"]
    limits[0] = None
    assert state.fit(store, pointer, "job") is None


@pytest.mark.parametrize(("has_forms", "expected"), [(True, ["manage", "team"]), (False, ["managing", "teams"])])
def test_a_query_is_split_as_the_words_of_the_table_are(monkeypatch, has_forms, expected):
    """Tables of former layouts hold words as they were written, until the next night."""
    table = object.__new__(LanceTable)
    monkeypatch.setattr(LanceTable, "has_column", lambda _, name: has_forms and name == "similar_order")
    assert split_as_served(table, "Managing teams") == expected
