"""An erased document cannot be found anywhere, and everything else still works."""

import gzip
import json
import shutil
import sqlite3
from contextlib import closing
from datetime import date
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.config import CleanConfig, SourceConfig
from data.erasure.erase import erase_documents
from data.erasure.scan import Needles, scan_store, scan_tree
from data.errors import InputError, StoreError
from data.outputs.export import ExportTable, publish_export
from data.outputs.export_schemas import EXPORT_SCHEMAS
from data.outputs.facts import FACT_SCHEMA, add_facts, stored_facts
from data.outputs.feedback import PairAnswer, add_answer
from data.outputs.matches import MATCH_SCHEMA, MatchPart, latest_match_files, read_former_matches, write_matches
from data.schema import document_id
from data.snapshots.build import build_snapshot
from data.snapshots.snapshot import latest_snapshot, open_snapshot
from data.store.base import LocalStore
from data.store.lease import hold_lease
from data.store.open import open_store
from data.vectors import lance
from data.vectors.generations import create_generation
from data.vectors.lance import open_table
from data.vectors.pointer import promote, read_pointer, rollback
from data.vectors.tables import sync_table, verify_generation
from tests.data.conftest import Rooms

FINGERPRINT = "f" * 64
PERSON = "person-4711"
PERSON_ID = document_id("board", PERSON)
TWIN_ID = document_id("board", "twin-0815")
SECRETS = (
    "I kept the cold store of a fish market in Bergen for nineteen winters and liked it.",
    "I mended nets and engines of small trawlers before the harbour was closed for good.",
)
ORDINARY = "I was a nurse on a surgical ward, gave medication and kept careful records of patient {}."
SHARED = "I drove a tram through the old town and knew every passenger by name, or nearly every one."


def night(store, resumes, jobs, run_id):
    """A night on made-up vectors: snapshots, shards, tables, pointer, matches, export."""
    snapshots = {
        "job": Rooms.snapshot(store, "job", jobs),
        "resume": Rooms.snapshot(store, "resume", resumes),
    }
    generation = create_generation(
        store, fingerprint=FINGERPRINT, encode_keys=dict(Rooms.encode_keys), embedding_dim=Rooms.dim, now=Rooms.now
    )
    versions = {}
    for kind, snapshot in snapshots.items():
        Rooms.encode(store, snapshot, FINGERPRINT)
        versions[kind] = sync_table(store, generation, snapshot).version
    verify_generation(store, generation, snapshots, versions)
    with hold_lease(store, owner=run_id) as lease:
        pointer = promote(
            store,
            generation,
            versions=versions,
            snapshots={kind: snapshot.manifest.id for kind, snapshot in snapshots.items()},
            lease=lease,
            run_id=run_id,
            now=Rooms.now,
        )
    rows = [
        {
            "direction": "resumes_for_job", "job_id": job, "resume_id": resume, "rank": rank, "score": 0.5,
            "fusion": "rrf",
            "dense_score": 0.5, "dense_rank": rank, "lexical_score": None, "lexical_rank": None,
            "matched_terms": ["kept"], "checkpoint": FINGERPRINT, "run_id": run_id,
        }
        for job in snapshots["job"].table()["doc_id"].to_pylist()
        for rank, resume in enumerate(snapshots["resume"].table()["doc_id"].to_pylist(), start=1)
    ]  # fmt: skip
    matches = pa.Table.from_pylist(rows, schema=MATCH_SCHEMA)
    part = MatchPart("resumes_for_job", 0, lambda: matches)
    documents = {kind: np.array([b"0123456789abcdef"]) for kind in ("job", "resume")}
    manifest = {"jobs": 2, "recipe": "r"}
    write_matches(store, f"match-{run_id}", [part], cut="1", manifest=manifest, documents=documents, fence=lambda: None)
    exported = matches.select(EXPORT_SCHEMAS["matches"].names)
    publish_export(
        store,
        {"resumes": exported_resumes(snapshots["resume"]), "matches": ExportTable(run_id, [exported])},
        run_id=run_id,
        day=date(2026, 3, 1),
        keep=100,
        fence=lambda: None,
        prefix="exports/",
    )
    return SimpleNamespace(snapshots=snapshots, generation=generation, pointer=pointer)


