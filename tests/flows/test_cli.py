"""The command line: exit codes, one JSON object, one clear sentence."""

import json
import signal
import sys
from pathlib import Path

import httpx
import pytest

from data.store.base import LocalStore
from data.store.lease import hold_lease
from data.vectors.pointer import read_pointer
from flows.cli import app as cli
from flows.cli import run


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def call(capsys, *arguments: str) -> tuple[int, dict, str]:
    code = run([*arguments, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nightly", "--profile", "grand"], "grand"),
        (["nightly", "--set", "train.mntp.stepz=3"], "train.mntp.stepz"),
        (["nightly", "--set", "just words"], "just words"),
        (["nightly", "--config", "absent.toml"], "absent.toml"),
        (["search", "nurse"], "Nothing is served"),
        (["search", "  "], "empty"),
        (["generations", "promote", "nothing"], "nothing"),
        (["generations", "rollback"], "Nothing was served"),
        (["unknown-command"], "unknown-command"),
        (["ingest", "--kind", "poem", "--source", "x"], "poem"),
        (["trace", "--doc-id", "0" * 32], "Nothing is served"),
        (["automations"], "no Prefect server"),
    ],
)
def test_a_caller_s_mistake_is_exit_2_one_json_object_and_one_sentence(capsys, tmp_path, arguments, named):
    code, result, err = call(capsys, *arguments)
    assert code == 2
    assert set(result) == {"error", "hint"}
    assert named in result["error"]
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err
    assert not (tmp_path / "var" / "current.json").exists()


def test_a_held_lease_is_exit_3(capsys, tmp_path):
    with hold_lease(LocalStore(tmp_path / "var"), owner="other-run"):
        code, result, _ = call(capsys, "generations", "rollback")
    assert code == 3
    assert "other-run" in result["error"]


@pytest.mark.parametrize("is_told_by_prefect", [False, True])
def test_a_server_that_does_not_answer_is_no_bug(capsys, monkeypatch, is_told_by_prefect):
    lost = httpx.ConnectError("Connection refused")

    def without_server(*_):
        if is_told_by_prefect:
            raise RuntimeError("Failed to reach API at http://127.0.0.1:1/api") from lost
        raise lost

    monkeypatch.setattr("flows.export.export", without_server)
    code, result, _ = call(capsys, "export")
    assert code == 1
    assert "server does not answer" in result["error"]
    assert "same command again" in result["hint"] and "bug" not in result["hint"]


def test_being_told_to_end_is_being_interrupted(capsys, monkeypatch):
    monkeypatch.setattr(cli, "app", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(sys, "argv", ["l2v", "match"])
    former = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, former)
    assert ended.value.code == 1
    assert "continues where it stopped" in capsys.readouterr().err


def test_status_of_an_empty_home(capsys, tmp_path):
    code, result, _ = call(capsys, "status")
    assert code == 0
    assert result["served"] is None
    assert result["home"] == str(tmp_path / "var")


def test_help_names_every_command(capsys):
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in (
        "nightly",
        "ingest",
        "train",
        "embed",
        "search",
        "match",
        "evaluate",
        "export",
        "status",
        "trace",
        "automations",
    ):
        assert command in shown


