"""Groups of similar documents: duplicates of a posting, and versions of one person's resume."""

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.config import CleanConfig, RedactConfig, ShrinkConfig, SourceConfig
from data.redaction.contact_keys import CONTACT_BYTES, KEY_BYTES, persons_of_contact
from data.snapshots.build import build_snapshot
from data.snapshots.similar import (
    MAX_OF_ONE_PERSON,
    Links,
    days_of,
    group_keys,
    places_by_age,
    places_without,
    with_places,
)
from data.store.base import LocalStore

NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)
TRADES = ["baker of rye bread", "welder of ship hulls", "teacher of small classes", "nurse on a night ward", "florist"]


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "home")


def build(store, path, rows, *, kind="resume", redact=RedactConfig()):  # noqa: B008
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return build_snapshot(
        store,
        kind=kind,
        sources={"board": SourceConfig(path=str(path), kind=kind)},
        clean=CleanConfig(),
        redact=redact,
        run_id="run",
        fence=lambda: None,
        now=NOW,
        shrink=ShrinkConfig(max_shrink=1.0),
    )


def resume(number, head, *, trade=None, **further):
    return {"id": str(number), "text": f"{head}\nProfile\nA {trade or TRADES[number % 5]}, year {number}.", **further}


def groups(snapshot):
    """Lists of source ids, newest first, of the documents that have similar ones."""
    rows = [row for row in snapshot.table().to_pylist() if row["similar_order"] is not None]
    found = {}
    for row in sorted(rows, key=lambda row: row["similar_order"]):
        found.setdefault(row["similar_to"] or row["doc_id"], []).append(row["source_id"])
    assert all(key in {row["doc_id"] for row in rows} for key in found)
    return sorted(found.values())


def test_resumes_with_the_same_address_or_telephone_number_are_of_one_person(store, tmp_path):
    rows = [
        resume(1, "E-mail: Anna.Kern@example.org"),
        resume(2, "Phone: +49 170 1234567"),
        resume(3, "anna.kern@example.org | 0170 1234567"),
        resume(4, "E-mail: ben@example.org"),
        resume(5, "A head without contacts"),
        resume(6, "", email="BEN@example.org"),
    ]
    snapshot = build(store, tmp_path / "a.jsonl", rows)
    assert groups(snapshot) == [["3", "2", "1"], ["6", "4"]]
    assert snapshot.manifest.totals.rows_near_duplicate == 0
    stored = b"".join(store.read(key) for key in store.list("snapshots"))
    for value in (b"kern", b"1701234567", b"ben@"):
        assert value not in stored.lower()


def test_the_newest_comes_by_date_and_otherwise_by_the_order_of_the_rows(store, tmp_path):
    head = "E-mail: anna@example.org"
    rows = [
        resume(1, head),
        resume(2, head, updated_at="2026-02-01"),
        resume(3, head, updated_at="2025-02-01", posted_at="2024-01-01"),
        resume(4, head, updated_at="3/4/2026"),
        resume(5, head),
    ]
    assert groups(build(store, tmp_path / "a.jsonl", rows)) == [["2", "3", "5", "4", "1"]]


def test_contacts_of_referees_employers_and_agencies_join_nobody(store, tmp_path):
    referee = "\nReferences\nDr. Roth, roth@example.org, +44 20 7946 0958"
    rows = [{"id": str(number), "text": f"A {TRADES[number]} of year {number}.{referee}"} for number in range(2)]
    rows += [resume(number, f"mail{number}@example.org", recruiter_email="hr@example.org") for number in (2, 3)]
    rows += [
        {"id": str(number), "text": f"{TRADES[number % 5]}\nExperience\n{number} years, tel +44 20 7946 0999"}
        for number in (4, 5)
    ]
    many = MAX_OF_ONE_PERSON + 1
    rows += [
        resume(10 + n, "Agency: desk@example.org", trade=f"worker {n} {n * n} in {n + 7} towns") for n in range(many)
    ]
    assert groups(build(store, tmp_path / "a.jsonl", rows)) == []


