"""The command line: exit codes, one JSON object, one-sentence errors."""

import signal
import sys
from types import SimpleNamespace

import httpx
import pytest

from data.store.base import LocalStore
from data.store.lease import hold_lease
from flows.cli import app as cli
from flows.cli import run
from tests.flows.cli.conftest import call


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nightly", "--profile", "grand"], "grand"),
        (["nightly", "--set", "train.mntp.stepz=3"], "train.mntp.stepz"),
        (["nightly", "--set", "just words"], "just words"),
        (["nightly", "--config", "absent.toml"], "absent.toml"),
        (["search", "nurse"], "Nothing is served"),
        (["search", "  "], "empty"),
        (["search", "caf\udce9 \udcff"], "not valid UTF-8: b'caf\\xe9 \\xff'"),
        (["generations", "promote", "nothing"], "nothing"),
        (["generations", "rollback"], "Nothing was served"),
        (["unknown-command"], "unknown-command"),
        (["search", "nurse", "--colour"], "--colour"),
        (["serve", "--port", "many"], "--port"),
        (["serve", "--port", "99999"], "--port"),
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
    assert capsys.readouterr().err == (
        "l2v: Stopped by SIGTERM. Run the same command again: it resumes where it stopped.\n"
    )


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


def test_config_prints_each_setting_with_its_origin_and_writes_nothing(capsys, tmp_path):
    (tmp_path / "l2v.toml").write_text('[lineage]\nendpoint = "https://host/token"\n[match]\njudged = "mine"\n')
    code, result, _ = call(capsys, "config", "--set", "match.top_k=7")
    found = {each["key"]: each for each in result["settings"]}
    assert code == 0
    assert (found["match.top_k"]["value"], found["match.top_k"]["origin"]) == (7, "--set match.top_k")
    assert (found["lineage.endpoint"]["value"], found["lineage.endpoint"]["line"]) == ("https://host/***", 2)
    assert result["notes"] == ["match.judged has no effect: match.fusion is rrf (default)."]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l2v.toml"]


def fill_the_disk(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20))


def test_a_full_disk_is_one_sentence_recorded_and_an_alert(capsys, monkeypatch):
    fill_the_disk(monkeypatch)
    code, result, err = call(capsys, "nightly")
    assert code == 1
    assert "is full: 1 MB are free" in result["error"]
    assert len(err.strip().splitlines()) == 1
    _, status, _ = call(capsys, "status")
    assert status["last_night"]["state"] == "failed"
    assert {"disk", "failed"} <= {alert["kind"] for alert in status["alerts"]}


def test_a_disk_that_fills_during_a_run_is_told_in_place_of_the_server_s_error(capsys, monkeypatch):
    def fill_and_fail(*_):
        fill_the_disk(monkeypatch)
        raise RuntimeError("Server error '500 Internal Server Error'")

    monkeypatch.setattr("flows.export.export", fill_and_fail)
    code, result, _ = call(capsys, "export")
    assert code == 1
    assert "is full: 1 MB are free" in result["error"]


def test_a_database_that_cannot_be_used_is_one_sentence_and_an_alert(capsys, tmp_path):
    folder = tmp_path / "var" / "prefect"
    folder.mkdir(parents=True)
    (folder / "prefect.db").write_bytes(b"no database" * 1000)
    code, result, err = call(capsys, "match")
    assert code == 1
    assert "prefect.db is damaged" in result["error"]
    assert len(err.strip().splitlines()) == 1
    _, status, _ = call(capsys, "status")
    assert "orchestrator" in {alert["kind"] for alert in status["alerts"]}


@pytest.mark.slow
def test_a_flow_that_is_told_to_end_says_so_and_is_crashed(prefect_server, capsys, monkeypatch):
    """Prefect replaces the handler of SIGTERM during a flow, and calls ours afterwards."""
    from prefect import flow

    @flow
    def interrupted():
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(cli, "app", lambda *_, **__: interrupted())
    monkeypatch.setattr(sys, "argv", ["l2v", "match"])
    former = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, former)
    assert ended.value.code == 1
    assert "l2v: Stopped by SIGTERM." in capsys.readouterr().err
