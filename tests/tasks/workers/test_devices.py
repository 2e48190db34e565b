"""Several GPUs of a host: each shard is encoded once, also if devices are lost in the middle of one."""

from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import pytest

from data.errors import StoreError
from llm2vec_core.errors import DeviceError
from tasks.run.settings import Settings
from tasks.workers import devices
from tasks.workers.devices import encode_on_devices, visible_devices
from tasks.workers.shards import ShardPlan, ShardReport

PLANS = [ShardPlan(kind="job", snapshot="s", runs=[(number, number + 1 + number % 3)]) for number in range(9)]


class Device(ThreadPoolExecutor):
    """A device whose "process" runs in a thread."""

    def __init__(self, name):
        super().__init__(1)
        self.name = name

    def submit(self, function, *arguments):
        return super().submit(function, self.name, *arguments)


@pytest.fixture
def encode(monkeypatch):
    """Encode all plans on devices that may fail; returns the reports, and by plan what encoded it."""

    def run(names, failing=None):
        encoded = {}

        def planned(name, settings, fingerprint, plan):
            fault = (failing or {}).get(name)
            if fault is not None:
                raise fault
            assert plan.runs[0] not in encoded, "each shard once"
            encoded[plan.runs[0]] = name
            assert settings.encode.precision is not None, "the precision of the run"
            return ShardReport(documents=len(plan.rows))

        monkeypatch.setattr(devices, "encode_planned", planned)
        done = []
        reports = encode_on_devices(Settings(), "f", PLANS, names, on_progress=done.append, start=Device)
        assert [report.documents for report in reports] == [len(plan.rows) for plan in PLANS]
        assert sum(done) == sum(len(plan.rows) for plan in PLANS)
        return encoded

    return run


def test_every_shard_is_encoded_once_by_some_device(encode):
    assert len(encode(["0", "1", "2"])) == len(PLANS)


@pytest.mark.parametrize("fault", [DeviceError("CUDA error: device lost"), BrokenProcessPool("killed")])
def test_the_shards_of_a_lost_device_are_encoded_by_another(encode, fault, caplog):
    assert set(encode(["0", "1"], {"0": fault}).values()) == {"1"}
    assert "device 0 is lost" in caplog.text


def test_without_a_device_left_the_error_counts_the_shards(encode):
    fault = DeviceError("CUDA error: device lost")
    with pytest.raises(DeviceError, match="9 of 9 shards") as lost:
        encode(["0", "1"], {"0": fault, "1": fault})
    assert "finished shards stay" in lost.value.hint


def test_a_full_disk_stops_all_devices(encode):
    with pytest.raises(StoreError):
        encode(["0", "1"], {"0": StoreError("disk full"), "1": StoreError("disk full")})


def test_devices_are_those_that_the_process_may_see(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert visible_devices() == ["2", "5"]
