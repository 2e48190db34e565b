import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError, StoreError, VectorSpaceError
from data.store.base import LocalStore
from data.vectors.lance import create_table, open_table, table_schema

DIM = 8


def doc_id(number):
    return f"{number:032x}"


def unit(rows, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(rows, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows(numbers, *, sha="a", vectors=None, source="board"):
    """Rows of the table with the given numbers; ``num_chars`` is the number."""
    numbers = list(numbers)
    vectors = unit(len(numbers)) if vectors is None else vectors
    columns = {field.name: [None if field.nullable else "x"] * len(numbers) for field in table_schema(DIM)}
    columns |= {
        "doc_id": [doc_id(number) for number in numbers],
        "row_sha256": [sha] * len(numbers),
        "num_chars": numbers,
        "metadata": [json.dumps({"pay": number, "city": "Oslo"}) for number in numbers],
        "posted_at": ["2026-01-31"] * len(numbers),
        "words": [f"c++ w{number}" for number in numbers],
        "source": [source] * len(numbers),
        "vector": list(vectors),
    }
    return pa.table(columns, schema=table_schema(DIM))


@pytest.fixture
def table(store):
    return create_table(store, generation="g", kind="job", embedding_dim=DIM)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    table = create_table(LocalStore(tmp_path_factory.mktemp("large")), generation="g", kind="job", embedding_dim=DIM)
    table.upsert([rows(range(2000)), rows(range(2000, 2500), vectors=unit(500, seed=1))])
    return table


def test_reading_returns_all_rows(large):
    found = large.read(["num_chars", "doc_id"])
    assert found.column_names == ["num_chars", "doc_id"]
    assert sorted(found["num_chars"].to_pylist()) == list(range(2500))
    assert large.count() == 2500


def test_reading_with_a_filter_returns_all_rows_that_it_lets_through(large):
    found = large.read(["num_chars"], where="num_chars >= 100 AND source = 'board'")
    assert sorted(found["num_chars"].to_pylist()) == list(range(100, 2500))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(10, 99), limit=st.integers(1, 2600), bound=st.none() | st.integers(1, 2500))
def test_nearest_gives_the_order_of_an_exact_product(large, seed, limit, bound):
    query = unit(1, seed)[0]
    where = None if bound is None else f"num_chars < {bound}"
    found = large.nearest(query, limit=limit, columns=["num_chars"], where=where)
    vectors = np.concatenate([unit(2000), unit(500, seed=1)])[:bound]
    scores = np.sort(vectors @ query)[::-1][:limit]
    assert found.column_names == ["num_chars", "score"]
    assert len(found) == len(scores)
    np.testing.assert_allclose(found["score"].to_numpy(), scores, atol=1e-6)
    np.testing.assert_allclose((vectors @ query)[found["num_chars"].to_numpy()], scores, atol=1e-6)


def test_a_query_of_another_length_is_refused(large):
    with pytest.raises(VectorSpaceError, match="has 3 dimensions; expected 8, as in the table"):
        large.nearest(np.ones(3, np.float32), limit=1, columns=["doc_id"], where="num_chars > 1")


def test_upserting_inserts_replaces_and_leaves_equal_rows_alone(table):
    assert table.upsert([rows([1, 2]), rows([3])]) == 3
    other = unit(3, seed=5)
    assert table.upsert([rows([1], sha="b", source="new", vectors=other[:1]), rows([2, 4], vectors=other[1:])]) == 2
    found = {row["num_chars"]: row for row in table.read(["num_chars", "source", "vector"]).to_pylist()}
    assert {number: row["source"] for number, row in found.items()} == {1: "new", 2: "board", 3: "board", 4: "board"}
    assert found[1]["vector"] == other[0].tolist()
    assert found[2]["vector"] == unit(2)[1].tolist()  # its hash is the same, so the row was not written


def test_opening_or_creating_again_makes_no_version(store, table):
    table.upsert([rows([1])])
    again = create_table(store, generation="g", kind="job", embedding_dim=DIM)
    assert (again.version, again.count(), again.embedding_dim) == (table.version, 1, DIM)
    assert open_table(store, generation="g", kind="job").version == table.version


def test_deleting_removes_the_named_rows_however_many(table):
    table.upsert([rows(range(2500))])
    table.delete([doc_id(number) for number in range(2300)])
    assert sorted(table.read(["num_chars"])["num_chars"].to_pylist()) == list(range(2300, 2500))
    version = table.version
    table.delete([])
    assert table.version == version


def test_a_pinned_table_does_not_see_what_comes_after_it(store, table):
    table.upsert([rows([1])])
    pinned = open_table(store, generation="g", kind="job", version=table.version)
    table.upsert([rows([2])])
    table.delete([doc_id(1)])
    assert pinned.read(["num_chars"])["num_chars"].to_pylist() == [1]
    assert pinned.version < table.version
    table.restore(pinned.version)
    assert table.read(["num_chars"])["num_chars"].to_pylist() == [1]
    table.upsert([rows([3])])  # a restored table can be written to
    assert table.count() == 2


@pytest.mark.parametrize(
    "where",
    [
        "nope = 1",
        "'; DROP TABLE jobs",
        "source = 'board'; DROP TABLE jobs",
        "source = 'board'); DROP TABLE jobs; --",
        "source LIKE",
        "SELECT 1",
        "num_chars > 1 LIMIT 1",
        "num_chars > 1 order by num_chars",
        "count(*) > 1",
        "",
        " ",
        "1",
        "title",
        "num_chars = 'abc'",
        "num_chars / 0 > 1",
        "cast(title as int) > 1",
        "regexp_like(title, '(')",
    ],
)
def test_a_filter_that_cannot_be_used_is_the_callers_mistake_and_changes_nothing(table, where):
    table.upsert([rows([1, 2])])
    table.build_word_index()
    before = table.version
    query = unit(1)[0]
    for call in (
        lambda: table.read(["doc_id"], where=where),
        lambda: table.nearest(query, limit=1, columns=["doc_id"], where=where),
        lambda: table.best_words(["c++"], limit=1, columns=["doc_id"], where=where),
        lambda: list(table.batches(["doc_id"], where=where)),
    ):
        with pytest.raises(InputError, match=r"The filter .* cannot be used: ") as caught:
            call()
        assert "SQL" in caught.value.hint
        assert ".rs" not in str(caught.value)
    assert (table.version, table.count()) == (before, 2)


def test_a_semicolon_inside_of_quotes_is_text(table):
    table.upsert([rows([1], source="a;b"), rows([2], source="it's; c")])
    assert table.read(["num_chars"], where="source <> 'order by limit 1'").num_rows == 2
    assert table.read(["num_chars"], where="source = 'a;b'")["num_chars"].to_pylist() == [1]
    assert table.read(["num_chars"], where="source = 'it''s; c'")["num_chars"].to_pylist() == [2]


@pytest.mark.parametrize(("generation", "kind", "version"), [("g", "resume", None), ("g", "job", 99), ("z", "job", 1)])
def test_a_missing_table_or_version_is_reported_and_nothing_is_made(store, table, generation, kind, version):
    with pytest.raises(StoreError, match=f"Generation {generation} has no table '{kind}s'") as caught:
        open_table(store, generation=generation, kind=kind, version=version)
    assert "l2v generations list" in caught.value.hint
    assert [path.name for path in (store.root / "lance").iterdir()] == ["g"]


def test_a_table_with_vectors_of_another_length_is_not_opened_as_ones_own(store, table):
    with pytest.raises(StoreError, match="has unexpected columns"):
        create_table(store, generation="g", kind="job", embedding_dim=DIM + 1)


def test_a_lost_file_is_a_fault_of_the_store_with_and_without_a_filter(store, table):
    table.upsert([rows([1])])
    for path in (store.root / "lance" / "g" / "jobs.lance" / "data").iterdir():
        path.unlink()
    fresh = open_table(store, generation="g", kind="job")
    for call in (
        lambda: fresh.read(["title"]),
        lambda: fresh.read(["title"], where="title = 'x'"),
        lambda: fresh.nearest(unit(1)[0], limit=1, columns=["title"]),
        lambda: fresh.upsert([rows([1], sha="b")]),
    ):
        with pytest.raises(StoreError, match=r"Could not .* table 'jobs': .*[Nn]ot found") as caught:
            call()
        assert "restore the files" in caught.value.hint


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("json_get_int(metadata, 'pay') >= 2", [2, 3]),
        ("json_get_string(metadata, 'city') = 'Oslo' AND num_chars < 2", [1]),
        ("json_get_string(metadata, 'no such key') = 'x'", []),
        ("posted_at >= '2026-01-31'", [1, 2, 3]),
        ("posted_at > '2026-01-31'", []),
        ("location = 'x'; DROP TABLE jobs'", None),
        ("location = 'x''; DROP TABLE jobs; --'", []),
    ],
)
def test_filters_read_metadata_and_days_and_a_value_is_only_a_value(table, where, expected):
    table.upsert([rows([1, 2, 3])])
    table.build_word_index()
    calls = (
        lambda: table.read(["num_chars"], where=where),
        lambda: table.nearest(unit(1)[0], limit=9, columns=["num_chars"], where=where),
        lambda: table.best_words(["c++"], limit=9, columns=["num_chars"], where=where),
        lambda: pa.Table.from_batches(
            table.batches(["num_chars"], where=where), pa.schema([("num_chars", pa.int64())])
        ),
    )
    for call in calls:
        if expected is None:
            with pytest.raises(InputError, match="cannot be used"):
                call()
        else:
            assert sorted(call()["num_chars"].to_pylist()) == expected
    assert table.count() == 3


