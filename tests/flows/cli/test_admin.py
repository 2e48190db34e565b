"""``l2v erase`` after a real nightly run, with the embedded orchestrator, training and evaluation."""

import json

import pytest

from data.erasure.scan import Needles, scan_tree
from data.snapshots.snapshot import latest_snapshot
from data.store.base import LocalStore
from data.vectors.pointer import read_pointer
from flows.cli import run
from flows.nightly import nightly

pytestmark = pytest.mark.slow


def test_a_person_is_erased_and_the_night_goes_on(served_night, capsys):
    store = LocalStore(served_night.home)
    row = latest_snapshot(store, "resume").table().to_pylist()[0]
    arguments = ["--json", "--profile", "tiny", "--config", str(served_night.config)]
    assert run(["erase", "--doc-id", "f" * 32, *arguments]) == 2
    assert "No document has the id" in json.loads(capsys.readouterr().out)["error"]
    assert run(["erase", "--doc-id", row["doc_id"], *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["doc_ids"] == [row["doc_id"]]
    assert {"snapshots", "tables", "shards", "matches", "exports"} <= set(result["removed"])
    assert len(result["trained_checkpoints"]) == 1
    assert "l2v train" in result["advice"]
    needles = Needles({row["doc_id"].encode(): "id", row["content_sha256"].encode(): "hash"})
    assert scan_tree(served_night.home, needles).findings == []
    pointer = read_pointer(store)
    report = nightly(served_night.request)
    assert report.trained.steps == 0
    assert report.embedded.encoded_documents == 0
    assert report.embedded.generation == pointer.generation
    ids = latest_snapshot(store, "resume").table(["doc_id"])["doc_id"].to_pylist()
    assert row["doc_id"] not in ids
    assert run(["search", "cloud engineer", "--in", "resumes", *arguments]) == 0
