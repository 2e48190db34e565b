"""The precision of a home does not change with the machine of a night."""

import pytest

from data.schema import KINDS
from data.vectors.generations import create_generation
from data.vectors.pointer import POINTER_KEY
from tasks.run import settings as settings_module
from tasks.run.precision import settled, with_precision, with_served_precision
from tasks.run.resolved import hand_over
from tasks.run.settings import Settings


@pytest.fixture
def bf16_machine(monkeypatch):
    monkeypatch.setattr(settings_module, "machine_precision", lambda: "bf16")


def serve(settings, store, make_pointer, precision):
    from datetime import UTC, datetime

    encode = with_precision(settings, precision).encode
    keys = {kind: encode.encode_key(kind) for kind in KINDS}
    made = create_generation(store, fingerprint="f" * 64, encode_keys=keys, embedding_dim=3, now=datetime.now(UTC))
    store.put_if_absent(POINTER_KEY, make_pointer(generation=made.generation).model_dump_json().encode())


def test_the_device_decides_where_nothing_is_served(tmp_path, bf16_machine):
    settings = Settings(home=str(tmp_path))
    assert with_served_precision(settings, settings.store()).encode.dtype == "bfloat16"
    asked = with_precision(settings, "fp32")
    assert asked.encode.dtype == "float32"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_served_vectors_keep_their_precision_on_any_machine(tmp_path, bf16_machine, make_pointer, precision):
    settings = Settings(home=str(tmp_path))
    store = settings.store()
    serve(settings, store, make_pointer, precision)
    found = with_served_precision(settings, store).encode
    assert found.settled_precision == precision
    assert found.precision == (None if precision == "bf16" else precision), "as the device would choose"
    other = with_precision(settings, "fp32" if precision == "bf16" else "bf16")
    assert with_served_precision(other, store) == other


def test_another_machine_encodes_in_the_precision_of_the_run(bf16_machine):
    assert settled(Settings()).encode.precision == "bf16"
    assert hand_over(Settings())["encode"]["precision"] is None, "a whole stage decides on its own machine"
