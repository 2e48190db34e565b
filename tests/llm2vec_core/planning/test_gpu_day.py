"""The day on a GPU, rehearsed on the CPU with a tiny model: every step runs, and a call that is cut off goes on."""

import json
import subprocess
import sys
import time

import pytest

from benchmarks import gpu_day
from benchmarks.gpu_day import Day, run, steps_of


@pytest.fixture
def data(tmp_path, tiny_base):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "base").symlink_to(tiny_base)
    texts = [f"The nurse number {number} works in ward {number % 5} at night." for number in range(60)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
    return folder


def test_a_day_is_rehearsed_and_a_call_that_is_cut_off_goes_on(data, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_day, "measure_peak_flops", lambda precision: 1e10)
    day = Day(data, tmp_path / "out", time.monotonic() - 1, is_rehearsal=True, models=["mistral-7b"])
    assert run(day)["steps"] == {}, "no time, no step"
    trained = []
    stop = Day.stop_in_time

    def cut_off(self, log):
        trained.append(log.stage)
        if len(trained) == 3:
            self.until = time.monotonic() - 1
        stop(self, log)

    monkeypatch.setattr(Day, "stop_in_time", cut_off)
    day.until = time.monotonic() + 3600
    first = run(day)
    assert not first["complete"] and "recipe" not in first["steps"] and not first["failed"]
    day.until = time.monotonic() + 3600
    monkeypatch.setattr(gpu_day, "measure_machine", None)  # what is done is not done again
    report = run(day)
    assert report["complete"] and not report["failed"], report
    assert set(report["steps"]) == {step.name for step in steps_of(day)}
    assert trained == ["mntp", "mntp", "simcse", "simcse"] or trained[:2] == ["mntp", "mntp"]
    assert report["steps"]["equal"]["fp32_max_abs_diff"] < 1e-4
    assert report["steps"]["equal"]["bf16_min_cosine"] > 0.99
    for stage in ("mntp", "simcse"):
        assert (day.out / "recipe" / stage / "adapter_model.safetensors").is_file()
        assert report["steps"]["train-mistral-7b"][stage]["tokens_per_s"] > 0
    assert len(json.loads((day.out / "recipe" / "curves.json").read_text())) == 2
    assert json.loads((day.out / "gpu_day.json").read_text()) == report


def test_a_step_that_fails_does_not_stop_the_day(data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        gpu_day, "steps_of", lambda day: [gpu_day.Step("a", 1, fails), gpu_day.Step("b", 1, lambda day: {"x": 1})]
    )
    report = run(Day(data, tmp_path / "out", time.monotonic() + 60, is_rehearsal=True, models=[]))
    assert report["failed"] == {"a": "RuntimeError: out of luck"}
    assert report["steps"]["b"]["x"] == 1 and not report["complete"]


def fails(day):
    raise RuntimeError("out of luck")


def test_the_day_needs_the_core_alone():
    """What travels to a bare machine: no orchestrator, no tables, no evaluation."""
    code = (
        "import sys, benchmarks.gpu_day\n"
        "print([name for name in ('prefect', 'lancedb', 'mteb', 'tasks', 'data', 'flows') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "[]"
