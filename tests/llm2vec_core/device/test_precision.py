import logging
from types import SimpleNamespace

import pytest
import torch

from llm2vec_core.device import memory, precision
from llm2vec_core.device.memory import batch_tokens_for, device_errors, tokens_that_fit
from llm2vec_core.device.precision import machine_precision, require_usable_driver, settle_precision, stored_parameters
from llm2vec_core.encoding.encoder import Encoder
from llm2vec_core.errors import DeviceError, DeviceMemoryError, InputError

GPU = torch.device("cuda:0")
CPU = torch.device("cpu")


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that torch reports; nothing runs on it."""

    def pretend(capability):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Test GPU")

    return pretend


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_the_device_decides_the_precision_and_the_log_says_so(gpu, caplog, capability, expected):
    gpu(capability)
    with caplog.at_level(logging.INFO):
        assert settle_precision(None, GPU, num_parameters=1000, name="tiny") == expected
    assert (
        f"tiny runs in {expected} on cuda:0 (Test GPU, compute capability {capability[0]}.{capability[1]})"
        in caplog.text
    )


def test_fp32_above_a_billion_parameters_must_be_asked_for(gpu):
    gpu((7, 5))
    for device in (CPU, GPU):
        with pytest.raises(InputError, match=r"1\.2 billion parameters") as refused:
            settle_precision(None, device, num_parameters=1_200_000_000, name="large")
        assert 'precision="fp32"' in refused.value.hint
        assert settle_precision("fp32", device, num_parameters=1_200_000_000, name="large") == "fp32"
    gpu((9, 0))
    assert settle_precision(None, GPU, num_parameters=8_000_000_000, name="larger") == "bf16"


def test_parameters_are_counted_from_the_headers_of_the_files(tiny_base):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_base)
    assert stored_parameters(tiny_base) == sum(weight.numel() for weight in model.parameters())


def test_a_model_is_loaded_in_its_precision_and_never_cast_on_the_device(tiny_base, monkeypatch):
    """Bytes that reach the device are those of the target precision; rotary frequencies stay fp32."""
    moved = []
    to = torch.nn.Module.to

    def counted(module, *args, **kwargs):
        size = sum(weight.numel() * weight.itemsize for weight in module.parameters())
        assert not size or not any(isinstance(arg, torch.dtype) for arg in args)
        moved.append(size)
        return to(module, *args, **kwargs)

    monkeypatch.setattr(torch.nn.Module, "to", counted)
    encoder = Encoder.from_base(tiny_base, precision="bf16")
    size = sum(weight.numel() for weight in encoder.model[0].parameters())
    assert max(moved) == 2 * size
    assert {weight.dtype for weight in encoder.model[0].parameters()} == {torch.bfloat16}
    assert {buffer.dtype for buffer in encoder.model[0].buffers() if buffer.is_floating_point()} == {torch.float32}


def test_a_driver_that_torch_cannot_use_is_an_error(tmp_path, monkeypatch):
    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  418.40\nGCC version\n")
    monkeypatch.setattr(precision, "_DRIVER_FILES", (driver,))
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    machine_precision.cache_clear()
    for ask in (require_usable_driver, machine_precision):
        with pytest.raises(DeviceError, match=r"418\.40") as refused:
            ask()
        assert "Update the driver" in refused.value.hint
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    require_usable_driver()
    machine_precision.cache_clear()


def test_a_batch_fills_half_of_the_free_memory(monkeypatch):
    config = SimpleNamespace(hidden_size=4096, intermediate_size=14336)
    per_token = 2 * 3 * (4096 + 14336) + 8 * 4096
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4096 * per_token * 2, 0))
    assert batch_tokens_for(config, GPU, itemsize=2) == 4096
    assert tokens_that_fit(config, 80 << 30, itemsize=2) == memory.MOST_TOKENS
    assert tokens_that_fit(config, 1, itemsize=2) == 512
    assert batch_tokens_for(config, CPU, itemsize=4) == memory.CPU_TOKENS


def test_errors_of_a_device_say_what_to_do():
    with (
        pytest.raises(DeviceMemoryError, match="not enough memory to load tiny") as full,
        device_errors("load tiny", hint="use bf16"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    assert full.value.hint == "use bf16"
    with pytest.raises(DeviceError, match="unspecified launch failure") as lost, device_errors("encode", hint=""):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")
    assert "what was written stays" in lost.value.hint
    assert not isinstance(lost.value, DeviceMemoryError)


def test_tf32_is_left_with_its_context():
    before = torch.get_float32_matmul_precision()
    with precision.products_in("tf32"):
        assert torch.get_float32_matmul_precision() == "high"
        with precision.products_in("fp32"):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before