def exported_resumes(snapshot):
    return ExportTable(snapshot.manifest.id, [snapshot.table(EXPORT_SCHEMAS["resumes"].names)])


def make_home(store):
    """Three nights: the person's text changes, a stranger has the text of a third, the person's twin marks her."""
    machine = store.machine
    jobs = {f"job-{number}": f"We look for a nurse for ward {number}, day and night." for number in range(3)}
    resumes = {f"cv-{number}": ORDINARY.format(number) for number in range(6)}
    nights = [
        night(store, {PERSON: SECRETS[0], **resumes, "tram-1": SHARED, "tram-2": SHARED}, jobs, "run-1"),
        night(
            store,
            {PERSON: SECRETS[1], "twin-0815": SECRETS[1], **resumes, "tram-1": SHARED, "tram-2": SHARED},
            jobs,
            "run-2",
        ),
        night(
            store,
            {PERSON: SECRETS[1], **resumes, "cv-9": ORDINARY.format(9), "tram-1": SHARED, "tram-2": SHARED},
            jobs,
            "run-3",
        ),
    ]
    facts = [
        [PERSON_ID, TWIN_ID, document_id("board", "cv-0")],
        [b"0123456789abcdef"] * 3,
        [SECRETS[0].encode(), b"{}", b"{}"],
    ]
    add_facts(store, "resume", [pa.record_batch(facts, schema=FACT_SCHEMA)])
    for resume in (PERSON_ID, document_id("board", "cv-0")):
        said = PairAnswer(
            job="j", resume=resume, answer="yes", by="Ada", at=Rooms.now, job_content="c", resume_content="c"
        )
        add_answer(store, said)
    store.put_if_absent("reports/r1/report.json", json.dumps({"worst_query": SECRETS[0]}).encode())
    store.put_if_absent("reports/r2/report.json", b'{"fine": true}')
    store.put_if_absent("reports/latest.json", b'{"report":"r1"}')
    store.put_if_absent("evaluations/bm25/key.json", json.dumps({"query": SECRETS[0]}).encode())
    store.put_if_absent("evaluations/bm25/key.npz", b"numbers")
    store.put_if_absent("runs/run-1/summary.json", json.dumps({"error": f"cannot read {PERSON_ID}", "n": 3}).encode())
    machine.put_if_absent("training/abc/texts.arrow.gz", gzip.compress(SECRETS[0].encode()))
    machine.put_if_absent("tmp/dead/part", SECRETS[0].encode())
    machine.put_if_absent("prefect/storage/result", json.dumps({"id": PERSON_ID}).encode())
    with closing(sqlite3.connect(machine.local_path("prefect/prefect.db"))) as database:
        database.execute("CREATE TABLE log (message TEXT)")
        messages = [f"cannot encode {PERSON_ID}", "all is well", SECRETS[0]]
        database.executemany("INSERT INTO log VALUES (?)", [(message,) for message in messages])
        database.commit()
    return store, nights


def erased(store, *doc_ids, **options):
    return erase_documents(store, doc_ids, fence=lambda: None, now=Rooms.now, **options)


def everything(store):
    """What can be read out of a home, in Python values."""
    held = {}
    for kind in ("job", "resume"):
        held[kind] = latest_snapshot(store, kind).table().to_pylist()
    pointer = read_pointer(store)
    for kind in ("job", "resume"):
        table = open_table(store, generation=pointer.generation, kind=kind, version=pointer.version_of(kind))
        held[f"table {kind}"] = sorted(
            table.read(["doc_id", "text", "vector"]).to_pylist(), key=lambda row: row["doc_id"]
        )
    held["matches"] = [row for path in latest_match_files(store) for row in pq.ParquetFile(path).read().to_pylist()]
    return held


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    root = tmp_path_factory.mktemp("home") / "var"
    return make_home(LocalStore(root))


