"""A home written by an earlier version opens; a nightly run on it trains nothing, and encodes only what was cut.

That version cut long documents, and so does a configuration that says so.
"""

import importlib.metadata
import json
import tarfile
from pathlib import Path

import pytest

from data.store.base import LocalStore
from data.vectors.pointer import read_pointer
from flows.cli import run

HOMES = Path(__file__).parent / "homes"
MTEB_VERSION = "2.26.24"
"""Version that scored; its scores are found again by this version only."""


@pytest.fixture
def old_home(request, tmp_path, monkeypatch, prefect_server):
    """The store of the unpacked home; paths in it are relative to the folder that it lies in."""
    with tarfile.open(HOMES / f"{getattr(request, 'param', 'before_house')}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("L2V_ENCODE__LONG_TEXTS", "cut")
    return LocalStore(tmp_path / "home")


@pytest.fixture
def l2v(old_home, capsys):
    """Run a command that succeeds; returns its JSON."""

    def call(*arguments):
        capsys.readouterr()
        assert run([*arguments, "--profile", "tiny", "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return call


def test_an_old_home_opens_and_a_night_on_it_only_builds_tables_of_the_new_layout(old_home, l2v):
    before = read_pointer(old_home)
    state = l2v("status")
    assert state["served"] == before.model_dump(mode="json")
    old_run = state["last_night"]["run_id"]
    assert l2v("status", "--run", old_run)["settings"] is None
    assert l2v("status", "--run", old_run)["run"]["state"] == "completed"
    hits = l2v("search", "surgical ward", "--in", "resumes", "--mode", "lexical")["hits"]
    assert hits[0]["source_id"] == "r1"
    traced = l2v("trace", "--doc-id", hits[0]["doc_id"])
    assert (traced["served"]["run"], traced["run"]["flow"]) == (old_run, "nightly")
    listed = l2v("generations", "list")["generations"]
    assert [each["served"] for each in listed].count(True) == 1

    night = l2v("nightly")
    assert (night["training_steps"], night["encoded_documents"]) == (0, 0)
    assert night["served_checkpoint"] == before.checkpoint
    after = read_pointer(old_home)
    assert after.generation != before.generation, "tables of the new layout, made of the vectors that were there"
    # A report that is worded otherwise is another report, which is exported with the same rows.
    rows, before_rows = night["stages"]["export"]["rows"], state["last_night"]["stages"]["export"]["rows"]
    # BM25 and its fusion are scored again, and have two metrics more: R-precision at 5 and at 10.
    assert rows == before_rows | {"evaluation": before_rows["evaluation"] + 4}
    again = l2v("nightly")
    assert (again["encoded_documents"], again["stages"]["match"]["reused"]) == (0, True)
    assert read_pointer(old_home) == after, "nothing changed, so nothing was promoted"
    if importlib.metadata.version("mteb") == MTEB_VERSION:  # BM25 and its fusion use a new version of the tokenizer
        assert (night["stages"]["evaluate"]["computed"], night["stages"]["evaluate"]["reused"] > 0) == (2, True)

    rolled_back = l2v("generations", "rollback")
    assert (rolled_back["generation"], rolled_back["jobs"]) == (before.generation, before.jobs)
    rolled_back = l2v("generations", "rollback")
    assert rolled_back["jobs"] != before.jobs
    assert read_pointer(old_home).sequence > before.sequence
    hits = l2v("search", "care", "--in", "jobs", "--mode", "dense")["hits"]
    assert {hit["source_id"] for hit in hits} == {"j0", "j1"}


@pytest.mark.parametrize("old_home", ["november_2026"], indirect=True)
def test_a_home_of_a_release_opens_and_a_night_on_it_trains_and_encodes_nothing(old_home, l2v):
    before = read_pointer(old_home)
    state = l2v("status")
    assert state["served"] == before.model_dump(mode="json")
    hits = l2v("search", "surgical ward", "--in", "resumes", "--mode", "lexical")["hits"]
    assert hits[0]["source_id"] == "r1"
    listed = l2v("generations", "list")
    assert [each["rollbacks"] for each in listed["states"]] == [0, 1]
    assert before.checkpoint in {each["fingerprint"] for each in l2v("checkpoints")["checkpoints"]}
    night = l2v("nightly")
    assert (night["training_steps"], night["encoded_documents"]) == (0, 0)
    assert night["served_checkpoint"] == before.checkpoint
    before_rows = state["last_night"]["stages"]["export"]["rows"]
    # Words and fusion by rank are scored again, and have two metrics more each: R-precision at 5 and at 10.
    assert night["stages"]["export"]["rows"] == before_rows | {"evaluation": before_rows["evaluation"] + 4}
    assert l2v("generations", "rollback")["checkpoint"] == before.checkpoint


@pytest.mark.slow
def test_long_documents_of_an_old_home_are_read_whole_and_the_former_state_stays_there(old_home, l2v, monkeypatch):
    monkeypatch.delenv("L2V_ENCODE__LONG_TEXTS")
    before = read_pointer(old_home)
    night = l2v("nightly")
    assert night["encoded_documents"] > 0
    assert set(night["stages"]["embed"]["cut_tokens"].values()) == {0}
    state = l2v("status")
    assert all(count["cut"] == count["uncounted"] == 0 for count in state["tokens"].values())
    assert [alert["kind"] for alert in state["alerts"]] == []
    l2v("generations", "rollback")
    assert read_pointer(old_home).generation == before.generation