SWITCHBOARD = "+44 20 7946 0958"


def test_a_switchboard_or_an_agency_joins_nobody_but_versions_of_one_person(store, tmp_path):
    """A shared contact joins resumes whose names have a part in common."""
    names = ["Anna Kern", "Ben Osei", "Clara Nowak", "Ms Anna Maria Kern"]
    heads = [f"{name}\nPhone: {SWITCHBOARD} | E-mail: desk@agency.example.org" for name in names]
    rows = [resume(number, head) for number, head in enumerate(heads)]
    assert groups(build(store, tmp_path / "a.jsonl", rows)) == [["3", "0"]]
    # Names in fields of the source, in another order, and an unknown one: three persons, so it belongs to nobody.
    fields = [{"name": "Kern, Anna"}, {"first_name": "Anna", "last_name": "Kern"}, {"name": "Ben Osei"}, {}]
    rows = [resume(number, "", phone="0170 1234567", **each) for number, each in enumerate(fields)]
    assert groups(build(LocalStore(tmp_path / "b"), tmp_path / "b.jsonl", rows)) == [["1", "0"]]


def test_one_name_takes_resumes_without_a_name_along(store, tmp_path):
    rows = [
        resume(1, "Anna Kern\nPhone: 0170 1234567"),
        resume(2, "Phone: 0170 1234567"),
        resume(3, f"Phone: {SWITCHBOARD}"),
        resume(4, f"Phone: {SWITCHBOARD}"),
    ]
    assert groups(build(store, tmp_path / "a.jsonl", rows)) == [["2", "1"]], "a fixed line without a name is left out"


@given(st.lists(st.sampled_from([b"\0\0\0\0", b"AABB", b"AACC", b"DDCC", b"EEFF", b"EEEE"]), max_size=8))
def test_keys_of_one_contact_are_split_by_name(marks):
    found = persons_of_contact([b"c" * CONTACT_BYTES + each for each in marks])
    assert sorted(at for group in found for at in group) == sorted({at for group in found for at in group})
    assert all(len(group) > 1 and group == sorted(group) for group in found)
    place = {at: number for number, group in enumerate(found) for at in group}
    persons = {0 if set(each) & set(b"ABCD") else 1 for each in marks if any(each)}
    linked = {at for at, each in enumerate(marks) if set(each) & set(b"EF")}
    assert len({place.get(at, -1 - at) for at in linked}) == (1 if linked else 0)
    nameless = [at for at, each in enumerate(marks) if not any(each)]
    if len(persons) == 2:
        assert not place.keys() & set(nameless)


def test_a_chain_of_near_duplicates_and_contacts_is_one_group(store, tmp_path):
    words = [f"w{number}" for number in range(300)]
    near = [*words[:-1], "other"]
    rows = [
        {"id": "1", "text": " ".join(words)},
        {"id": "2", "text": " ".join(near), "email": "anna@example.org"},
        {"id": "3", "text": " ".join(near)},
        resume(4, "anna@example.org"),
        {"id": "5", "text": "Another text."},
    ]
    assert groups(build(store, tmp_path / "a.jsonl", rows)) == [["4", "3", "2", "1"]]


def test_postings_are_similar_by_their_text_only(store, tmp_path):
    text = "A shop needs somebody who sells bread. Write to jobs@example.org."
    rows = [{"id": str(n), "text": text, "posted_at": f"2026-01-{31 - n}"} for n in range(12)]
    rows += [{"id": "x", "text": "A bank needs a guard. Write to jobs@example.org."}]
    (group,) = groups(build(store, tmp_path / "a.jsonl", rows, kind="job"))
    assert group == [str(n) for n in range(12)]