@pytest.fixture
def copied(home, tmp_path):
    shutil.copytree(home[0].root, tmp_path / "var")
    return LocalStore(tmp_path / "var"), home[1]


def person_in(nights):
    """What must be found nowhere."""
    content = nights[0].snapshots["resume"].table()["content_sha256"][0].as_py()
    return Needles(
        {
            PERSON_ID.encode(): "id",
            PERSON.encode(): "source id",
            SECRETS[0].encode(): "text",
            content.encode(): "hash",
            Rooms.vector(content, FINGERPRINT).tobytes(): "vector",
        }
    )  # fmt: skip


def test_nothing_of_the_person_is_left(copied):
    store, nights = copied
    needles = person_in(nights)
    assert len({finding.what for finding in scan_tree(store.root, needles).findings}) == 5
    assert read_former_matches(store, recipe="r") is not None
    report = erased(store, PERSON_ID)
    assert scan_tree(store.root, needles).findings == []
    assert report.removed["snapshots"] == 3
    assert report.removed["tables"] == 1
    (facts,) = stored_facts(store, "resume")
    assert PERSON_ID not in facts["doc_id"].to_pylist() and len(facts) == 2, "others keep what was read from them"
    for place in (
        "shards",
        "matches",
        "facts",
        "exports",
        "reports",
        "evaluations",
        "runs",
        "training state",
        "leftovers",
    ):
        assert report.removed[place] > 0, place
    assert report.scanned_files > 20
    assert read_former_matches(store, recipe="r") is None, "hashes of what was matched go, too"
    with closing(sqlite3.connect(store.local_path("prefect/prefect.db"))) as database:
        assert database.execute("SELECT message FROM log").fetchall() == [("all is well",)]
    assert store.read("erasures/journal.json") is None


def test_everybody_else_is_untouched_and_search_matches_and_exports_go_on(copied):
    store, _ = copied
    before = everything(store)
    erased(store, PERSON_ID)
    after = everything(store)
    for name, rows in before.items():
        expected = [row for row in rows if PERSON_ID not in row.values()]
        for row in expected:
            row.update({mark: None for mark in ("duplicate_of", "near_duplicate_of") if row.get(mark) == PERSON_ID})
        assert after[name] == expected, name
    for run in ("run-1", "run-2", "run-3"):
        root = store.local_path(f"exports/v4/{run}")
        rows = sum(pq.read_metadata(path).num_rows for path in root.rglob("kind=resumes/*.parquet"))
        assert json.loads((root / "manifest.json").read_text())["rows"]["resumes"] == rows
    assert json.loads(store.read("exports/latest.json"))["rows"]["resumes"] == rows


def test_the_heir_of_a_duplicate_is_the_first_that_bears_its_mark(copied):
    store, nights = copied
    erased(store, PERSON_ID)
    second = open_snapshot(store, "resume", nights[1].snapshots["resume"].manifest.id)  # by its former id
    rows = {row["doc_id"]: row for row in second.table().to_pylist()}
    assert rows[TWIN_ID]["duplicate_of"] is None
    tram = [document_id("board", name) for name in ("tram-1", "tram-2")]
    assert [rows[each]["duplicate_of"] for each in tram] == [None, tram[0]]
    places = [(rows[each]["similar_to"], rows[each]["similar_order"]) for each in (TWIN_ID, *tram)]
    assert places == [(None, None), (None, 2), (tram[0], 1)]
    counts = second.manifest.sources["board"]
    assert counts.rows_in == counts.rows_kept == len(rows)
    assert counts.rows_duplicate == 1


