"""Commands that read the served state: status, search, trace."""

import pytest

from flows.cli import run
from tests.flows.cli.conftest import call


def test_status_of_an_empty_home(capsys, tmp_path):
    code, result, _ = call(capsys, "status")
    assert code == 0
    assert result["served"] is None
    assert result["home"] == str(tmp_path / "var")


def test_search_status_rollback(capsys, served_night):
    config = ("--config", str(served_night.config), "--profile", "tiny")
    code, night, _ = call(capsys, "nightly", *config)
    assert code == 0
    for key in ("run_id", "stages", "served_generation", "served_checkpoint", "report", "exports"):
        assert night[key]
    assert (night["encoded_documents"], night["training_steps"]) == (0, 0)
    assert night["peak_rss_bytes"] > 0

    code, found, _ = call(capsys, "search", "C++ developer", "--in", "jobs", "--explain", *config)
    assert (code, found["hits"][0]["source_id"]) == (0, "j3")
    assert "c++" in found["hits"][0]["matched_terms"]
    code, found, _ = call(capsys, "search", "nurse", "--where", "source_id = 'j1'", *config)
    assert [hit["source_id"] for hit in found["hits"]] == ["j1"]
    for where in ("salary > 3", "doc_id = '' OR; DROP TABLE jobs"):
        code, error, _ = call(capsys, "search", "nurse", "--where", where, *config)
        assert (code, "error" in error) == (2, True)

    code, state, _ = call(capsys, "status", *config)
    assert state["served"]["generation"] == night["served_generation"]
    code, error, _ = call(capsys, "generations", "rollback", *config)
    assert code == 2


def test_a_document_is_traced_back_to_its_source(capsys, first_night):
    night, report = first_night
    config = ("--config", str(night.config), "--profile", "tiny")
    _, found, _ = call(capsys, "search", "nurse", "--mode", "lexical", *config)
    doc_id = found["hits"][0]["doc_id"]
    code, traced, _ = call(capsys, "trace", "--doc-id", doc_id, *config)
    assert code == 0
    assert traced["document"]["doc_id"] == doc_id
    assert traced["source"] == {"name": "jobs", "path": str(night.jobs), "id": "j1"}
    assert traced["served"]["run"] == report.run_id == traced["snapshot"]["run"] == traced["first_snapshot"]["run"]
    assert traced["checkpoint"]["fingerprint"] == report.embedded.checkpoint == traced["vector"]["checkpoint"]
    assert (night.home / traced["vector"]["shard"]).is_file()
    assert (traced["report"], traced["export"]) == (report.report_path, report.exported.path)
    assert traced["run"]["flow"] == "nightly"
    assert run(["trace", "--doc-id", doc_id, *config]) == 0
    assert "text since" in capsys.readouterr().out


@pytest.mark.parametrize("doc_id", ["0" * 32, "x' OR 1=1 --"])
def test_an_unknown_document_is_a_mistake(capsys, first_night, doc_id):
    config = ("--config", str(first_night[0].config), "--profile", "tiny")
    code, error, _ = call(capsys, "trace", "--doc-id", doc_id, *config)
    assert (code, doc_id in error["error"]) == (2, True)


def test_the_second_snapshot_knows_since_when_a_text_is_as_it_is(capsys, served_night):
    config = ("--config", str(served_night.config), "--profile", "tiny")
    jobs = served_night.read(served_night.jobs)
    jobs["j1"]["description"] += " Night shifts."
    served_night.write(served_night.jobs, jobs)
    assert call(capsys, "nightly", *config)[0] == 0
    traced = {}
    for source_id in ("j1", "j2"):
        where = ("--where", f"source_id = '{source_id}'", "--mode", "lexical")
        _, found, _ = call(capsys, "search", "nurse data", *where, *config)
        traced[source_id] = call(capsys, "trace", "--doc-id", found["hits"][0]["doc_id"], *config)[1]
    assert traced["j1"]["first_snapshot"] == traced["j1"]["snapshot"]
    assert traced["j2"]["first_snapshot"] != traced["j2"]["snapshot"] == traced["j1"]["snapshot"]


def test_a_query_of_another_checkpoint_is_refused_with_both_names(capsys, first_night):
    night, report = first_night
    served = report.embedded.checkpoint
    (other,) = {path.name for path in (night.home / "checkpoints").iterdir()} - {served}
    code, error, _ = call(
        capsys,
        *("search", "nurse", "--checkpoint", other, "--config", str(night.config), "--profile", "tiny"),
    )
    assert code == 2
    assert served[:12] in error["error"]
    assert other[:12] in error["error"]


def test_a_checkpoint_with_a_file_missing_is_named_and_nothing_changes(capsys, served_night):
    config = ("--config", str(served_night.config), "--profile", "tiny")
    before = (served_night.home / "current.json").read_bytes()
    for checkpoint in (served_night.home / "checkpoints").iterdir():
        (checkpoint / "model.safetensors").unlink()
    code, error, _ = call(capsys, "search", "nurse", *config)
    assert code == 2
    assert "model.safetensors is missing" in error["error"]
    assert (served_night.home / "current.json").read_bytes() == before
