"""Names of systems to systems: which encoder is meant, how it is read, and what a report calls it.

Never imports prefect, and loads no model: an encoder is loaded when a task has a text for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from llm2vec_core.evaluation.encode_once import EncodeOnce
from llm2vec_core.evaluation.systems import System
from llm2vec_core.modes import parse_encoder_name
from tasks.checkpoints import load_encoder
from tasks.encoders import ResolvedEncoder, resolve_encoder
from tasks.settings import Settings

LEXICAL_NAME = "bm25"


@dataclass(frozen=True)
class NamedSystem:
    """A system, and what it is in a sentence."""

    system: System
    description: str


def lexical_system() -> NamedSystem:
    """Keyword search."""
    return NamedSystem(System("BM25", "lexical"), "keyword search")


def dense_system(settings: Settings, encoder: ResolvedEncoder, *, name: str | None = None) -> NamedSystem:
    """A system that ranks by the vectors of an encoder."""
    remembering = EncodeOnce(
        encoder.fingerprint, partial(load_encoder, encoder.directory, settings.encode.token_budget, encoder.view)
    )
    return NamedSystem(System(name or encoder.title, "dense", remembering, encoder.traits), encoder.label)


def instructed_system(dense: NamedSystem) -> NamedSystem:
    """The same with the instruction of each task before its texts; the two share the vectors without one."""
    system = replace(dense.system, name=f"{dense.system.name}, instructed", instructed=True)
    return NamedSystem(system, f"{dense.description}, with the instruction of each task")


def hybrid_system(dense: NamedSystem, *, name: str | None = None) -> NamedSystem:
    """The fusion of a dense system with BM25; the two share their vectors."""
    system = replace(dense.system, name=name or f"{dense.system.name}, hybrid", mode="hybrid")
    return NamedSystem(system, f"BM25 and {dense.description}")


def resolve_systems(settings: Settings, names: Sequence[str]) -> list[NamedSystem]:
    """Systems by name: fingerprints, directories, model names, ``bm25``; ``NAME+hybrid`` fuses.

    Raises:
        InputError: A name that leads to no encoder.
    """
    systems: list[NamedSystem] = []
    dense: dict[str, NamedSystem] = {}
    for name in dict.fromkeys(names):
        if name.lower() == LEXICAL_NAME:
            systems.append(lexical_system())
            continue
        parsed = parse_encoder_name(name)
        encoder = resolve_encoder(settings, parsed)
        found = dense.setdefault(encoder.fingerprint, dense_system(settings, encoder))
        if parsed.instructed:
            found = instructed_system(found)
        systems.append(hybrid_system(found) if parsed.hybrid else found)
    return _distinct(systems)


def _distinct(systems: list[NamedSystem]) -> list[NamedSystem]:
    """The same systems once each, and no two of one name: the beginning of the fingerprint tells them apart."""
    once = {(each.system.mode, each.system.fingerprint): each for each in systems}
    names = [each.system.name for each in once.values()]
    return [
        each
        if names.count(each.system.name) == 1
        else replace(each, system=replace(each.system, name=f"{each.system.name} ({each.system.fingerprint[:6]})"))
        for each in once.values()
    ]
