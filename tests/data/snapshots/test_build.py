import errno
import io
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.config import CleanConfig, RedactConfig, ShrinkConfig, SourceConfig
from data.errors import ConflictError, FencedError, InputError, SourceShrankError, StoreError
from data.schema import DOCUMENT_SCHEMA, QUARANTINE_SCHEMA, document_id
from data.snapshots import build as module
from data.snapshots import carried, parts
from data.snapshots.build import build_snapshot
from data.snapshots.snapshot import latest_snapshot, open_snapshot
from data.store.base import LocalStore
from tests.data.documents.extract.test_pdf import write_pdf

NOW = datetime(2026, 3, 1, 2, tzinfo=UTC)
SHARED = Path(__file__).parents[3].parent / "shared" / "data"


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "var")


def posting(number, **more):
    return {"id": f"{number}", "title": "Nurse", "text": f"Ward {number} looks for a nurse.", **more}


def write(path, rows):
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def build(store, *, clean=None, fence=lambda: None, run_id="run-1", on_progress=None, kind="job", **sources):
    return build_snapshot(
        store,
        kind=kind,
        sources={name: SourceConfig(kind=kind, path=str(path)) for name, path in sources.items()},
        clean=clean or CleanConfig(),
        run_id=run_id,
        fence=fence,
        now=NOW,
        on_progress=on_progress,
    )


def ids(snapshot, source=None):
    return [row["source_id"] for batch in snapshot.batches(source=source) for row in batch.to_pylist()]


def reasons(snapshot):
    return [(row["row"], row["reason"]) for row in snapshot.quarantine().to_pylist()]


def state(store):
    return {key: store.read(key) for key in store.list("snapshots")}


# --- what a snapshot holds --------------------------------------------------------------------------------------------


def test_a_snapshot_holds_documents_quarantine_and_counts(store, tmp_path):
    rows = [posting(1), b'{"id": "2', posting(3, pay=5), posting(4, text="")]
    seen = []
    snapshot = build(store, board=write(tmp_path / "a.jsonl", rows), on_progress=seen.append)
    manifest = snapshot.manifest
    assert manifest.sources["board"].model_dump(exclude={"path", "raw_sha256"}) == {
        "rows_in": 4,
        "rows_kept": 2,
        "rows_quarantined": 2,
        "rows_duplicate": 0,
        "rows_near_duplicate": 0,
        "marks": {},
        "notes": {},
        "skipped": {},
        "num_skipped": 0,
        "unreadable_values": {},
        "rows_replaced": 0,
    }
    assert (manifest.totals.rows_in, manifest.num_documents, manifest.parent, manifest.run_id) == (4, 2, None, "run-1")
    assert manifest.created_at == "2026-03-01T02:00:00+00:00"
    assert reasons(snapshot) == [(2, "bad_json"), (4, "empty_text")]
    assert seen[-1] == 4
    assert latest_snapshot(store, "job").manifest == manifest
    assert open_snapshot(store, "job", manifest.id).manifest == manifest
    assert latest_snapshot(store, "resume") is None
    assert list(store.list("tmp")) == []


def test_a_snapshot_says_what_was_marked_passed_over_and_decided(store, tmp_path):
    folder = tmp_path / "cvs"
    folder.mkdir()
    (folder / "anna.html").write_text("<html><body><p>Bakes bread.</p><p hidden>python</p></body></html>")
    (folder / "ben.rtf").write_text(r"{\rtf1 Sells bread}")
    (folder / "carl.docx").write_text(r"{\rtf1 Eats bread}")
    for name in ("Thumbs.db", "~$anna.docx", "~$ben.docx"):
        (folder / name).write_bytes(b"x")
    (folder / "old.doc").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
    manifest = build(store, kind="resume", cvs=folder).manifest
    counts = manifest.sources["cvs"]
    assert (counts.rows_in, counts.rows_kept, counts.rows_quarantined) == (4, 3, 1)
    assert counts.marks == {"hidden_text": 1}
    assert counts.notes == {"docx by its name, read as rtf": 1}
    assert counts.skipped == {"Thumbs.db": "a file of the operating system", "*.docx": "a hidden file"}
    assert counts.num_skipped == 3
    later = build(store, kind="resume", other=write(tmp_path / "b.jsonl", [posting(1)])).manifest
    assert later.sources["cvs"] == counts


def test_a_manifest_with_settings_of_an_earlier_version_is_read(store, tmp_path):
    """Settings became constants; the homes that name them open."""
    snapshot = build(store, a=write(tmp_path / "a.jsonl", [posting(1)]))
    path = store.local_path(f"snapshots/job/{snapshot.manifest.id}/manifest.json")
    record = json.loads(path.read_text())
    record["clean"]["near_duplicate_threshold"] = 0.9
    path.write_text(json.dumps(record))
    assert latest_snapshot(store, "job").manifest == snapshot.manifest