class TestOnASmallNight:
    """Commands over what a night left."""

    def test_ingest_reports_rows_and_loses_none(self, capsys, small_night):
        extra = small_night.folder / "more.jsonl"
        extra.write_text('{"id": 1, "text": "Welds pipes."}\n{"id": 2}\nnot json\n')
        code, result, _ = call(
            capsys,
            *("ingest", "--kind", "job", "--source", str(extra), "--config", str(small_night.config)),
        )
        assert code == 0
        assert (result["rows_in"], result["rows_kept"], result["rows_quarantined"]) == (3, 1, 2)
        assert result["rows_duplicate"] == 0
        assert result["snapshot"]

    def test_a_file_that_cannot_be_read_changes_nothing(self, capsys, small_night):
        broken = small_night.folder / "broken.parquet"
        broken.write_bytes(b"PAR1 and then the disk was full")
        code, result, _ = call(
            capsys,
            *("ingest", "--kind", "job", "--source", str(broken), "--config", str(small_night.config)),
        )
        assert code == 2
        assert "broken.parquet" in result["error"]
        assert not list((small_night.home / "snapshots").rglob("*"))

    def test_search_status_rollback(self, capsys, served_night):
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

    def test_a_document_is_traced_back_to_its_source(self, capsys, first_night):
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
    def test_an_unknown_document_is_a_mistake(self, capsys, first_night, doc_id):
        config = ("--config", str(first_night[0].config), "--profile", "tiny")
        code, error, _ = call(capsys, "trace", "--doc-id", doc_id, *config)
        assert (code, doc_id in error["error"]) == (2, True)

    def test_the_second_snapshot_knows_since_when_a_text_is_as_it_is(self, capsys, served_night):
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

    def test_embed_full_makes_every_vector_anew(self, capsys, served_night):
        config = ("--config", str(served_night.config), "--profile", "tiny")
        code, unchanged, _ = call(capsys, "embed", *config)
        assert (code, unchanged["encoded_documents"], unchanged["upserted"]) == (0, 0, {"job": 0, "resume": 0})
        code, full, _ = call(capsys, "embed", "--full", *config)
        assert (code, full["encoded_documents"], full["upserted"]) == (0, 12, {"job": 6, "resume": 6})
        _, state, _ = call(capsys, "status", *config)
        assert state["served"]["sequence"] == 2

    def test_a_base_model_that_ignores_the_switch_is_named(self, capsys, served_night):
        from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

        base = served_night.folder / "state-space-model"
        size = {"vocab_size": 258, "hidden_size": 32, "num_hidden_layers": 2}
        MambaForCausalLM(MambaConfig(**size, eos_token_id=1, bos_token_id=1, pad_token_id=0)).save_pretrained(base)
        AutoTokenizer.from_pretrained(served_night.base_model).save_pretrained(base)
        before = (served_night.home / "current.json").read_bytes()
        code, error, _ = call(
            capsys,
            *("train", "--base-model", str(base), "--config", str(served_night.config), "--profile", "tiny"),
        )
        assert code == 2
        assert "mamba" in error["error"]
        assert "ignores" in error["error"]
        assert (served_night.home / "current.json").read_bytes() == before

    def test_a_query_of_another_checkpoint_is_refused_with_both_names(self, capsys, first_night):
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

    def test_a_checkpoint_with_a_file_missing_is_named_and_nothing_changes(self, capsys, served_night):
        config = ("--config", str(served_night.config), "--profile", "tiny")
        before = (served_night.home / "current.json").read_bytes()
        for checkpoint in (served_night.home / "checkpoints").iterdir():
            (checkpoint / "model.safetensors").unlink()
        code, error, _ = call(capsys, "search", "nurse", *config)
        assert code == 2
        assert "model.safetensors is missing" in error["error"]
        assert (served_night.home / "current.json").read_bytes() == before

    def test_evaluate_without_names_sets_the_recipe_s_encoder_beside_its_base(self, capsys, served_night):
        code, result, _ = call(capsys, "evaluate", "--config", str(served_night.config), "--profile", "tiny")
        assert code == 0
        names = [system["name"] for system in result["systems"]]
        assert names == ["BM25", "base, before training", "LLM2Vec, unsupervised", "hybrid"]
        assert result["reason"]

    def test_evaluate_by_name_reports_every_task(self, capsys, served_night):
        code, result, _ = call(
            capsys,
            *("evaluate", "--checkpoint", "bm25", "--checkpoint", f"{served_night.base_model}+causal+mean"),
            *("--config", str(served_night.config), "--profile", "tiny"),
        )
        assert code == 0
        assert result["systems"][0]["name"] == "BM25"
        for system in result["systems"]:
            score = system["tasks"]["SmallRetrieval"]
            assert 0 <= score["main_score"] <= 100
            assert set(score) >= {"main_score", "ci_low", "ci_high", "seconds"}