ODD_PAY = ("30,000", {"from": 3}, [3], "", None, True, "4", 5.5, 10**25)


def with_pay(values):
    found = rows(range(1, len(values) + 1))
    at = found.schema.get_field_index("metadata")
    metadata = pa.array([json.dumps({"pay": value, "in": {"pay": value}}) for value in values], pa.json_())
    return found.set_column(at, found.schema.field("metadata"), metadata)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("json_get_int(metadata, 'pay') >= 2", [7, 8, 10]),
        ("json_get_int(metadata, 'pay') IS NULL", [1, 2, 3, 4, 5, 9]),
        ("JSON_GET_FLOAT( metadata , 'pay' ) > 5.4", [8, 9, 10]),
        ("json_get_bool(metadata, 'pay')", [6]),
        ("json_get_string(metadata, 'pay') = '4'", [7]),
        ("json_get_int(json_get(metadata, 'in'), 'pay') = 30", [10]),
        ("CAST(json_get_string(metadata, 'pay') AS BIGINT) >= 4", [7, 10]),
        ("CAST(json_extract(metadata, '$.pay') AS DOUBLE) > 5", [8, 9, 10]),
        ("json_get_string(metadata, 'pay') = 'json_get_int(' OR num_chars = 3", [3]),
    ],
)
def test_one_bad_value_is_null_and_the_others_are_filtered(table, where, expected):
    table.upsert([with_pay([*ODD_PAY, 30])])
    table.build_word_index()
    for found in (
        table.read(["num_chars"], where=where),
        table.nearest(unit(1)[0], limit=20, columns=["num_chars"], where=where),
        table.best_words(["c++"], limit=20, columns=["num_chars"], where=where),
    ):
        assert sorted(found["num_chars"].to_pylist()) == expected