def test_files_have_the_schemas_and_can_be_read_by_anybody(store, tmp_path):
    snapshot = build(store, board=write(tmp_path / "a.jsonl", [posting(1), b"[]"]))
    folder = store.local_path(f"snapshots/job/{snapshot.manifest.id}")
    documents = pq.read_table(folder / "documents" / "part-00000.parquet")
    assert documents.schema.equals(DOCUMENT_SCHEMA, check_metadata=True)
    assert pq.read_table(folder / "quarantine" / "part-00000.parquet").schema.equals(QUARANTINE_SCHEMA)
    assert snapshot.table().equals(documents)
    assert snapshot.quarantine().schema.equals(QUARANTINE_SCHEMA)


def test_columns_come_in_the_order_asked_for(store, tmp_path):
    snapshot = build(store, board=write(tmp_path / "a.jsonl", [posting(1)]))
    assert snapshot.table(["text", "doc_id"]).to_pylist() == [
        {"text": "Ward 1 looks for a nurse.", "doc_id": document_id("board", "1")}
    ]
    with pytest.raises(InputError, match="no column 'vector'"):
        snapshot.table(["vector"])


def test_parts_are_bounded_in_rows_and_characters(store, tmp_path, monkeypatch):
    path = write(tmp_path / "a.jsonl", [posting(number) for number in range(10)])
    monkeypatch.setattr(parts, "PART_ROWS", 4)
    snapshot = build(store, board=path)
    assert [part.num_rows for part in snapshot.manifest.documents] == [4, 4, 2]
    assert ids(snapshot) == [str(number) for number in range(10)]
    monkeypatch.setattr(parts, "PART_CHARS", 1)
    assert len(build(store, board=path, other=path).manifest.documents) == 20


