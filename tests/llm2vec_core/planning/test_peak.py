import torch

from llm2vec_core.planning.peak import device_name, measure_peak_flops


def test_the_peak_is_what_the_fastest_product_reached(monkeypatch):
    monkeypatch.setattr("llm2vec_core.planning.peak._WIDTH", {"cpu": 64, "cuda": 64})
    durations = iter([9.0, 4.0, 2.0, 3.0])
    clock = iter(range(100))
    monkeypatch.setattr("llm2vec_core.planning.peak._seconds_of_product", lambda *_: next(durations))
    monkeypatch.setattr("llm2vec_core.planning.peak.time.perf_counter", lambda: next(clock))
    assert measure_peak_flops(duration_s=4) == 2 * 64**3 / 2.0, "the first call only chooses a kernel"


def test_a_measured_peak_is_more_than_a_slow_loop_reaches(monkeypatch):
    monkeypatch.setattr("llm2vec_core.planning.peak._WIDTH", {"cpu": 256, "cuda": 256})
    assert measure_peak_flops(duration_s=0.05) > 1e8


def test_threads_are_part_of_the_name_of_a_processor():
    assert device_name() in {"cuda", f"cpu-{torch.get_num_threads()}"}
