"""The doctor on this machine: faults of disk, clock, store, base model and sources, planted one at a time."""

import json
import os
import shutil
import time
from collections import namedtuple
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data.errors import StoreError
from data.store.base import LocalStore
from data.vectors.pointer import POINTER
from flows.cli import run
from tasks.doctor import machine
from tasks.doctor.diagnosis import diagnose
from tasks.doctor.environment import render_report
from tasks.doctor.examine import examine
from tasks.doctor.inputs import examine_base_model, examine_programs, examine_source, examine_store
from tasks.doctor.machine import examine_clock, examine_disk, examine_packages, examine_permissions
from tasks.run.settings import Settings

GIB = 1024**3
ROOT = Path(__file__).parents[3]


@pytest.fixture
def settings(tmp_path, tiny_base, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (tmp_path / "jobs.jsonl").write_text(json.dumps({"id": "j", "title": "Nurse", "text": "Cares."}) + "\n")
    return Settings(
        home=str(tmp_path / "home"),
        sources={"jobs": {"kind": "job", "path": str(tmp_path / "jobs.jsonl")}},
        train={"base_model": str(tiny_base)},
    )


def test_a_healthy_installation_has_no_fault_and_keeps_nothing_in_the_store(settings):
    found = examine(settings)
    assert [each.check for each in found.checks] == [
        "python",
        "packages",
        "gpu",
        "programs",
        "server",
        "store",
        "permissions",
        "disk",
        "clock",
        "base model",
        "source jobs",
    ]
    assert found.is_healthy, found.lines()
    assert list(settings.store().list("tmp")) == []


def test_programs_that_read_scans_and_old_word_files_are_named(settings, monkeypatch):
    monkeypatch.setattr("tasks.doctor.inputs.has_tesseract", lambda: False)
    monkeypatch.setattr("tasks.doctor.inputs.doc_programs", tuple)
    found = examine_programs(settings)
    assert (found.level, found.found) == (
        "ok",
        "scans are quarantined (no Tesseract); .doc files are quarantined (no antiword).",
    )
    reading = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"ocr": True})})
    found = examine_programs(reading)
    assert found.level == "fail" and "tesseract-ocr" in found.remedy
    monkeypatch.setattr("tasks.doctor.inputs.has_tesseract", lambda: True)
    monkeypatch.setattr("tasks.doctor.inputs.languages", lambda: ("deu", "eng"))
    monkeypatch.setattr("tasks.doctor.inputs.doc_programs", lambda: ("soffice",))
    assert examine_programs(reading).found == "Tesseract (deu, eng); .doc files are read by soffice."


def test_the_command_exits_1_when_a_check_fails_and_writes_a_report(settings, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tasks.doctor.examine.examine_gpu", machine.examine_python)  # importing torch takes seconds
    (tmp_path / "l2v.toml").write_text(
        f'home = "{settings.home}"\n[sources.jobs]\nkind = "job"\npath = "{tmp_path}/gone/*.csv"\n'
        f'[train]\nbase_model = "{settings.train.base_model}"\n'
        '[lineage]\nendpoint = "https://lineage.example/v1/token-7781"\n'
    )
    assert run(["doctor", "--report", "report.md"]) == 1
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if "source jobs" in line]
    assert line.startswith("fail  source jobs")
    assert "has no files to read" in line
    report = (tmp_path / "report.md").read_text()
    assert "source jobs (failed)" in report
    assert "token-7781" not in report
    assert "lineage.example" in report
    assert run(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["healthy"] is False
    assert found["environment"]["packages"]["prefect"]


def test_a_home_that_others_can_read_is_a_warning(settings):
    store = settings.store()
    assert examine_permissions(store).level == "ok"
    store.root.chmod(0o755)
    found = examine_permissions(store)
    assert (found.level, found.remedy) == ("warn", f"Run `chmod 700 {store.root}`.")


def test_a_full_disk_is_found(settings, monkeypatch):
    usage = namedtuple("usage", "total used free")
    free = {"bytes": 10 * GIB}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100 * GIB, 0, free["bytes"]))
    assert examine_disk(settings, settings.store()).level == "ok"
    free["bytes"] = GIB // 2
    assert examine_disk(settings, settings.store()).level == "warn"
    free["bytes"] = 1000
    found = examine_disk(settings, settings.store())
    assert found.level == "fail"
    assert "l2v maintain" in found.remedy


def test_a_disk_without_inodes_is_full(settings, monkeypatch):
    status = os.statvfs("/")
    lacking = os.statvfs_result([*status[:5], 1_000_000, 5, 5, *status[8:]])
    monkeypatch.setattr(os, "statvfs", lambda _: lacking)
    assert examine_disk(settings, settings.store()).level == "fail"