def test_parquet_and_jsonl_of_the_same_rows_give_the_same_documents(tmp_path):
    rows = [posting(number) for number in range(5)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    snapshots = [
        build(LocalStore(tmp_path / name), board=path)
        for name, path in [("x", tmp_path / "a.parquet"), ("y", write(tmp_path / "a.jsonl", rows))]
    ]
    assert snapshots[0].manifest.id == snapshots[1].manifest.id
    assert snapshots[0].table().equals(snapshots[1].table())


# --- ids and duplicates -----------------------------------------------------------------------------------------------


def test_duplicate_ids_keep_the_first_also_across_files(store, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder / "a.jsonl", [posting(1), posting(1, text="Other."), posting(2)])
    write(folder / "b.jsonl", [posting(2), posting(1, pay=9), posting(3)])
    snapshot = build(store, board=folder)
    assert ids(snapshot) == ["1", "2", "3"]
    found = [(row["file"], row["row"], row["reason"], row["detail"]) for row in snapshot.quarantine().to_pylist()]
    assert [row[:3] for row in found] == [
        ("a.jsonl", 2, "duplicate_id"),
        ("b.jsonl", 1, "repeated_row"),
        ("b.jsonl", 2, "duplicate_id"),
    ]
    assert "other text" in found[0][3]
    assert "other metadata" in found[2][3]


def test_two_sources_may_have_the_same_id(store, tmp_path):
    path = write(tmp_path / "a.jsonl", [posting(1)])
    snapshot = build(store, one=path, two=path)
    first, second = snapshot.table().to_pylist()
    assert first["doc_id"] != second["doc_id"]
    assert (first["duplicate_of"], second["duplicate_of"]) == (None, first["doc_id"])


def test_duplicates_are_kept_and_marked_by_source_and_row(store, tmp_path):
    words = [f"w{number}" for number in range(300)]
    text, near = " ".join(words), " ".join([*words[:-1], "other"])
    one = write(tmp_path / "1.jsonl", [posting(1, text=text), posting(2, text=near), posting(3, text=text)])
    two = write(tmp_path / "2.jsonl", [posting(1, text=near), posting(2, text="Another.")])
    snapshot = build(store, b_two=two, a_one=one)
    marks = [
        (row["source"], row["source_id"], row["duplicate_of"], row["near_duplicate_of"])
        for row in snapshot.table().to_pylist()
    ]
    first, second = document_id("a_one", "1"), document_id("a_one", "2")
    assert marks == [
        ("a_one", "1", None, None),
        ("a_one", "2", None, first),
        ("a_one", "3", first, None),
        ("b_two", "1", second, None),
        ("b_two", "2", None, None),
    ]
    assert (snapshot.manifest.totals.rows_duplicate, snapshot.manifest.totals.rows_near_duplicate) == (2, 1)
    assert snapshot.manifest.totals.rows_kept == 5
    plain = build(store, b_two=two, a_one=one, clean=CleanConfig(near_duplicates=False))
    assert plain.manifest.id != snapshot.manifest.id
    assert plain.manifest.totals.rows_near_duplicate == 0


# --- replacing, carrying over, repeating ------------------------------------------------------------------------------


def test_a_listed_source_is_replaced_and_the_others_are_carried_over(store, tmp_path):
    one = write(tmp_path / "1.jsonl", [posting(1), posting(2), b"[]"])
    two = write(tmp_path / "2.jsonl", [posting(2), posting(7), b"no"])
    first = build(store, one=one, two=two)
    assert first.manifest.sources["two"].rows_duplicate == 1
    write(one, [posting(1), posting(3)])
    two.unlink()
    second = build(store, one=one, run_id="run-2")
    assert second.manifest.parent == first.manifest.id
    assert ids(second) == ["1", "3", "2", "7"]
    # The original of the duplicate is gone: the marks are those of the new union.
    assert second.manifest.sources["two"].model_dump() == {
        **first.manifest.sources["two"].model_dump(),
        "rows_duplicate": 0,
    }
    assert reasons(second) == [(3, "bad_json")]
    assert ids(first) == ["1", "2", "2", "7"]
    both = build(LocalStore(store.root / "fresh"), one=one, two=write(two, [posting(2), posting(7), b"no"]))
    assert both.manifest.id == second.manifest.id


def test_an_unchanged_source_writes_nothing(store, tmp_path):
    path = write(tmp_path / "a.jsonl", [posting(1), b"no"])
    first = build(store, board=path)
    before = state(store)
    again = build(store, board=path, run_id="run-2", fence=lambda: pytest.fail("nothing is committed"))
    assert again.manifest == first.manifest
    assert state(store) == before


def test_a_source_that_returns_to_former_content_gets_the_former_snapshot(store, tmp_path):
    path = write(tmp_path / "a.jsonl", [posting(1)])
    first = build(store, board=path)
    write(path, [posting(2)])
    assert build(store, board=path).manifest.id != first.manifest.id
    write(path, [posting(1)])
    assert build(store, board=path).manifest == first.manifest
    assert latest_snapshot(store, "job").manifest == first.manifest


def test_kinds_are_apart(store, tmp_path):
    path = write(tmp_path / "a.jsonl", [posting(1)])
    job, resume = build(store, board=path), build(store, kind="resume", board=path)
    assert job.manifest.id != resume.manifest.id
    assert latest_snapshot(store, "job").manifest.kind == "job"
    with pytest.raises(InputError, match="holds documents of kind 'job'; expected 'resume'"):
        build_snapshot(
            store,
            kind="resume",
            sources={"board": SourceConfig(kind="job", path=str(path))},
            clean=CleanConfig(),
            run_id="r",
            fence=lambda: None,
            now=NOW,
        )


# --- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([b"no", b"[]", b"[]"], r"None of the 3 rows of 'board' became a job document; reasons: not_an_object \(2\)"),
        ([b'{"id": 1, "body": "x"}'], "no text column"),
        ([posting(1, text=" ")], "empty_text"),
    ],
)
def test_nothing_to_embed_is_the_callers_mistake_and_changes_nothing(store, tmp_path, rows, message):
    path = write(tmp_path / "a.jsonl", [posting(1)])
    build(store, board=path)
    before = state(store)
    write(path, rows)
    with pytest.raises(InputError, match=message):
        build(store, board=path)
    assert state(store) == before


def test_a_fault_in_one_source_changes_nothing(store, tmp_path):
    good = write(tmp_path / "a.jsonl", [posting(1)])
    with pytest.raises(InputError, match=r"gone.csv' does not exist"):
        build(store, good=good, zz=tmp_path / "gone.csv")
    assert state(store) == {}


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "target", ["pyarrow.parquet.write_table", "data.store.base._write_synced", "data.store.base.os.link"]
)
def test_a_full_disk_leaves_the_former_snapshot(store, tmp_path, monkeypatch, target):
    path = write(tmp_path / "a.jsonl", [posting(1)])
    first = build(store, board=path)
    write(path, [posting(2)])
    with monkeypatch.context() as patch:
        patch.setattr(target, full_disk)
        with pytest.raises(StoreError, match="No space left on device") as caught:
            build(store, board=path)
    assert "Free disk space" in caught.value.hint
    assert latest_snapshot(store, "job").manifest == first.manifest
    assert ids(latest_snapshot(store, "job")) == ["1"]
    assert list(store.list("tmp")) == []
    assert ids(build(store, board=path)) == ["2"]