class TestEvaluate:
    """What ``l2v evaluate`` promises a script: its exit code and one JSON object."""

    @staticmethod
    def evaluate(capsys, night, *arguments: str) -> tuple[int, dict]:
        config = ("--config", str(night.config), "--profile", "tiny")
        code, result, _ = call(capsys, "evaluate", *arguments, *config)
        return code, result

    def test_every_score_has_its_interval_and_is_computed_once(self, capsys, served_night):
        names = ("--checkpoint", "bm25", "--checkpoint", f"{served_night.base_model}+last")
        code, first = self.evaluate(capsys, served_night, *names)
        assert (code, first["computed"], first["reused"]) == (0, 1, 1)
        for system in first["systems"]:
            score = system["tasks"]["SmallRetrieval"]
            assert all(isinstance(score[name], float) for name in ("main_score", "ci_low", "ci_high", "seconds"))
            assert score["ci_low"] <= score["main_score"] <= score["ci_high"]
        code, second = self.evaluate(capsys, served_night, *names)
        assert (code, second["computed"], second["reused"]) == (0, 0, 2)
        assert (second["systems"], second["report"]) == (first["systems"], first["report"])

    def test_an_encoder_against_itself_passes(self, capsys, served_night):
        name = f"{served_night.base_model}+causal+mean"
        for gate in ([], ["--gate"]):
            code, result = self.evaluate(capsys, served_night, "--checkpoint", name, "--against", name, *gate)
            assert (code, result["refused"], len(result["systems"])) == (0, False, 1)
            assert "in no category worse" in result["reason"]
            assert result["findings"][0].startswith("Retrieval: +0.0 points")

    def test_a_worse_candidate_is_refused_and_the_report_kept(self, capsys, served_night):
        last = f"{served_night.base_model}+last"
        code, result = self.evaluate(capsys, served_night, "--checkpoint", last, "--against", "bm25", "--gate")
        assert (code, set(result)) == (3, {"error", "hint", "refused"})
        assert f"{served_night.base_model.name} Uni, last is worse than BM25 in Retrieval" in result["error"]
        report = Path(result["hint"].removeprefix("The report: "))
        assert result["error"].split(" Retrieval: ")[0] in report.read_text()
        latest = json.loads((served_night.home / "reports" / "latest.json").read_text())
        assert latest == {"report": report.parent.name}

    def test_a_better_candidate_passes(self, capsys, served_night):
        base = str(served_night.base_model)
        code, result = self.evaluate(capsys, served_night, "--checkpoint", "bm25", "--against", base, "--gate")
        assert (code, result["refused"]) == (0, False)

    def test_a_gate_alone_compares_with_what_is_served(self, capsys, served_night):
        served = read_pointer(LocalStore(served_night.home)).checkpoint
        code, result = self.evaluate(capsys, served_night, "--checkpoint", served[:12], "--gate")
        assert (code, result["refused"]) == (0, False)
        code, result = self.evaluate(capsys, served_night, "--checkpoint", "bm25", "--gate")
        assert (code, result["refused"]) == (0, False)
        title = result["systems"][1]["name"]
        assert result["systems"][1]["fingerprint"] == served
        code, result = self.evaluate(capsys, served_night, "--checkpoint", f"{served_night.base_model}+last", "--gate")
        assert (code, f"is worse than {title} in Retrieval" in result["error"]) == (3, True)

    def test_a_gate_with_nothing_to_compare_is_a_mistake(self, capsys, small_night):
        code, result = self.evaluate(capsys, small_night, "--checkpoint", "bm25", "--gate")
        assert (code, "Nothing is served" in result["error"]) == (2, True)
        code, result = self.evaluate(capsys, small_night, "--gate")
        assert (code, "no encoder to compare" in result["error"]) == (2, True)
        assert not (small_night.home / "evaluations").exists()

    def test_an_unknown_task_is_a_mistake_that_lists_the_tasks(self, capsys, small_night):
        code, result = self.evaluate(capsys, small_night, "--checkpoint", "bm25", "--tasks", "SmallTask")
        assert (code, "'SmallTask'" in result["error"], "SmallRetrieval" in result["hint"]) == (2, True, True)
        assert not (small_night.home / "evaluations").exists()

    def test_other_unknown_names_are_mistakes_that_list_what_there_is(self, capsys, small_night):
        known = ("--checkpoint", "bm25")
        code, result = self.evaluate(capsys, small_night, "--checkpoint", f"{small_night.base_model}+medium")
        assert (code, "'medium'" in result["error"], "weighted_mean" in result["hint"]) == (2, True, True)
        code, result = self.evaluate(capsys, small_night, *known, "--benchmark", "MTEB(klingon)")
        assert (code, "MTEB(klingon)" in result["error"], "MTEB(eng, v2)" in result["hint"]) == (2, True, True)
        code, result = self.evaluate(capsys, small_night, *known, "--tasks-dir", str(small_night.folder / "absent"))
        assert (code, "absent" in result["error"]) == (2, True)
        assert not (small_night.home / "evaluations").exists()

    def test_a_benchmark_out_of_reach_says_what_is_missing(self, capsys, small_night, monkeypatch):
        cache = small_night.folder / "cache"
        monkeypatch.setattr("llm2vec_core.evaluation.tasks.benchmarks._hub_answers", lambda dataset: False)
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
        asked = ("--checkpoint", "bm25", "--benchmark", "MTEB(eng, v2)")
        code, result = self.evaluate(capsys, small_night, *asked)
        assert (code, set(result)) == (2, {"error", "hint"})
        assert f"the hub cannot be reached, and its cache {cache} lacks 41 of 41 tasks" in result["error"]
        assert "HF_HOME" in result["hint"]
        code, result = self.evaluate(capsys, small_night, *asked, "--tasks", "STS12", "--tasks", "ArguAna")
        assert (code, "2 of 2 tasks" in result["error"]) == (2, True)
        assert "STS12" in result["error"] and "ArguAna" in result["error"]

    def test_results_in_mteb_s_own_format_are_read_by_mteb(self, capsys, served_night):
        import mteb

        folder = served_night.folder / "mteb"
        names = ("--checkpoint", "bm25", "--checkpoint", str(served_night.base_model))
        code, result = self.evaluate(capsys, served_night, *names, "--mteb-results", str(folder))
        assert code == 0
        cache = mteb.ResultCache(folder)
        assert len(cache.load_results().model_results) == 2
        for system, name in zip(result["systems"], ("BM25", f"{served_night.base_model.name}"), strict=True):
            (found,) = folder.glob(f"results/*/{system['fingerprint']}/SmallRetrieval.json")
            assert name.replace("_", "-") in found.parts[-3]
            model = found.parts[-3].replace("__", "/")
            task_result = cache.load_task_result("SmallRetrieval", model, system["fingerprint"])
            assert 100 * task_result.get_score() == pytest.approx(system["tasks"]["SmallRetrieval"]["main_score"])