def test_a_content_that_another_document_has_keeps_its_vector(copied):
    store, nights = copied
    tram = document_id("board", "tram-1")
    erased(store, tram)
    table = open_table(store, generation=nights[2].generation.generation, kind="resume")
    (left,) = table.read(
        ["similar_to", "similar_order"], where=f"doc_id = '{document_id('board', 'tram-2')}'"
    ).to_pylist()
    assert left == {"similar_to": None, "similar_order": None}, "nothing newer is shown in its place"
    assert night(store, {"tram-2": SHARED, PERSON: SECRETS[1]}, {"job-0": "A tram driver."}, "run-4")


def test_rollback_goes_back_to_former_states_without_the_person(copied):
    store, nights = copied
    former = nights[1].pointer
    erased(store, PERSON_ID)
    with hold_lease(store, owner="back") as lease:
        pointer = rollback(store, lease=lease, run_id="back", now=Rooms.now)
    assert pointer.origin == former.sequence
    table = open_table(store, generation=pointer.generation, kind="resume", version=pointer.resumes)
    held = set(table.read(["doc_id"])["doc_id"].to_pylist())
    assert TWIN_ID in held and PERSON_ID not in held
    assert len(held) == len(nights[1].snapshots["resume"].table()) - 1


def test_the_next_night_does_not_bring_the_person_back(copied):
    store, nights = copied
    before = nights[2].snapshots["resume"].table()
    erased(store, PERSON_ID)
    resumes = {row["source_id"]: row["text"] for row in before.to_pylist()}
    assert PERSON in resumes
    jobs = {row["source_id"]: row["text"] for row in nights[2].snapshots["job"].table().to_pylist()}
    carried_over = night(store, resumes, jobs, "run-4").snapshots["resume"]
    assert PERSON_ID not in carried_over.table()["doc_id"].to_pylist(), "the files did not change"
    resumes["cv-1"] += " And more."
    after = night(store, resumes, jobs, "run-5").snapshots["resume"]
    assert set(after.table()["doc_id"].to_pylist()) == set(before["doc_id"].to_pylist()) - {PERSON_ID}
    (row,) = after.quarantine().to_pylist()
    assert (row["reason"], row["excerpt"], row["file"]) == ("erased", "", "")
    counts = after.manifest.totals
    assert counts.rows_in == counts.rows_kept + counts.rows_quarantined
    assert erased(store, PERSON_ID).removed == {}


def test_several_documents_go_at_once(copied):
    store, _ = copied
    others = [document_id("board", f"cv-{number}") for number in range(3)]
    report = erased(store, PERSON_ID, *others)
    assert report.doc_ids == sorted([PERSON_ID, *others])
    held = {row["doc_id"] for row in everything(store)["table resume"]}
    assert held.isdisjoint(report.doc_ids)


def test_rejected_rows_about_the_person_go_too(copied):
    store, _ = copied
    path = store.root.with_name("double.jsonl")
    rows = [(PERSON, SECRETS[0]), (PERSON, SECRETS[1]), ("cv-1", ORDINARY.format(1)), ("cv-1", ORDINARY.format(2))]
    path.write_text("".join(json.dumps({"id": key, "text": text, "title": "T"}) + "\n" for key, text in rows))
    source = {"board": SourceConfig(kind="resume", path=str(path))}
    settings = {"clean": CleanConfig(), "run_id": "r", "fence": lambda: None, "now": Rooms.now}
    assert build_snapshot(store, kind="resume", sources=source, **settings).manifest.totals.rows_quarantined == 2
    erased(store, PERSON_ID)
    latest = latest_snapshot(store, "resume")
    (row,) = latest.quarantine().to_pylist()
    assert "cv-1" in row["detail"]
    assert latest.manifest.totals.rows_in == latest.manifest.totals.rows_kept + 1


def test_an_unknown_id_changes_nothing(copied):
    store, _ = copied
    before = {path: path.read_bytes() for path in sorted(store.root.rglob("*")) if path.is_file()}
    with pytest.raises(InputError, match="No document has the id"):
        erased(store, PERSON_ID, "0" * 32)
    assert {path: path.read_bytes() for path in sorted(store.root.rglob("*")) if path.is_file()} == before