class FullDisk(io.BytesIO):
    """Takes the first bytes, then has no space left."""

    def write(self, content):
        if self.tell() > 100:
            full_disk()
        return super().write(content)


def test_a_disk_that_fills_up_inside_of_arrows_writer_is_reported(store, tmp_path, monkeypatch):
    real = pq.write_table
    monkeypatch.setattr(pq, "write_table", lambda table, path, **options: real(table, FullDisk(), **options))
    with pytest.raises(StoreError, match="Could not write the job snapshot: No space left"):
        build(store, board=write(tmp_path / "a.jsonl", [posting(1)]))
    assert state(store) == {}


@pytest.mark.parametrize("step", range(5))
def test_a_crash_at_any_put_leaves_the_former_snapshot_and_a_repeat_completes(
    store, tmp_path, monkeypatch, killed_at, step
):
    path = write(tmp_path / "a.jsonl", [posting(1)])
    first = build(store, board=path)
    monkeypatch.setattr(parts, "PART_ROWS", 1)
    write(path, [posting(2), posting(3), b"no"])
    with killed_at(store, step):
        build(store, board=path)
    assert latest_snapshot(store, "job").manifest == first.manifest
    assert ids(build(store, board=path)) == ["2", "3"]
    assert ids(latest_snapshot(store, "job")) == ["2", "3"]


def test_a_part_that_an_interrupted_build_left_otherwise_is_replaced(store, tmp_path):
    path = write(tmp_path / "a.jsonl", [posting(1)])
    wanted = build(LocalStore(tmp_path / "elsewhere"), board=path).manifest
    store.put_if_absent(f"snapshots/job/{wanted.id}/documents/part-00000.parquet", b"written by another version")
    assert ids(build(store, board=path)) == ["1"]


def test_a_lost_lease_stops_the_commit(store, tmp_path):
    path = write(tmp_path / "a.jsonl", [posting(1)])
    first = build(store, board=path)
    write(path, [posting(2)])

    def fence():
        raise FencedError("A newer writer took over.")

    with pytest.raises(FencedError):
        build(store, board=path, fence=fence)
    assert latest_snapshot(store, "job").manifest == first.manifest


def test_another_writer_in_between_is_noticed(store, tmp_path):
    path, other = write(tmp_path / "a.jsonl", [posting(1)]), write(tmp_path / "b.jsonl", [posting(2)])
    with pytest.raises(ConflictError):
        build(store, board=path, fence=lambda: build(store, other=other))
    assert ids(latest_snapshot(store, "job")) == ["2"]


def test_an_unknown_snapshot_names_the_known_ones(store, tmp_path):
    known = build(store, board=write(tmp_path / "a.jsonl", [posting(1)])).manifest.id
    with pytest.raises(InputError, match=f"no job snapshot 'abc'; known ids: {known}"):
        open_snapshot(store, "job", "abc")


def test_a_flipped_bit_never_changes_what_is_read(store, tmp_path):
    snapshot = build(store, board=write(tmp_path / "a.jsonl", [posting(number) for number in range(100)]))
    wanted = snapshot.table()
    part = store.local_path(f"snapshots/job/{snapshot.manifest.id}/{snapshot.manifest.documents[0].file}")
    content = part.read_bytes()
    num_found = 0
    for position in range(0, len(content), 101):
        flipped = bytearray(content)
        flipped[position] ^= 0xFF
        part.write_bytes(flipped)
        try:
            assert snapshot.table().equals(wanted)  # the flipped byte was one that reading ignores
        except StoreError:
            num_found += 1
    assert num_found > 10


def test_damage_is_found(store, tmp_path):
    manifest = build(store, board=write(tmp_path / "a.jsonl", [posting(number) for number in range(100)])).manifest
    folder = store.local_path(f"snapshots/job/{manifest.id}")
    part = folder / manifest.documents[0].file
    content = part.read_bytes()
    part.write_bytes(content[:-10])
    with pytest.raises(StoreError, match="damaged or missing: found"):
        latest_snapshot(store, "job")
    part.unlink()
    with pytest.raises(StoreError, match="found nothing") as caught:
        open_snapshot(store, "job", manifest.id)
    assert "backup" in caught.value.hint
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(StoreError, match=r"manifest.json is damaged"):
        latest_snapshot(store, "job")
    (folder / "manifest.json").unlink()
    with pytest.raises(StoreError, match=r"latest.json is damaged"):
        latest_snapshot(store, "job")
    (folder.parent / "latest.json").write_text("no json")
    with pytest.raises(StoreError, match=r"latest.json is damaged"):
        latest_snapshot(store, "job")