@pytest.mark.parametrize(
    ("error_s", "level", "phrase"),
    [(0, "ok", "agrees"), (12, "warn", "12 s ahead of"), (-3600, "fail", "behind the s")],
)
def test_a_clock_that_is_off_is_found(settings, error_s, level, phrase):
    found = examine_clock(settings.store(), now=lambda: time.time() + error_s)
    assert found.level == level
    assert phrase in found.found.replace("3,600 s ", "")


def test_a_clock_that_was_set_back_is_found(settings, make_pointer):
    store = settings.store()
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    POINTER.swap(store, make_pointer(promoted_at=tomorrow), expected=None)
    found = examine_clock(store)
    assert found.level == "fail"
    assert "behind the newest promotion" in found.found


def test_a_store_without_conditional_writes_is_found(settings):
    class Careless(LocalStore):
        def put_if_absent(self, key, content):
            super().delete(key)
            return super().put_if_absent(key, content)

    store = Careless(settings.store().root)
    found = examine_store(settings, store)
    assert found.level == "fail"
    assert "ignores write conditions" in found.found
    assert not store.exists("tmp") or not list(store.list("tmp"))


def test_a_store_that_cannot_be_written_is_found(settings, monkeypatch):
    store = settings.store()

    def refuse(*_):
        raise StoreError("Could not write x: No space left on device.", hint="Free disk space.")

    monkeypatch.setattr(store, "put_if_absent", refuse)
    (found,) = diagnose("store", lambda: examine_store(settings, store))
    assert (found.level, found.remedy) == ("fail", "Free disk space.")


def test_a_base_model_without_all_of_its_weights_is_found(settings, tmp_path, tiny_base):
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_base, damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])

    def examined(name):
        changed = settings.model_copy(update={"train": settings.train.model_copy(update={"base_model": str(name)})})
        (found,) = diagnose("base model", lambda: examine_base_model(changed, changed.store()))
        return found

    assert "is damaged" in examined(damaged).found
    (damaged / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-2-of-2.safetensors"}}))
    assert "model-2-of-2.safetensors is missing" in examined(damaged).found
    weights.unlink()
    assert "no *.safetensors" in examined(damaged).found
    assert "not a bundled model" in examined("bundled:none").found
    assert "not in the cache" in examined("nobody/nothing").found
    assert examined("bundled:all-minilm-l6-v2").level == "ok"
    assert examined(tiny_base).level == "ok"


def test_a_source_whose_rows_would_all_be_quarantined_is_a_warning(settings, tmp_path):
    config = settings.sources["jobs"]
    assert examine_source("jobs", config).level == "ok"
    (tmp_path / "jobs.jsonl").write_text("{broken\n")
    found = examine_source("jobs", config)
    assert found.level == "warn"
    assert "quarantined" in found.found
    (tmp_path / "jobs.jsonl").write_text("")
    assert examine_source("jobs", config).level in ("warn", "fail")
    (tmp_path / "jobs.jsonl").unlink()
    assert examine_source("jobs", config).level == "fail"
    assert examine_source("jobs", config.model_copy(update={"required": False})).level == "warn"


def test_packages_that_differ_from_the_lock_are_named(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "numpy==0.0.1 \\\n    --hash=sha256:00\n"
        "pydantic==0.0.2 ; sys_platform == 'nowhere' \\\n    --hash=sha256:00\nnot-installed==1\n"
    )
    found = examine_packages(lock)
    assert found.level == "warn"
    assert "1 package(s)" in found.found
    assert "numpy" in found.found
    assert examine_packages(tmp_path / "none").level == "ok"


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    installed = machine._installed
    monkeypatch.setattr(machine, "_installed", lambda name: None if name == "lancedb" else installed(name))
    found = examine_packages(tmp_path / "none")
    assert found.level == "fail"
    assert "lancedb" in found.found
    assert "make env" in found.remedy


def test_a_report_shows_settings_that_are_no_defaults(settings):
    report = render_report(examine(settings.model_copy(update={"sources": {}})))
    assert f"train.base_model = '{settings.train.base_model}'" in report
    assert "retention.grace_hours" not in report


def test_the_operators_page_shows_what_the_doctor_says():
    page = (ROOT / "docs" / "operate.md").read_text()
    sources = "".join(
        path.read_text()
        for path in [*(ROOT / "tasks" / "doctor").glob("*.py"), ROOT / "data" / "documents" / "sources.py"]
    )
    for phrase in (
        "No worker takes its runs",
        "which no deployment uses",
        "Stale: ",
        "inodes free",
        "has no files to read",
        "ahead of",
        "timedatectl set-ntp true",
        "deploy --all",
    ):
        assert phrase in page, phrase
        assert phrase in sources, phrase