def test_what_cannot_be_removed_is_named(copied):
    store, _ = copied
    store.put_if_absent("elsewhere/copy.txt", SECRETS[1].encode())
    store.put_if_absent("elsewhere/id.txt", PERSON_ID.encode())
    with pytest.raises(StoreError, match=r"elsewhere/id\.txt \(id\)"):
        erased(store, PERSON_ID)
    store.delete("elsewhere")
    assert erased(store, PERSON_ID).scanned_files > 0


def test_exports_in_another_directory_lose_the_rows(copied, tmp_path):
    store, nights = copied
    target = LocalStore(tmp_path / "analysts")
    snapshot = nights[2].snapshots["resume"]
    options = {"run_id": "r", "day": date(2026, 3, 1), "fence": lambda: None, "keep": 100}
    publish_export(target, {"resumes": exported_resumes(snapshot)}, **options)
    assert erased(store, PERSON_ID, exports=target).removed["exports elsewhere"] == 1
    assert json.loads(target.read("latest.json"))["rows"] == {"resumes": snapshot.manifest.num_documents - 1}


class Killed(BaseException):
    """A process that dies: no handler may swallow it."""


@pytest.mark.parametrize(
    "operation",
    [
        "overwrite",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("put_if_absent", "compare_and_swap", "delete")),
        pytest.param("drop_history", marks=pytest.mark.slow),
    ],
)
def test_killed_anywhere_and_run_again_ends_as_an_uninterrupted_erasure(home, tmp_path, monkeypatch, operation):
    shutil.copytree(home[0].root, tmp_path / "whole")
    whole = LocalStore(tmp_path / "whole")
    erased(whole, PERSON_ID)
    expected = everything(whole)
    owner = lance.LanceTable if operation in ("overwrite", "drop_history") else LocalStore
    real, kills = getattr(owner, operation), 0
    for kill_at in (0,) if operation == "overwrite" else (0, 1, 2, 4, 7, 11):
        for after in (False, True):
            shutil.copytree(home[0].root, tmp_path / "var")
            store, calls = LocalStore(tmp_path / "var"), iter(range(10_000))

            def dying(self, *args, _calls=calls, _kill_at=kill_at, _after=after, **kwargs):
                is_last = next(_calls) == _kill_at
                if is_last and not _after:
                    raise Killed
                result = real(self, *args, **kwargs)
                if is_last:
                    raise Killed
                return result

            with monkeypatch.context() as patch:
                patch.setattr(owner, operation, dying)
                try:
                    erased(store, PERSON_ID)
                except Killed:
                    kills += 1
            erased(store, PERSON_ID)
            found = everything(store)
            for name, rows in expected.items():
                assert found[name] == rows, (name, kill_at, after)
            shutil.rmtree(tmp_path / "var")
    assert kills >= 2