@pytest.mark.parametrize(("sources", "now"), [({}, NOW), ({" ": "a"}, NOW), ({"a": "a"}, datetime(2026, 3, 1))])  # noqa: DTZ001
def test_a_wrong_request_is_the_callers_mistake(store, sources, now):
    with pytest.raises(InputError):
        build_snapshot(
            store,
            kind="job",
            sources={name: SourceConfig(kind="job", path=path) for name, path in sources.items()},
            clean=CleanConfig(),
            run_id="r",
            fence=lambda: None,
            now=now,
        )


# --- properties -------------------------------------------------------------------------------------------------------

texts = st.sampled_from(["Nurse.", "Welder.", "", " ", "a\0b", None, 5, "x" * 300]) | st.text(max_size=20)
good = st.builds(posting, st.integers(0, 6))
mixed = st.dictionaries(st.sampled_from(["id", "title", "text", "pay"]), texts)
bad = st.sampled_from([b'{"id": "1', b"[]", b'{"id": "\xff"}', b"\x00", b'{"text": "x"}'])
row_lists = st.lists(good | mixed | bad, min_size=1, max_size=12)
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
@given(one=row_lists, two=row_lists, three=row_lists)
def test_no_row_is_lost_whatever_comes(tmp_path_factory, one, two, three):
    root = tmp_path_factory.mktemp("rows")
    anchor = posting("anchor")
    paths = {"one": write(root / "1.jsonl", [anchor, *one]), "two": write(root / "2.jsonl", [anchor, *two])}
    clean = CleanConfig(max_chars=200)
    first = build(LocalStore(root / "var"), clean=clean, **paths)
    check_counts(first, {"one": 1 + len(one), "two": 1 + len(two)})
    same = build(LocalStore(root / "other"), clean=clean, **dict(reversed(paths.items())))
    assert same.manifest.id == first.manifest.id
    assert same.table().equals(first.table())
    write(paths["one"], [anchor, *three])
    replaced = build(LocalStore(root / "var"), clean=clean, one=paths["one"])
    check_counts(replaced, {"one": 1 + len(three), "two": 1 + len(two)})
    assert ids(replaced, "two") == ids(first, "two")
    fresh = build(LocalStore(root / "third"), clean=clean, **paths)
    assert fresh.manifest.id == replaced.manifest.id
    assert fresh.table().equals(replaced.table())


def check_counts(snapshot, rows_in):
    documents, rejected = snapshot.table().to_pylist(), snapshot.quarantine().to_pylist()
    kept = Counter(row["source"] for row in documents)
    quarantined = Counter(row["source"] for row in rejected)
    for name, counts in snapshot.manifest.sources.items():
        assert counts.rows_in == rows_in[name] == counts.rows_kept + counts.rows_quarantined
        assert (counts.rows_kept, counts.rows_quarantined) == (kept[name], quarantined[name])
    assert len({row["doc_id"] for row in documents}) == len(documents)
    firsts = {row["doc_id"] for row in documents if row["duplicate_of"] is None}
    assert all(row["duplicate_of"] in firsts for row in documents if row["duplicate_of"])


# --- real data --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the development data is not beside this checkout")
def test_the_development_corpora_are_ingested_without_losing_a_row(store):
    corpora = SHARED / "corpora"
    jobs = build(store, dfe=corpora / "jobs_dfe.jsonl", nhs=corpora / "jobs_nhs.jsonl")
    resumes = build(store, kind="resume", livecareer=corpora / "resumes_livecareer.jsonl")
    check_counts(jobs, {"dfe": 47, "nhs": 4695})
    check_counts(resumes, {"livecareer": 2000})
    assert jobs.manifest.totals.rows_quarantined == 0
    assert reasons(resumes) == [(1269, "empty_text")]
    assert 50 < jobs.manifest.totals.rows_near_duplicate < 300


# --- a source that shrinks --------------------------------------------------------------------------------------------


def shrinking(store, tmp_path, before, after, **limits):
    build(
        store,
        board=write(tmp_path / "board.jsonl", [posting(number) for number in range(before)]),
        other=write(tmp_path / "other.jsonl", [posting(n) for n in range(1000, 1100)]),
    )
    rows = [posting(number) for number in range(after)] or [posting(0, text="")]
    write(tmp_path / "board.jsonl", rows)
    return build_snapshot(
        store,
        kind="job",
        sources={"board": SourceConfig(kind="job", path=str(tmp_path / "board.jsonl"))},
        clean=CleanConfig(),
        run_id="run-2",
        fence=lambda: None,
        now=NOW,
        shrink=ShrinkConfig(**limits),
    )