def test_a_changed_contact_makes_a_new_snapshot_and_an_unchanged_home_does_not(store, tmp_path):
    path = tmp_path / "a.jsonl"
    first = build(store, path, [resume(1, "a@example.org"), resume(2, "b@example.org")])
    assert groups(first) == []
    second = build(store, path, [resume(1, "a@example.org"), resume(2, "a@example.org")])
    assert groups(second) == [["2", "1"]]
    assert build(store, path, [resume(1, "a@example.org"), resume(2, "a@example.org")]).manifest == second.manifest
    third = build(store, path, [resume(1, "a@example.org"), resume(2, "a@example.org"), resume(3, "a@example.org")])
    assert groups(third) == [["3", "2", "1"]]
    other = build(LocalStore(tmp_path / "other"), path, [resume(1, "a@example.org"), resume(2, "a@example.org")])
    assert other.manifest.id == second.manifest.id  # the secret of the store has no effect


def test_contacts_that_are_not_redacted_are_no_keys(store, tmp_path):
    redact = RedactConfig(resume=("name",))
    rows = [resume(1, "a@example.org"), resume(2, "a@example.org")]
    assert groups(build(store, tmp_path / "a.jsonl", rows, redact=redact)) == []


@given(
    edges=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40),
    holders=st.lists(st.lists(st.integers(0, 5), max_size=2), min_size=31, max_size=31),
    days=st.lists(st.integers(0, 3), min_size=31, max_size=31),
)
def test_groups_are_the_connected_parts(edges, holders, days):
    links = Links()
    for edge in edges:
        links.join(*edge)
    keys = [b"".join(bytes([key + 1]) * KEY_BYTES for key in sorted(set(held))) for held in holders]
    for start in range(0, 31, 10):
        links.add_contacts(keys[start : start + 10], start=start)
    neighbours = {row: {row} for row in range(31)}
    shared = [[row for row, held in enumerate(holders) if key in held] for key in range(6)]
    pairs = [*edges, *((rows[0], other) for rows in shared if 1 < len(rows) <= MAX_OF_ONE_PERSON for other in rows)]
    for _ in range(31):
        for a, b in pairs:
            neighbours[a] = neighbours[b] = neighbours[a] | neighbours[b]
    rows, firsts = links.groups()
    assert dict(zip(rows.tolist(), firsts.tolist(), strict=True)) == {
        row: min(neighbours[row]) for row in sorted({row for pair in pairs for row in pair})
    }
    ages = np.array(days)[rows] if len(rows) else np.zeros(0, np.int64)
    places = places_by_age(rows, firsts, ages)
    for first in set(firsts.tolist()):
        members = np.flatnonzero(firsts == first)
        by_place = members[np.argsort(places[members])]
        assert sorted(places[members].tolist()) == list(range(1, len(members) + 1))
        newest_first = [(-ages[at], -rows[at]) for at in by_place]
        assert newest_first == sorted(newest_first)


def test_days_are_read_from_the_metadata():
    assert days_of(['{"updated_at": "2026-01-02", "posted": "2026-01-01"}', "{}"]).tolist() == [739618, 0]


def test_similar_documents_move_up_when_one_is_erased():
    members = pa.table(
        {
            "doc_id": ["a", "b", "c", "d", "e"],
            "similar_to": [None, "a", "a", None, "d"],
            "similar_order": pa.array([3, 1, 2, 1, 2], pa.int32()),
        }
    )
    assert group_keys(members["doc_id"], members["similar_to"]) == ["a", "a", "a", "d", "d"]
    assert places_without(members, {"a"}) == {"b": (None, 1), "c": ("b", 2)}
    assert places_without(members, {"b"}) == {"c": ("a", 1), "a": (None, 2)}
    assert places_without(members, {"e", "d"}) == {}
    places = places_without(members, {"b", "c", "d"})
    assert places == {"a": (None, None), "e": (None, None)}
    left = with_places(members, places).to_pylist()
    assert (left[0]["similar_order"], left[4]["similar_to"], left[1]["similar_to"]) == (None, None, "a")
