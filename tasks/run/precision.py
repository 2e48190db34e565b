"""The precision in which a run encodes: as asked for, as the served vectors have it, or by the device.

Vectors of another precision have other keys. So the precision of a home must not change because a night ran on another
machine: what is served decides before the device does.
"""

from __future__ import annotations

from data.errors import InputError
from data.schema import KINDS
from data.store.base import Store
from data.vectors.generations import read_generation
from data.vectors.pointer import read_pointer
from llm2vec_core.model.modes import Precision
from tasks.run.settings import Settings

_PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


def with_served_precision(settings: Settings, store: Store) -> Settings:
    """Settings with the precision of the served vectors, where this machine's device would choose another one."""
    if settings.encode.precision is not None:
        return settings
    pointer = read_pointer(store)
    if pointer is None:
        return settings
    try:
        served = read_generation(store, pointer.generation).encode_keys
    except InputError:  # the first stage that reads the generation says that it is missing
        return settings
    for found in (settings, *(with_precision(settings, precision) for precision in _PRECISIONS)):
        if {kind: found.encode.encode_key(kind) for kind in KINDS} == served:
            return found
    return settings


def with_precision(settings: Settings, precision: Precision) -> Settings:
    """The settings with a precision of encoding."""
    return settings.model_copy(update={"encode": settings.encode.model_copy(update={"precision": precision})})


def settled(settings: Settings) -> Settings:
    """Settings for another machine: it encodes in the precision of this one."""
    return with_precision(settings, settings.encode.settled_precision)