def test_a_source_that_lost_too_much_is_refused_until_it_is_confirmed(store, tmp_path):
    with pytest.raises(SourceShrankError, match=r"'board' had 100 documents and has 60 now: 40% fewer") as caught:
        shrinking(store, tmp_path, 100, 60)
    assert "--allow-shrink board" in caught.value.hint
    assert latest_snapshot(store, "job").manifest.num_documents == 200
    assert shrinking(store, tmp_path, 100, 60, allow_shrink=("board",)).manifest.num_documents == 160


def test_a_source_that_lost_everything_is_refused_too(store, tmp_path):
    with pytest.raises(SourceShrankError, match="has 0 now: 100% fewer"):
        shrinking(store, tmp_path, 100, 0)


@pytest.mark.parametrize(
    ("before", "after", "judged_from", "limits"),
    [(100, 71, 50, {}), (40, 5, 50, {}), (100, 60, 50, {"max_shrink": 0.5}), (60, 1, 61, {})],
)
def test_small_sources_and_small_losses_pass(store, tmp_path, monkeypatch, before, after, judged_from, limits):
    monkeypatch.setattr(module, "SHRINK_FROM", judged_from)
    assert shrinking(store, tmp_path, before, after, **limits).manifest.sources["board"].rows_kept == after


# --- a source that is not required ------------------------------------------------------------------------------------


def build_optional(store, tmp_path, *names, clean=None, run_id="run-2"):
    """A snapshot of two sources of which none is required; returns it and the sources that were not read."""
    unread = {}
    snapshot = build_snapshot(
        store,
        kind="job",
        sources={
            name: SourceConfig(kind="job", path=str(tmp_path / f"{name}.jsonl"), required=False) for name in names
        },
        clean=clean or CleanConfig(),
        run_id=run_id,
        fence=lambda: None,
        now=NOW,
        on_unread=lambda name, error: unread.update({name: str(error)}),
    )
    return snapshot, unread


def write_both(tmp_path, first, second):
    write(tmp_path / "first.jsonl", [posting(f"a{n}") for n in range(first)])
    write(tmp_path / "second.jsonl", [posting(f"b{n}") for n in range(second)])


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (lambda path: path.write_bytes(json.dumps({"number": 1, "words": "x"}).encode()), "id"),
        (lambda path: write(path, [posting("a0")]), "98% fewer"),
    ],
    ids=["gone", "other columns", "shrunk"],
)
def test_a_bad_source_keeps_its_documents_and_does_not_stop_the_others(store, tmp_path, fault, reason):
    write_both(tmp_path, 60, 1)
    _, unread = build_optional(store, tmp_path, "first", "second")
    assert unread == {}
    write_both(tmp_path, 60, 3)
    kept = (tmp_path / "first.jsonl").read_bytes()
    fault(tmp_path / "first.jsonl")
    snapshot, unread = build_optional(store, tmp_path, "first", "second")
    assert list(unread) == ["first"]
    assert reason in unread["first"]
    assert len(ids(snapshot, "first")) == 60
    assert ids(snapshot, "second") == ["b0", "b1", "b2"]
    again, unread = build_optional(store, tmp_path, "first", "second")
    assert (again.manifest.id, list(unread)) == (snapshot.manifest.id, ["first"])
    (tmp_path / "first.jsonl").write_bytes(kept + json.dumps(posting("a60")).encode() + b"\n")
    mended, unread = build_optional(store, tmp_path, "first", "second")
    assert unread == {}
    fresh, _ = build_optional(LocalStore(tmp_path / "other"), tmp_path, "first", "second")
    assert mended.manifest.id == fresh.manifest.id, "incremental equals full afterwards"


def test_an_unread_source_is_cleaned_with_settings_that_changed_meanwhile(store, tmp_path):
    write_both(tmp_path, 3, 1)
    write(tmp_path / "first.jsonl", [posting("a0"), posting("a1", text="long " * 100)])
    build_optional(store, tmp_path, "first", "second")
    path, strict = tmp_path / "first.jsonl", CleanConfig(max_chars=100)
    path.rename(tmp_path / "away")
    _, unread = build_optional(store, tmp_path, "first", "second", clean=strict)
    assert list(unread) == ["first"]
    (tmp_path / "away").rename(path)  # the same bytes as before
    mended, _ = build_optional(store, tmp_path, "first", "second", clean=strict)
    fresh, _ = build_optional(LocalStore(tmp_path / "other"), tmp_path, "first", "second", clean=strict)
    assert ids(mended) == ids(fresh) == ["a0", "b0"]
    assert mended.manifest.id == fresh.manifest.id