def test_an_erasure_that_died_at_its_end_left_no_words_of_the_person(copied, monkeypatch):
    """In a bucket that keeps versions, whatever the journal held last would stay when the journal itself is deleted."""
    store, nights = copied
    monkeypatch.setattr(LocalStore, "delete_unseen", lambda _: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        erased(store, PERSON_ID)
    monkeypatch.undo()
    (journal,) = {finding.path for finding in scan_tree(store.root, person_in(nights)).findings}
    assert journal == "erasures/journal.json"
    assert {finding.what for finding in scan_tree(store.root, person_in(nights)).findings} == {"id"}
    assert erased(store, PERSON_ID).doc_ids == [PERSON_ID]
    assert scan_tree(store.root, person_in(nights)).findings == []


def test_the_vectors_of_others_are_the_same_bytes(copied):
    store, nights = copied
    generation = nights[2].generation.generation
    before = open_table(store, generation=generation, kind="resume", version=nights[2].pointer.resumes)
    expected = {row["doc_id"]: row["vector"] for row in before.read(["doc_id", "vector"]).to_pylist()}
    erased(store, PERSON_ID)
    after = open_table(store, generation=generation, kind="resume", version=read_pointer(store).resumes)
    found = {row["doc_id"]: row["vector"] for row in after.read(["doc_id", "vector"]).to_pylist()}
    expected.pop(PERSON_ID)
    assert found.keys() == expected.keys()
    for doc_id, vector in found.items():
        np.testing.assert_array_equal(vector, expected[doc_id])


def test_a_home_named_by_a_uri_is_a_directory(copied):
    store, nights = copied
    named = open_store(store.root.as_uri(), work_dir="unused")
    report = erased(named, PERSON_ID)
    assert report.removed["snapshots"] == 3 and "copies" not in report.removed
    assert scan_tree(store.root, person_in(nights)).findings == []


class TestInABucket:
    """The same home as objects: the scan reads every one of them, and what this machine keeps beside them."""

    @pytest.fixture
    def remote(self, bucket, tmp_path):
        return open_store(f"s3://{bucket}/a/home", work_dir=str(tmp_path / "work"))

    @pytest.mark.slow
    def test_nothing_of_the_person_is_left_and_everybody_else_is_untouched(self, remote, bucket):
        import boto3

        client = boto3.client("s3")
        client.put_object(Bucket=bucket, Key="a/homework", Body=SECRETS[0].encode())  # beside the home
        store, nights = make_home(remote)
        latest_match_files(store)  # leaves copies on this machine
        client.create_multipart_upload(Bucket=bucket, Key="a/home/shards/unfinished")
        needles, before = person_in(nights), everything(store)
        kinds = {finding.what for finding in scan_store(store, needles).findings}
        assert kinds == {"id", "source id", "text", "hash", "vector"}
        assert scan_store(store.machine, needles).findings
        report = erased(store, PERSON_ID)
        assert scan_store(store, needles).findings == scan_store(store.machine, needles).findings == []
        assert report.scanned_files > 20 and report.removed["copies"] and report.removed["former versions"] == 1
        after = everything(store)
        for name, rows in before.items():
            kept = [row for row in rows if PERSON_ID not in row.values()]
            assert [row["doc_id"] for row in after[name] if "doc_id" in row] == [
                row["doc_id"] for row in kept if "doc_id" in row
            ]
        assert client.get_object(Bucket=bucket, Key="a/homework")["Body"].read() == SECRETS[0].encode()
        with hold_lease(store, owner="back") as lease:
            assert rollback(store, lease=lease, run_id="back", now=Rooms.now).origin == nights[1].pointer.sequence
        assert erased(store, PERSON_ID).removed.keys() <= {"copies"}

    @pytest.mark.slow
    def test_a_bucket_that_keeps_former_versions_is_refused_until_they_may_go(self, remote, bucket):
        import boto3

        client = boto3.client("s3")
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        store, _ = make_home(remote)
        keys = [entry.key for entry in store.entries("")]
        with pytest.raises(InputError, match="keeps former versions") as caught:
            erased(store, PERSON_ID)
        assert "--former-versions" in caught.value.hint
        assert [entry.key for entry in store.entries("")] == keys
        assert erased(store, PERSON_ID, former_versions=True).removed["former versions"] > 10
        listed = client.list_object_versions(Bucket=bucket, Prefix="a/home/")
        assert "DeleteMarkers" not in listed and all(each["IsLatest"] for each in listed["Versions"])

    def test_what_cannot_be_decoded_is_no_proof(self, remote):
        remote.put_if_absent("elsewhere/a.parquet", b"PAR1 and nothing else")
        remote.put_if_absent("elsewhere/deep/b.gz", gzip.compress(gzip.compress(SECRETS[0].encode())))
        remote.put_if_absent("lance/g/jobs.lance/data/lost.lance", b"rows")
        found = scan_store(remote, Needles({SECRETS[0].encode(): "text"}), skip=["lance"]).findings
        assert found == [("elsewhere/a.parquet", "cannot be decoded (ArrowInvalid)"), ("elsewhere/deep/b.gz!!", "text")]
