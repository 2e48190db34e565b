"""Names of systems to systems: which encoder is meant, how it is read, and what a report calls it.

Never imports prefect, and loads no model: an encoder is loaded when a task has a text for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


def hybrid_system(dense: NamedSystem, *, name: str | None = None) -> NamedSystem:
    """The fusion of a dense system with BM25; the two share their vectors."""
    system = dense.system
    title = name or f"{system.name}, hybrid"
    return NamedSystem(System(title, "hybrid", system.encoder, system.traits), f"BM25 and {dense.description}")


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
        if encoder.fingerprint not in dense:
            dense[encoder.fingerprint] = dense_system(settings, encoder)
        found = dense[encoder.fingerprint]
        systems.append(hybrid_system(found) if parsed.hybrid else found)
    return _distinct(systems)


def _distinct(systems: list[NamedSystem]) -> list[NamedSystem]:
    """The same systems once each, and no two of one name: the beginning of the fingerprint tells them apart."""
    once = {(each.system.mode, each.system.fingerprint): each for each in systems}
    names = [each.system.name for each in once.values()]
    return [
        each
        if names.count(each.system.name) == 1
        else NamedSystem(
            System(
                f"{each.system.name} ({each.system.fingerprint[:6]})",
                each.system.mode,
                each.system.encoder,
                each.system.traits,
            ),
            each.description,
        )
        for each in once.values()
    ]