def test_a_new_source_that_cannot_be_read_is_left_out_and_nothing_at_all_is_an_error(store, tmp_path):
    write_both(tmp_path, 1, 1)
    (tmp_path / "first.jsonl").unlink()
    snapshot, unread = build_optional(store, tmp_path, "first", "second")
    assert (list(snapshot.manifest.sources), list(unread)) == (["second"], ["first"])
    with pytest.raises(InputError, match="None of the job sources could be read"):
        build_optional(LocalStore(tmp_path / "other"), tmp_path, "first", "third")
    assert build_optional(store, tmp_path, "first", "third")[0].manifest.id == snapshot.manifest.id


def test_whether_a_source_is_required_changes_no_hash(tmp_path):
    config = SourceConfig(kind="job", path="x")
    assert config.decisive_json() == config.model_copy(update={"required": False}).decisive_json()
    assert config.decisive_json() == config.model_dump_json(exclude={"path", "required", "mode"})


def test_rows_by_number_are_the_rows_of_all_parts(store, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_ROWS", 7)
    snapshot = build(store, board=write(tmp_path / "board.jsonl", [posting(number) for number in range(30)]))
    names = ids(snapshot)
    for numbers in ([], [0], [6, 7], [3, 13, 14, 29], list(range(30))):
        found = [
            each for batch in snapshot.rows(np.array(numbers, np.int64)) for each in batch["source_id"].to_pylist()
        ]
        assert found == [names[number] for number in numbers]


def test_unchanged_files_are_neither_read_nor_cleaned_again(store, tmp_path, monkeypatch):
    board = write(tmp_path / "board.jsonl", [posting(1), posting(2), posting(3, text="")])
    first = build(store, board=board)

    def fail(*_, **__):
        raise AssertionError("a row was cleaned again")

    with monkeypatch.context() as patched:
        patched.setattr(module, "clean_row", fail)
        assert build(store, board=board, run_id="run-2").manifest == first.manifest
        moved = board.rename(tmp_path / "moved.jsonl")
        with pytest.raises(AssertionError, match="cleaned again"):
            build(store, board=moved)  # the quarantine names the file
        moved.rename(board)
        with pytest.raises(AssertionError, match="cleaned again"):
            build(store, board=board, clean=CleanConfig(max_chars=999))
    # Another source that did change is read, and the unchanged one is carried over with all its counts.
    second = build(store, board=board, portal=write(tmp_path / "portal.jsonl", [posting(9)]))
    assert second.manifest.sources["board"] == first.manifest.sources["board"]
    write(board, [posting(1), posting(2, title="Chef"), posting(3, text="")])
    assert build(store, board=board).manifest.id != second.manifest.id


# --- rows of changed files --------------------------------------------------------------------------------------------


@pytest.fixture
def cleaned(monkeypatch):
    """Ids of the rows that were cleaned."""
    found, real = [], module.clean_row

    def clean_row(row, **rest):
        found.append(row.values["id"])
        return real(row, **rest)

    monkeypatch.setattr(module, "clean_row", clean_row)
    return found


def parts_of(snapshot):
    """Hashes of everything that readers see."""
    manifest = snapshot.manifest
    return manifest.id, [part.sha256 for part in (*manifest.documents, *manifest.quarantine)]


def test_only_changed_rows_of_a_changed_file_are_cleaned_and_sketched(store, tmp_path, monkeypatch, cleaned):
    sketched = []
    from data.documents import near_duplicates

    real = near_duplicates.sketch
    monkeypatch.setattr(near_duplicates, "sketch", lambda text: sketched.append(text) or real(text))
    path, other = tmp_path / "a.jsonl", write(tmp_path / "b.jsonl", [posting(50)])
    build(store, board=write(path, [posting(number) for number in range(9)]), other=other)
    cleaned.clear(), sketched.clear()
    rows = [
        posting(8),
        *(posting(number) for number in range(4)),
        posting(4, pay=1),
        posting(5, text="New."),
        posting(9),
    ]
    snapshot = build(store, board=write(path, rows), other=other)
    assert cleaned == ["4", "5", "9"]
    assert [text.split()[1] for text in sketched] == ["Ward", "New.", "Ward"]
    assert ids(snapshot, "board") == ["8", "0", "1", "2", "3", "4", "5", "9"]
    assert parts_of(snapshot) == parts_of(build(LocalStore(tmp_path / "anew"), board=path, other=other))
    cleaned.clear()
    build(store, other=write(other, [posting(51)]))  # what is carried over keeps what it was made of
    build(store, board=write(path, rows[1:]))
    assert cleaned == ["51"]


@pytest.mark.parametrize(
    "change",
    [
        {"clean": CleanConfig(max_chars=5000)},
        {"redact": RedactConfig(job=())},
        {"redact": RedactConfig(key_file="keys.jsonl")},
        {"text_field": "body"},
    ],
)
def test_rows_are_cleaned_again_when_anything_decides_otherwise(store, tmp_path, cleaned, change, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.jsonl", [posting(number, body="B") for number in range(5)])
    build(store, board=path)
    cleaned.clear()
    write(path, [posting(number, body="B") for number in range(6)])
    fields = {name: value for name, value in change.items() if name == "text_field"}
    build_snapshot(
        store,
        kind="job",
        sources={"board": SourceConfig(kind="job", path=str(path), **fields)},
        clean=change.get("clean", CleanConfig()),
        redact=change.get("redact", RedactConfig()),
        run_id="run",
        fence=lambda: None,
        now=NOW,
    )
    assert cleaned == ["0", "1", "2", "3", "4", "5"]


def test_rows_that_lie_far_from_their_neighbours_are_cleaned_rather_than_looked_up(
    store, tmp_path, monkeypatch, cleaned
):
    for owner, name, value in ((parts, "PART_ROWS", 10), (carried, "_CHUNK_ROWS", 10), (carried, "_MIN_SHARE", 0.3)):
        monkeypatch.setattr(owner, name, value)
    path = tmp_path / "a.jsonl"
    build(store, board=write(path, [posting(number) for number in range(40)]))
    cleaned.clear()
    order = [*range(9), 35, *range(9, 35), *range(36, 40)]
    snapshot = build(store, board=write(path, [posting(number) for number in order]))
    assert set(cleaned) == {"35", "9", "19", "29"}  # one of ten in a chunk comes from elsewhere
    assert ids(snapshot) == [f"{number}" for number in order]


versions = st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["one text", "other words", "", "a\0b"])), max_size=8)