def test_rows_with_a_bad_value_are_named(table):
    table.upsert([with_pay(["30,000", *range(3), "x", "y", "z"])])
    (note,) = table.unreadable_values("json_get_int(metadata, 'pay') >= 2 AND json_get_int(metadata, 'pay') < 9")
    assert note.startswith("4 of 7 jobs have a 'pay' that is not an integer; the filter reads it as null: ")
    assert note.endswith(" and 1 more.")
    assert table.unreadable_values("num_chars > 2") == []


def test_an_unknown_column_is_answered_with_the_known_ones(table):
    table.upsert([rows([1])])
    with pytest.raises(InputError, match="salary") as caught:
        table.read(["doc_id"], where="salary > 3")
    assert "employment_type" in caught.value.hint
    assert "json_get_string" in caught.value.hint


def test_words_are_indexed_as_they_are_and_filtered_before_ranking(table):
    texts = [
        "c++ and java",
        "c developer r",
        "c# .net 10+",
        "ci/cd ci cd",
        "it is go",
        "node.js it",
        "t-sql pl/sql b.sc.",
    ]
    part = rows(range(len(texts)))
    part = part.set_column(part.schema.get_field_index("words"), "words", pa.array(texts))
    table.upsert([part])
    assert not table.has_word_index
    assert not table.has_all_words_indexed()
    table.build_word_index()
    assert table.has_all_words_indexed()
    for word, expected in {"c": [1], "c++": [0], "c#": [2], ".net": [2], "r": [1], "go": [4], "it": [4, 5]}.items():
        found = table.best_words([word], limit=9, columns=["num_chars"])["num_chars"].to_pylist()
        assert sorted(found) == expected, word
    found = table.best_words(["it", "java"], limit=1, columns=["num_chars"], where="num_chars = 4")
    assert found["num_chars"].to_pylist() == [4], "the best row is another one, which the filter leaves out"
    for odd in ('"', "AND", "(", "*", "c++:", "\\"):
        assert len(table.best_words([odd], limit=9, columns=["num_chars"])) == 0


def test_rows_that_came_after_the_index_are_found_and_indexed_anew(table):
    table.upsert([rows([1, 2])])
    table.build_word_index()
    table.upsert([rows([3]), rows([1], sha="b")])
    table.delete([doc_id(2)])
    assert not table.has_all_words_indexed()
    assert sorted(table.best_words(["c++"], limit=9, columns=["num_chars"])["num_chars"].to_pylist()) == [1, 3]
    table.build_word_index()
    assert table.has_all_words_indexed()
    assert sorted(table.best_words(["c++"], limit=9, columns=["num_chars"])["num_chars"].to_pylist()) == [1, 3]


def test_an_empty_table_needs_no_index(table):
    assert table.has_all_words_indexed()
    table.build_word_index()
    assert not table.has_word_index


def test_batches_cover_all_rows_or_so_many(large):
    assert sum(len(batch) for batch in large.batches(["doc_id", "vector"])) == 2500
    assert sum(len(batch) for batch in large.batches(["doc_id"], limit=30)) == 30
