"""The record that lets a night without changes open no table: every input of it counts."""

from datetime import date

import pytest

from data.store.base import LocalStore
from tasks.preview.night import _NoLease
from tasks.run.context import Run, utc_now
from tasks.run.reports import EmbedReport, MatchReport
from tasks.run.settings import Settings
from tasks.run.settled import keep_settled, keep_settled_match, settled_match, settled_report

SNAPSHOTS = {"job": "s1", "resume": "s2"}
DATA = "lance/g/jobs.lance/data/a.lance"


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "home")


@pytest.fixture
def run(store):
    return Run("r", Settings(), store, _NoLease(), utc_now)


@pytest.fixture
def pointer(store, make_pointer):
    pointer = make_pointer(snapshots=SNAPSHOTS)
    store.put_if_absent("current.json", pointer.model_dump_json().encode())
    store.put_if_absent(DATA, b"rows")
    return pointer


def report_of(**said):
    counts = dict.fromkeys(("encoded_documents", "encoded_tokens", "truncated_documents"), 7)
    tables = {name: {"job": 3, "resume": 4} for name in ("upserted", "removed", "documents")}
    return EmbedReport(**{"generation": "g", "checkpoint": "f", "seconds": 5.0, **counts, **tables, **said})


def rewrite(store, key, content):
    store.compare_and_swap(key, expected=store.read(key), content=content)


def test_a_settled_state_is_reported_without_work(run, pointer):
    assert settled_report(run, "f", SNAPSHOTS) is None
    keep_settled(run, pointer, report_of(read_tokens={"job": 9}))
    found = settled_report(run, "f", SNAPSHOTS)
    assert (found.encoded_documents, found.upserted, found.documents) == (
        0,
        {"job": 0, "resume": 0},
        {"job": 3, "resume": 4},
    )
    assert found.read_tokens == {"job": 9}
    keep_settled(run, pointer, report_of())


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.delete(DATA),
        lambda store: rewrite(store, DATA, b"row"),
        lambda store: store.put_if_absent("lance/g/resumes.lance/_versions/2.manifest", b"new"),
        lambda store: store.put_if_absent("lance/g/fit.json", b"{}"),
        lambda store: store.put_if_absent("backfill.json", b"{1}"),
        lambda store: rewrite(store, "lance/g/settled.json", b"half a rec"),
        lambda store: rewrite(store, "current.json", store.read("current.json").replace(b'"jobs":1', b'"jobs":2')),
    ],
    ids=["file gone", "file shorter", "new version", "limits of fit", "backfill", "damaged", "pointer"],
)
def test_whatever_changed_in_the_home_is_looked_at(run, store, pointer, change):
    keep_settled(run, pointer, report_of())
    assert settled_report(run, "f", SNAPSHOTS) is not None
    change(store)
    assert settled_report(run, "f", SNAPSHOTS) is None


@pytest.mark.parametrize("settings", [{"gate": {"max_unusable_share": 0.5}}, {"encode": {"long_texts": "cut"}}])
def test_other_settings_documents_and_encoders_are_looked_at(run, store, pointer, settings):
    keep_settled(run, pointer, report_of())
    other = Run("r", Settings(**settings), store, _NoLease(), utc_now)
    assert settled_report(other, "f", SNAPSHOTS) is None
    assert settled_report(run, "f", {**SNAPSHOTS, "job": "s3"}) is None
    assert settled_report(run, "other", SNAPSHOTS) is None


def test_documents_without_a_vector_are_looked_at_every_night(run, pointer):
    keep_settled(run, pointer, report_of(no_vector={"job": 1}, no_vector_documents=["board/17"]))
    assert settled_report(run, "f", SNAPSHOTS) is None


def test_matches_are_valid_until_a_job_expires(store, pointer):
    report = MatchReport(match="m", jobs=3, resumes=4, rows=12, reused=False, seconds=2.0)
    first, last = date(2026, 11, 30), date(2026, 12, 5)
    keep_settled_match(store, pointer, {"top_k": 3}, report, since=first, until=last)
    found = settled_match(store, pointer, {"top_k": 3}, last)
    assert (found.match, found.reused, found.seconds) == ("m", True, 0.0)
    assert settled_match(store, pointer, {"top_k": 3}, date(2026, 12, 6)) is None
    assert settled_match(store, pointer, {"top_k": 3}, date(2026, 11, 29)) is None, "a clock that was set back"
    assert settled_match(store, pointer, {"top_k": 4}, last) is None
    keep_settled_match(store, pointer, {"top_k": 3}, report, since=first, until=None)
    assert settled_match(store, pointer, {"top_k": 3}, date(2030, 1, 1)) is not None