@given(nights=st.lists(versions, min_size=2, max_size=4), part_rows=st.integers(1, 4), chunk_rows=st.integers(1, 4))
@settings(max_examples=25)
def test_a_night_after_others_makes_the_snapshot_of_a_night_alone(tmp_path_factory, nights, part_rows, chunk_rows):
    folder = tmp_path_factory.mktemp("nights")
    store, path = LocalStore(folder / "var"), folder / "a.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_ROWS", part_rows)
        patch.setattr(carried, "_CHUNK_ROWS", chunk_rows)
        for number, rows in enumerate(nights):
            write(path, [posting("always"), *(posting(key, text=text) for key, text in rows)])
            followed = build(store, board=path)
            alone = build(LocalStore(folder / f"alone{number}"), board=path)
            assert parts_of(followed) == parts_of(alone)
            assert followed.manifest.totals == alone.manifest.totals


def test_scans_are_read_again_once_they_may_be_and_unreadable_values_are_counted(store, tmp_path, monkeypatch):
    folder = tmp_path / "board"
    folder.mkdir()
    write(folder / "a.jsonl", [posting(1, salary="Band 5", posted_at="3/4/2026"), posting(2, salary="£30,000")])
    write_pdf(folder / "scan.pdf", "")

    def nightly(**reading):
        return build_snapshot(
            store,
            kind="job",
            sources={"board": SourceConfig(kind="job", path=str(folder))},
            clean=CleanConfig(),
            run_id="run",
            fence=lambda: None,
            now=NOW,
            shrink=ShrinkConfig(**reading),
        )

    monkeypatch.setattr("data.documents.processes.workers.MAX_WORKERS", 0)  # Tesseract is replaced in this process
    for module_name in ("extract.pdf", "sources"):
        monkeypatch.setattr(f"data.documents.{module_name}.has_tesseract", lambda: True)
    monkeypatch.setattr("data.documents.sources.languages", lambda: ("eng",))
    monkeypatch.setattr("data.documents.extract.pdf.recognise_page", lambda page: "Welds pressure vessels.")
    before = nightly()
    (rejected,) = [row for batch in before.quarantine_batches() for row in batch.to_pylist()]
    assert rejected["reason"] == "scanned"
    assert before.manifest.sources["board"].unreadable_values == {"salary": 1, "posted_at": 1}
    after = nightly(ocr=True)
    assert (after.manifest.num_documents, after.manifest.sources["board"].marks) == (3, {"ocr": 1})
    assert nightly(ocr=True).manifest.id == after.manifest.id
    assert nightly().manifest.id == before.manifest.id
